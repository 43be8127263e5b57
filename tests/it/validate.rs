//! Requests of the right shape: parameters and bodies are looked at before the target gets them.

use http::Request as H2Request;
use serde_json::json;

use crate::harness::{Gateway, Origin, Request, Setup, eventually, h2};

const ORDER: &str = r#"{
  "type": "object", "required": ["items"], "additionalProperties": false,
  "properties": { "items": { "type": "array", "items": { "type": "integer" } }, "note": { "type": "string" } }
}"#;

fn echoing() -> Origin {
    Origin::new(|seen, talk| talk.answer(200, "", seen.body.len().to_string()))
}

fn validating(origin: &Origin, listener: &str) -> Gateway {
    let routes = "
  orders: { match: /orders/*, validate: { body: { schema: ./schemas/order.json, max: 256KiB } }, to: app }
  here: { match: /here, validate: { body: { schema: { type: integer } } }, to: app }";
    let document = format!("{listener}{}", Gateway::document(origin, routes));
    Setup::new().file("schemas/order.json", ORDER).start(document)
}

#[test]
fn parameters_have_to_be_there_and_to_look_right() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(
        &origin,
        "all: { match: /*, validate: { headers: { x-account: { required: true, regex: '[a-z]{1,8}' } }, query: { page: { regex: '[0-9]+' }, q: { required: true } } }, to: app }",
    );
    let ask = |target: &str, account: &str| gateway.ask(Request::get(target).with("X-Account", account));
    assert_eq!(ask("/?q=a&page=7", "shop").text(), "in");
    let refused = ask("/?page=x", "Shop");
    assert_eq!(refused.verdict(), (400, "request.invalid".to_owned()));
    assert_eq!(
        refused.json()["errors"],
        json!([
            { "parameter": "x-account", "detail": "does not look as it has to" },
            { "parameter": "page", "detail": "does not look as it has to" },
            { "parameter": "q", "detail": "is required" },
        ])
    );
    assert_eq!(origin.seen().len(), 1);
    let line = gateway.access_line(|line| line["reason"] == "request.invalid");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.all.validate ("), "{line}");
}

#[test]
fn a_body_is_held_back_until_it_was_found_good() {
    let origin = echoing();
    let gateway = validating(&origin, "");
    let good = format!("{{\"items\":[{}1]}}", "1, ".repeat(40_000));
    assert_eq!(gateway.ask(Request::post("/orders/x", &good)).text(), good.len().to_string());
    let refused = gateway.ask(Request::post("/orders/x", r#"{"items":[1,"two"],"more":"secret"}"#));
    assert_eq!(refused.verdict(), (422, "body.invalid".to_owned()));
    let errors = refused.json()["errors"].clone();
    assert!(errors.as_array().unwrap().iter().any(|error| error["pointer"] == "#/items/1"), "{errors}");
    assert!(!errors.to_string().contains("secret"), "{errors}");
    for wrong in ["", "{", "[]", "null", "{\"items\":[1]} x"] {
        let request = Request::post("/orders/x", wrong).with("Content-Type", "text/plain");
        assert_eq!(gateway.ask(request).verdict(), (422, "body.invalid".to_owned()), "{wrong}");
    }
    assert_eq!(
        gateway.ask(Request::post("/orders/x", vec![b' '; 300 << 10])).verdict(),
        (413, "body.too_large".into())
    );
    assert_eq!(gateway.ask(Request::post("/here", "7")).text(), "1");
    assert_eq!(gateway.ask(Request::post("/here", "\"7\"")).status, 422);
    assert_eq!(gateway.get("/orders/x").status, 200, "a GET needs no body");
    assert!(origin.seen().iter().all(|seen| [0, 1, good.len()].contains(&seen.body.len())), "no bad body got there");
}

#[test]
fn pieces_of_a_body_are_looked_at_as_a_whole() {
    let origin = echoing();
    let gateway = validating(&origin, "listeners: { edge: { bind: 127.0.0.1:0, protocols: [h1, h2] } }\n");
    for (last, status) in [("2]}", 200), ("x]}", 422)] {
        let mut connection = gateway.connect();
        connection.send("POST /orders/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in ["{\"items\"", ":[1,", last] {
            connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        connection.send("0\r\n\r\n");
        assert_eq!(connection.response().status, status);
        let request = H2Request::post("http://test.example/orders/x").body(()).unwrap();
        let answer = h2::ask(&gateway.edge(), request, format!("{{\"items\":[1,{last}").as_bytes()).unwrap();
        assert_eq!(answer.status, status, "over HTTP/2");
    }
    assert_eq!(origin.seen().iter().filter(|seen| seen.body == b"{\"items\":[1,2]}").count(), 2);
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn a_target_that_speaks_http2_gets_only_good_bodies_too() {
    let origin = h2::Origin::plain(&[]);
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, validate: {{ body: {{ schema: {{ type: integer }} }} }}, to: app }} }}\n"
    ));
    assert_eq!(gateway.ask(Request::post("/", "12345")).text(), "12345");
    let _ = gateway.connect().send(Request::post("/", "\"x\"").bytes()).try_response();
    let line = gateway.access_line(|line| line["reason"] == "body.invalid");
    assert_eq!(line["route"], "all");
    assert_eq!(origin.asked().len(), 1);
}

#[test]
fn a_body_is_held_anew_when_it_is_sent_again() {
    let origin = Origin::new(|seen, talk| {
        talk.answer(200, "", &seen.body);
        talk.close();
    });
    let gateway = validating(&origin, "");
    for _ in 0..10 {
        let request = Request { method: "PUT".into(), ..Request::post("/orders/x", "{\"items\":[1]}") };
        assert_eq!(gateway.ask(request).text(), "{\"items\":[1]}");
    }
}

#[test]
fn a_schema_is_read_again_when_its_file_changes() {
    let origin = echoing();
    let gateway = validating(&origin, "");
    let post = || gateway.ask(Request::post("/orders/x", "7")).status;
    assert_eq!(post(), 422);
    std::fs::write(gateway.setup.path().join("schemas/order.json"), "{\"type\":\"integer\"}").unwrap();
    eventually("the new schema", || (post() == 200).then_some(()));
}

#[test]
fn a_shadow_holds_nothing_back_and_tells() {
    let origin = echoing();
    let gateway = Gateway::before(
        &origin,
        "all: { match: /*, validate: { query: { q: { required: true } }, body: { schema: { type: integer }, max: 1KiB }, mode: shadow }, to: app }",
    );
    for (body, fault) in [("\"x\"".to_owned(), "body.invalid"), ("1".repeat(100_000), "body.too_large")] {
        assert_eq!(gateway.ask(Request::post("/", &body)).text(), body.len().to_string());
        let line = gateway.access_line(|line| line["would_refuse"].as_str().is_some_and(|said| said.contains(fault)));
        let said = line["would_refuse"].as_str().unwrap();
        assert_eq!((said.matches("request.invalid").count(), said.matches(fault).count()), (1, 1), "{said}");
    }
}

const API: &str = r##"
openapi: 3.0.3
servers: [{ url: /v1 }]
paths:
  /orders:
    post:
      requestBody:
        required: true
        content:
          application/json: { schema: { $ref: "#/components/schemas/Order" } }
          text/csv: {}
      responses: { 201: { description: made } }
  /orders/{id}:
    get:
      parameters: [{ name: id, in: path, required: true, schema: { type: integer } }, { name: deep, in: query, schema: { type: boolean } }]
      responses: { 200: { description: fine } }
components: { schemas: { Order: { type: object, required: [item], properties: { item: { type: string } } } } }
"##;

#[test]
fn an_api_description_says_what_requests_look_like() {
    let origin = echoing();
    let routes = "
  api: { match: /v1/*, validate: { openapi: ./api.yaml }, to: app }
  shop: { match: /shop/*, validate: { openapi: { file: ./api.yaml, base: /shop, max: 1KiB } }, to: app }
  watched: { match: /watched/*, validate: { openapi: { file: ./api.yaml, base: /watched }, mode: shadow }, to: app }";
    let setup = Setup::new().file("api.yaml", API);
    let file = setup.path().join("api.yaml");
    let gateway = setup.start(Gateway::document(&origin, routes));
    let post = |path: &str, kind: &str, body: &str| {
        gateway.ask(Request::post(path, body).with("Content-Type", kind)).verdict()
    };
    assert_eq!(gateway.get("/v1/orders/7?deep=true").status, 200);
    let refused = gateway.get("/v1/orders/seven?deep=1");
    assert_eq!(refused.verdict(), (400, "request.invalid".to_owned()));
    let named: Vec<_> = refused.json()["errors"].as_array().unwrap().iter().map(|e| e["parameter"].clone()).collect();
    assert_eq!(named, ["id", "deep"]);
    assert_eq!(gateway.get("/v1/carts").verdict(), (404, "route.none".to_owned()));
    let method = gateway.ask(Request::new("DELETE", "/v1/orders/7"));
    assert_eq!((method.verdict(), method.field("allow")), ((405, "route.method".to_owned()), Some("GET")));
    let line = gateway.access_line(|line| line["reason"] == "route.method");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.api.validate ("), "{line}");

    let seen = origin.seen().len();
    assert_eq!(post("/v1/orders", "application/json", "{\"item\":1}"), (422, "body.invalid".to_owned()));
    assert_eq!(post("/v1/orders", "application/json", ""), (422, "body.invalid".to_owned()));
    let kind = gateway.ask(Request::post("/v1/orders", "<a/>").with("Content-Type", "text/xml"));
    assert_eq!(kind.verdict(), (415, "body.type".to_owned()));
    assert_eq!(kind.field("accept"), Some("application/json, text/csv"));
    let smuggled = Request { method: "GET".to_owned(), ..Request::post("/v1/orders/7", "{}") };
    assert_eq!(gateway.ask(smuggled).verdict(), (422, "body.invalid".to_owned()), "no body is described there");
    let large = format!("{{\"item\":\"{}\"}}", "a".repeat(2000));
    assert_eq!(post("/shop/orders", "application/json", &large), (413, "body.too_large".to_owned()));
    assert!(origin.seen().iter().skip(seen).all(|seen| seen.body.is_empty()), "no bad body got there");
    for (kind, body) in [("application/json", large.as_str()), ("text/csv", "a,b")] {
        assert_eq!(
            gateway.ask(Request::post("/v1/orders", body).with("Content-Type", kind)).text(),
            body.len().to_string()
        );
    }

    for (path, body) in [("/watched/carts", "{}"), ("/watched/orders", "{}"), ("/watched/orders", "{\"item\":1}")] {
        let request = Request::post(path, body).with("Content-Type", "application/json");
        assert_eq!(gateway.ask(request).text(), body.len().to_string());
    }
    gateway.access_line(|line| {
        line["would_refuse"].as_str().unwrap_or_default().starts_with("route.none by routes.watched")
    });
    gateway.access_line(|line| {
        line["would_refuse"].as_str().unwrap_or_default().starts_with("body.invalid by routes.watched")
    });

    std::fs::write(&file, API.replace("type: integer", "type: string")).unwrap();
    eventually("the new description", || (gateway.get("/v1/orders/seven").status == 200).then_some(()));
}
