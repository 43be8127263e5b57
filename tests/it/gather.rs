//! Answers that are made of several calls: what is asked, what comes of it, what a failure means, how long it takes.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Gateway, Origin, Request, Setup, eventually, h2, times};
use crate::why::kept_as;

const JSON: &str = "Content-Type: application/json\r\n";

/// A few services in one: what they say depends on what they are asked for.
fn services() -> Origin {
    Origin::new(|seen, talk| {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        match path {
            "/users/7" => talk.answer(200, JSON, USER),
            "/carts/7" => talk.answer(200, JSON, r#"{"items":[1,2],"id":8}"#),
            "/slow" => {
                thread::sleep(Duration::from_millis(query.parse().unwrap()));
                talk.answer(200, JSON, "true");
            }
            "/text" => talk.answer(200, "", "plain \"text\""),
            "/broken" => talk.answer(503, JSON, r#"{"oh":"no"}"#),
            "/missing" => talk.answer(404, JSON, r#"{"code":"none"}"#),
            "/nothing" => talk.answer(200, "", ""),
            "/large" => talk.answer(200, JSON, format!("\"{}\"", "x".repeat(3000))),
            "/exact" => talk.answer(200, JSON, r#"{"n":12345678901234567890123,"m":1.50,"t":"\u0041"}"#),
            "/high" => talk.answer(200, JSON, r#"{"n":1e999,"m":1}"#),
            "/half" => talk.answer(200, JSON, r#"{"n":"\ud800","m":1}"#),
            "/deep" => talk.answer(200, JSON, format!(r#"{{"n":{}{},"m":1}}"#, "[".repeat(200), "]".repeat(200))),
            "/huge" => talk.answer(200, JSON, format!("\"{}\"", "x".repeat(15 << 20))),
            "/gone" => talk.close(),
            _ => talk.answer(200, JSON, Value::from(&*seen.target).to_string()),
        }
    })
}

const USER: &str = r#"{ "id": 7, "address": {"city":"San José & co/#?"}, "exact": 12345678901234567890.10 }"#;

fn gathering(origin: &Origin, route: &str) -> Gateway {
    let at = if route.contains("$path.id") { "/me/:id" } else { "/*" };
    Gateway::start(format!(
        "pools:\n  app: {{ targets: ['{origin}'], retry: off, eject: off }}\nroutes:\n  all: {{ match: '{at}', {route} }}\n"
    ))
}

/// A document of conf/examples before these origins.
pub fn example(name: &str, origins: &[&Origin]) -> Gateway {
    let mut text = fs::read_to_string(format!("conf/examples/{name}")).unwrap();
    for (at, origin) in origins.iter().enumerate() {
        text = text.replace(&format!("127.0.0.1:{}", 9001 + at), &origin.to_string());
    }
    for (said, free) in [("127.0.0.1:8080", "127.0.0.1:0"), ("127.0.0.1:9901", "127.0.0.1:0"), ("  web:", "  edge:")] {
        text = text.replace(said, free);
    }
    Gateway::start(text)
}

/// What a route with these calls answers.
fn answered(calls: &str) -> (u16, String) {
    let origin = services();
    let answer = gathering(&origin, &format!("gather: {{ {calls} }}")).get("/");
    if answer.status == 200 { (200, answer.text()) } else { answer.verdict() }
}

#[test]
fn calls_become_one_answer_under_their_names_and_one_waits_for_what_it_needs() {
    let origin = services();
    let gateway = gathering(
        &origin,
        "gather: { user: { pool: app, path: '/users/$query.id' }, cart: { pool: app, path: '/carts/$user.id' }, \
         offers: { pool: app, path: '/offers?city=$user.address.city&none=$query.none&all=1' } }",
    );
    let request = Request::get("/?id=7").with("Accept-Language", "de").with("Cookie", "s=1").with("Authorization", "x");
    let answer = gateway.ask(request.with("X-Own", "1"));
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let offers = "/offers?city=San%20Jos%C3%A9%20%26%20co%2F%23%3F&all=1";
    let whole = format!(r#"{{"cart":{{"items":[1,2],"id":8}},"offers":"{offers}","user":{USER}}}"#);
    assert_eq!((answer.status, answer.text()), (200, whole), "as it was written");
    let mut targets = origin.targets();
    assert_eq!(targets.remove(0), "/users/7");
    targets.sort();
    assert_eq!(targets, ["/carts/7", offers]);
    for seen in origin.seen() {
        assert_eq!(seen.field("x-request-id"), answer.field("x-request-id"));
        assert_eq!((seen.field("accept-language"), seen.field("accept")), (Some("de"), Some("application/json")));
        assert_eq!((seen.field("cookie"), seen.field("authorization"), seen.field("x-own")), (None, None, None));
        assert_eq!((seen.field("via"), seen.field("host")), (Some("1.1 yumen"), Some(&*origin.to_string())));
        assert!(seen.field("traceparent").is_some() && seen.field("x-forwarded-for") == Some("127.0.0.1"));
    }
    let head = gateway.ask(Request::new("HEAD", "/?id=7"));
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn no_value_says_more_than_its_own_place() {
    let origin = services();
    let gateway = gathering(&origin, "gather: { a: { pool: app, path: '/a/$query.v/b?q=$query.w' } }");
    for value in ["..", ".", "%2e%2e", "a%2Fb", "a%5Cb", "%252e%252e", "", "%01", "..%3B", "%FF", "a&v=b"] {
        let answer = gateway.get(&format!("/?v={value}"));
        assert_eq!(answer.verdict(), (400, "request.invalid".into()), "{value}");
    }
    assert_eq!(gateway.get("/").verdict(), (400, "request.invalid".into()), "it is not there");
    assert_eq!(gateway.get("/?v=%00").verdict(), (400, "request.target".into()), "it never comes so far");
    assert_eq!(origin.targets(), [""; 0]);
    for (said, asked) in [
        ("v=x", "/a/x/b"),
        ("v=a%3Fb%23c%26d&w=1%26x%3D2%23", "/a/a%3Fb%23c%26d/b?q=1%26x%3D2%23"),
        ("v=a+b%2B&w=", "/a/a%20b%2B/b?q="),
        ("v=...&w=%2F..%2F", "/a/.../b?q=%2F..%2F"),
    ] {
        assert_eq!(gateway.get(&format!("/?{said}")).json(), json!({ "a": asked }), "{said}");
    }
}

#[test]
fn a_failure_refuses_or_is_null_or_is_left_out() {
    let call = |name: &str, path: &str, more: &str| format!("{name}: {{ pool: app, path: {path}, {more} }}");
    let failed = |code: &str| (502, code.to_owned());
    for (path, more, verdict) in [
        ("/broken", "", failed("gather.failed")),
        ("/missing", "", failed("gather.failed")),
        ("/text", "", failed("gather.failed")),
        ("/gone", "", failed("upstream.reset")),
        ("/large", "max: 3000B", failed("upstream.too_large")),
        ("/slow?5000", "timeout: 50ms", (504, "upstream.timeout.total".to_owned())),
        ("/a/$b.id", "", failed("gather.failed")),
    ] {
        let fails = call("a", path, more);
        let other = call("b", "/carts/7x", "");
        assert_eq!(answered(&format!("{fails}, {other}")), verdict, "{path}");
        let whole = |a: &str| (200, format!(r#"{{{a}"b":"/carts/7x"}}"#));
        for (on_error, a) in [("null", r#""a":null,"#), ("omit", "")] {
            let fails = call("a", path, &format!("on_error: {on_error}, {more}"));
            assert_eq!(answered(&format!("{fails}, {other}")), whole(a), "{path} {on_error}");
        }
    }
    assert_eq!(answered(&call("a", "/missing", "errors: [500..599]")), (200, r#"{"a":{"code":"none"}}"#.into()));
    assert_eq!(answered(&call("a", "/text", "read: text")), (200, r#"{"a":"plain \"text\""}"#.into()));
    assert_eq!(answered(&call("a", "/nothing", "")), (200, r#"{"a":null}"#.into()));
    let both = format!("{}, {}, max: 3500B", call("a", "/large", ""), call("b", "/large", ""));
    assert_eq!(answered(&both), failed("upstream.too_large"), "together");
}

#[test]
fn results_are_merged_or_a_template_says_all() {
    let both = "b: { pool: app, path: /users/7 }, a: { pool: app, path: /carts/7 }";
    let merged = answered(&format!("{both}, as: merge"));
    let whole = r#"{"address":{"city":"San José & co/#?"},"exact":12345678901234567890.10,"id":7,"items":[1,2]}"#;
    assert_eq!(merged, (200, whole.into()));
    let no_object = answered("a: { pool: app, path: /text, read: text }, as: merge");
    assert_eq!(no_object, (502, "gather.failed".into()));
    let template = |text: &str, more: &str| answered(&format!("{both}, template: '{text}' {more}"));
    let said = template(r#"{"in": {{ b.address.city|tojson }}, "n": {{ a["items"]|length }} }"#, "");
    assert_eq!(serde_json::from_str::<Value>(&said.1).unwrap(), json!({ "in": "San José & co/#?", "n": 2 }));
    assert_eq!(template("{{ b.address.city }}", ", type: text/plain"), (200, "San José & co/#?".into()));
    for wrong in [
        "{{ c.x }}",
        "{{ b.address.city }}",
        "{{ b.none|tojson }}",
        "{{ c|tojson }}",
        "{{ [b.id, b.none]|tojson }}",
        "{{ {\"in\": b.none}|tojson }}",
        "{% for x in range(9000) %}{% for y in range(9000) %}{% endfor %}{% endfor %}",
    ] {
        assert_eq!(template(wrong, ""), (500, "gather.template".into()), "{wrong}");
    }
}

#[test]
fn what_is_not_there_is_no_null_in_a_template() {
    let calls = "a: { pool: app, path: /missing, on_error: omit }, b: { pool: app, path: /users/7 }";
    let template = |text: &str| answered(&format!("{calls}, template: '{text}'"));
    assert_eq!(template("{{ a|tojson }}"), (500, "gather.template".into()));
    let asked = "{% if a is defined %}1{% else %}{{ b.address|tojson }}{% endif %}";
    assert_eq!(template(asked), (200, r#"{"city": "San José \u0026 co/#?"}"#.into()));
    assert_eq!(template("{{ {\"id\": b.id, \"none\": none}|tojson(indent=2) }}").0, 200);
}

#[test]
fn numbers_stay_as_they_were_written_where_they_are_used() {
    let origin = services();
    let gateway = gathering(
        &origin,
        "gather: { a: { pool: app, path: /exact }, b: { pool: app, method: POST, path: '/b/$a.n?m=$a.m&t=$a.t', \
         body: { n: $a.n, m: '$a.m', all: $a, mine: $body.x } } }",
    );
    let body = r#"{ "x": [98765432109876543210987.0] }"#;
    assert_eq!(gateway.ask(Request::post("/", body)).status, 200);
    let seen = origin.last();
    assert_eq!(seen.target, "/b/12345678901234567890123?m=1.50&t=A");
    let whole = r#"{"all":{"n":12345678901234567890123,"m":1.50,"t":"\u0041"},"m":1.50,"mine":[98765432109876543210987.0],"n":12345678901234567890123}"#;
    assert_eq!(String::from_utf8_lossy(&seen.body), whole);
}

#[test]
fn an_answer_that_cannot_be_looked_into_is_a_failure_where_it_is() {
    for path in ["/high", "/half", "/deep"] {
        let call = |more: &str| format!("a: {{ pool: app, path: {path}, {more} }}");
        let used = "b: { pool: app, path: '/b?m=$a.m' }";
        assert_eq!(answered(&format!("{}, {used}", call(""))), (502, "gather.failed".into()), "{path}");
        assert_eq!(answered(&format!("{}, {used}", call("on_error: null"))), (200, r#"{"a":null,"b":"/b"}"#.into()));
        let templated = format!("{}, template: '{{{{ a.m }}}}'", call(""));
        assert_eq!(answered(&templated), (502, "gather.failed".into()), "{path}");
        assert_eq!(answered(&call("")).0, 200, "{path}: passed on as it is");
    }
}

#[test]
fn a_client_that_leaves_takes_its_calls_with_it() {
    let origin = services();
    let gateway = gathering(&origin, "gather: { a: { pool: app, path: '/slow?20000' } }");
    let begun = Instant::now();
    let mut leaving = gateway.connect();
    leaving.send(Request::get("/").bytes());
    eventually("the call is on its way", || (!origin.targets().is_empty()).then_some(()));
    drop(leaving);
    let line = gateway.access_line(|line| line["url.path"] == "/");
    assert_eq!((&line["http.response.status_code"], &line["reason"]), (&json!(499), &json!("client.gone")));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_client_that_does_not_take_an_answer_of_ours_is_gone() {
    let origin = services();
    let gateway = gathering(&origin, "gather: { a: { pool: app, path: /huge, max: 16MiB }, max: 32MiB }");
    let mut leaving = gateway.connect();
    leaving.send(Request::get("/one").bytes());
    assert_eq!(leaving.head().status, 200);
    drop(leaving);
    let mut client = h2::Frames::open(&gateway.edge());
    client.get(1, "/two");
    client.find(|frame| frame.kind == h2::HEADERS).unwrap();
    drop(client);
    for path in ["/one", "/two"] {
        let line = gateway.access_line(|line| line["url.path"] == path);
        assert_eq!(line["reason"], json!("client.gone"), "{line}");
        assert_ne!(line["level"], json!("ERROR"));
    }
    assert!(!gateway.log.all().iter().any(|line| line.contains("gateway.internal")), "{:?}", gateway.log.all());
}

#[test]
fn calls_that_need_nothing_of_each_other_take_as_long_as_the_slowest() {
    let origin = services();
    let slow = |name: &str| format!("{name}: {{ pool: app, path: '/slow?400' }}");
    let gateway = gathering(&origin, &format!("gather: {{ {}, {}, {} }}", slow("a"), slow("b"), slow("c")));
    let begun = Instant::now();
    assert_eq!(gateway.get("/").json(), json!({ "a": true, "b": true, "c": true }));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(400) && took < Duration::from_millis(800), "{took:?}");
}

#[test]
fn a_call_says_what_the_document_has_it_say() {
    let origin = services();
    let gateway = gathering(
        &origin,
        "gather: { a: { pool: app, method: POST, path: '/a/$path.id', headers: { x-tenant: 't-$header.x-tenant', x-none: $query.none, x-who: '${host} $client.ip $$' }, \
         body: { order: $body.order, first: $body.items.0.id, text: 'n $body.n $body.none', none: $body.none, id: $path.id, plain: 5 } } }, \
         request: { set: { x-set: by-route } }, host: shop.example.com",
    );
    let body = r#"{"order":{"id":1.50},"items":[{"id":"x"}],"n":7}"#;
    let answer =
        gateway.ask(Request::post("/me/a%20b", body).with("Content-Type", "application/json").with("X-Tenant", "acme"));
    assert_eq!(answer.json(), json!({ "a": "/a/a%20b" }));
    let seen = origin.last();
    assert_eq!((&*seen.method, seen.field("content-type")), ("POST", Some("application/json")));
    let sent: Value = serde_json::from_slice(&seen.body).unwrap();
    let wanted = json!({ "order": { "id": 1.5 }, "first": "x", "text": "n 7 ", "none": null, "id": "a b", "plain": 5 });
    assert_eq!(sent, wanted);
    assert_eq!((seen.field("x-tenant"), seen.field("x-none")), (Some("t-acme"), None));
    assert_eq!((seen.field("x-who"), seen.field("x-set")), (Some("test.example 127.0.0.1 $"), Some("by-route")));
    assert_eq!(seen.field("host"), Some("shop.example.com"));
    assert_eq!(gateway.ask(Request::post("/me/1", "no json")).verdict(), (422, "body.invalid".into()));
    assert_eq!(gateway.get("/me/1").status, 200, "without a body there is nothing in it");
}

#[test]
fn every_call_is_counted_and_told() {
    let origin = services();
    let gateway = gathering(
        &origin,
        "gather: { user: { pool: app, path: /users/7 }, lost: { pool: app, path: /broken, on_error: null }, bad: { pool: app, path: '/b/$query.b', on_error: omit } }",
    );
    let answer = gateway.get("/?b=1");
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.get("/").status, 200);
    let metrics = gateway.metrics();
    let sum = |call: &str, result: &str| {
        metrics.sum("yumen_gather_calls_total", &[("route", "all"), ("call", call), ("result", result)]).to_string()
    };
    assert_eq!(
        [sum("user", "ok"), sum("lost", "failed"), sum("bad", "ok"), sum("bad", "unmade")],
        ["2", "2", "1", "1"]
    );
    assert_eq!(metrics.sum("yumen_pool_requests_total", &[("pool", "app"), ("code", "503")]).to_string(), "2");
    let id = answer.field("x-request-id").unwrap();
    let calls = gateway.access_line(|line| line["request_id"] == id)["calls"].as_str().unwrap().to_owned();
    for said in ["user 200 ", "lost 503 ", "bad 200 ", "ms"] {
        assert!(calls.contains(said), "{calls}");
    }
    assert_eq!(gateway.admin("/routes").json()["all"]["does"], "answers with 3 calls");
    assert_eq!(gateway.admin("/routes").json()["all"]["pools"], json!(["app"]));
}

#[test]
fn why_names_the_call_that_failed() {
    let origin = services();
    let gateway =
        gathering(&origin, "gather: { user: { pool: app, path: /users/7 }, lost: { pool: app, path: '/broken' } }");
    let answer = gateway.get("/");
    assert_eq!(answer.verdict(), (502, "gather.failed".into()));
    let id = answer.field("x-request-id").map(str::to_owned);
    let id = id.unwrap_or_else(|| answer.json()["request_id"].as_str().unwrap().to_owned());
    kept_as(&gateway, &id);
    let told = gateway.yumen("why", &[&id, "--admin", gateway.admin_address()]).out;
    let page = kept_as(&gateway, &id);
    assert!(page["rule"].as_str().unwrap().starts_with("routes.all.gather.lost (yumen.yaml:"), "{page}");
    for said in ["502 gather.failed", "  call `lost` answered 503", "call lost  pool app  answered 503 after "] {
        assert!(told.contains(said), "{told}");
    }
    let told = gateway.yumen("explain", &["GET", "http://a.example/"]).out;
    assert!(told.contains("call lost  pool app  "), "{told}");
}

#[test]
fn a_call_is_tried_again_and_the_route_says_how_long_all_may_take() {
    let origin = services();
    let asked = |more: &str, call: &str| {
        origin.forget();
        let answer = gathering(&origin, &format!("gather: {{ a: {{ pool: app, path: {call} }} }}, {more}")).get("/");
        (answer.verdict().1, origin.seen().len())
    };
    let again = "retry: { attempts: 2, on: [503], backoff: 0ms..1ms }";
    assert_eq!(asked("", "/broken"), ("gather.failed".into(), 1));
    assert_eq!(asked(again, "/broken"), ("gather.failed".into(), 3));
    assert_eq!(asked("", &format!("/broken, {again}")), ("gather.failed".into(), 3));
    assert_eq!(asked(again, "/broken, retry: off"), ("gather.failed".into(), 1));
    let begun = Instant::now();
    assert_eq!(asked("timeout: { total: 100ms }", "'/slow?5000'"), ("upstream.timeout.total".into(), 1));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn a_pool_that_rests_is_not_asked() {
    let origin = services();
    let gateway = Gateway::start(format!(
        "pools:\n  app: {{ targets: ['{origin}'], retry: off, eject: off, breaker: {{ open_after: 2, open_for: 1h }} }}\n\
         routes:\n  all: {{ match: '/*', gather: {{ a: {{ pool: app, path: /broken }} }} }}\n"
    ));
    let codes = times(4, || gateway.get("/").verdict().1);
    assert_eq!(codes, ["gather.failed", "gather.failed", "breaker.open", "breaker.open"]);
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn a_mistake_is_found_before_it_serves() {
    let document = |gather: &str| {
        format!(
            "version: 1\nlisteners: {{ edge: {{ bind: 80 }} }}\npools: {{ app: ['10.0.0.1:80'] }}\nroutes:\n  all: {{ match: '/me/:id', gather: {{ {gather} }} }}\n"
        )
    };
    let many: Vec<_> = (0..33).map(|at| format!("c{at}: {{ pool: app, path: /a }}")).collect();
    for (gather, said) in [
        (
            "a: { pool: app, path: '/$b.x' }, b: { pool: app, path: '/$c.x' }, c: { pool: app, path: '/$b.x' }",
            "`b` needs `c` needs `b`: each would wait for the other",
        ),
        (&*many.join(", "), "33 calls are too many"),
        ("as: merge", "names no call"),
        ("path: { pool: app, path: /a }", "`$path` would not be the result of this call"),
    ] {
        let ended = Setup::new().run(&document(gather), "check", &[]);
        assert!(ended.code == 78 && ended.out.contains(said), "{gather}: {}{}", ended.out, ended.err);
    }
    assert_eq!(Setup::new().run(&document("a: { pool: app, path: '/$path.id' }"), "check", &[]).code, 0);
}

#[test]
fn an_order_page_is_one_call() {
    let says = |body: &'static str| {
        Origin::new(move |seen, talk| match &*seen.target {
            "/healthz" => talk.answer(200, "", ""),
            target if target.ends_with('7') => talk.answer(200, JSON, body),
            _ => talk.answer(404, JSON, "{}"),
        })
    };
    let (goods, stock, payment) = (says(r#"{"title":"Lamp"}"#), says(r#"{"left":3}"#), says(r#"{"paid":true}"#));
    let gateway = example("page.yaml", &[&goods, &stock, &payment]);
    let page = json!({ "goods": { "title": "Lamp" }, "stock": { "left": 3 }, "payment": { "paid": true } });
    assert_eq!(gateway.get("/pages/7").json(), page);
    assert!(payment.targets().contains(&"/payments?order=7".to_owned()), "{:?}", payment.targets());
    assert_eq!(gateway.get("/pages/8").verdict(), (502, "gather.failed".into()));
    let gateway = example("page.yaml", &[&goods, &Origin::saying(""), &Origin::saying("")]);
    assert_eq!(gateway.get("/pages/7").json(), json!({ "goods": { "title": "Lamp" }, "stock": null }));
}
