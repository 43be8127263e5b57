//! What only watches changes nothing: random requests get the same answer, byte for byte, with and without every guard.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually};

/// Every guard that there is, each of them refusing most of what comes.
const WATCHING: &str = "
    ip: { allow: [10.0.0.0/8], mode: shadow }
    cors: { origins: [https://app.example.com], credentials: true, mode: shadow }
    body: { max: 16B, type: [application/json], mode: shadow }
    auth: watched
    require: { role: admin, mode: shadow }
    limit: [{ rate: 1/min, burst: 1, key: client.ip, mode: shadow }, { in_flight: 1, key: header.x-a, else: route, mode: shadow }, { quota: 1/year, key: client.ip, mode: shadow }]
    validate: { headers: { x-a: { required: true } }, query: { q: { regex: '[0-9]+' } }BODY, mode: shadow }";

/// Only where there is a target are bodies looked at.
const BODY: &str = ", body: { schema: { type: integer }, max: 32B }";

/// Every way to be known, of which the last one sends some of the clients elsewhere.
fn schemes(asked: &Origin) -> String {
    format!(
        "auth:
  token: {{ jwt: {{ secret: a-secret-that-only-this-test-knows-0123456789 }} }}
  user: {{ basic: {{ file: users }} }}
  opaque: {{ introspection: {{ url: 'http://{asked}/', client_id: a, client_secret: b, in: [header.x-a], timeout: 10s }} }}
  sso: {{ ext: {{ url: 'http://{asked}/', send: [origin], to_target: [x-a], to_client: [x-said, set-cookie], timeout: 10s }} }}
  watched: {{ any: [token, user, opaque, sso], forward: {{ x-a: jwt.sub }}, strip: true, mode: shadow }}
"
    )
}

fn gateway(origin: &Origin, schemes: &str, guards: &str) -> Gateway {
    let (forwarding, guards) = (guards.replace("BODY", BODY), guards.replace("BODY", ""));
    let routes = format!(
        "
  forward:
    match: 'GET,HEAD,POST,PUT,OPTIONS /forward/*'
    to: app{forwarding}
  respond:
    match: 'GET,POST /respond'
    respond: {{ status: 200, body: here }}{guards}
  redirect:
    match: /redirect
    redirect: https{guards}"
    );
    let users = format!("acme:$2y$10${}", ".".repeat(53));
    Setup::new().file("users", users).start(schemes.to_owned() + &Gateway::document(origin, &routes))
}

fn request() -> impl Strategy<Value = Request> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"]);
    let path = prop::sample::select(vec!["/forward/a", "/forward/b", "/respond", "/redirect", "/nowhere"]);
    let query = prop::sample::select(vec!["", "?q=1", "?q=x", "?q=%ff&q=2"]);
    let fields = prop::sample::subsequence(
        vec![
            ("Origin", "https://app.example.com"),
            ("Origin", "https://evil.example"),
            ("Access-Control-Request-Method", "GET"),
            ("Content-Type", "application/json"),
            ("Content-Type", "application/grpc"),
            ("X-A", "1"),
            ("Authorization", "Bearer a.b.c"),
            ("Authorization", "Basic YWNtZTpnZWhlaW0="),
            ("Accept-Language", "zh-CN"),
        ],
        0..=4,
    );
    let body = prop_oneof![Just(Vec::new()), Just(b"7".to_vec()), prop::collection::vec(any::<u8>(), 1..3000)];
    (method, path, query, fields, body, any::<bool>()).prop_map(|(method, path, query, fields, body, chunked)| {
        let request = Request { body, ..Request::new(method, &format!("{path}{query}")) };
        let request = fields.into_iter().fold(request, |request, (name, value)| request.with(name, value));
        if request.body.is_empty() || !chunked {
            return request;
        }
        let head = format!("{:x}\r\n", request.body.len());
        let body = [head.as_bytes(), &request.body, b"\r\n0\r\n\r\n"].concat();
        Request { body, ..request.with("Transfer-Encoding", "chunked") }
    })
}

/// Everything of the answer but what is new in each: its id and its time.
fn answer(gateway: &Gateway, request: &Request) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let answer = Connection::to(&gateway.edge()).ask(request);
    let id = answer.field("x-request-id").unwrap_or("-").to_owned();
    // The one names the request, the other the second.
    let same = |name: &str| !["x-request-id", "date"].iter().any(|other| name.eq_ignore_ascii_case(other));
    let fields = answer.fields.0.iter().filter(|(name, _)| same(name));
    let body = String::from_utf8_lossy(&answer.body).replace(&id, "ID").into_bytes();
    (answer.status, fields.cloned().collect(), body)
}

#[test]
fn a_shadow_never_changes_a_byte_of_an_answer() {
    let origin = Origin::new(|seen, talk| {
        talk.answer(200, "Access-Control-Allow-Origin: *\r\nVary: Accept\r\nX-Said: 1\r\n", &seen.body);
    });
    let asked = Origin::new(|seen, talk| match seen.field("origin") {
        _ if seen.method == "POST" => talk.answer(200, "", r#"{ "active": false }"#),
        Some("https://app.example.com") => talk.answer(200, "X-A: u1\r\nX-Said: 2\r\nSet-Cookie: a=1\r\n", ""),
        Some(_) => talk.answer(302, "Location: /login\r\nX-Said: 2\r\nSet-Cookie: a=1\r\n", ""),
        None => talk.answer(500, "", ""),
    });
    let (plain, watched) = (gateway(&origin, "", ""), gateway(&origin, &schemes(&asked), WATCHING));
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let run = runner.run(&request(), |request| {
        prop_assert_eq!(answer(&watched, &request), answer(&plain, &request));
        Ok(())
    });
    run.unwrap();
    // Chance makes few of them.
    let preflight = Request::new("OPTIONS", "/forward/a").with("Origin", "https://evil.example");
    let preflight = preflight.with("Access-Control-Request-Method", "GET");
    assert_eq!(answer(&watched, &preflight), answer(&plain, &preflight));
    for reason in [
        "client.refused",
        "cors.refused",
        "body.too_large",
        "body.type",
        "auth.external",
        "auth.unavailable",
        "require.refused",
        "request.invalid",
        "body.invalid",
    ] {
        eventually(&format!("{reason} is watched"), || {
            watched.access().iter().any(|line| line["would_refuse"].to_string().contains(reason)).then_some(())
        });
    }
}
