//! GraphQL at the gate: what costs too much, what is not on the list, and what limits know of it.

use serde_json::{Value, json};

use crate::harness::handshake::{SWITCH, upgrade};
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup};

/// Gives back what it was sent.
fn origin() -> Origin {
    Origin::new(|seen, talk| match seen.method.as_str() {
        "GET" => talk.answer(200, "Content-Type: text/plain\r\n", &seen.target),
        _ => talk.answer(200, "Content-Type: application/json\r\n", &seen.body),
    })
}

fn guarded(origin: &Origin, graphql: &str) -> Gateway {
    Gateway::before(origin, &format!("api: {{ match: /graphql, to: app, graphql: {graphql} }}"))
}

fn post(body: &Value) -> Request {
    Request::post("/graphql", body.to_string()).with("Content-Type", "application/json")
}

fn ask(gateway: &Gateway, query: &str) -> Response {
    gateway.ask(post(&json!({ "query": query })))
}

fn refused() -> (u16, String) {
    (403, "graphql.refused".to_owned())
}

#[test]
fn what_costs_too_much_reaches_no_target() {
    let origin = origin();
    let gateway =
        guarded(&origin, "{ depth: 3, aliases: 1, complexity: 20, costs: { search: 15 }, tokens: 50, max: 2KiB }");
    let fine = "query Cart { cart(first: 3) { id name } }";
    assert_eq!(ask(&gateway, fine).json(), json!({ "query": fine }));
    for (query, error) in [
        ("{ a { b { c { d } } } }", "depth"),
        ("{ x: a y: a }", "aliases"),
        ("{ search a(first: 5) { b } }", "complexity"),
        ("{ __schema { types { name } } }", "introspection"),
    ] {
        let answer = ask(&gateway, query);
        assert_eq!(answer.verdict(), refused(), "{query}");
        assert!(answer.json()["errors"].to_string().contains(error), "{}", answer.text());
    }
    let hash = json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": "00" } } });
    assert_eq!(gateway.ask(post(&hash)).verdict(), refused(), "who sends a hash only has to send the text");
    let long = format!("{{ {} }}", "a ".repeat(60));
    assert_eq!(ask(&gateway, &long).verdict(), (400, "graphql.invalid".to_owned()));
    assert_eq!(ask(&gateway, &"x".repeat(3000)).verdict(), (413, "body.too_large".to_owned()));
    assert_eq!(
        gateway.ask(Request::post("/graphql", "{ a }").with("Content-Type", "application/graphql")).code(),
        "body.type"
    );
    assert_eq!(origin.seen().len(), 1, "the target saw the one that was fine");
    let line = gateway.access_line(|line| line["graphql.operation.name"] == "Cart");
    assert_eq!(line["graphql.operation.type"], "query");
    let line = gateway.access_line(|line| line["reason"] == "graphql.refused");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.api.graphql ("), "{line}");
    let counted =
        |result| gateway.metrics().sum("yumen_graphql_operations_total", &[("operation", "other"), ("result", result)]);
    assert_eq!((counted("passed").to_string(), counted("refused").to_string()), ("1".to_owned(), "7".to_owned()));
}

#[test]
fn nobody_passes_by_saying_it_twice() {
    let origin = origin();
    let gateway = guarded(&origin, "{ complexity: 50 }");
    let invalid = (400, "graphql.invalid".to_owned());
    let dear = "%7Ba(first:1000)%7Bb%7D%7D";
    for target in [format!("/graphql?%71uery={dear}&query=%7Ba%7D"), format!("/graphql?query=%7Ba%7D&que%72y={dear}")] {
        assert_eq!(gateway.get(&target).verdict(), invalid, "{target}");
    }
    let sent = |target: &str, body: &str| {
        gateway.ask(Request::post(target, body).with("Content-Type", "application/json")).verdict()
    };
    assert_eq!(sent(&format!("/graphql?query={dear}"), r#"{"query":"{a}"}"#), invalid);
    assert_eq!(sent("/graphql", r#"{"query":"{a(first:1000){b}}","query":"{a}"}"#), invalid);
    assert_eq!(sent("/graphql", r#"{"query":"query($n:Int){a(first:$n){b}}","variables":{"n":1e3}}"#), refused());
    assert_eq!(origin.seen().len(), 0, "none of them was seen");
}

#[test]
fn the_schema_and_several_operations_are_for_those_whom_the_document_lets() {
    let origin = origin();
    let gateway = guarded(&origin, "{ introspection: allow, batch: 2 }");
    assert_eq!(
        ask(&gateway, "{ __schema { types { name fields { type { ofType { ofType { name } } } } } } }").status,
        200
    );
    let two = json!([{ "query": "{ a }" }, { "query": "{ b }" }]);
    assert_eq!(gateway.ask(post(&two)).json(), two);
    assert_eq!(
        gateway.ask(post(&json!([{ "query": "{ a }" }, { "query": "{ b }" }, { "query": "{ c }" }]))).verdict(),
        refused()
    );
}

#[test]
fn only_listed_operations_run_and_a_hash_is_enough() {
    let origin = origin();
    let (cart, me) = ("query Cart { cart { id } }", "query Me { me { id } }");
    let setup = Setup::new().file("operations.json", json!({ "cart-1": cart, "me-1": me }).to_string());
    let routes = "api: { match: /graphql, to: app, graphql: { operations: operations.json }, \
                  limit: { rate: 2/h, key: graphql.operation } }";
    let gateway = setup.start(Gateway::document(&origin, routes));
    assert_eq!(ask(&gateway, cart).json(), json!({ "query": cart }));
    assert_eq!(ask(&gateway, "{ anything }").verdict(), refused());
    let hash = |id: &str| json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": id } } });
    assert_eq!(gateway.ask(post(&hash("cart-1"))).json(), json!({ "query": cart, "extensions": {} }));
    assert_eq!(gateway.ask(post(&hash("cart-1"))).verdict(), (429, "limit.rate".to_owned()), "two of this one");
    let extensions = "%7B%22persistedQuery%22:%7B%22sha256Hash%22:%22me-1%22%7D%7D";
    let by_get = gateway.get(&format!("/graphql?extensions={extensions}"));
    assert!(by_get.text().ends_with("&query=query%20Me%20%7B%20me%20%7B%20id%20%7D%20%7D"), "{}", by_get.text());
    assert_eq!(gateway.ask(post(&hash("none"))).verdict(), refused());
    let counted =
        |name| gateway.metrics().sum("yumen_graphql_operations_total", &[("operation", name), ("result", "passed")]);
    assert_eq!((counted("Cart").to_string(), counted("Me").to_string()), ("3".to_owned(), "1".to_owned()));
}

#[test]
fn get_asks_and_cannot_change_and_web_sockets_pass() {
    let origin = Origin::new(|seen, talk| {
        if seen.field("upgrade").is_some() {
            talk.send(SWITCH);
            talk.echo();
        } else {
            talk.answer(200, "Content-Type: application/json\r\n", "{}");
        }
    });
    let gateway = guarded(&origin, "{}");
    assert_eq!(gateway.get("/graphql?query=%7B%20a%20%7D").status, 200);
    assert_eq!(gateway.get("/graphql?query=mutation%7Ba%7D").verdict(), refused());
    assert_eq!(gateway.get("/graphql").verdict(), (400, "graphql.invalid".to_owned()));
    let socket = Request { target: "/graphql".to_owned(), ..upgrade() };
    let mut stream = gateway.connect();
    stream.send(socket.bytes());
    assert_eq!(stream.head().status, 101);
}

#[test]
fn a_client_of_graphql_is_told_in_its_own_shape() {
    let origin = origin();
    let gateway = guarded(&origin, "{ depth: 1 }");
    let asked = post(&json!({ "query": "{ a { b } }" })).with("Accept", "application/graphql-response+json");
    let answer = gateway.ask(asked);
    assert_eq!((answer.status, answer.field("content-type")), (403, Some("application/graphql-response+json")));
    let error = &answer.json()["errors"][0];
    assert_eq!(error["extensions"]["code"], "graphql.refused");
    assert!(error["message"].as_str().unwrap().contains("depth: 2 is more than 1"), "{error}");
}

#[test]
fn a_shadow_of_graphql_changes_nothing() {
    let origin = origin();
    let gateway = guarded(&origin, "{ depth: 1, mode: shadow }");
    assert_eq!(ask(&gateway, "{ a { b } }").status, 200);
    let large = format!("{{ a(x: \"{}\") }}", "x".repeat(300 << 10));
    assert_eq!(ask(&gateway, &large).status, 200, "not even what is too large to be read");
    let line =
        gateway.access_line(|line| line["would_refuse"].as_str().is_some_and(|said| said.starts_with("graphql")));
    assert!(line["would_refuse"].as_str().unwrap().starts_with("graphql.refused by routes.api.graphql ("), "{line}");
}

#[test]
fn who_may_not_come_in_is_not_read() {
    let origin = origin();
    let setup = Setup::new();
    let routes = "api: { match: /graphql, to: app, graphql: {}, ip: { deny: [127.0.0.0/8] } }";
    let gateway = setup.start(Gateway::document(&origin, routes));
    assert_eq!(ask(&gateway, "{").code(), "client.refused");
}
