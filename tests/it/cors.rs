//! Pages of other origins: preflights are answered at the gate, answers say who may read them, in every case.

use http::Request as H2Request;

use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, eventually, h2};

const APP: &str = "https://app.example.com";

fn preflight(target: &str, origin: &str, method: &str) -> Request {
    Request::new("OPTIONS", target).with("Origin", origin).with("Access-Control-Request-Method", method)
}

fn allowed(answer: &Response) -> Option<&str> {
    answer.field("access-control-allow-origin")
}

#[test]
fn a_preflight_is_answered_here_and_tells_what_is_allowed() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(
        &origin,
        "
  read: { match: GET /a, cors: { origins: [{ is: https://app.example.com }], methods: [GET, PUT], headers: [authorization, x-trace], max_age: 5m }, to: app }
  open: { match: 'GET /b', cors: { origins: ['*'] }, to: app }
  none: { match: GET /c, to: app }
  rest: { match: 'POST,OPTIONS /*', to: app }",
    );
    let answer = gateway.ask(preflight("/a", APP, "GET").with("Access-Control-Request-Headers", "x-trace"));
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for (name, value) in [
        ("access-control-allow-origin", APP),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "authorization, x-trace"),
        ("access-control-max-age", "300"),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{name}");
    }
    assert_eq!(answer.field("access-control-allow-credentials"), None);
    let refused = gateway.ask(preflight("/a", "https://evil.example", "GET"));
    assert_eq!(refused.verdict(), (403, "cors.refused".to_owned()));
    assert_eq!((allowed(&refused), refused.fields.all("vary").contains(&"Origin")), (None, true));
    assert_eq!(allowed(&gateway.ask(preflight("/b", "https://any.example", "GET"))), Some("*"));
    assert!(origin.seen().is_empty(), "no preflight reached the target");
    // What is no preflight of such a route goes where it went before.
    assert_eq!(gateway.ask(preflight("/c", APP, "GET")).text(), "in");
    assert_eq!(gateway.ask(preflight("/a", APP, "POST")).text(), "in");
    assert_eq!(gateway.ask(Request::new("OPTIONS", "/a").with("Origin", APP)).text(), "in");
    assert_eq!(origin.seen().iter().filter(|seen| seen.method == "OPTIONS").count(), 3);
    let line = gateway.access_line(|line| line["reason"] == "cors.refused");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.read.cors ("), "{line}");
    let answered = gateway.access_line(|line| line["http.response.status_code"] == 204 && line["route"] == "read");
    assert_eq!(answered["reason"], serde_json::Value::Null);
}

#[test]
fn the_methods_that_are_allowed_are_those_of_the_match() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(
        &origin,
        "
  some: { match: ['GET,PUT /a', 'DELETE /a'], cors: { origins: [https://app.example.com] }, to: app }
  all: { match: /b, cors: { origins: [https://app.example.com] }, to: app }",
    );
    let methods = |target: &str, method: &str| {
        let answer = gateway.ask(preflight(target, APP, method));
        (answer.status, answer.field("access-control-allow-methods").unwrap_or_default().to_owned())
    };
    assert_eq!(methods("/a", "PUT"), (204, "GET, PUT, DELETE".to_owned()));
    assert_eq!(methods("/b", "PATCH"), (204, "GET, HEAD, POST, PUT, PATCH, DELETE".to_owned()));
}

#[test]
fn a_preflight_opens_no_route_and_passes_the_list_of_networks_first() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(
        &origin,
        "
  read: { match: GET /a, to: app }
  shut: { match: GET /shut, ip: { deny: [127.0.0.0/8] }, cors: { origins: [https://app.example.com] }, to: app }",
    );
    assert_eq!(gateway.ask(preflight("/a", APP, "GET")).verdict(), (405, "route.method".to_owned()));
    assert_eq!(gateway.ask(preflight("/shut", APP, "GET")).verdict(), (403, "client.refused".to_owned()));
    assert!(origin.seen().is_empty());
}

#[test]
fn a_listed_origin_is_told_so_and_another_is_not() {
    let origin = Origin::new(|_, talk| {
        talk.answer(
            200,
            "Access-Control-Allow-Origin: *\r\naccess-control-expose-headers: x-secret\r\nVary: Accept\r\nX-Total: 7\r\n",
            "in",
        );
    });
    let gateway = Gateway::before(
        &origin,
        "
  all:
    match: /*
    cors:
      origins: [https://app.example.com, 'https://*.example.org', { regex: 'https://pr-[0-9]+[.]example[.]net' }]
      credentials: true
      expose: [x-total]
    to: app",
    );
    let ask = |origin: &str| gateway.ask(Request::get("/").with("Origin", origin));
    for origin in [APP, "https://x.y.example.org", "https://pr-7.example.net"] {
        let answer = ask(origin);
        assert_eq!((answer.status, answer.fields.all("access-control-allow-origin")), (200, vec![origin]));
        assert_eq!(answer.field("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.fields.all("access-control-expose-headers"), ["x-total"]);
        assert_eq!(answer.fields.all("vary"), ["Accept", "Origin"]);
    }
    for origin in ["https://evil.example", "null", "https://example.org", "https://app.example.com.evil.example"] {
        let answer = ask(origin);
        assert_eq!((answer.status, answer.text()), (200, "in".to_owned()), "the browser keeps it from the page");
        assert!(!answer.fields.0.iter().any(|(name, _)| name.starts_with("access-control")), "{:?}", answer.fields);
        assert_eq!(answer.fields.all("vary"), ["Accept", "Origin"]);
    }
    let twice = gateway.ask(Request::get("/").with("Origin", APP).with("Origin", "https://evil.example"));
    assert_eq!(allowed(&twice), None);
    let none = gateway.get("/");
    assert_eq!((allowed(&none), none.fields.all("vary")), (None, vec!["Accept", "Origin"]));
}

#[test]
fn an_answer_of_our_own_may_be_read_by_the_page_too() {
    let gateway = Gateway::start(
        "pools: { app: ['127.0.0.1:1'] }\nroutes: { all: { match: /*, cors: { origins: [https://app.example.com] }, to: app } }\n",
    );
    let answer = gateway.ask(Request::get("/").with("Origin", APP));
    assert_eq!((answer.status, allowed(&answer)), (502, Some(APP)));
    assert!(answer.fields.all("vary").contains(&"Origin"));
}

#[test]
fn a_preflight_over_http2_is_answered_too() {
    let gateway = Gateway::start(
        "listeners: { edge: { bind: 127.0.0.1:0, protocols: [h2] } }\nroutes: { all: { match: GET /a, cors: { origins: [https://app.example.com] }, respond: 200 } }\n",
    );
    let request = H2Request::options("http://test.example/a")
        .header("origin", APP)
        .header("access-control-request-method", "GET")
        .body(())
        .unwrap();
    let answer = h2::ask(&gateway.edge(), request, b"").unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(APP)));
}

#[test]
fn a_shadow_answers_nothing_and_tells_of_whom_it_would_refuse() {
    let origin =
        Origin::new(|_, talk| talk.answer(200, "Access-Control-Allow-Origin: https://theirs.example\r\n", "in"));
    let routes = |cors: &str| format!("all: {{ match: /*{cors}, to: app }}");
    let plain = Gateway::before(&origin, &routes(""));
    let watched = Gateway::before(&origin, &routes(", cors: { origins: [https://app.example.com], mode: shadow }"));
    let requests = [
        preflight("/", APP, "GET"),
        preflight("/", "https://evil.example", "GET"),
        Request::get("/").with("Origin", APP),
        Request::get("/").with("Origin", "https://evil.example"),
    ];
    for request in requests {
        let fields = |answer: Response| {
            // The one names the request, the other the second.
            let same = |name: &str| !["x-request-id", "date"].iter().any(|other| name.eq_ignore_ascii_case(other));
            answer.fields.0.into_iter().filter(|(name, _)| same(name)).collect::<Vec<_>>()
        };
        let request = request.with("X-Case", "shadow");
        assert_eq!(fields(watched.ask(request.clone())), fields(plain.ask(request)));
    }
    let line = watched.access_line(|line| !line["would_refuse"].is_null());
    assert!(line["would_refuse"].as_str().unwrap().starts_with("cors.refused by routes.all.cors ("), "{line}");
    let shadow = [("route", "all"), ("reason", "cors.refused")];
    eventually("counted", || (watched.metrics().sum("yumen_shadow_refusals_total", &shadow) > 0.5).then_some(()));
}
