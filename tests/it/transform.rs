//! Bodies that change on their way: by rules, by templates, whole or not at all.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use http::Request as H2Request;
use serde_json::{Value, json};

use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, h2};

const ORDER: &str =
    r#"{"id": 12345678901234567890123, "price": 1.10, "items": [{"sku": "a", "cost": 3}, {"sku": "b"}], "secret": 1}"#;

/// Says its order with more fields, or gives back what it was sent.
fn origin(fields: &'static str) -> Origin {
    Origin::new(move |seen, talk| match seen.method.as_str() {
        "GET" | "HEAD" => talk.answer(200, fields, ORDER),
        _ => talk.answer(200, "Content-Type: text/plain\r\n", &seen.body),
    })
}

const JSON: &str = "Content-Type: application/json\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n";

fn changing(origin: &Origin, transform: &str) -> Gateway {
    Gateway::before(origin, &format!("all: {{ match: '/o/:id', to: app, transform: {transform} }}"))
}

fn failed(answer: &Response) -> (u16, String) {
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    answer.verdict()
}

#[test]
fn rules_change_an_answer_and_nothing_else_of_it() {
    let origin = origin(JSON);
    let rules = "{ pick: [id, price, items], drop: ['items[].cost'], rename: { price: total }, add: { meta.of: $path.id, v: 2 } }";
    let gateway = changing(&origin, &format!("{{ response: {rules} }}"));
    let wanted =
        r#"{"id":12345678901234567890123,"total":1.10,"items":[{"sku":"a"},{"sku":"b"}],"meta":{"of":"7"},"v":2}"#;
    let answer = gateway.ask(Request::get("/o/7").with("Accept-Encoding", "gzip").with("Range", "bytes=0-3"));
    assert_eq!((answer.status, answer.text().as_str()), (200, wanted));
    assert_eq!(answer.field("content-length"), Some(wanted.len().to_string().as_str()));
    let tag = answer.field("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\"a~"), "{tag}");
    assert_eq!(answer.field("accept-ranges"), None);
    let seen = origin.last();
    assert_eq!((seen.field("accept-encoding"), seen.field("range")), (Some("identity"), None));
    let head = gateway.ask(Request::new("HEAD", "/o/7"));
    assert_eq!((head.status, head.field("content-length"), head.field("etag")), (200, None, Some(tag.as_str())));
    let (old, ended) = gateway.raw("GET /o/7 HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((ended, old[0].text().as_str()), (true, wanted));
    let request = H2Request::get("http://a.example/o/7").body(()).unwrap();
    let answer = h2::ask(&gateway.edge(), request, b"").unwrap();
    assert_eq!((answer.status, String::from_utf8(answer.body).unwrap().as_str()), (200, wanted));
    // The connection is good for the next one.
    let mut kept = gateway.connect();
    assert_eq!((kept.get("/o/7").text(), kept.get("/o/8").status), (wanted.to_owned(), 200));
}

#[test]
fn rules_change_a_request_once_it_was_found_good() {
    let origin = origin(JSON);
    let routes = "all: { match: '/o/:id', to: app, validate: { body: { schema: { type: object, required: [sku] } } }, \
                  transform: { request: { rename: { sku: item }, add: { tenant: $header.x-tenant }, max: 100KiB } } }";
    let gateway = Gateway::before(&origin, routes);
    let json =
        |body: &str| Request::post("/o/7", body).with("Content-Type", "application/json").with("X-Tenant", "acme");
    let answer = gateway.ask(json(r#"{"sku": "a", "n": 1.0}"#));
    assert_eq!(answer.text(), r#"{"item":"a","n":1.0,"tenant":"acme"}"#);
    assert_eq!(origin.last().field("content-length"), Some("36"));
    assert_eq!(gateway.ask(json(r#"{"n": 1}"#)).verdict(), (422, "body.invalid".to_owned()), "what came is validated");
    assert_eq!(gateway.ask(json(r#"{"sku":1,"sku":2}"#)).verdict(), (422, "body.invalid".to_owned()));
    let large = format!(r#"{{"sku":"{}"}}"#, "x".repeat(90_000));
    assert_eq!(gateway.ask(json(&large)).body.len(), large.len() + r#"i,"tenant":"acme""#.len());
    let larger = format!(r#"{{"sku":"{}"}}"#, "x".repeat(110_000));
    assert_eq!(gateway.ask(json(&larger)).verdict(), (413, "body.too_large".to_owned()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(br#"{"sku":"z"}"#).unwrap();
    let packed = Request::post("/o/7", gzip.finish().unwrap()).with("Content-Type", "application/json");
    let plain = Gateway::before(
        &origin,
        "all: { match: '/o/:id', to: app, transform: { request: { rename: { sku: item } } } }",
    );
    assert_eq!(plain.ask(packed.with("Content-Encoding", "gzip")).text(), r#"{"item":"z"}"#);
    assert_eq!(origin.last().field("content-encoding"), None);
}

#[test]
fn a_template_makes_a_body_anew() {
    let origin = origin(JSON);
    let setup = Setup::new()
        .file("order.j2", r#"{"of": {{ request.params.id }}, "n": {{ body.items | length }}, "s": {{ status }}}"#);
    let document = Gateway::document(
        &origin,
        "file: { match: '/o/:id', to: app, transform: { response: { template: order.j2 } } }\n\
         page: { match: '/p/:id', to: app, transform: { response: { text: '<b>{{ body.items[0].sku }}</b>', type: text/html } } }\n\
         send: { match: '/s/:id', to: app, transform: { request: { text: '{\"q\": {{ body.a }}, \"by\": {{ request.method }}}' } } }",
    );
    let mut gateway = setup.start(&document);
    assert_eq!(gateway.get("/o/7").json(), json!({ "of": "7", "n": 2, "s": 200 }));
    let page = gateway.get("/p/7");
    assert_eq!((page.field("content-type"), page.text().as_str()), (Some("text/html"), "<b>a</b>"));
    let sent = gateway.ask(Request::post("/s/7", r#"{"a":"x\"y"}"#).with("Content-Type", "application/json"));
    assert_eq!(sent.json(), json!({ "q": "x\"y", "by": "POST" }));
    let path = gateway.setup.path().join("order.j2");
    let generation = gateway.generation();
    std::fs::write(path, r#"{"other": true}"#).unwrap();
    crate::harness::eventually("another generation", || (gateway.generation() > generation).then_some(()));
    assert_eq!(gateway.get("/o/7").json(), json!({ "other": true }), "a template is read again when it changes");
    assert!(gateway.is_running());
}

#[test]
fn what_cannot_be_changed_is_an_error_with_a_status() {
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/o/broken" => talk.answer(200, "Content-Type: application/json\r\n", "{\"secret\":"),
        "/o/large" => talk.answer(200, "Content-Type: application/json\r\n", vec![b'1'; 2000]),
        "/o/endless" => {
            talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..40 {
                talk.send(format!("64\r\n{}\r\n", "1".repeat(100)));
            }
            talk.send("0\r\n\r\n");
        }
        "/o/odd" => talk.answer(200, "Content-Type: application/json\r\nContent-Encoding: deflate\r\n", "x"),
        "/o/part" => talk.answer(206, "Content-Type: application/json\r\nContent-Range: bytes 0-1/9\r\n", "{}"),
        "/o/text" => talk.answer(200, "Content-Type: text/plain\r\n", "plain"),
        "/o/error" => talk.answer(404, "Content-Type: application/json\r\n", "{\"secret\":1}"),
        "/o/none" => drop(talk.send("HTTP/1.1 204 No Content\r\n\r\n")),
        _ => talk.answer(200, "Content-Type: application/json\r\n", "{\"secret\":1}"),
    });
    let gateway = changing(&origin, "{ response: { add: { a.b: 1, 'secret.x': 1 }, max: 1KiB, else: refuse } }");
    let wrong = (502, "transform.failed".to_owned());
    for target in ["/o/broken", "/o/large", "/o/endless", "/o/odd", "/o/part", "/o/text", "/o/rule"] {
        assert_eq!(failed(&gateway.get(target)), wrong, "{target}");
    }
    let line = gateway.access_line(|line| line["url.path"] == "/o/rule");
    assert_eq!(line["detail"], "`add` has no object for `x`");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.all.transform.response ("), "{line}");
    assert_eq!((gateway.get("/o/error").status, gateway.get("/o/none").status), (404, 204));
    assert!(gateway.get("/o/error").text().contains("secret"), "what is no success passes as it is");
    let lenient = changing(&origin, "{ response: { drop: [secret] } }");
    assert_eq!((lenient.get("/o/text").text(), lenient.get("/o/x").text()), ("plain".to_owned(), "{}".to_owned()));
}

#[test]
fn a_template_without_end_or_without_what_it_needs_fails_closed() {
    let origin = origin(JSON);
    let endless = "{% for a in range(10000) %}{% for b in range(10000) %}1{% endfor %}{% endfor %}";
    for (text, why) in
        [(endless, "the template takes too long"), ("{{ body.none }}", "the template asks for what is not there")]
    {
        let gateway = changing(&origin, &format!("{{ response: {{ text: '{text}' }} }}"));
        assert_eq!(failed(&gateway.get("/o/7")), (502, "transform.failed".to_owned()));
        let line = gateway.access_line(|line| line["reason"] == "transform.failed");
        assert!(line["detail"].as_str().unwrap().starts_with(why), "{line}");
    }
}

#[test]
fn a_target_is_not_blamed_for_what_the_document_does() {
    let origin = origin(JSON);
    let gateway = changing(&origin, "{ response: { text: '{{ body.none }}' } }");
    for _ in 0..20 {
        assert_eq!(gateway.get("/o/7").status, 502);
    }
    assert_eq!(origin.seen().len(), 20, "nothing is tried again, and nobody is ejected");
    assert_eq!(gateway.metrics().sum("yumen_target_up", &[("pool", "app")]).to_string(), "1");
}

#[test]
fn lines_are_changed_one_by_one_as_they_come() {
    let (more, wanted) = channel::<()>();
    let wanted = Mutex::new(wanted);
    let origin = Origin::new(move |_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n");
        talk.send("c\r\n{\"a\":1,\"b\":2\r\n").send("9\r\n}\n{\"a\":2,\r\n");
        if wanted.lock().unwrap().recv_timeout(Duration::from_secs(10)).is_ok() {
            talk.send("8\r\n\"b\":3}\n\n\r\n").send("7\r\n{\"a\":3}\r\n0\r\n\r\n");
        }
    });
    let gateway = changing(&origin, "{ response: { drop: [b] } }");
    let mut stream = gateway.connect();
    stream.send(Request::get("/o/7").bytes());
    assert_eq!(stream.head().field("content-length"), None);
    assert_eq!(stream.until("{\"a\":1}\n"), "8\r\n{\"a\":1}\n");
    more.send(()).unwrap();
    assert!(stream.until("{\"a\":2}\n").ends_with("{\"a\":2}\n"));
    assert!(stream.until("0\r\n\r\n").contains("{\"a\":3}\n"));
}

#[test]
fn what_came_coded_is_read_changed_and_coded_for_the_client() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let large: Vec<Value> = (0..500).map(|n| json!({ "n": n, "secret": "x" })).collect();
    gzip.write_all(serde_json::to_string(&large).unwrap().as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    let origin = Origin::new(move |seen, talk| {
        let bomb = seen.target.ends_with("bomb");
        let body = if bomb { zstd::stream::encode_all(&vec![b' '; 4 << 20][..], 3).unwrap() } else { packed.clone() };
        let coding = if bomb { "zstd" } else { "gzip" };
        talk.answer(200, &format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n"), body);
    });
    let routes = "all: { match: '/o/:id', to: app, compress: on, transform: { response: { drop: ['[].secret'] } } }";
    let gateway = Gateway::before(&origin, routes);
    let answer = gateway.ask(Request::get("/o/7").with("Accept-Encoding", "br"));
    assert_eq!((answer.status, answer.field("content-encoding")), (200, Some("br")));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut brotli::Decompressor::new(&*answer.body, 4096), &mut text).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((value[499].clone(), text.contains("secret")), (json!({ "n": 499 }), false));
    assert_eq!(failed(&gateway.get("/o/bomb")), (502, "transform.failed".to_owned()));
}

#[test]
fn an_http_2_target_is_changed_too() {
    let origin = h2::Origin::scripted(|_, mut respond| {
        let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(bytes::Bytes::from_static(b"{\"a\":1,"), false).unwrap();
        body.send_data(bytes::Bytes::from_static(b"\"b\":2}"), true).unwrap();
    });
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, to: app, transform: {{ response: {{ drop: [b] }} }} }} }}\n"
    ));
    assert_eq!(gateway.get("/").text(), "{\"a\":1}");
    let request = H2Request::get("http://a.example/").body(()).unwrap();
    assert_eq!(h2::ask(&gateway.edge(), request, b"").unwrap().body, b"{\"a\":1}");
}

#[test]
fn what_is_kept_is_changed_for_each_request_anew() {
    let origin = origin("Content-Type: application/json\r\nETag: \"a\"\r\n");
    let rules = "{ pick: [id], add: { for: $header.x-tenant } }";
    let gateway = Gateway::before(
        &origin,
        &format!("all: {{ match: '/o/:id', to: app, cache: 60s, transform: {{ response: {rules} }} }}"),
    );
    for (tenant, place) in [("acme", "uri-miss"), ("umbrella", "hit"), ("acme", "hit")] {
        let answer = gateway.ask(Request::get("/o/7").with("X-Tenant", tenant));
        assert_eq!(answer.text(), format!(r#"{{"id":12345678901234567890123,"for":"{tenant}"}}"#));
        assert!(answer.field("cache-status").unwrap().contains(place), "{:?}", answer.field("cache-status"));
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()));
        assert!(answer.field("etag").is_some_and(|tag| tag.starts_with("W/\"a~")), "{:?}", answer.field("etag"));
    }
    let part = gateway.ask(Request::get("/o/7").with("X-Tenant", "acme").with("Range", "bytes=0-3"));
    assert_eq!((part.status, part.json()["for"].as_str()), (200, Some("acme")), "no part of what was not changed");
    assert_eq!(origin.seen().len(), 1);
}
