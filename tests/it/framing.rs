//! Where one request ends and the next begins: nothing ambiguous reaches an origin.

use std::time::Duration;

use crate::harness::{Gateway, Origin, Request};

/// Sends the bytes; the answer has one of these statuses, the connection ends, and the origin sees nothing.
fn refused(gateway: &Gateway, origin: &Origin, name: &str, bytes: &[u8], statuses: &[u16]) {
    let (answers, ended) = gateway.raw(bytes);
    let status: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert!(status.len() <= 1 && status.iter().all(|status| statuses.contains(status)), "{name}: {status:?}");
    assert!(!status.is_empty() || statuses.contains(&0), "{name}: closed without an answer");
    assert!(ended, "{name}: the connection stays open");
    let mark = format!("/mark-{}", origin.seen().len());
    assert_eq!(gateway.get(&mark).status, 200, "{name}: others are not served");
    assert_eq!(origin.targets(), [mark], "{name}: the origin saw it");
    origin.forget();
}

fn table(rows: &[(&str, &str, &[u16])]) {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for (name, request, statuses) in rows {
        refused(&gateway, &origin, name, request.as_bytes(), statuses);
    }
}

const BODY: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

#[test]
fn transfer_encoding_is_chunked_alone_or_nothing() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;x=1\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked\x0b\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\nContent-Length: 5\r\n",
    ] {
        refused(&gateway, &origin, fields, post(fields, BODY).as_bytes(), &[400, 501]);
    }
    let old = "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(&gateway, &origin, "on HTTP/1.0", old.as_bytes(), &[400]);
}

#[test]
fn content_length_is_one_number() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for value in [
        "+4",
        "-4",
        "4,4",
        "4, 4",
        "4 4",
        "0x4",
        "4.0",
        "",
        " ",
        "4a",
        "٤",
        "18446744073709551616",
        "99999999999999999999999999",
        "4;",
        "\"4\"",
        "4\x0b",
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        refused(&gateway, &origin, &fields, post(&fields, "body").as_bytes(), &[400]);
    }
    for fields in ["Content-Length: 4\r\nContent-Length: 4\r\n", "Content-Length: 4\r\nContent-Length: 5\r\n"] {
        refused(&gateway, &origin, fields, post(fields, "body").as_bytes(), &[400]);
    }
}

#[test]
fn lines_and_names_are_exact() {
    table(&[
        ("folded field", "GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n 2\r\n\r\n", &[400]),
        ("folded with a tab", "GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\t2\r\n\r\n", &[400]),
        ("folded first line", "GET /x HTTP/1.1\r\n Host: a\r\n\r\n", &[400]),
        ("bare LF after a field", "GET /x HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n", &[400]),
        ("bare LF after the request line", "GET /x HTTP/1.1\nHost: a\r\n\r\n", &[400]),
        ("bare LF everywhere", "GET /x HTTP/1.1\nHost: a\n\n", &[400]),
        ("bare LF at the end", "GET /x HTTP/1.1\r\nHost: a\r\n\n", &[400]),
        ("bare CR in a value", "GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\rX-B: 2\r\n\r\n", &[400]),
        ("bare CR after a field", "GET /x HTTP/1.1\r\nHost: a\rX-A: 1\r\n\r\n", &[400]),
        ("space before the colon", "GET /x HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n", &[400]),
        ("tab before the colon", "GET /x HTTP/1.1\r\nHost: a\r\nX-A\t: 1\r\n\r\n", &[400]),
        ("empty name", "GET /x HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", &[400]),
        ("no colon", "GET /x HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", &[400]),
        ("control in a name", "GET /x HTTP/1.1\r\nHost: a\r\nX\x01A: 1\r\n\r\n", &[400]),
        ("NUL in a name", "GET /x HTTP/1.1\r\nHost: a\r\nX\0A: 1\r\n\r\n", &[400]),
        ("NUL in a value", "GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\x002\r\n\r\n", &[400]),
        ("control in a value", "GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\x012\r\n\r\n", &[400]),
        ("DEL in a value", "GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\x7f2\r\n\r\n", &[400]),
        ("high bytes in a name", "GET /x HTTP/1.1\r\nHost: a\r\nX-Ä: 1\r\n\r\n", &[400]),
        ("parentheses in a name", "GET /x HTTP/1.1\r\nHost: a\r\nX(A): 1\r\n\r\n", &[400]),
        ("underscore in a name", "GET /x HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n", &[400]),
        ("two spaces in the request line", "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("tab in the request line", "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("a space behind the version", "GET /x HTTP/1.1 \r\nHost: a\r\n\r\n", &[400]),
        ("no version", "GET /x\r\nHost: a\r\n\r\n", &[400]),
        ("version 0.9", "GET /x HTTP/0.9\r\nHost: a\r\n\r\n", &[400, 505]),
        ("version 1.2", "GET /x HTTP/1.2\r\nHost: a\r\n\r\n", &[400, 505]),
        ("version 2.0", "GET /x HTTP/2.0\r\nHost: a\r\n\r\n", &[400, 505]),
        ("lower-case version", "GET /x http/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("TLS on a plain port", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n", &[0, 400]),
    ]);
}

#[test]
fn chunks_are_exact() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for body in [
        "+4\r\nbody\r\n0\r\n\r\n",
        "-4\r\nbody\r\n0\r\n\r\n",
        "0x4\r\nbody\r\n0\r\n\r\n",
        " 4\r\nbody\r\n0\r\n\r\n",
        "4 \r\nbody\r\n0\r\n\r\n",
        "4;\r\nbody\r\n0\r\n\r\n",
        "4;a\nb\r\nbody\r\n0\r\n\r\n",
        "4;a\rb\r\nbody\r\n0\r\n\r\n",
        "4\nbody\r\n0\r\n\r\n",
        "4\rbody\r\n0\r\n\r\n",
        "4\r\nbodyX\r\n0\r\n\r\n",
        "4\r\nbody0\r\n\r\n",
        "4\r\nbody\n0\r\n\r\n",
        "g\r\nbody\r\n0\r\n\r\n",
        "\r\nbody\r\n0\r\n\r\n",
        "10000000000000004\r\nbody\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nbody\r\n0\r\n\r\n",
        "fffffffffffffffffffff\r\nbody\r\n0\r\n\r\n",
        "00000000000000000000000000000000000000000000000004\r\nbody\r\n0\r\n\r\n",
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", body);
        let (answers, ended) = {
            let (said, ended) = gateway.connect().send(request).rest(Duration::from_secs(8));
            (crate::harness::wire::answers(&said), ended)
        };
        assert!(ended, "{body:?}: hangs");
        assert!(answers.len() <= 1 && answers.iter().all(|answer| answer.status == 400), "{body:?}: {answers:?}");
        // The head may have gone ahead, but never as a whole request.
        assert!(origin.seen().iter().all(|seen| seen.body.len() < 5 && seen.target == "/x"), "{body:?}");
        assert!(origin.seen().is_empty(), "{body:?}: the origin saw a whole request");
    }
    assert_eq!(gateway.get("/after").status, 200);
}

#[test]
fn what_is_right_passes() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for (fields, body, seen) in [
        ("Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n", "body"),
        ("Transfer-Encoding: Chunked\r\n", "2\r\nbo\r\n02\r\ndy\r\n0\r\n\r\n", "body"),
        ("Transfer-Encoding: chunked\r\n", "A;ext=\"v\"\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n", "0123456789"),
        ("Content-Length: 4\r\n", "body", "body"),
        ("Content-Length: 0\r\n", "", ""),
        ("content-length:4\r\n", "body", "body"),
        ("Content-Length:  \t4 \t\r\n", "body", "body"),
    ] {
        let answer = gateway.connect().send(post(fields, body)).response();
        assert_eq!((answer.status, origin.last().body), (200, seen.into()), "{fields}");
    }
}

#[test]
fn each_request_is_seen_once_whatever_its_method_says_of_bodies() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let mut connection = gateway.connect();
        let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = Request { body: inner.into(), ..Request::new(method, "/outer") };
        let first = connection.ask(&request);
        if first.status == 200 {
            connection.send(Request::get("/next").bytes());
            let _ = connection.try_response();
        }
        assert!(!origin.targets().contains(&"/smuggled".to_owned()), "{method}");
    }
}

#[test]
fn a_body_that_ends_early_is_no_request() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfour").finish();
    connection.ends();
    assert!(origin.seen().is_empty());
    assert_eq!(gateway.get("/after").status, 200);
}

#[test]
fn empty_lines_before_a_request_are_forgiven_but_not_many() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let (answers, ended) = gateway.raw("\r\n".repeat(100_000));
    assert!(ended && answers.iter().all(|answer| answer.status >= 400), "endless empty lines");
    assert!(origin.seen().is_empty());
}

#[test]
fn a_refusal_is_counted_and_logged() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let before = gateway.metrics().sum("yumen_faults_total", &[]);
    let (answers, _) = gateway.raw("GET /x HTTP/1.1\r\nHost: a\r\nBroken\r\n\r\n");
    assert_eq!(answers[0].verdict().0, 400);
    assert!(answers[0].code().starts_with("request."), "{}", answers[0].text());
    crate::harness::eventually("the count of the refusal", || {
        (gateway.metrics().sum("yumen_faults_total", &[]) > before).then_some(())
    });
    gateway.access_line(|line| line.to_string().contains("\"request."));
}
