//! What comes by one version of HTTP and goes on by another: no request becomes two, no rule holds for one of them only.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use crate::harness::h2::{self, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, request};
use crate::harness::{Gateway, Origin, eventually};

/// Sends a POST whose body comes in these pieces; the last one ends it.
fn post(gateway: &Gateway, more: &[(&str, &str)], pieces: &[&[u8]]) -> Outcome {
    let mut frames = Frames::open(&gateway.edge());
    frames.send(HEADERS, END_HEADERS, 1, &request("POST", "/x", more));
    for (at, piece) in pieces.iter().enumerate() {
        frames.send(DATA, if at + 1 == pieces.len() { END_STREAM } else { 0 }, 1, piece);
    }
    frames.outcome(1)
}

/// All bytes that the client gets.
fn said(gateway: &Gateway, bytes: &str) -> String {
    let (said, _) = gateway.connect().send(bytes).rest(Duration::from_secs(8));
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_body_that_ends_with_nothing_ends_once() {
    let origin = Origin::answering("ok");
    // One worker, so that the next request finds the same connection.
    let gateway = Gateway::start(format!(
        "runtime: {{ workers: 1 }}\n{}",
        Gateway::document(&origin, "all: { match: /*, to: app }")
    ));
    let bodies: [&[&[u8]]; 4] = [&[b"hello", b""], &[b""], &[b"", b"he", b"", b"llo", b""], &[b"hello"]];
    for pieces in bodies {
        assert_eq!(post(&gateway, &[], pieces), Outcome::Status(200));
        let seen = origin.last();
        assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("POST", pieces.concat().as_slice()));
        assert_eq!(gateway.get("/next").text(), "ok");
        assert_eq!((origin.last().method.as_str(), origin.last().connection), ("GET", seen.connection), "{pieces:?}");
    }
    assert_eq!(origin.seen().len(), 8, "nothing was taken for a request that was none");
}

#[test]
fn an_answer_that_ends_with_nothing_ends_once() {
    let origin = h2::Origin::scripted(|_, mut respond| {
        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        body.send_data(Bytes::new(), true).unwrap();
    });
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    let mut kept = gateway.connect();
    for _ in 0..3 {
        assert_eq!(kept.get("/").text(), "hello");
    }
}

#[test]
fn a_path_is_made_canonical_by_either_version() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for (sent, canonical) in [("/%7Euser", "/~user"), ("/a//b", "/a/b"), ("/x/../y?q=1", "/y?q=1"), ("/a|b", "/a%7Cb")]
    {
        let mut frames = Frames::open(&gateway.edge());
        frames.get(1, sent);
        assert_eq!(frames.outcome(1), Outcome::Status(200), "{sent}");
        assert_eq!((origin.last().target.as_str(), origin.last().field("host")), (canonical, Some("test.example")));
    }
    let mut frames = Frames::open(&gateway.edge());
    let twice = request("GET", "/a//b", &[("host", "other.example")]);
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &twice);
    assert!(frames.outcome(1).is_refusal(), "two hosts are no host, whatever the path");
}

#[test]
fn what_the_target_would_read_differently_is_refused() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for more in [("x-a", " me"), ("x-a", "me "), ("x-a", "\tme")] {
        assert!(post(&gateway, &[more], &[b"hello"]).is_refusal(), "{more:?}");
    }
    assert!(post(&gateway, &[("content-length", "5"), ("content-length", "5")], &[b"hello"]).is_refusal());
    let mut frames = Frames::open(&gateway.edge());
    let ftp = [(":method", "GET"), (":scheme", "ftp"), (":authority", "test.example"), (":path", "/")];
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &h2::block(&ftp));
    assert!(frames.outcome(1).is_refusal());
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(post(&gateway, &[("content-length", "5"), ("x-a", "m e")], &[b"hello"]), Outcome::Status(200));
}

#[test]
fn a_client_that_owes_its_body_is_told_so_and_the_target_is_not_blamed() {
    let origin = Origin::answering("ok");
    let routes = "all: { match: /*, to: app }";
    let gateway = Gateway::start(format!(
        "observe: {{ access_log: {{ to: \"file:$DIR/access.log\" }} }}\n{}",
        Gateway::document(&origin, routes)
    ));
    let mut frames = Frames::open(&gateway.edge());
    frames.send(HEADERS, END_HEADERS, 1, &request("POST", "/x", &[("expect", "100-continue")]));
    frames.send(DATA, 0, 1, b"he");
    let begun = Instant::now();
    assert!(frames.outcome(1).is_refusal());
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    let line = gateway.access_line(|line| line["http.request.method"] == "POST");
    assert_eq!(
        (&line["reason"], &line["http.response.status_code"]),
        (&"request.timeout".into(), &408.into()),
        "{line}"
    );
}

#[test]
fn an_old_target_speaks_for_itself_only() {
    let old = Origin::new(|seen, talk| match seen.target.as_str() {
        "/length" => drop(talk.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")),
        "/chunks" => drop(talk.send("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")),
        "/list" => drop(talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok")),
        "/none" => drop(talk.send("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n")),
        _ => talk.answer(200, "", "ok"),
    });
    let gateway = Gateway::passing(&old);
    let length = said(&gateway, "GET /length HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(length.starts_with("HTTP/1.1 200"), "{length}");
    assert_eq!(gateway.get("/chunks").verdict(), (502, "upstream.protocol".to_owned()));
    let list = gateway.get("/list");
    assert_eq!((list.text().as_str(), list.field("content-length")), ("ok", Some("2")));
    let none = gateway.get("/none");
    assert_eq!((none.status, none.field("content-length"), none.field("transfer-encoding")), (204, None, None));
}

#[test]
fn an_answer_before_the_answer_frames_nothing() {
    let origin = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 103 Early\r\nLink: </a>\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nKeep-Alive: x\r\n\r\n");
        talk.answer(200, "", "ok");
    });
    let gateway = Gateway::passing(&origin);
    let all = said(&gateway, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").to_lowercase();
    let (early, answer) = all.split_once("\r\n\r\n").unwrap();
    assert!(early.starts_with("http/1.1 103") && early.contains("link: </a>"), "{all}");
    for name in ["connection", "transfer-encoding", "keep-alive"] {
        assert!(!early.contains(name), "{name}: {all}");
    }
    assert!(answer.starts_with("http/1.1 200") && answer.ends_with("ok"), "{all}");
}

#[test]
fn nothing_stands_behind_a_body_that_had_to_be_known_before() {
    let origin = h2::Origin::plain(&[("x-sum", "1"), ("set-cookie", "a=b"), ("content-length", "9")]);
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    let ask = http::Request::post("http://a.example/").body(()).unwrap();
    let answer = h2::ask_with(&gateway.edge(), ask, b"hi", HeaderMap::new()).unwrap();
    let trailers = format!("{:?}", answer.trailers);
    assert!(
        trailers.contains("x-sum") && !trailers.contains("set-cookie") && !trailers.contains("length"),
        "{trailers}"
    );
}

#[test]
fn what_never_became_a_request_is_counted_and_logged_too() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::start(format!(
        "observe: {{ access_log: {{ to: \"file:$DIR/access.log\" }} }}\n{}",
        Gateway::document(&origin, "all: { match: /*, to: app }")
    ));
    let refused = || gateway.metrics().sum("yumen_faults_total", &[("reason", "request.malformed")]);
    for (number, wrong) in [("x-a", "b\rc"), ("X-Upper", "b"), (":strange", "b")].into_iter().enumerate() {
        assert!(post(&gateway, &[wrong], &[b""]).is_refusal(), "{wrong:?}");
        eventually("it is counted", || (refused().to_string() == (number + 1).to_string()).then_some(()));
    }
    let line = gateway.access_line(|line| line["reason"] == "request.malformed");
    assert_eq!((&line["listener"], &line["client.address"]), (&"edge".into(), &"127.0.0.1".into()), "{line}");
    assert_eq!(line["protocol"], "HTTP/2", "{line}");
    assert_eq!(gateway.get("/").text(), "ok");
    assert_eq!(refused().to_string(), "3");
}
