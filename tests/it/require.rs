//! Who has the right: what is known of the client and of its request decides, and what is not known lets nobody in.

use crate::harness::tls::Authority;
use crate::harness::{Gateway, Origin, Request, Setup, eventually};

#[test]
fn a_client_certificate_opens_what_it_has_a_right_to() {
    let origin = Origin::answering("in");
    let authority = Authority::new();
    let setup = Setup::new().pair("edge", &authority.issue(&["a.example"])).file("ca.pem", &authority.pem);
    let gateway = setup.start(format!(
        "listeners:\n  edge: {{ bind: 127.0.0.1:0, tls: {{ certs: [{{ cert: \"$DIR/edge.pem\", key: \"$DIR/edge.key\" }}], client_ca: {{ file: \"$DIR/ca.pem\", mode: optional }} }} }}\n{}",
        Gateway::document(
            &origin,
            "
  orders: { match: /orders, require: { certificate.subject: { regex: '.*CN=orders-[0-9]+.*' } }, to: app }
  exact: { match: /exact, require: { certificate.fingerprint: '00ff' }, to: app }
  either: { match: /either, require: { any: [{ certificate.fingerprint: '00ff' }, { all: [{ certificate.subject: { regex: '.*orders.*' } }] }], not: { certificate.subject: { regex: '.*banned.*' } } }, to: app }
  spoken: { match: /spoken, require: { expression: 'certificate.subject.contains(\"CN=orders-\") && request.method in [\"GET\", \"HEAD\"]' }, to: app }",
        )
    ));
    let ask = |name: Option<&str>, request: Request| {
        let client = authority.client();
        let client = match name {
            Some(name) => client.showing(&authority.issue(&[name])),
            None => client,
        };
        let mut secured = client.connect(&gateway.edge(), "a.example").unwrap();
        secured.connection.ask(&request.host("a.example")).status
    };
    let get =
        |name: Option<&str>| ["/orders", "/exact", "/either", "/spoken"].map(|path| ask(name, Request::get(path)));
    assert_eq!(get(Some("orders-17")), [200, 403, 200, 200]);
    assert_eq!(get(Some("orders-banned")), [403, 403, 403, 200]);
    assert_eq!(get(Some("catalog")), [403, 403, 403, 403]);
    assert_eq!(get(None), [403, 403, 403, 403]);
    assert_eq!(ask(Some("orders-17"), Request::post("/spoken", "x")), 403);
    let line = gateway.access_line(|line| line["route"] == "orders" && line["reason"] == "require.refused");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.orders.require ("), "{line}");
    assert!(line["detail"].as_str().unwrap().starts_with("`certificate.subject` "), "{line}");
}

#[test]
fn without_an_identity_nothing_that_asks_for_one_holds() {
    let origin = Origin::answering("in");
    let clauses = [
        "scope: orders:read",
        "role: [admin, ops]",
        "consumer: shop",
        "consumer.plan: gold",
        "claim.tenant: $host",
        "claim.level: { min: 3, max: 9 }",
        "not: { role: banned }",
        "expression: 'jwt.plan == \"gold\"'",
    ];
    let routes: String = clauses
        .iter()
        .enumerate()
        .map(|(at, clause)| format!("  r{at}: {{ match: /{at}, require: {{ {clause} }}, to: app }}\n"))
        .collect();
    let gateway = Gateway::before(&origin, &routes);
    for (at, clause) in clauses.iter().enumerate() {
        let refused = gateway.get(&format!("/{at}"));
        assert_eq!(refused.verdict(), (403, "require.refused".to_owned()), "{clause}");
        assert!(!refused.text().contains("claim"), "the client is not told what is missing");
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn an_expression_decides_by_the_request() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(
        &origin,
        "all: { match: '/:tenant', require: 'request.headers[\"x-tenant\"] == \"acme\" && request.query.contains(\"a=1\")', to: app }",
    );
    let ask = |target: &str, tenant: &str| gateway.ask(Request::get(target).with("X-Tenant", tenant)).status;
    assert_eq!([ask("/x?a=1", "acme"), ask("/x?a=2", "acme"), ask("/x?a=1", "other")], [200, 403, 403]);
    assert_eq!(gateway.get("/x?a=1").status, 403, "an error in the expression refuses");
    let line = gateway.access_line(|line| line["detail"] == "`expression` cannot be told");
    assert_eq!(line["reason"], "require.refused");
}

#[test]
fn a_shadow_lets_everyone_in_and_tells() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(&origin, "all: { match: /*, require: { role: admin, mode: shadow }, to: app }");
    assert_eq!(gateway.get("/").text(), "in");
    let line = gateway.access_line(|line| !line["would_refuse"].is_null());
    assert!(line["would_refuse"].as_str().unwrap().starts_with("require.refused by routes.all.require ("), "{line}");
    let shadow = [("route", "all"), ("reason", "require.refused")];
    eventually("counted", || (gateway.metrics().sum("yumen_shadow_refusals_total", &shadow) > 0.5).then_some(()));
}
