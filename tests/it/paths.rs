//! One canonical path and one host, for routing and for what is forwarded: no way around a protected prefix.

use proptest::prelude::{ProptestConfig, Strategy};
use proptest::test_runner::TestRunner;

use crate::harness::{Gateway, Origin, Request, eventually};

/// `/public/*` goes to one origin, `/secret/*` to nobody; whatever reaches the origin must be public to it too.
fn guarded(origin: &Origin) -> Gateway {
    Gateway::before(
        origin,
        "public: { match: /public/*, to: app }\nsecret: { match: /secret/*, respond: { status: 403, body: refused } }",
    )
}

/// Where a lenient origin would take a target: decoded twice, back-slashes turned, dots resolved, parameters dropped.
fn taken(target: &str) -> String {
    let mut path = target.split(['?', '#']).next().unwrap().to_owned();
    for _ in 0..3 {
        path = decoded(&path);
    }
    let path = path.replace('\\', "/");
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name.to_ascii_lowercase()),
        }
    }
    format!("/{}", segments.join("/"))
}

fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

const TRICKS: [&str; 40] = [
    "/public/../secret/x",
    "/public/./../secret/x",
    "/public/%2e%2e/secret/x",
    "/public/%2E%2E/secret/x",
    "/public/.%2e/secret/x",
    "/public/%2e./secret/x",
    "/public/..%2fsecret/x",
    "/public/..%2Fsecret/x",
    "/public/%2e%2e%2fsecret/x",
    "/public/..%5csecret/x",
    "/public/..\\secret/x",
    "/public\\..\\secret/x",
    "/public/%252e%252e/secret/x",
    "/public/..%252fsecret/x",
    "/public/%25252e%25252e/secret/x",
    "/public/..;/secret/x",
    "/public/..;a=b/secret/x",
    "/public/.;/../secret/x",
    "/public/%c0%ae%c0%ae/secret/x",
    "/public/%e0%80%ae%e0%80%ae/secret/x",
    "/public/..%c0%afsecret/x",
    "/public/..%ef%bc%8fsecret/x",
    "//secret/x",
    "///secret//x",
    "/./secret/x",
    "/%2e/secret/x",
    "/%73ecret/x",
    "/%53ecret/x",
    "/secret%2fx",
    "/secret;a=b/x",
    "/public//../secret/x",
    "/public/x/../../secret/x",
    "/public/x/%2e%2e/%2e%2e/secret/x",
    "/../secret/x",
    "/public/%00/../secret/x",
    "/public/..%00/secret/x",
    "/public/../secret/x?a=/public/",
    "/public/..?/../secret/x",
    "/public/%u002e%u002e/secret/x",
    "/public/..%09/secret/x",
];

#[test]
fn no_spelling_reaches_a_protected_prefix() {
    let origin = Origin::answering("public");
    let gateway = guarded(&origin);
    for trick in TRICKS {
        for target in [trick.to_owned(), format!("http://test.example{trick}")] {
            let (answers, _) = gateway.raw(Request::get(&target).with("Connection", "close").bytes());
            assert!(answers.iter().all(|answer| answer.status < 500), "{target}: {answers:?}");
        }
    }
    for seen in origin.targets() {
        assert!(taken(&seen).starts_with("/public"), "the origin would take {seen} as {}", taken(&seen));
    }
}

#[test]
fn the_path_that_routes_is_the_path_that_is_forwarded() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for (asked, seen) in [
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a//b", "/a/b"),
        ("/%61", "/a"),
        ("/a%20b", "/a%20b"),
        ("/ä".replace('ä', "%C3%A4").leak() as &str, "/%C3%A4"),
        ("/%c3%a4", "/%C3%A4"),
        ("/a?b=%2e%2e/../c", "/a?b=%2e%2e/../c"),
        ("/a?", "/a?"),
        ("/", "/"),
    ] {
        let answer = gateway.get(asked);
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
        let forwarded = origin.last().target;
        assert!(forwarded == seen || forwarded == seen.trim_end_matches('?'), "{asked} -> {forwarded}, not {seen}");
    }
}

#[test]
fn ambiguous_targets_are_400() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for target in [
        "/a%00b",
        "/a%",
        "/a%2",
        "/a?b=%00",
        "/a?b=%zz",
        "/a?b=%4",
        "/a%zz",
        "/a%0ab",
        "/a%0d",
        "/a\\b",
        "/a%5cb",
        "/a%2fb",
        "/\u{e4}",
        "/a\x7f",
        "a",
        "",
        "*",
        "/a#b",
        "http://",
        "http:///x",
        "https:/x",
        "ftp://a/x",
        "//",
        "/%ff",
        "/%c0%ae",
        "http://a b/x",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (answers, ended) = gateway.raw(request);
        let status: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert!(ended, "{target:?} stays open");
        if target != "//" {
            assert_eq!(status, [400], "{target:?}");
        }
    }
    for seen in origin.targets() {
        assert_eq!(seen, "/", "reached the origin");
    }
}

#[test]
fn methods_that_would_open_or_mirror_are_refused() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for (line, statuses) in [
        ("CONNECT a:443", [405, 501, 400]),
        ("CONNECT /x", [405, 501, 400]),
        ("TRACE /x", [405, 501, 400]),
        ("TRACK /x", [405, 501, 400]),
        ("GET *", [400, 400, 400]),
        ("OPTIONS *", [200, 400, 404]),
        ("GET a:443", [400, 400, 400]),
        ("FOO /x", [501, 405, 400]),
        ("get /x", [501, 405, 400]),
        ("G\u{c4}T /x", [501, 405, 400]),
    ] {
        let (answers, _) = gateway.raw(format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let status = answers.first().map(|answer| answer.status);
        assert!(status.is_some_and(|status| statuses.contains(&status)), "{line}: {status:?}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.targets());
}

#[test]
fn a_host_is_one_and_clean() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for fields in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a, b\r\n",
        "Host: u@a\r\n",
        "Host: u:p@a\r\n",
        "Host: a/x\r\n",
        "Host: a?x\r\n",
        "Host: a#x\r\n",
        "Host: a b\r\n",
        "Host: a:x\r\n",
        "Host: a:99999\r\n",
        "Host: a:-1\r\n",
        "Host: a:1:2\r\n",
        "Host: [::1\r\n",
        "Host: [x]\r\n",
        "Host: a%00b\r\n",
        "Host: a\\b\r\n",
        "Host: ä\r\n",
        "Host: a..b\r\n",
        "Host: .\r\n",
        "Host: a\x01\r\n",
    ] {
        let (answers, ended) = gateway.raw(format!("GET /x HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"));
        assert!(ended && answers.len() == 1 && answers[0].status == 400, "{fields:?}: {answers:?}");
    }
    let (answers, _) = gateway.raw("GET http://b/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(answers[0].status, 400, "two hosts");
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[test]
fn any_path_of_slashes_dots_and_escapes_stays_where_it_was_routed() {
    let origin = Origin::answering("public");
    let gateway = guarded(&origin);
    let piece = proptest::sample::select(vec![
        "/", ".", "..", "%2e", "%2f", "%5c", "\\", ";", "%25", "2e", "2f", "public", "secret", "//", "a", "%", "?",
        "%00",
    ]);
    let path = proptest::collection::vec(piece, 1..9).prop_map(|pieces| format!("/{}", pieces.concat()));
    let mut runner = TestRunner::new(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() });
    let ran = runner.run(&path, |path| {
        origin.forget();
        let (answers, _) = gateway.raw(Request::get(&path).with("Connection", "close").bytes());
        assert_eq!(answers.len(), 1, "{path}");
        for seen in origin.targets() {
            assert!(taken(&seen).starts_with("/public"), "{path} -> {seen}");
        }
        Ok(())
    });
    ran.unwrap();
    eventually("a served request at the end", || (gateway.get("/public/x").status == 200).then_some(()));
}
