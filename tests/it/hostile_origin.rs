//! What an origin may not do: the client gets a clean 502, and that connection is never used again.

use crate::harness::{Gateway, Origin, Request};

/// An origin that says these bytes once; every later request on any connection is answered well.
fn misbehaving(bytes: &'static [u8]) -> Origin {
    Origin::new(move |seen, talk| {
        if seen.target == "/bad" {
            talk.send(bytes);
        } else {
            talk.answer(200, "", "good");
        }
    })
}

/// Pingora decides this before our code sees the head, as RFC 9112 section 6.3 has it: the chunks count.
#[test]
fn of_two_framings_the_chunks_count_and_the_length_is_not_passed_on() {
    let origin = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    });
    let answer = Gateway::passing(&origin).get("/");
    assert_eq!((answer.status, answer.text().as_str(), answer.field("content-length")), (200, "ok", None));
}

/// RFC 9112 section 5.2 lets a proxy put a space where the fold was; Pingora does.
#[test]
fn a_folded_field_is_passed_on_unfolded() {
    let origin = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok");
    });
    assert_eq!(Gateway::passing(&origin).get("/").field("x-a"), Some("1 2"));
}

#[test]
fn a_wrong_answer_is_502_and_its_connection_is_not_reused() {
    let wrong: &[(&str, &[u8])] = &[
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        ("unasked 101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
        ("no status line", b"nonsense\r\n\r\n"),
        ("NUL in a value", b"HTTP/1.1 200 OK\r\nX-A: \x001\r\nContent-Length: 2\r\n\r\nok"),
        ("signed length", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
        ("unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("status 99", b"HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok"),
        (
            "head too large",
            &[b"HTTP/1.1 200 OK\r\nX-A: ".as_slice(), &[b'a'; 2 << 20], b"\r\n\r\n"].concat().leak()[..],
        ),
    ];
    for (name, bytes) in wrong {
        let origin = misbehaving(bytes);
        let gateway = Gateway::passing(&origin);
        let answer = gateway.get("/bad");
        assert_eq!(answer.status, 502, "{name}");
        assert!(answer.code().starts_with("upstream."), "{name}: {}", answer.text());
        let used = origin.last().connection;
        for _ in 0..3 {
            assert_eq!(gateway.get("/good").text(), "good", "{name}");
            assert_ne!(origin.last().connection, used, "{name}: the connection was used again");
        }
    }
}

#[test]
fn leftover_bytes_never_answer_the_next_request() {
    let origin = misbehaving(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    );
    let gateway = Gateway::passing(&origin);
    gateway.get("/bad");
    for _ in 0..5 {
        assert_eq!(gateway.get("/good").text(), "good");
    }
}

#[test]
fn endless_interim_answers_end() {
    let origin = Origin::new(|_, talk| {
        for _ in 0..100_000 {
            talk.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        talk.close();
    });
    let gateway = Gateway::passing(&origin);
    let (said, ended) = gateway.connect().send(Request::get("/").bytes()).rest(std::time::Duration::from_secs(15));
    assert!(ended || crate::harness::wire::answers(&said).iter().any(|answer| answer.status == 502));
    assert!(said.len() < 1 << 20, "{} bytes of 1xx passed through", said.len());
}

#[test]
fn an_origin_that_hangs_up_is_502() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\nConte"] {
        let origin = Origin::saying(bytes);
        let gateway = Gateway::passing(&origin);
        let answer = gateway.ask(Request::post("/", "x"));
        assert_eq!(answer.status, 502);
        assert!(answer.code().starts_with("upstream."), "{}", answer.text());
        assert_eq!(origin.seen().len(), 1, "a POST is never sent twice");
    }
}

#[test]
fn an_answer_cut_short_is_not_passed_on_as_whole() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n",
    ] {
        let origin = Origin::saying(bytes);
        let gateway = Gateway::passing(&origin);
        let mut connection = gateway.connect();
        let answer = connection.send(Request::get("/").bytes()).try_response();
        assert!(!matches!(answer, Ok(Some(answer)) if answer.status == 200), "cut short, but looks whole");
    }
}

#[test]
fn two_spellings_of_length_that_agree_are_still_refused_or_mended() {
    let origin = misbehaving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::passing(&origin);
    let answer = gateway.get("/bad");
    assert!(answer.status == 502 || answer.fields.all("content-length") == ["2"], "{answer:?}");
}
