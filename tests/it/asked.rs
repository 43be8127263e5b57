//! Who comes is asked elsewhere: of a service of one's own, and of the issuer of a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::origin::Seen;
use crate::harness::tls::Authority;
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, eventually, times};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn bearing(gateway: &Gateway, path: &str, token: &str) -> Response {
    gateway.ask(Request::get(path).with("Authorization", format!("Bearer {token}")))
}

/// Requests that have begun and not yet ended.
fn under_way(gateway: &Gateway) -> usize {
    let begun = gateway.metrics().sum("yumen_http_requests_in_flight", &[]);
    (0..100).find(|count| (begun - f64::from(*count)).abs() < 0.5).unwrap_or(100).try_into().unwrap()
}

fn code(answer: &Response) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap().to_owned())
}

/// A service that knows `good`, who is u1, and `banned`.
fn service() -> Origin {
    Origin::new(|seen, talk| match seen.field("authorization") {
        Some("Bearer good") => talk.answer(200, "X-User: u1\r\nX-Roles: a\r\nX-Roles: b\r\nX-Other: 1\r\n", "in"),
        Some("Bearer nameless") => talk.answer(204, "", ""),
        Some("Bearer banned") => talk.answer(403, "", "no"),
        _ => talk.answer(401, "WWW-Authenticate: Custom realm=\"theirs\"\r\n", "<html>sign in"),
    })
}

#[test]
fn a_service_decides_by_what_it_is_sent() {
    let (origin, asked) = (Origin::answering("in"), service());
    let gateway = Gateway::start(format!(
        "auth:
  sso:
    ext: {{ url: 'http://{asked}/check?all=1', timeout: 10s, send: [authorization, x-tenant], to_target: [x-user, x-roles], consumer: x-user }}
    forward: {{ x-who: consumer }}
    strip: true
{}",
        Gateway::document(&origin, "all: { match: /*, auth: sso, to: app }")
    ));
    let request =
        Request::new("PUT", "/a/./b/../%63?q=1").host("Shop.Example.com:8080").with("Authorization", "Bearer good");
    let request = request.with("X-Tenant", "t1").with("X-Secret", "s").with("X-Forwarded-Uri", "/public");
    assert_eq!(gateway.ask(request.with("X-User", "admin").with("x-who", "root")).status, 200);
    let question = asked.last();
    assert_eq!((&*question.method, &*question.target, question.body.len()), ("GET", "/check?all=1", 0));
    for (name, value) in [
        ("authorization", Some("Bearer good")),
        ("x-tenant", Some("t1")),
        ("x-secret", None),
        ("x-forwarded-method", Some("PUT")),
        ("x-forwarded-uri", Some("/a/c?q=1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("host", Some(asked.to_string().as_str())),
    ] {
        assert_eq!(question.field(name), value, "{name}: {}", question.head);
    }
    assert!(question.field("x-forwarded-host").unwrap().eq_ignore_ascii_case("shop.example.com:8080"));
    let seen = origin.last();
    for (name, value) in [
        ("x-user", Some("u1")),
        ("x-roles", Some("a, b")),
        ("x-who", Some("u1")),
        ("x-other", None),
        ("authorization", None),
    ] {
        assert_eq!(seen.field(name), value, "{name}: {}", seen.head);
    }
    gateway.access_line(|line| line["consumer"] == "u1");
    let nameless = Request::get("/").with("Authorization", "Bearer nameless").with("X-User", "admin");
    assert_eq!(gateway.ask(nameless).status, 200);
    assert_eq!((origin.last().field("x-user"), origin.last().field("x-who")), (None, None), "nobody was named");
    origin.forget();

    let missing = gateway.get("/");
    assert_eq!(code(&missing), (401, "auth.missing".to_owned()));
    assert_eq!(missing.field("www-authenticate"), Some("Custom realm=\"theirs\""));
    let wrong = bearing(&gateway, "/", "made-up");
    assert_eq!(code(&wrong), (401, "auth.invalid".to_owned()));
    assert_eq!(gateway.access_line(|line| line["reason"] == "auth.external")["detail"], "the service answered 401");
    assert_eq!(code(&bearing(&gateway, "/", "banned")), (403, "require.refused".to_owned()));
    let twice = Request::get("/").with("Authorization", "Bearer good").with("Authorization", "Bearer banned");
    assert_eq!(gateway.ask(twice).status, 401, "they could read different ones");
    assert_eq!(origin.seen().len(), 0);
    let before = asked.connections();
    let mut connection = gateway.connect();
    let good = Request::get("/").with("Authorization", "Bearer good");
    assert!(times(100, || connection.ask(&good).status).iter().all(|status| *status == 200));
    assert!(asked.connections() <= before + 1, "connections are kept: {} after {before}", asked.connections());
    let questions =
        |result| gateway.metrics().sum("yumen_auth_questions_total", &[("auth", "sso"), ("result", result)]);
    assert!(questions("answered") > 104.5 && questions("failed") < 0.5);
}

#[test]
fn a_login_goes_through_the_client() {
    let origin = Origin::answering("in");
    let asked = Origin::new(|seen, talk| {
        assert_eq!((&*seen.method, seen.field("content-length")), ("POST", Some("0")));
        match seen.field("cookie") {
            Some("a=1; session=good") => talk.answer(200, "Set-Cookie: session=newer\r\nX-Not: 1\r\n", ""),
            Some("session=moved") => talk.answer(301, "Location: https://login.example.com/\r\n", ""),
            _ => talk.answer(
                302,
                "Location: https://login.example.com/?back=1\r\nSet-Cookie: state=1; Path=/\r\nSet-Cookie: nonce=2\r\nX-Not: 1\r\n",
                "<html>",
            ),
        }
    });
    let ext = format!("url: 'http://{asked}/', method: POST, timeout: 10s, to_client: [set-cookie]");
    let gateway = Gateway::start(format!(
        "auth:
  sso: {{ ext: {{ {ext} }} }}
  strict: {{ ext: {{ {ext}, redirects: [] }} }}
  watched: {{ ext: {{ {ext} }}, mode: shadow }}
{}",
        Gateway::document(
            &origin,
            "sso: { match: /sso, auth: sso, to: app }
strict: { match: /strict, auth: strict, to: app }
watched: { match: /watched, auth: watched, to: app }"
        )
    ));
    let login = gateway.get("/sso");
    assert_eq!((login.status, login.field("location")), (302, Some("https://login.example.com/?back=1")));
    let cookies = |answer: &Response| {
        let all = answer.fields.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        all.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (cookies(&login), login.field("x-not"), &*login.text()),
        (vec!["state=1; Path=/".into(), "nonce=2".into()], None, "")
    );
    assert_eq!(origin.seen().len(), 0);
    let cookie = |path: &str, value: &str| gateway.ask(Request::get(path).with("Cookie", value));
    let known = cookie("/sso", "a=1; session=good");
    assert_eq!((known.status, cookies(&known), known.field("x-not")), (200, vec!["session=newer".to_owned()], None));
    assert_eq!(code(&cookie("/sso", "session=moved")), (503, "auth.unavailable".to_owned()), "not a listed one");
    assert_eq!(code(&gateway.get("/strict")), (503, "auth.unavailable".to_owned()));
    let watched = gateway.get("/watched");
    assert_eq!((watched.status, cookies(&watched).len(), watched.field("location")), (200, 0, None));
    let line = gateway.access_line(|line| line["route"] == "watched");
    assert!(line["would_refuse"].as_str().unwrap().starts_with("auth.missing by auth.watched ("), "{line}");
    assert_eq!(cookies(&cookie("/watched", "a=1; session=good")).len(), 0, "nothing is added either");
}

#[test]
fn a_service_that_is_down_keeps_everyone_out_unless_the_document_says_otherwise() {
    let origin = Origin::answering("in");
    let asked = Origin::new(|seen, talk| match seen.field("authorization").unwrap_or_default() {
        // It says nothing.
        "Bearer slow" => {}
        "Bearer broken" => talk.answer(500, "", ""),
        "Bearer lost" => talk.answer(404, "", ""),
        "Bearer large" => talk.answer(200, "", vec![b'x'; 100_000]),
        "Bearer many" => talk.answer(200, &format!("X-Large: {}\r\n", "x".repeat(100_000)), ""),
        "Bearer garbage" => talk.send("SSH-2.0-OpenSSH\r\n").close(),
        "Bearer half" => talk.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").close(),
        // It goes without a word, and the next question finds that out.
        "Bearer gone" => {
            talk.answer(200, "X-User: u1\r\n", "");
            talk.close();
        }
        _ => talk.answer(200, "X-User: u1\r\n", ""),
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let document = format!(
        "auth:
  closed: {{ ext: {{ url: 'http://{asked}/', timeout: 1500ms, to_target: [x-user] }} }}
  open: {{ ext: {{ url: 'http://{asked}/', timeout: 1500ms, to_target: [x-user], if_down: open }} }}
  nowhere: {{ ext: {{ url: 'http://{free}/' }} }}
  gone: {{ ext: {{ url: 'http://{free}/', to_target: [x-user], if_down: open }} }}
  either: {{ any: [gone, closed] }}
{}",
        Gateway::document(
            &origin,
            "closed: { match: /closed, auth: closed, to: app }
open: { match: /open, auth: open, to: app }
nowhere: { match: /nowhere, auth: nowhere, to: app }
either: { match: /either, auth: either, to: app }"
        )
    );
    let gateway = Gateway::start(&document);
    for token in ["slow", "broken", "lost", "large", "many", "garbage", "half"] {
        let started = Instant::now();
        let refused = bearing(&gateway, "/closed", token);
        assert_eq!(code(&refused), (503, "auth.unavailable".to_owned()), "{token}");
        assert!(refused.field("retry-after").is_some() && started.elapsed() < Duration::from_secs(7), "{token}");
        assert_eq!(origin.seen().len(), 0, "{token}");
        let request = Request::get("/open").with("Authorization", format!("Bearer {token}")).with("X-User", "admin");
        assert_eq!(gateway.ask(request).status, 200, "{token}");
        assert_eq!(origin.last().field("x-user"), None, "{token}: nobody is known, whatever the client says");
        origin.forget();
    }
    assert_eq!(code(&bearing(&gateway, "/nowhere", "good")), (503, "auth.unavailable".to_owned()));
    let line = gateway.access_line(|line| line["route"] == "open");
    assert!(line["would_refuse"].as_str().unwrap().starts_with("auth.unavailable by auth.open ("), "{line}");
    let decisions = |route, result| {
        gateway.metrics().sum("yumen_auth_decisions_total", &[("route", route), ("method", "ext"), ("result", result)])
    };
    assert!(decisions("open", "open") > 6.5 && decisions("closed", "unavailable") > 6.5);
    gateway.log.wait("auth closed: cannot be asked: ");
    assert!((0..20).all(|_| bearing(&gateway, "/closed", "gone").status == 200), "a kept connection may be closed");
    // One that goes down and comes back all the time is told of now and then.
    eventually("it is told that it answers", || {
        assert_eq!(bearing(&gateway, "/closed", "good").status, 200);
        gateway.log.all().iter().any(|line| line.contains(" answers again")).then_some(())
    });
    assert_eq!(origin.last().field("x-user"), Some("u1"));
    assert_eq!(bearing(&gateway, "/either", "good").status, 200);
    assert_eq!(origin.last().field("x-user"), Some("u1"), "who is known to another comes in as that");
    assert_eq!(bearing(&gateway, "/either", "broken").status, 200);
    assert_eq!(origin.last().field("x-user"), None);
    let said = gateway.yumen("check", &[]);
    assert!(said.code == 0 && said.out.contains("auth.open.ext.if_down: "), "{}", said.out);
}

#[test]
fn a_service_that_asks_us_again_is_noticed() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = Gateway::start(format!(
        "listeners: {{ edge: {{ bind: '127.0.0.1:{port}' }} }}
auth: {{ round: {{ ext: {{ url: 'http://127.0.0.1:{port}/', timeout: 10s }} }} }}
routes: {{ all: {{ match: /*, auth: round, respond: 204 }} }}
"
    ));
    assert_eq!(code(&gateway.get("/")), (503, "auth.unavailable".to_owned()));
    gateway.access_line(|line| line["reason"] == "request.loop");
    assert!(gateway.access().len() < 30, "{}", gateway.access().len());
}

#[test]
fn an_answer_is_remembered_only_where_both_sides_say_so() {
    let origin = Origin::answering("in");
    let asked = Origin::new(|seen, talk| match seen.field("authorization").unwrap_or_default() {
        "Bearer never" => talk.answer(200, "Cache-Control: max-age=60, no-store\r\n", ""),
        "Bearer silent" => talk.answer(200, "", ""),
        "Bearer cookie" => talk.answer(200, "Cache-Control: max-age=60\r\nSet-Cookie: a=1\r\n", ""),
        "Bearer bad" => talk.answer(401, "Cache-Control: max-age=60\r\n", ""),
        "Bearer broken" => talk.answer(500, "Cache-Control: max-age=60\r\n", ""),
        _ => talk.answer(200, "Cache-Control: max-age=60\r\nX-User: u1\r\n", ""),
    });
    let gateway = Gateway::start(format!(
        "auth:
  short: {{ ext: {{ url: 'http://{asked}/', timeout: 10s, to_target: [x-user], cache: 10m }} }}
  brief: {{ ext: {{ url: 'http://{asked}/', timeout: 10s, to_target: [x-user], cache: 1ms }} }}
  forgetful: {{ ext: {{ url: 'http://{asked}/', timeout: 10s, to_target: [x-user] }} }}
{}",
        Gateway::document(
            &origin,
            "short: { match: /short/*, auth: short, to: app }
brief: { match: /brief/*, auth: brief, to: app }
forgetful: { match: /forgetful/*, auth: forgetful, to: app }"
        )
    ));
    let questions = |path: &str, token: &str| {
        asked.forget();
        for _ in 0..3 {
            bearing(&gateway, path, token);
            let since = Instant::now();
            eventually("the end of the shortest time", || (since.elapsed().as_millis() > 1).then_some(()));
        }
        asked.seen().len()
    };
    for (path, token, count) in [
        ("/short/a", "good", 1),
        ("/short/a", "other", 1),
        ("/short/b", "good", 1),
        ("/short/b", "good", 0),
        ("/short/b?q=1", "good", 1),
        ("/short/a", "bad", 1),
        ("/short/a", "never", 3),
        ("/short/a", "silent", 3),
        ("/short/a", "cookie", 3),
        ("/short/a", "broken", 3),
        ("/brief/a", "good", 3),
        ("/forgetful/a", "good", 3),
    ] {
        assert_eq!(questions(path, token), count, "{path} {token}");
    }
    assert_eq!((bearing(&gateway, "/short/a", "bad").status, bearing(&gateway, "/short/a", "good").status), (401, 200));
    assert_eq!(origin.last().field("x-user"), Some("u1"));
    asked.forget();
    let post = Request::new("POST", "/short/a").with("Authorization", "Bearer good");
    assert_eq!((gateway.ask(post).status, asked.seen().len()), (200, 1), "another method is another question");
    let remembered = [("auth", "short"), ("result", "remembered")];
    assert!(gateway.metrics().sum("yumen_auth_questions_total", &remembered) > 8.5);
}

#[test]
fn so_many_questions_are_asked_at_once() {
    let origin = Origin::answering("in");
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let open = Arc::new(AtomicBool::new(false));
    let asked = Origin::new({
        let (running, most, open) = (running.clone(), most.clone(), open.clone());
        move |_, talk| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            eventually("the answers may go", || open.load(Ordering::SeqCst).then_some(()));
            running.fetch_sub(1, Ordering::SeqCst);
            talk.answer(200, "", json!({ "active": true }).to_string());
        }
    });
    let gateway = Gateway::start(format!(
        "auth:
  ext: {{ ext: {{ url: 'http://{asked}/', in_flight: 3, timeout: 20s }} }}
  issuer: {{ introspection: {{ url: 'http://{asked}/', client_id: a, client_secret: b, in_flight: 2, timeout: 20s }} }}
{}",
        Gateway::document(
            &origin,
            "ext: { match: /ext, auth: ext, to: app }\nissuer: { match: /issuer, auth: issuer, to: app }"
        )
    ));
    for (path, limit) in [("/ext", 3), ("/issuer", 2)] {
        most.store(0, Ordering::SeqCst);
        open.store(false, Ordering::SeqCst);
        thread::scope(|scope| {
            let asking: Vec<_> = (0..20)
                .map(|at| {
                    let gateway = &gateway;
                    scope.spawn(move || bearing(gateway, path, &format!("{path}{at}")).status)
                })
                .collect();
            eventually("all wait, and as many are asked about as may be", || {
                (under_way(&gateway) == 20 && running.load(Ordering::SeqCst) == limit).then_some(())
            });
            open.store(true, Ordering::SeqCst);
            assert!(asking.into_iter().all(|one| one.join().unwrap() == 200));
        });
        assert_eq!(most.load(Ordering::SeqCst), limit, "{path}");
    }
}

#[test]
fn a_service_is_believed_when_it_proves_who_it_is() {
    let authority = Authority::new();
    let pair = authority.issue(&["localhost"]);
    let asked = Origin::new(|_, talk| talk.answer(200, "", json!({ "active": true }).to_string()));
    let origin = Origin::answering("in");
    let setup = Setup::new().file("ca.pem", &authority.pem).file("id.crt", &pair.cert).file("id.key", &pair.key);
    // The TLS of the service is a listener of the gateway itself.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("https://localhost:{port}/check");
    let gateway = setup.start(format!(
        "listeners: {{ edge: {{ bind: '127.0.0.1:0' }}, id: {{ bind: '127.0.0.1:{port}', tls: {{ certs: [{{ cert: id.crt, key: id.key }}] }} }} }}
auth:
  ours: {{ ext: {{ url: '{url}', timeout: 10s, ca: ca.pem }} }}
  system: {{ ext: {{ url: '{url}' }} }}
  issuer: {{ introspection: {{ url: '{url}', client_id: a, client_secret: b, timeout: 10s, ca: ca.pem }} }}
  stranger: {{ introspection: {{ url: '{url}', client_id: a, client_secret: b }} }}
pools: {{ app: ['{origin}'], id: ['{asked}'] }}
routes:
  check: {{ match: /check, to: id }}
  ours: {{ match: /ours, auth: ours, to: app }}
  system: {{ match: /system, auth: system, to: app }}
  issuer: {{ match: /issuer, auth: issuer, to: app }}
  stranger: {{ match: /stranger, auth: stranger, to: app }}
"
    ));
    for path in ["/ours", "/issuer"] {
        assert_eq!(bearing(&gateway, path, "t").status, 200, "{path}");
    }
    for path in ["/system", "/stranger"] {
        assert_eq!(code(&bearing(&gateway, path, "t")), (503, "auth.unavailable".to_owned()), "{path}");
    }
    assert_eq!(bearing(&gateway, "/ours", "t").status, 200);
    let check = |more: &str| {
        let auth = format!("{{ url: 'http://id.example.com/', client_id: a, client_secret: 'env:PATH'{more} }}");
        let text = format!(
            "auth: {{ id: {{ introspection: {auth} }} }}\nroutes: {{ all: {{ match: /*, auth: id, respond: 204 }} }}\n"
        );
        Setup::new().run(&text, "check", &[]).code
    };
    assert_eq!((check(""), check(", plain_http: true")), (78, 0));
}

/// An issuer that knows some tokens by what they are called.
fn issuer() -> Origin {
    Origin::new(|seen, talk| talk.answer(200, "Content-Type: application/json\r\n", said(seen).to_string()))
}

fn token(seen: &Seen) -> String {
    let body = String::from_utf8(seen.body.clone()).unwrap();
    body.strip_prefix("token=").unwrap().split('&').next().unwrap().to_owned()
}

fn said(seen: &Seen) -> Value {
    let good = |more: Value| {
        let mut claims = json!({ "active": true, "iss": "https://id/", "aud": ["orders"], "sub": "u1", "scope": "read write",
            "tenant": "t1", "client_id": "app", "exp": now() + 300 });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    match &*token(seen) {
        "good" | "a%2Bb%26c%3D" => good(json!({})),
        "brief" => good(json!({ "exp": now() + 3 })),
        "endless" => {
            json!({ "active": true, "iss": "https://id/", "aud": "orders", "username": "ann", "tenant": "t2" })
        }
        "late" => good(json!({ "exp": now() - 100 })),
        "early" => good(json!({ "nbf": now() + 100 })),
        "elsewhere" => good(json!({ "iss": "https://other/" })),
        "audience" => good(json!({ "aud": "billing" })),
        "bare" => good(json!({ "tenant": null })),
        "text" => json!({ "active": "true" }),
        "silent" => json!({ "sub": "u1" }),
        _ => json!({ "active": false }),
    }
}

#[test]
fn an_issuer_says_what_a_token_means() {
    let (origin, asked) = (Origin::answering("in"), issuer());
    let gateway = Setup::new().file("secret", "s3cret:/é").start(format!(
        "auth:
  id:
    introspection:
      url: 'http://{asked}/introspect'
      client_id: gate way
      timeout: 10s
      client_secret: file:$DIR/secret
      issuer: https://id/
      audience: [orders, other]
      claims: [tenant]
      in: [header.authorization, cookie.session]
    forward: {{ x-user: jwt.sub, x-tenant: jwt.tenant, x-who: consumer }}
    strip: true
{}",
        Gateway::document(
            &origin,
            "all: { match: /*, auth: id, require: { scope: read }, to: app }
any: { match: /any, auth: id, to: app }"
        )
    ));
    let request = Request::get("/").with("Authorization", "Bearer good").with("X-User", "admin");
    assert_eq!(gateway.ask(request).status, 200);
    let question = asked.last();
    assert_eq!((&*question.method, &*question.target), ("POST", "/introspect"));
    assert_eq!(String::from_utf8(question.body.clone()).unwrap(), "token=good&token_type_hint=access_token");
    let credentials = STANDARD.encode("gate%20way:s3cret%3A%2F%C3%A9");
    assert_eq!(question.field("authorization"), Some(format!("Basic {credentials}").as_str()));
    assert_eq!(question.field("content-type"), Some("application/x-www-form-urlencoded"));
    let seen = origin.last();
    let told =
        |seen: &Seen| ["x-user", "x-tenant", "x-who", "authorization"].map(|name| seen.field(name).map(str::to_owned));
    assert_eq!(told(&seen), [Some("u1".into()), Some("t1".into()), Some("u1".into()), None]);
    gateway.access_line(|line| line["consumer"] == "u1");
    assert_eq!(gateway.ask(Request::get("/any").with("Cookie", "session=endless")).status, 200);
    assert_eq!(told(&origin.last()), [None, Some("t2".into()), Some("ann".into()), None]);
    assert_eq!(bearing(&gateway, "/", "endless").status, 403, "it has no scope");
    assert_eq!(bearing(&gateway, "/", "a+b&c=").status, 200, "a token is sent as it is");
    origin.forget();

    let missing = gateway.get("/");
    assert_eq!(code(&missing), (401, "auth.missing".to_owned()));
    assert_eq!(missing.field("www-authenticate"), Some("Bearer realm=\"id\""));
    for (token, outside, reason) in [
        ("unknown", "auth.invalid", "auth.invalid"),
        ("late", "auth.expired", "auth.expired"),
        ("early", "auth.invalid", "auth.not_yet"),
        ("elsewhere", "auth.invalid", "auth.issuer"),
        ("audience", "auth.invalid", "auth.audience"),
        ("bare", "auth.invalid", "auth.claims"),
        ("a b", "auth.invalid", "auth.malformed"),
        (&"a".repeat(17_000), "auth.invalid", "auth.malformed"),
    ] {
        let refused = bearing(&gateway, "/", token);
        assert_eq!(code(&refused), (401, outside.to_owned()), "{reason}");
        let line = gateway.access_line(|line| line["request_id"] == refused.field("x-request-id").unwrap());
        assert_eq!(line["reason"], reason, "{line}");
    }
    assert_eq!(origin.seen().len(), 0);
    assert!(!asked.targets().is_empty() && asked.connections() < 8, "connections are kept: {}", asked.connections());
    for secret in ["s3cret", &credentials] {
        assert!(!gateway.read("access.log").contains(secret) && !gateway.log.all().join(" ").contains(secret));
    }
}

#[test]
fn who_asks_the_same_at_the_same_time_waits_for_one_answer_where_it_may_be_remembered() {
    let origin = Origin::answering("in");
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let asked = Origin::new(move |seen, talk| {
        eventually("the answer may go", || gate.load(Ordering::SeqCst).then_some(()));
        let once = seen.field("authorization") == Some("Bearer once");
        talk.answer(
            200,
            if once { "Set-Cookie: a=1\r\nCache-Control: max-age=60\r\n" } else { "Cache-Control: max-age=60\r\n" },
            "",
        );
    });
    let gateway = Gateway::start(format!(
        "auth:
  kept: {{ ext: {{ url: 'http://{asked}/', timeout: 10s, cache: 1m }} }}
  never: {{ ext: {{ url: 'http://{asked}/', timeout: 10s }} }}
{}",
        Gateway::document(
            &origin,
            "all: { match: /*, auth: kept, to: app }\nnever: { match: /never, auth: never, to: app }"
        )
    ));
    let questions = |path: &str, token: &str, number: usize| {
        asked.forget();
        open.store(false, Ordering::SeqCst);
        thread::scope(|scope| {
            let all: Vec<_> = (0..number).map(|_| scope.spawn(|| bearing(&gateway, path, token).status)).collect();
            eventually("all wait", || (under_way(&gateway) == number).then_some(()));
            open.store(true, Ordering::SeqCst);
            assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
        });
        asked.seen().len()
    };
    assert_eq!(questions("/", "good", 50), 1);
    assert!(times(20, || bearing(&gateway, "/", "good").status).iter().all(|status| *status == 200));
    assert_eq!(asked.seen().len(), 1, "it is remembered");
    assert_eq!(questions("/", "once", 10), 10, "what sets a cookie is for one request alone");
    assert_eq!(questions("/never", "good", 10), 10, "without a memory each request is asked about");
    let remembered = gateway.metrics().sum("yumen_auth_questions_total", &[("auth", "kept"), ("result", "remembered")]);
    assert!((68.5..69.5).contains(&remembered), "{remembered}");
}

#[test]
fn a_token_is_asked_about_once_and_no_longer_than_it_lives() {
    let origin = Origin::answering("in");
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let asked = Origin::new(move |seen, talk| {
        if token(seen) == "good" {
            eventually("the answer may go", || gate.load(Ordering::SeqCst).then_some(()));
        }
        talk.answer(200, "", said(seen).to_string());
    });
    let gateway = Gateway::start(format!(
        "auth:
  id: {{ introspection: {{ url: 'http://{asked}/', client_id: a, client_secret: b, timeout: 10s, cache: 1h }} }}
  never: {{ introspection: {{ url: 'http://{asked}/', client_id: a, client_secret: b, timeout: 10s, cache: 0s }} }}
{}",
        Gateway::document(
            &origin,
            "all: { match: /*, auth: id, to: app }\nnever: { match: /never, auth: never, to: app }"
        )
    ));
    // All at once: one question, whose answer is everyone's.
    thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| bearing(&gateway, "/", "good").status)).collect();
        eventually("all wait", || (under_way(&gateway) == 20).then_some(()));
        open.store(true, Ordering::SeqCst);
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    });
    assert!(times(20, || bearing(&gateway, "/", "good").status).iter().all(|status| *status == 200));
    assert_eq!(asked.seen().len(), 1);
    assert!(times(20, || bearing(&gateway, "/", "unknown").status).iter().all(|status| *status == 401));
    assert_eq!(asked.seen().len(), 2, "one that is none is remembered too");
    eventually("and not for long", || {
        bearing(&gateway, "/", "unknown");
        (asked.seen().len() > 2).then_some(())
    });
    asked.forget();
    assert_eq!(bearing(&gateway, "/", "brief").status, 200);
    eventually("it is asked about again when it has ended", || {
        bearing(&gateway, "/", "brief");
        (asked.seen().len() > 1).then_some(())
    });
    asked.forget();
    assert!(times(3, || bearing(&gateway, "/never", "endless").status).iter().all(|status| *status == 200));
    assert_eq!(asked.seen().len(), 3, "nothing is remembered where the document says so");
}

#[test]
fn an_issuer_that_is_down_is_no_reason_to_call_a_token_bad() {
    let origin = Origin::answering("in");
    let asked = Origin::new(|seen, talk| match &*token(seen) {
        // It says nothing.
        "slow" => {}
        "secret" => talk.answer(401, "WWW-Authenticate: Basic\r\n", ""),
        "broken" => talk.answer(500, "", json!({ "active": true }).to_string()),
        "html" => talk.answer(200, "", "<html>"),
        "twice" => talk.answer(200, "", r#"{ "active": false, "active": true }"#),
        "large" => talk.answer(200, "", vec![b' '; 100_000]),
        _ => talk.answer(200, "", said(seen).to_string()),
    });
    let gateway = Gateway::start(format!(
        "auth:\n  id: {{ introspection: {{ url: 'http://{asked}/', client_id: a, client_secret: b, timeout: 1500ms }} }}\n{}",
        Gateway::document(&origin, "all: { match: /*, auth: id, to: app }")
    ));
    for token in ["slow", "secret", "broken", "html", "twice", "large", "text", "silent"] {
        let started = Instant::now();
        let refused = bearing(&gateway, "/", token);
        assert_eq!(code(&refused), (503, "auth.unavailable".to_owned()), "{token}");
        assert!(refused.field("retry-after").is_some() && refused.field("www-authenticate").is_none(), "{token}");
        assert!(started.elapsed() < Duration::from_secs(7), "{token}");
    }
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(bearing(&gateway, "/", "good").status, 200);
    gateway.log.wait("auth id: cannot be asked: ");
}

#[test]
fn the_example_of_a_login_works_as_written() {
    let (pages, api, id) = (Origin::answering("page"), Origin::answering("api"), issuer());
    let login = Origin::new(|seen, talk| match (seen.field("cookie"), &*seen.target) {
        (Some("session=ann"), _) => {
            talk.answer(202, "X-Auth-Request-User: ann\r\nX-Auth-Request-Email: ann@example.com\r\n", "");
        }
        (_, "/oauth2/sign_in") => talk.answer(200, "", "who are you?"),
        _ => talk.answer(302, "Location: /oauth2/sign_in\r\nSet-Cookie: state=1\r\n", ""),
    });
    let text = std::fs::read_to_string("conf/examples/login.yaml").unwrap();
    let text = text.replace("0.0.0.0:8080", "127.0.0.1:0").replace("/etc/yumen/", "$DIR/");
    let text = text.replace("10.0.0.11:8080", &pages.to_string()).replace("10.0.0.21:8080", &api.to_string());
    let text = text.replace("10.0.0.31:4180", &login.to_string());
    let text = text.replace("https://id.example.com/introspect", &format!("http://{id}/"));
    let users = "acme:$2y$10$LXh5YGIRVvOJDzpKM2EHkOepyk.CxOuh4RW.HpTDDXssfLedMwEky\n";
    let gateway = Setup::new().file("users", users).file("introspection-secret", "secret").start(text);
    let page = |path: &str| Request::get(path).host("app.example.com");
    let redirected = gateway.ask(page("/"));
    assert_eq!((redirected.status, redirected.field("location")), (302, Some("/oauth2/sign_in")));
    assert_eq!(gateway.ask(page("/oauth2/sign_in")).text(), "who are you?");
    let known = page("/").with("Cookie", "session=ann").with("X-Auth-Request-Email", "root@example.com");
    assert_eq!(gateway.ask(known).text(), "page");
    assert_eq!(pages.last().field("x-auth-request-email"), Some("ann@example.com"));
    gateway.access_line(|line| line["consumer"] == "ann");
    let api_with =
        |shown: &str| gateway.ask(Request::get("/").host("api.example.com").with("Authorization", shown)).status;
    let partner = format!("Basic {}", STANDARD.encode("acme:geheim"));
    for (shown, status, user) in [("Bearer good", 200, "u1"), (&*partner, 200, "acme"), ("Bearer unknown", 401, "acme")]
    {
        assert_eq!(api_with(shown), status, "{shown}");
        let seen = api.last();
        assert_eq!((seen.field("x-user"), seen.field("authorization")), (Some(user), None), "{shown}");
    }
}
