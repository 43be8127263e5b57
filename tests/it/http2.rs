//! HTTP/2 frame by frame: what the standard forbids is refused, what floods is cut, and others are served.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::harness::h2::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Outcome, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, request,
};
use crate::harness::{Gateway, Origin};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;

fn started() -> (Origin, Gateway) {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    (origin, gateway)
}

#[test]
fn a_request_is_answered_over_http_2() {
    let (origin, gateway) = started();
    let request = http::Request::post("http://api.example.com/x?y=1").header("cookie", "a=1").header("cookie", "b=2");
    let answer = h2::ask(&gateway.edge(), request.body(()).unwrap(), b"a body").unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
    let seen = origin.last();
    assert_eq!(
        (seen.target.as_str(), seen.field("host"), seen.body.as_slice()),
        ("/x?y=1", Some("api.example.com"), &b"a body"[..])
    );
    assert_eq!(seen.fields.all("cookie"), ["a=1; b=2"], "cookies are joined for HTTP/1.1");
    assert!(seen.field("via").unwrap().starts_with("2 ") || seen.field("via").unwrap().starts_with("2.0 "));
    assert_eq!(answer.header("connection"), None);
}

#[test]
fn grpc_passes_with_its_trailers() {
    let origin = h2::Origin::plain(&[("grpc-status", "0"), ("grpc-message", "fine")]);
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: [\"{origin}\"], protocol: h2c }} }}\nroutes:\n  all: {{ match: 'POST /*', to: app }}\n"
    ));
    let request = http::Request::post("http://a.example/echo.Echo/Say")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let message = [0, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o'];
    let answer = h2::ask(&gateway.edge(), request.body(()).unwrap(), &message).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &message[..]));
    assert_eq!(
        (answer.trailers["grpc-status"].as_bytes(), answer.trailers["grpc-message"].as_bytes()),
        (&b"0"[..], &b"fine"[..])
    );
    assert_eq!(origin.asked()[0].head.headers["te"], "trailers");
}

#[test]
fn request_trailers_harm_nothing_over_http_2() {
    let origin = h2::Origin::plain(&[("x-end", "1")]);
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: [\"{origin}\"], protocol: h2c }} }}\nroutes:\n  all: {{ match: '/*', to: app }}\n"
    ));
    let trailers: HeaderMap = [("x-sum".parse().unwrap(), "7".parse().unwrap())].into_iter().collect();
    let request = http::Request::post("http://a.example/").body(()).unwrap();
    let answer = h2::ask_with(&gateway.edge(), request, b"body", trailers).unwrap();
    assert_eq!((answer.status, answer.trailers["x-end"].as_bytes()), (200, &b"1"[..]));
    let seen = &origin.asked()[0].trailers;
    assert!(seen.is_empty() || seen["x-sum"] == "7", "{seen:?}");
}

/// The fields of a request in which one thing is wrong.
fn wrong_fields() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "test.example"), (":path", "/x"));
    let all = [method, scheme, authority, path];
    let with = |more: &[(&'static str, &'static str)]| [all.as_slice(), more].concat();
    vec![
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te other than trailers", with(&[("te", "gzip")])),
        ("upper-case name", with(&[("X-Upper", "1")])),
        ("CR in a value", with(&[("x-a", "1\r2")])),
        ("LF in a value", with(&[("x-a", "1\nx-b: 2")])),
        ("NUL in a value", with(&[("x-a", "1\x002")])),
        ("CRLF in a name", with(&[("x\r\ny", "1")])),
        ("colon in a name", with(&[("x:y", "1")])),
        ("space in a name", with(&[("x y", "1")])),
        ("empty name", with(&[("", "1")])),
        ("two methods", with(&[method])),
        ("two paths", with(&[path])),
        ("two schemes", with(&[scheme])),
        ("two authorities", with(&[authority])),
        ("pseudo-field behind", [&[("x-a", "1")], all.as_slice()].concat()),
        ("unknown pseudo-field", with(&[(":unknown", "1")])),
        ("pseudo-field of answers", with(&[(":status", "200")])),
        ("no method", vec![scheme, authority, path]),
        ("no path", vec![method, scheme, authority]),
        ("no scheme", vec![method, authority, path]),
        ("no host at all", vec![method, scheme, path]),
        ("empty path", vec![method, scheme, authority, (":path", "")]),
        ("path without slash", vec![method, scheme, authority, (":path", "x")]),
        ("space in the path", vec![method, scheme, authority, (":path", "/a b")]),
        ("CRLF in the path", vec![method, scheme, authority, (":path", "/a\r\nx: y")]),
        ("CRLF in the method", vec![(":method", "GET / HTTP/1.1\r\nx: y"), scheme, authority, path]),
        ("another host", with(&[("host", "other.example")])),
        ("user in the authority", vec![method, scheme, (":authority", "u@a.example"), path]),
        ("path in the authority", vec![method, scheme, (":authority", "a.example/x"), path]),
        ("length mismatch", vec![(":method", "POST"), scheme, authority, path, ("content-length", "5")]),
        (
            "two lengths",
            vec![(":method", "POST"), scheme, authority, path, ("content-length", "0"), ("content-length", "1")],
        ),
        ("connect", vec![(":method", "CONNECT"), authority]),
    ]
}

#[test]
fn wrong_fields_are_refused_and_the_origin_sees_nothing() {
    let (origin, gateway) = started();
    for (name, fields) in wrong_fields() {
        let mut frames = Frames::open(&gateway.edge());
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
        let outcome = frames.outcome(1);
        assert!(outcome.is_refusal(), "{name}: {outcome:?}");
        assert!(origin.seen().is_empty(), "{name}: the origin saw {:?}", origin.last().head);
    }
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_body_longer_or_shorter_than_its_length_is_refused() {
    let (origin, gateway) = started();
    for body in [&b"123"[..], b"1234567"] {
        let mut frames = Frames::open(&gateway.edge());
        frames.send(HEADERS, END_HEADERS, 1, &request("POST", "/x", &[("content-length", "5")]));
        frames.send(DATA, END_STREAM, 1, body);
        let outcome = frames.outcome(1);
        assert!(outcome.is_refusal(), "{} bytes of 5: {outcome:?}", body.len());
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

type Deed = fn(&mut Frames) -> bool;

#[test]
fn wrong_frames_end_the_stream_or_the_connection() {
    let (_origin, gateway) = started();
    let rows: [(&str, Deed, &[u32]); 16] = [
        ("DATA on stream 0", |it| it.send(DATA, 0, 0, b"x"), &[PROTOCOL_ERROR]),
        ("HEADERS on stream 0", |it| it.send(HEADERS, END_HEADERS, 0, &request("GET", "/", &[])), &[PROTOCOL_ERROR]),
        ("HEADERS on an even stream", |it| it.get(2, "/"), &[PROTOCOL_ERROR]),
        ("DATA on an idle stream", |it| it.send(DATA, 0, 5, b"x"), &[PROTOCOL_ERROR, STREAM_CLOSED]),
        ("RST_STREAM on an idle stream", |it| it.send(RST_STREAM, 0, 5, &[0; 4]), &[PROTOCOL_ERROR]),
        ("CONTINUATION alone", |it| it.send(CONTINUATION, END_HEADERS, 1, b""), &[PROTOCOL_ERROR]),
        (
            "another frame inside a header block",
            |it| {
                it.send(HEADERS, 0, 1, &request("GET", "/", &[]));
                it.send(PING, 0, 0, &[0; 8])
            },
            &[PROTOCOL_ERROR],
        ),
        ("SETTINGS of 5 bytes", |it| it.send(SETTINGS, 0, 0, &[0; 5]), &[FRAME_SIZE_ERROR]),
        ("SETTINGS on a stream", |it| it.send(SETTINGS, 0, 1, &[]), &[PROTOCOL_ERROR]),
        ("SETTINGS acknowledged with a payload", |it| it.send(SETTINGS, ACK, 0, &[0; 6]), &[FRAME_SIZE_ERROR]),
        ("a window of 2^31", |it| it.setting(4, 1 << 31), &[FLOW_CONTROL_ERROR]),
        ("a frame size of 1", |it| it.setting(5, 1), &[PROTOCOL_ERROR]),
        ("PING of 7 bytes", |it| it.send(PING, 0, 0, &[0; 7]), &[FRAME_SIZE_ERROR]),
        ("WINDOW_UPDATE of 0", |it| it.send(WINDOW_UPDATE, 0, 0, &[0; 4]), &[PROTOCOL_ERROR]),
        ("a frame larger than allowed", |it| it.send(HEADERS, END_HEADERS, 1, &[0; 20_000]), &[FRAME_SIZE_ERROR]),
        ("a broken header block", |it| it.send(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 20]), &[9]),
    ];
    for (name, deed, codes) in rows {
        let mut frames = Frames::open(&gateway.edge());
        deed(&mut frames);
        let outcome = frames.outcome(1);
        match outcome {
            // GOAWAY with another code is still the end that the standard asks for.
            Outcome::Connection(_) | Outcome::Ended => {}
            Outcome::Stream(code) => assert!(codes.contains(&code), "{name}: {outcome:?}"),
            Outcome::Status(_) => panic!("{name}: {outcome:?}"),
        }
    }
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_wrong_preface_is_refused() {
    let (origin, gateway) = started();
    for preface in ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/1.1\r\n\r\n", "PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let (answers, ended) = gateway.raw(preface);
        assert!(ended && answers.iter().all(|answer| answer.status >= 400), "{preface:?}");
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn ping_is_answered_and_settings_are_acknowledged() {
    let (_origin, gateway) = started();
    let mut frames = Frames::open(&gateway.edge());
    frames.send(PING, 0, 0, b"12345678");
    let pong = frames.find(|frame| frame.kind == PING).unwrap();
    assert_eq!((pong.flags & ACK, pong.payload.as_slice()), (ACK, &b"12345678"[..]));
    frames.setting(3, 10);
    assert!(frames.find(|frame| frame.kind == SETTINGS && frame.flags & ACK == ACK).is_some());
    frames.send(99, 0, 0, b"unknown frames are ignored");
    frames.get(1, "/");
    assert_eq!(frames.outcome(1), Outcome::Status(200));
}

/// Sends until the gateway gives up or the deed is done `n` times; then others must be served at once, in little memory.
fn flood(name: &str, n: usize, mut deed: impl FnMut(&mut Frames, usize) -> bool) {
    let (_origin, gateway) = started();
    assert_eq!(gateway.get("/").status, 200);
    let before = gateway.memory();
    let mut frames = Frames::open(&gateway.edge());
    let start = Instant::now();
    for round in 0..n {
        if !deed(&mut frames, round) || start.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    let asked = Instant::now();
    assert_eq!(gateway.get("/").status, 200, "{name}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{name}: others waited {:?}", asked.elapsed());
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 20 << 10, "{name}: {grown} KiB");
}

fn stream(round: usize) -> u32 {
    u32::try_from(round * 2 + 1).unwrap()
}

#[test]
fn rapid_reset_is_bounded() {
    flood("rapid reset", 20_000, |frames, round| {
        frames.get(stream(round), "/") && frames.send(RST_STREAM, 0, stream(round), &8_u32.to_be_bytes())
    });
}

#[test]
fn made_you_reset_is_bounded() {
    flood("made you reset", 20_000, |frames, round| {
        frames.get(stream(round), "/") && frames.send(WINDOW_UPDATE, 0, stream(round), &[0; 4])
    });
}

#[test]
fn endless_header_blocks_are_bounded() {
    flood("continuation", 20_000, |frames, round| match round {
        0 => frames.send(HEADERS, 0, 1, &request("GET", "/", &[])),
        _ => frames.send(CONTINUATION, 0, 1, &block(&[("x-a", "0123456789".repeat(10).as_str())])),
    });
}

#[test]
fn floods_of_small_frames_are_bounded() {
    flood("ping", 50_000, |frames, _| frames.send(PING, 0, 0, &[0; 8]));
    flood("settings", 50_000, |frames, _| frames.send(SETTINGS, 0, 0, &[]));
    flood("priority", 50_000, |frames, round| frames.send(PRIORITY, 0, stream(round), &[0, 0, 0, 0, 1]));
    flood("empty data", 50_000, |frames, round| match round {
        0 => frames.send(HEADERS, END_HEADERS, 1, &request("POST", "/", &[])),
        _ => frames.send(DATA, 0, 1, b""),
    });
}

#[test]
fn a_header_bomb_is_bounded() {
    // One entry of 4 KiB in the table, then thousands of references of one byte each.
    let mut bomb = request("GET", "/", &[]);
    bomb.extend([0x40, 1, b'x', 127]);
    let mut length = 4000 - 127_usize;
    while length >= 128 {
        bomb.push(u8::try_from(length % 128 + 128).unwrap());
        length /= 128;
    }
    bomb.push(u8::try_from(length).unwrap());
    bomb.extend(vec![b'a'; 4000]);
    bomb.extend(vec![0xbe; 8000]);
    flood("hpack bomb", 50, |frames, round| frames.send(HEADERS, END_HEADERS | END_STREAM, stream(round), &bomb));
}

#[test]
fn a_stream_without_window_does_not_hold_others_and_is_ended() {
    let origin = Origin::new(|_, talk| talk.answer(200, "", vec![b'x'; 1 << 20]));
    let rest = Gateway::document(&origin, "all: { match: /*, to: app }");
    let gateway =
        Gateway::start(format!("listeners: {{ edge: {{ bind: 127.0.0.1:0, timeout: {{ write: 500ms }} }} }}\n{rest}"));
    let mut frames = Frames::open(&gateway.edge());
    frames.setting(4, 0);
    frames.get(1, "/");
    let ended = frames.find(|frame| matches!(frame.kind, RST_STREAM | GOAWAY));
    assert!(ended.is_none_or(|frame| frame.stream == 1 || frame.kind == GOAWAY));
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_rest_served() {
    let (_origin, gateway) = started();
    let mut frames = Frames::open(&gateway.edge());
    for round in 0..400 {
        frames.get(stream(round), "/");
    }
    let (mut served, mut refused) = (0, 0);
    while served < 50 || refused == 0 {
        let frame = frames.find(|frame| matches!(frame.kind, HEADERS | RST_STREAM)).expect("a connection that goes on");
        served += usize::from(frame.kind == HEADERS);
        refused += usize::from(frame.kind == RST_STREAM);
    }
    assert_eq!(gateway.get("/").status, 200);
}
