//! What is refused, what is put in, and what is left behind.

use std::net::IpAddr;

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::policy::auth::Schemes;

/// A request to one endpoint.
struct Sent {
    method: Method,
    query: Option<String>,
    headers: HeaderMap,
}

impl Request for Sent {
    fn method(&self) -> &Method {
        &self.method
    }
    fn host(&self) -> &'static str {
        "api.example.com"
    }
    fn path(&self) -> &'static str {
        "/graphql"
    }
    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
    fn client(&self) -> IpAddr {
        IpAddr::from([127, 0, 0, 1])
    }
    fn param(&self, _: &str) -> Option<&str> {
        None
    }
}

fn guard(yaml: &str) -> Box<Graphql> {
    let config: Config = serde_yaml::from_str(yaml).unwrap();
    let (mut problems, place, schemes) = (Problems::default(), |_: &Path| String::new(), Schemes::new());
    let made = Graphql::compile(&config, "r", &Path::of(["g"]), &Tools::alone(&place, &schemes), &mut problems);
    made.unwrap_or_else(|| panic!("{:?}", problems.iter().map(|p| p.sentence.clone()).collect::<Vec<_>>()))
}

fn post(guard: &Graphql, body: &Value) -> (Result<Option<Instead>, String>, Found) {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    let (sent, mut found) = (Sent { method: Method::POST, query: None, headers }, Found::default());
    let said = guard.check(&sent, body.to_string().as_bytes(), &mut found);
    (said.map_err(|refusal| format!("{} {}", refusal.fault, refusal.why)), found)
}

fn get(guard: &Graphql, query: &str) -> Result<Option<Instead>, String> {
    let sent = Sent { method: Method::GET, query: Some(query.to_owned()), headers: HeaderMap::new() };
    let said = guard.check(&sent, b"", &mut Found::default());
    said.map_err(|refusal| format!("{} {}", refusal.fault, refusal.why))
}

fn ask(guard: &Graphql, text: &str) -> Result<Option<Instead>, String> {
    post(guard, &json!({ "query": text })).0
}

#[test]
fn what_costs_too_much_is_refused() {
    let guard = guard("{ depth: 3, aliases: 2, complexity: 20, costs: { search: 15 }, tokens: 60 }");
    assert_eq!(ask(&guard, "{ a { b { c } } }"), Ok(None));
    let table = [
        ("{ a { b { c { d } } } }", "graphql.refused depth: 4 is more than 3"),
        ("{ x: a y: a z: a }", "graphql.refused aliases: 3 is more than 2"),
        ("{ search a(first: 5) { b } }", "graphql.refused complexity: 21 is more than 20"),
        ("{ __schema { types { name } } }", "graphql.refused introspection: the schema may not be asked for"),
        ("{ a", "graphql.invalid the request is not GraphQL, at byte 3"),
    ];
    for (text, why) in table {
        assert_eq!(ask(&guard, text).unwrap_err(), why, "{text}");
    }
    let long = format!("{{ {} }}", "a ".repeat(60));
    assert!(ask(&guard, &long).unwrap_err().contains("longer or deeper than it may be"));
    let open = self::guard("{ introspection: allow }");
    assert_eq!(ask(&open, "{ __schema { types { name } } }"), Ok(None));
}

#[test]
fn several_operations_count_together() {
    let guard = guard("{ batch: 2, complexity: 5 }");
    let many = |texts: &[&str]| {
        let all: Vec<_> = texts.iter().map(|text| json!({ "query": text })).collect();
        post(&guard, &all.into()).0
    };
    assert_eq!(many(&["{ a b }", "{ a b c }"]), Ok(None));
    assert!(many(&["{ a b c }", "{ a b c }"]).unwrap_err().contains("complexity: 6 is more than 5"));
    assert!(many(&["{ a }", "{ a }", "{ a }"]).unwrap_err().contains("batch: 3 operations are more than 2"));
    assert!(many(&[]).is_err());
    let one = self::guard("{}");
    assert!(post(&one, &json!([{ "query": "{ a }" }, { "query": "{ a }" }])).0.is_err());
}

#[test]
fn get_asks_and_does_not_change() {
    let guard = guard("{}");
    assert_eq!(get(&guard, "query=%7B+a+%7D&x=1"), Ok(None));
    assert_eq!(get(&guard, "query=query($n:Int)%7Ba(first:$n)%7Bb%7D%7D&variables=%7B%22n%22:2%7D"), Ok(None));
    assert!(get(&guard, "query=mutation%7Ba%7D").unwrap_err().contains("a mutation needs POST"));
    for wrong in ["", "query=%7B", "query=%7Ba%7D&query=%7Ba%7D", "query=%7Ba%7D&variables=1", "query=%ff"] {
        assert!(get(&guard, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn nothing_is_said_twice() {
    let guard = guard("{ complexity: 50 }");
    let (dear, cheap) = ("%7Ba(first:1000)%7Bb%7D%7D", "%7Ba%7D");
    for query in [
        format!("%71uery={dear}&query={cheap}"),
        format!("query={cheap}&que%72y={dear}"),
        format!("query={cheap}&Query={dear}"),
        format!("query={cheap}&query[]={dear}"),
        format!("query={cheap}&x=1;query={dear}"),
        format!("query={cheap}&query"),
        format!("query={cheap}&documentId=dear"),
        "query=query($n:Int)%7Ba(first:$n)%7Bb%7D%7D&variables=%7B%7D&%76ariables=%7B%22n%22:1000%7D".to_owned(),
        "query=query($n:Int)%7Ba(first:$n)%7Bb%7D%7D&variables=%7B%22n%22:1,%22n%22:1000%7D".to_owned(),
        "query=query%20A%7Ba%7Dquery%20B%7Bb%7D&operationName=A&operation%4eame=B".to_owned(),
        format!(
            "query={cheap}&extensions=%7B%22persistedQuery%22:%7B%22sha256Hash%22:%22{}%22%7D%7D",
            listed::hash("x")
        ),
    ] {
        assert!(get(&guard, &query).unwrap_err().starts_with("graphql.invalid"), "{query}");
    }
    // An escaped name is the name.
    assert!(get(&guard, &format!("%71uery={dear}")).unwrap_err().contains("complexity"));
    assert_eq!(get(&guard, &format!("%71uery={cheap}&q=1;x=2")), Ok(None));
    let posted = |query: Option<&str>, body: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        let sent = Sent { method: Method::POST, query: query.map(str::to_owned), headers };
        let said = guard.check(&sent, body.as_bytes(), &mut Found::default());
        said.map_err(|refusal| format!("{} {}", refusal.fault, refusal.why))
    };
    let body = r#"{"query":"{a}"}"#;
    for query in
        ["query=%7Bb%7D", "que%72y=", "variables=1", "a=1&operation%4eame=B", "extensions", "DocumentId=1", "a;query=1"]
    {
        assert!(posted(Some(query), body).unwrap_err().starts_with("graphql.invalid"), "{query}");
    }
    assert_eq!(posted(Some("key=1&q=2"), body), Ok(None));
    for body in [
        r#"{"query":"{a(first:1000){b}}","query":"{a}"}"#,
        r#"{"query":"{a}","query":"{a(first:1000){b}}"}"#,
        r#"{"query":"{a}","Query":"{a(first:1000){b}}"}"#,
        r#"{"query":"{a}","operationName":"A","operationName":null}"#,
        r#"{"query":"{a}","variables":{"n":1},"variables":{"n":1000}}"#,
        r#"{"query":"{a}","variables":{"n":1,"n":1000}}"#,
        r#"{"documentId":"a","documentId":"b"}"#,
        r#"{"query":"{a}","documentId":"b"}"#,
        r#"{"extensions":{"persistedQuery":{"sha256Hash":"a","sha256Hash":"b"}}}"#,
        r#"[{"query":"{a}","query":"{a}"}]"#,
    ] {
        assert!(posted(None, body).unwrap_err().starts_with("graphql.invalid"), "{body}");
    }
    let both = json!({ "query": "{ a }", "extensions": { "persistedQuery": { "sha256Hash": listed::hash("{ a }") } } });
    assert_eq!(post(&guard, &both).0, Ok(None), "to make a text known, both are said");
}

#[test]
fn only_what_is_listed_runs_and_its_text_is_put_in() {
    let dir = tempfile::tempdir().unwrap();
    let text = "query Cart { cart { id } }";
    let manifest = json!({ "format": "apollo-persisted-query-manifest", "version": 1, "operations": [
        { "id": listed::hash(text), "name": "Cart", "type": "query", "body": text },
        { "id": "me-1", "name": "Me", "type": "query", "body": "query Me { me { id } }" },
    ]});
    let file = dir.path().join("operations.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let guard = guard(&format!("{{ operations: {} }}", file.display()));
    let by_hash = |hash: &str| json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash }, "x": 1 }, "variables": { "a": 1 } });
    let (said, found) = post(&guard, &by_hash(&listed::hash(text).to_uppercase()));
    let Ok(Some(Instead::Body(body))) = said else { panic!("{said:?}") };
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({ "query": text, "extensions": { "x": 1 }, "variables": { "a": 1 } }));
    assert_eq!(found.graphql.unwrap().listed.as_ref(), "Cart");
    assert_eq!(post(&guard, &by_hash("me-1")).1.graphql.unwrap().listed.as_ref(), "Me");
    assert_eq!(ask(&guard, text), Ok(None));
    assert!(ask(&guard, "query Cart { cart { id secret } }").unwrap_err().contains("not on the list"));
    assert!(post(&guard, &by_hash("00")).0.unwrap_err().contains("PersistedQueryNotFound"));
    let asked = format!("extensions=%7B%22persistedQuery%22:%7B%22sha256Hash%22:%22{}%22%7D%7D", listed::hash(text));
    let wanted = Instead::Parameter("query=query%20Cart%20%7B%20cart%20%7B%20id%20%7D%20%7D".into());
    assert_eq!(get(&guard, &asked), Ok(Some(wanted)));
    let wanted = Instead::Parameter("query=query%20Me%20%7B%20me%20%7B%20id%20%7D%20%7D".into());
    assert_eq!(get(&guard, "documentId=me-1&variables=%7B%7D"), Ok(Some(wanted)));
    assert!(get(&guard, "documentId=me-2").unwrap_err().contains("PersistedQueryNotFound"));
    assert_eq!(listed::hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_shadow_lets_pass_and_remembers() {
    let guard = guard("{ depth: 1, mode: shadow }");
    let (said, found) = post(&guard, &json!({ "query": "query Deep { a { b } }", "operationName": "Deep" }));
    assert_eq!((said, found.would_refuse.len()), (Ok(None), 1));
    let query = found.graphql.unwrap();
    assert_eq!((query.name.as_deref(), &*query.listed, query.kind), (Some("Deep"), "other", "query"));
}

#[test]
fn what_is_no_request_is_said() {
    let guard = guard("{}");
    for body in [json!(7), json!({}), json!({ "query": 1 }), json!({ "query": "{ a }", "variables": [] }), json!([[]])]
    {
        let said = post(&guard, &body).0.unwrap_err();
        assert!(said.starts_with("graphql."), "{body}: {said}");
    }
}
