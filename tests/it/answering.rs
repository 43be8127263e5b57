//! What a route does beside forwarding: rewrite, header fields, redirect, respond, host, weights.

use crate::harness::{Gateway, Origin, Request, times};

#[test]
fn rewrite_strips_replaces_and_builds_paths() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(
        &origin,
        "strip: { match: /api/*, to: app, rewrite: { strip: /api } }\n\
         prefix: { match: /orders/*, to: app, rewrite: { prefix: /v2 } }\n\
         path: { match: /users/:id/*, to: app, rewrite: { path: /people/:id/all/* } }",
    );
    for (asked, seen) in [
        ("/api/orders/7?a=1", "/orders/7?a=1"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/orders/7", "/v2/7"),
        ("/users/42/x/y?z", "/people/42/all/x/y?z"),
    ] {
        assert_eq!(gateway.get(asked).status, 200, "{asked}");
        assert_eq!(origin.last().target, seen, "{asked}");
    }
}

#[test]
fn a_rewritten_path_cannot_climb() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(&origin, "users: { match: /users/:id, to: app, rewrite: { path: '/files/:id/x' } }");
    for id in ["..", "%2e%2e", "%2E.", "a%2fb", "a%5cb", "%252e%252e"] {
        gateway.get(&format!("/users/{id}"));
    }
    for target in origin.targets() {
        assert!(target.starts_with("/files/") && !target.contains("..") && !target.contains('\\'), "{target}");
    }
}

#[test]
fn request_fields_are_set_added_and_removed() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(
        &origin,
        "all: { match: /*, to: app, request: { set: { x-tenant: acme }, add: { x-seen: two }, remove: [x-debug] } }",
    );
    gateway.ask(Request::get("/").with("X-Tenant", "evil").with("X-Seen", "one").with("X-Debug", "1"));
    let seen = origin.last();
    assert_eq!(seen.fields.all("x-tenant"), ["acme"]);
    assert_eq!(seen.fields.all("x-seen"), ["one", "two"]);
    assert_eq!(seen.field("x-debug"), None);
}

#[test]
fn response_fields_are_set_added_and_removed() {
    let origin = Origin::new(|_, talk| talk.answer(200, "Server: old\r\nX-Power: steam\r\nVary: a\r\n", "ok"));
    let gateway = Gateway::before(
        &origin,
        "all: { match: /*, to: app, response: { set: { server: new }, add: { vary: b }, remove: [x-power] } }",
    );
    let answer = gateway.get("/");
    assert_eq!(answer.fields.all("server"), ["new"]);
    assert_eq!(answer.fields.all("vary"), ["a", "b"]);
    assert_eq!(answer.field("x-power"), None);
}

#[test]
fn a_secret_from_a_file_reaches_the_upstream_and_nobody_else() {
    let origin = Origin::answering("ok");
    let setup = crate::harness::Setup::new().file("token", "Bearer canary-7\n");
    let document = Gateway::document(
        &origin,
        "all: { match: /*, to: app, request: { set: { authorization: \"file:$DIR/token\" } } }",
    );
    let gateway = setup.start(document);
    gateway.get("/");
    assert_eq!(origin.last().field("authorization"), Some("Bearer canary-7"));
    let shown = gateway.yumen("show", &[]);
    assert!(!(shown.out + &shown.err).contains("canary"), "`show` tells the secret");
    assert!(!gateway.log.all().join("\n").contains("canary"));
    assert!(!gateway.admin("/routes").text().contains("canary"));
}

#[test]
fn redirects_keep_the_path_and_the_query() {
    let gateway = Gateway::start(
        r#"routes:
  tls: { match: plain.example.com/*, redirect: https }
  moved: { match: "/old/:id", redirect: { to: "https://new.example.com/x/:id", status: 302 } }
  path: { match: /here, redirect: { to: /there, status: 307 } }
"#,
    );
    let location = |url: &str| {
        let answer = gateway.get_at(url);
        (answer.status, answer.field("location").unwrap_or_default().to_owned())
    };
    assert_eq!(location("plain.example.com/a/b?c=d"), (308, "https://plain.example.com/a/b?c=d".into()));
    assert_eq!(location("any.example/old/7?q=1"), (302, "https://new.example.com/x/7?q=1".into()));
    assert_eq!(location("any.example/here"), (307, "/there".into()));
}

#[test]
fn a_redirect_never_leaves_through_the_path() {
    let gateway = Gateway::start("routes:\n  all: { match: /*, redirect: https }\n");
    for target in ["//evil.example/", "/\\evil.example/", "/%2f/evil.example", "/%0d%0aset-cookie:a=b"] {
        let answer = gateway.ask(Request::get(target).host("good.example"));
        let location = answer.field("location").unwrap_or("https://good.example/");
        assert!(location.starts_with("https://good.example/") && answer.field("set-cookie").is_none(), "{location}");
    }
}

#[test]
fn respond_answers_by_itself() {
    let gateway = Gateway::start(
        r#"routes:
  nothing: { match: /nothing, respond: 204 }
  json: { match: /json, respond: { status: 418, type: application/json, body: '{"ok":true}' } }
  text: { match: /text, respond: { body: hello } }
"#,
    );
    let nothing = gateway.get("/nothing");
    assert_eq!((nothing.status, nothing.body.len()), (204, 0));
    assert_eq!(nothing.field("content-length"), None, "RFC 9110 section 8.6");
    let json = gateway.get("/json");
    assert_eq!((json.status, json.field("content-type")), (418, Some("application/json")));
    assert_eq!(json.json()["ok"], true);
    assert_eq!(gateway.get("/text").text(), "hello");
    assert!(gateway.get("/text").field("content-type").unwrap().starts_with("text/plain"));
}

#[test]
fn a_fixed_answer_keeps_the_connection_in_step_after_a_body() {
    let gateway = Gateway::start("routes:\n  all: { match: /*, respond: { body: ok } }\n");
    let mut connection = gateway.connect();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(connection.ask(&Request::post("/", smuggled)).text(), "ok");
    if let Ok(Some(after)) = connection.send(Request::get("/after").bytes()).try_response() {
        assert_eq!(after.text(), "ok");
    }
    let paths: Vec<_> = gateway.access().iter().map(ToString::to_string).collect();
    assert!(!paths.iter().any(|line| line.contains("/smuggled")), "a body was read as a request");
}

#[test]
fn the_upstream_sees_the_host_that_the_route_says() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(
        &origin,
        "pass: { match: /pass, to: app, host: pass }\nnamed: { match: /named, to: app, host: internal.example }",
    );
    gateway.ask(Request::get("/pass").host("api.example.com:8080"));
    assert_eq!(origin.last().fields.all("host"), ["api.example.com:8080"]);
    gateway.ask(Request::get("/named").host("api.example.com"));
    assert_eq!(origin.last().fields.all("host"), ["internal.example"]);
    assert_eq!(origin.last().field("x-forwarded-host"), Some("api.example.com"));
}

#[test]
fn weights_are_kept_and_smooth() {
    let (stable, canary) = (Origin::answering("stable"), Origin::answering("canary"));
    let gateway = Gateway::start(format!(
        "runtime: {{ workers: 1 }}\npools: {{ stable: [\"{stable}\"], canary: [\"{canary}\"] }}\n\
         routes:\n  all: {{ match: /*, to: {{ stable: 90, canary: 10 }} }}\n"
    ));
    let mut connection = gateway.connect();
    let answers = times(100, || connection.get("/").text());
    assert_eq!(answers.iter().filter(|answer| *answer == "canary").count(), 10);
    for ten in answers.chunks(10) {
        assert_eq!(ten.iter().filter(|answer| *answer == "canary").count(), 1, "not smooth: {answers:?}");
    }
}
