use super::*;
use crate::route::Question;

fn validate(yaml: &str) -> Result<Validate, String> {
    let mut problems = Problems::default();
    let place = |_: &Path| "y:1:1".to_owned();
    let auth = std::collections::BTreeMap::new();
    let tools = Tools::alone(&place, &auth);
    let config: Config = serde_yaml::from_str(yaml).map_err(|e| e.to_string())?;
    let made = Validate::compile(&config, &Path::of(["validate"]), &tools, &mut problems);
    made.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect::<Vec<_>>().join("; "))
}

impl Validate {
    fn asked(&self, question: &Question) -> Result<(), Refusal> {
        self.check(question, &mut Found::default())
    }

    fn sent(&self, body: &[u8]) -> Result<(), Refusal> {
        self.check_body(&self.shapes[0], body)
    }
}

fn told(verdict: Result<(), Refusal>) -> Vec<String> {
    let errors = verdict.err().map(|refusal| refusal.errors).unwrap_or_default();
    errors.iter().map(|(at, sentence)| format!("{at} {sentence}")).collect()
}

#[test]
fn parameters_are_there_and_look_right() {
    let validate = validate(
        "{ headers: { x-account: { required: true, regex: '[a-z]+' } }, query: { page: { regex: '[0-9]+' }, q: { required: true } } }",
    )
    .unwrap();
    let ask = |url: &str, account: &str| {
        let question = Question::new("GET", url).unwrap();
        let question = if account.is_empty() { question } else { question.with("x-account", account).unwrap() };
        told(validate.asked(&question))
    };
    assert_eq!(ask("/a?q=1&page=2", "me"), Vec::<String>::new());
    assert_eq!(ask("/a?q&page=%32", "me"), Vec::<String>::new());
    assert_eq!(ask("/a", ""), ["x-account is required", "q is required"]);
    assert_eq!(ask("/a?q=1&page=2&page=x", "me"), ["page does not look as it has to"]);
    assert_eq!(
        ask("/a?q=1&p%61ge=x", "Me"),
        ["x-account does not look as it has to", "page does not look as it has to"]
    );
    assert_eq!(ask("/a?q=1&page=%ff", "me"), ["page does not look as it has to"]);
}

#[test]
fn bodies_are_of_the_shape_of_the_schema() {
    let validate = validate(
        "{ body: { schema: { type: object, required: [items], properties: { items: { type: array, items: { $ref: '#/$defs/id' } } }, $defs: { id: { type: integer } } }, max: 128B } }",
    )
    .unwrap();
    assert_eq!(told(validate.sent(b"{\"items\":[1,2]}")), Vec::<String>::new());
    let wrong = told(validate.sent(b"{\"items\":[1,\"secret\"]}"));
    assert!(wrong.len() == 1 && wrong[0].starts_with("#/items/1 ") && !wrong[0].contains("secret"), "{wrong:?}");
    assert!(told(validate.sent(b"{}"))[0].contains("\"items\" is a required property"));
    assert_eq!(told(validate.sent(b"{\"items\":")), ["# is not JSON: line 1, column 9"]);
    assert_eq!(told(validate.sent(b"")), ["# is not JSON: line 1, column 0"]);
    assert_eq!(validate.sent(&[b' '; 129]).unwrap_err().fault, Fault::BodyTooLarge);
    let many = validate.sent(format!("{{\"items\":[{}0]}}", "[],".repeat(18)).as_bytes()).unwrap_err();
    assert_eq!((many.fault, many.errors.len()), (Fault::BodyInvalid, MOST_ERRORS));
    assert_eq!(told(validate.asked(&Question::new("POST", "/").unwrap())), ["# a body is required"]);
    assert_eq!(told(validate.asked(&Question::new("GET", "/").unwrap())), Vec::<String>::new());
}

#[test]
fn a_schema_looks_at_no_other_document_and_its_patterns_are_linear() {
    for (yaml, said) in [
        ("{ body: { schema: { $ref: 'https://example.com/a.json' } } }", "is not a schema that can be used"),
        ("{ body: { schema: { $ref: 'file:///etc/passwd' } } }", "is not a schema that can be used"),
        ("{ body: { schema: { type: strange } } }", "is not a schema that can be used"),
        ("{ body: { schema: { pattern: '(?=a)b' } } }", "is not a schema that can be used"),
        ("{ body: { schema: /nowhere/at/all.json } }", "cannot read /nowhere/at/all.json"),
        ("{ query: { page: {} } }", "validate.query.page: takes at least one of `required` and `regex`"),
        ("{}", "takes at least one of `headers`, `query`, `body` and `openapi`"),
    ] {
        let why = validate(yaml).unwrap_err();
        assert!(why.contains(said), "{yaml}: {why}");
    }
}
