use serde_json::json;

use super::*;
use crate::route::Question;

const ORDERS: &str = r##"
openapi: 3.0.3
info: { title: Orders, version: "1" }
servers: [{ url: "https://{host}/v{version}", variables: { host: { default: api.example.com }, version: { default: "1" } } }]
paths:
  /orders:
    get:
      parameters:
        - { name: page, in: query, schema: { type: integer, minimum: 1 } }
        - { name: state, in: query, schema: { type: array, maxItems: 2, items: { type: string, enum: [open, done] } } }
        - { name: ids, in: query, explode: false, schema: { type: array, items: { type: integer } } }
        - { name: all, in: query, schema: { type: boolean } }
        - { name: q, in: query, schema: { oneOf: [{ type: integer }, { type: string, maxLength: 3 }] } }
        - { name: X-Account, in: header, required: true, schema: { type: string, pattern: "^[a-z]+$" } }
        - { name: Accept, in: header, required: true, schema: { type: string } }
        - { name: seen, in: cookie, schema: { type: number } }
      responses: { 200: { description: fine } }
    post:
      requestBody: { $ref: "#/components/requestBodies/Order" }
      responses: { 201: { description: made } }
  /orders/{id}:
    parameters: [{ $ref: "#/components/parameters/Id" }]
    get: { responses: { 200: { description: fine } } }
    put:
      parameters: [{ name: id, in: path, required: true, schema: { type: integer, maximum: 9 } }]
      requestBody: { content: { "application/*": {}, text/plain: { schema: { type: string } } } }
      responses: { 204: { description: done } }
  /orders/{id}/items/{item}.json:
    delete:
      parameters:
        - { name: item, in: path, required: true, schema: { type: string } }
        - { name: id, in: path, required: true, schema: { type: string } }
      responses: { 204: { description: done } }
components:
  parameters:
    Id: { name: id, in: path, required: true, schema: { $ref: "#/components/schemas/Id" } }
  requestBodies:
    Order: { required: true, content: { application/json: { schema: { $ref: "#/components/schemas/Order" } } } }
  schemas:
    Id: { type: integer, minimum: 0, exclusiveMinimum: true }
    Order:
      type: object
      required: [id, item]
      properties:
        id: { type: integer, readOnly: true }
        item: { $ref: "#/components/schemas/Item" }
        note: { type: string, nullable: true }
    Item: { type: object, properties: { of: { $ref: "#/components/schemas/Order" } } }
"##;

fn compile(text: &str, base: Option<&str>) -> Result<(OpenApi, Vec<Shape>), Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("api.yaml");
    std::fs::write(&file, text).unwrap();
    let config = Source { base: base.map(Into::into), ..file.to_str().unwrap().parse().unwrap() };
    let mut shapes = Vec::new();
    Ok((OpenApi::compile(&config, &mut shapes)?, shapes))
}

fn ask(api: &OpenApi, method: &str, url: &str, fields: &[(&str, &str)]) -> Result<Option<usize>, String> {
    let mut question = Question::new(method, url).unwrap();
    for (name, value) in fields {
        question = question.with(name, value).unwrap();
    }
    api.check(&question).map_err(|wrong| match wrong {
        Wrong::Unknown(fault, fields) => {
            let fields = fields.iter().map(|(name, value)| format!(" {name}: {}", value.to_str().unwrap()));
            fault.to_string() + &fields.collect::<String>()
        }
        Wrong::Said(fault, errors) => {
            let errors = errors.iter().map(|(name, sentence)| format!(" {name} {sentence}."));
            fault.to_string() + &errors.collect::<String>()
        }
    })
}

#[test]
fn a_path_and_its_method_have_to_be_described() {
    let (api, _) = compile(ORDERS, None).unwrap();
    let account = [("x-account", "shop")];
    for (method, url, said) in [
        ("GET", "/v1/orders", Ok(None)),
        ("HEAD", "/v1/orders", Ok(None)),
        ("DELETE", "/v1/orders", Err("route.method allow: GET, POST")),
        ("GET", "/orders", Err("route.none")),
        ("GET", "/v1", Err("route.none")),
        ("GET", "/v12/orders", Err("route.none")),
        ("GET", "/v1/orders/", Err("route.none")),
        ("GET", "/v1/orders/7", Ok(None)),
        ("GET", "/v1/orders/%37", Ok(None)),
        ("DELETE", "/v1/orders/a/items/b.json", Ok(None)),
        ("DELETE", "/v1/orders/a/items/b", Err("route.none")),
    ] {
        assert_eq!(
            ask(&api, method, url, &account).map_err(|why| why.trim().to_owned()),
            said.map_err(Into::into),
            "{method} {url}"
        );
    }
    for (method, url) in [("GET", "/v1/orders/7"), ("DELETE", "/v1/orders/a/items/b.json")] {
        let none = Err("body.invalid # no body is described.".to_owned());
        assert_eq!(ask(&api, method, url, &[("content-length", "2")]), none, "{method} {url}");
        assert_eq!(ask(&api, method, url, &[("transfer-encoding", "chunked")]), none, "{method} {url}");
        assert_eq!(ask(&api, method, url, &[("content-length", "0")]), Ok(None));
    }
    let (api, _) = compile(ORDERS, Some("/shop/")).unwrap();
    assert_eq!(ask(&api, "GET", "/shop/orders/7", &[]), Ok(None));
    assert!(ask(&api, "GET", "/v1/orders/7", &[]).is_err());
}

#[test]
fn parameters_become_values_and_have_to_fit() {
    let (api, _) = compile(ORDERS, None).unwrap();
    let query = |query: &str| ask(&api, "GET", &format!("/v1/orders?{query}"), &[("x-account", "shop")]);
    for good in [
        "page=1",
        "page=%31",
        "state=open&state=done",
        "ids=1,2",
        "all=true",
        "q=7",
        "q=abc",
        "other=1",
        "",
        "page=1&all=false",
    ] {
        assert_eq!(query(good), Ok(None), "{good}");
    }
    for (bad, name) in [
        ("page=0", "page"),
        ("page=one", "page"),
        ("page=", "page"),
        ("page=1.5", "page"),
        ("page=1&page=2", "page"),
        ("p%61ge=0", "page"),
        ("state=closed", "state"),
        ("state=open&state=done&state=open", "state"),
        ("ids=1,a", "ids"),
        ("all=yes", "all"),
        ("q=abcd", "q"),
        ("page=%ff", "page"),
    ] {
        let why = query(bad).unwrap_err();
        assert!(why.starts_with(&format!("request.invalid {name} ")), "{bad}: {why}");
        assert!(!why.contains("closed") && !why.contains("abcd"), "nothing of the request: {why}");
    }
    assert_eq!(ask(&api, "GET", "/v1/orders", &[]), Err("request.invalid X-Account is required.".to_owned()));
    assert!(ask(&api, "GET", "/v1/orders", &[("x-account", "Shop")]).unwrap_err().contains("X-Account"));
    assert!(ask(&api, "GET", "/v1/orders", &[("x-account", "a"), ("cookie", "seen=x")]).unwrap_err().contains("seen"));
    for (method, id, good) in
        [("GET", "0", false), ("GET", "x", false), ("GET", "10", true), ("PUT", "10", false), ("PUT", "9", true)]
    {
        assert_eq!(ask(&api, method, &format!("/v1/orders/{id}"), &[]).is_ok(), good, "{method} {id}");
    }
}

#[test]
fn a_body_has_the_type_and_the_shape_of_its_operation() {
    let (api, shapes) = compile(ORDERS, None).unwrap();
    let post = |fields: &[(&str, &str)]| ask(&api, "POST", "/v1/orders", fields);
    assert_eq!(post(&[]), Err("body.invalid # a body is required.".to_owned()));
    assert_eq!(post(&[("content-length", "2")]), Err("body.type accept: application/json".to_owned()));
    assert!(post(&[("content-length", "2"), ("content-type", "text/plain")]).is_err());
    let at = post(&[("content-length", "2"), ("content-type", "Application/JSON; charset=utf-8")]).unwrap().unwrap();
    let errors = |body: serde_json::Value| shapes[at].schema.errors(body.to_string().as_bytes(), 9).len();
    assert_eq!(errors(json!({ "item": {} })), 0, "what is read only is not required");
    assert_eq!(errors(json!({ "item": { "of": { "item": {} } }, "note": null })), 0);
    assert_eq!(errors(json!({ "item": { "of": {} } })), 1, "references lead on");
    assert_eq!(errors(json!({})), 1);
    assert!(shapes[at].is_required(&Method::POST));
    let put = |kind| ask(&api, "PUT", "/v1/orders/1", &[("content-length", "2"), ("content-type", kind)]);
    assert_eq!((put("application/pdf"), put("text/plain")), (Ok(None), Ok(None)));
    assert_eq!(put("image/png"), Err("body.type accept: text/plain, application/*".to_owned()));
}

#[test]
fn version_3_1_speaks_json_schema() {
    let text = json!({
        "openapi": "3.1.0",
        "paths": { "/a": { "post": { "requestBody": { "content": { "application/vnd.a+json": {
            "schema": { "type": ["object", "null"], "properties": { "n": { "exclusiveMinimum": 1 } } } } } } } } },
    });
    let (api, shapes) = compile(&text.to_string(), None).unwrap();
    let at = ask(&api, "POST", "/a", &[("content-length", "2"), ("content-type", "application/vnd.a+json")]);
    let errors = |body: &[u8]| shapes[at.clone().unwrap().unwrap()].schema.errors(body, 9).len();
    assert_eq!([&b"null"[..], b"{\"n\":2}", b"{\"n\":1}", b"1"].map(errors), [0, 0, 1, 1]);
    assert!(!shapes[0].is_required(&Method::POST));
}

#[test]
fn a_field_that_there_is_not_is_refused_with_its_line_and_the_one_that_was_meant() {
    let wrong = |text: &str| compile(text, None).map(|(api, _)| api.warnings).unwrap_err().join("; ");
    let text = "openapi: 3.0.3\npaths:\n  /a:\n    get:\n      params: []\n      x-own: 1\n";
    let said = wrong(text);
    let wanted = "api.yaml:5: `params` in #/paths/~1a/get is no field that OpenAPI knows. Did you mean `parameters`?";
    assert!(said.ends_with(wanted), "{said}");
    let schema = |version: &str, schema: &str| {
        format!(
            "openapi: {version}\npaths: {{ /a: {{ post: {{ requestBody: {{ content: {{ application/json: {{ schema: {schema} }} }} }} }} }} }}\n"
        )
    };
    let misspelt = "{ type: object, properties: { maxLenght: { type: string, maxLenght: 3 } } }";
    let said = wrong(&schema("3.0.3", misspelt));
    assert!(said.contains("/properties/maxLenght is no field that OpenAPI knows. Did you mean `maxLength`?"), "{said}");
    assert_eq!(said.matches("is no field").count(), 1, "a property may have any name: {said}");
    let warned = compile(&schema("3.1.0", misspelt), None).unwrap().0.warnings.join("; ");
    assert!(warned.contains("is no word of JSON Schema, and does nothing. Did you mean `maxLength`?"), "{warned}");
    assert!(wrong(&schema("3.0.3", "{ const: 1 }")).contains("`const`"), "a word of 3.1 only");
    assert!(compile(&schema("3.1.0", "{ const: 1, x-own: 2 }"), None).unwrap().0.warnings.is_empty());
    assert!(compile(ORDERS, None).unwrap().0.warnings.is_empty());
}

#[test]
fn what_would_not_be_looked_at_is_said() {
    let with =
        |paths: &str| compile(&format!("openapi: 3.0.0\npaths: {paths}"), None).map(drop).unwrap_err().join("; ");
    let param = |param: &str| with(&format!("{{ /a: {{ get: {{ parameters: [{param}] }} }} }}"));
    for (why, said) in [
        (with("{}"), "describes no path"),
        (with("{ a: { get: {} } }"), "does not begin with `/`"),
        (with("{ '/{a}{b}': { get: {} } }"), "more than one parameter"),
        (with("{ /a: { servers: [], get: {} } }"), "`servers` of a path"),
        (with("{ /a: { $ref: 'other.yaml#/a' } }"), "leads nowhere in this document"),
        (with("{ /a: { $ref: '#/paths/~1a' } }"), "too many references"),
        (param("{ name: a, in: path }"), "`a` is not in the path"),
        (param("{ name: a, in: body }"), "`in` is path, query, header or cookie"),
        (param("{ name: a, in: query, schema: { type: object } }"), "of type \"object\" is not looked at"),
        (
            param("{ name: a, in: query, style: pipes, schema: { type: array, items: {} } }"),
            "style pipes is not looked at",
        ),
        (param("{ name: a, in: query, content: {} }"), "`content` is not looked at"),
        (param("{ name: a, in: query, schema: { $ref: 'https://a/b' } }"), "leads nowhere"),
        (param("{ name: a, in: query, schema: { type: strange } }"), "is not a schema that can be used"),
        (
            param("{ name: a, in: query, schema: { type: string, pattern: '(?=a)' } }"),
            "is not a schema that can be used",
        ),
        (
            compile("swagger: '2.0'", None).map(drop).unwrap_err().join(""),
            "is no OpenAPI document of version 3.0 or 3.1",
        ),
        (compile("{", None).map(drop).unwrap_err().join(""), "api.yaml: "),
    ] {
        assert!(why.contains(said), "{said}: {why}");
    }
}
