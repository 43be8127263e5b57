//! Validators, ranges and `Vary` where the gateway has the answer, or another one than the target gave.

use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request};

const JSON: &str = "Content-Type: application/json\r\nETag: \"v\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";

/// Knows its tag, and answers 304 to who shows it.
fn tagged() -> Origin {
    Origin::new(|seen, talk| match seen.field("if-none-match") {
        Some(tag) if tag.contains("\"v\"") => drop(talk.send("HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n\r\n")),
        _ if seen.field("if-modified-since").is_some() => drop(talk.send("HTTP/1.1 304 Not Modified\r\n\r\n")),
        _ if seen.target == "/text" => talk.answer(200, "Content-Type: text/plain\r\nETag: \"v\"\r\n", "text"),
        _ => talk.answer(200, JSON, r#"{"a":1}"#),
    })
}

fn document(origin: &Origin, cache: &str, response: &str) -> String {
    Gateway::document(origin, &format!("all: {{ match: /*, to: app{cache}, transform: {{ response: {response} }} }}"))
}

fn tag(answer: &Response) -> String {
    answer.field("etag").expect("a tag").to_owned()
}

const CACHES: [&str; 2] = ["", ", cache: 60s"];

#[test]
fn who_would_get_another_body_is_not_told_that_his_is_good() {
    let origin = tagged();
    for cache in CACHES {
        for rules in [
            "{ add: { lang: $header.accept-language } }",
            r#"{ text: '{"lang": {{ request.headers["accept-language"] }} }' }"#,
        ] {
            let gateway = Gateway::start(document(&origin, cache, rules));
            let ask = |lang: &str, known: &str| {
                gateway.ask(Request::get("/x").with("Accept-Language", lang).with("If-None-Match", known))
            };
            let first = ask("de", "\"none\"");
            assert_eq!((first.json()["lang"].as_str(), first.field("vary")), (Some("de"), Some("accept-language")));
            assert_eq!(first.field("last-modified"), None, "a date says nothing of what was read");
            let known = tag(&first);
            let other = ask("fr", &known);
            assert_eq!((other.status, other.json()["lang"].as_str()), (200, Some("fr")), "{rules}{cache}");
            let same = ask("de", &known);
            assert_eq!((same.status, tag(&same), same.field("vary")), (304, known.clone(), Some("accept-language")));
            assert_eq!(ask("fr", &format!("{known}, {}", tag(&other))).status, 304);
            assert_eq!(ask("de", "\"v\"").status, 200, "the target's own tag is that of another body");
        }
    }
}

#[test]
fn other_rules_make_another_body_and_the_same_rules_the_same() {
    let origin = tagged();
    for cache in CACHES {
        let mut gateway = Gateway::start(document(&origin, cache, "{ add: { b: 1 } }"));
        let first = gateway.get("/x");
        assert_eq!(first.field("vary"), None, "nothing of the request is read");
        let known = tag(&first);
        let ask = |gateway: &Gateway, known: &str| gateway.ask(Request::get("/x").with("If-None-Match", known)).status;
        assert_eq!(ask(&gateway, &known), 304);
        gateway.reload(document(&origin, cache, "{ add: { b: 2 } }"));
        assert_eq!(ask(&gateway, &known), 200, "{cache}");
        gateway.reload(document(&origin, cache, "{ add: { b: 1 } }"));
        assert_eq!(ask(&gateway, &known), 304);
        let dated = Request::get("/x").with("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT");
        assert_eq!(gateway.ask(dated).status, 200, "a date from before the rules");
        let text = gateway.get("/text");
        assert_eq!((text.text().as_str(), text.field("vary")), ("text", None));
        let again = gateway.ask(Request::get("/text").with("If-None-Match", tag(&text)));
        assert_eq!((again.status, tag(&again)), (304, tag(&text)));
    }
}

#[test]
fn what_goes_by_who_asks_is_nobody_elses() {
    let origin = tagged();
    let gateway = Gateway::start(document(&origin, "", "{ add: { by: $client.ip } }"));
    let first = gateway.get("/x");
    assert_eq!(first.field("vary"), Some("*"));
    assert_eq!(gateway.ask(Request::get("/x").with("If-None-Match", tag(&first))).status, 304);
}

/// The status and the range of an answer, the first time and from what is kept.
fn ranged(method: &str, fields: &[(&str, &str)], wanted: (u16, Option<&str>)) {
    let origin = Origin::new(|_, talk| talk.answer(200, "ETag: W/\"a\"\r\n", vec![b'x'; 100]));
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: 60s }");
    let mut connection = gateway.connect();
    for way in ["miss", "hit"] {
        let asked = fields.iter().fold(Request::new(method, "/x"), |asked, (name, value)| asked.with(name, value));
        let answer = connection.ask(&asked);
        assert_eq!((answer.status, answer.field("content-range")), wanted, "{method} {fields:?}: {way}");
    }
}

#[test]
fn a_range_counts_for_what_it_says() {
    ranged("GET", &[("Range", "bytes=0-9")], (206, Some("bytes 0-9/100")));
    ranged("GET", &[("Range", "bytes=0-9"), ("If-Range", "W/\"a\"")], (200, None));
    ranged("GET", &[("Range", "bytes=-0")], (416, Some("bytes */100")));
    ranged("HEAD", &[("Range", "bytes=0-9")], (200, None));
}

#[test]
fn a_part_varies_as_the_whole_does() {
    let origin = Origin::new(|seen, talk| {
        let kind = if seen.target == "/image" { "image/png" } else { "text/plain" };
        talk.answer(200, &format!("Content-Type: {kind}\r\n"), vec![b'x'; 5000]);
    });
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: 60s, compress: on }");
    for (target, vary) in [("/x", Some("accept-encoding")), ("/image", None)] {
        for range in ["bytes=0-9", "none"] {
            let answer = gateway.ask(Request::get(target).with("Range", range));
            assert_eq!(answer.field("vary"), vary, "{target} {range}");
        }
    }
}
