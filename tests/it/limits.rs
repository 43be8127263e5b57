//! How much and how long a client may take: each limit of a listener, seen from the wire.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::harness::{Connection, Gateway, Origin, Request, eventually, h2, times, wire};

fn limited(settings: &str) -> (Origin, Gateway) {
    let origin = Origin::answering("ok");
    let rest = Gateway::document(&origin, "all: { match: /*, to: app }");
    let gateway = Gateway::start(format!("listeners: {{ edge: {{ bind: 127.0.0.1:0, {settings} }} }}\n{rest}"));
    (origin, gateway)
}

/// How long it takes until the gateway ends a connection on which it is sent one byte again and again.
fn dripping(connection: &mut Connection, byte: &[u8]) -> Duration {
    let start = Instant::now();
    loop {
        connection.send(byte);
        if connection.ends_within(Duration::from_millis(50)) {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(10), "never cut");
    }
}

#[test]
fn a_slow_head_is_cut_however_it_drips() {
    let (origin, gateway) = limited("timeout: { head: 400ms }");
    let mut connection = gateway.connect();
    let took = dripping(connection.send("GET / HTTP/1.1\r\nX-A: "), b"a");
    assert!((300..2500).contains(&took.as_millis()), "{took:?}");
    assert!(origin.seen().is_empty());
    let (answers, _) = gateway.raw("GET / HTTP/1.1\r\n");
    assert!(answers.iter().all(|answer| answer.verdict() == (408, "request.timeout".into())), "{answers:?}");
}

#[test]
fn a_slow_second_head_is_cut_too() {
    let (_origin, gateway) = limited("timeout: { head: 400ms }");
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").status, 200);
    let took = dripping(connection.send("GET / HTTP/1.1\r\nX-A: "), b"a");
    assert!((300..2500).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let (_origin, gateway) = limited("timeout: { handshake: 300ms, head: 300ms, idle: 300ms }");
    let start = Instant::now();
    assert!(gateway.connect().ends_within(Duration::from_secs(5)));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let (_origin, gateway) = limited("timeout: { idle: 300ms }");
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").status, 200);
    let start = Instant::now();
    assert!(connection.ends_within(Duration::from_secs(5)));
    assert!((200..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[test]
fn an_http_2_client_that_is_idle_or_stops_at_the_preface_is_closed() {
    let (_origin, gateway) = limited("timeout: { handshake: 300ms, head: 300ms, idle: 300ms }");
    for preface in ["PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        assert!(gateway.connect().send(preface).ends_within(Duration::from_secs(5)), "{preface:?}");
    }
    let mut frames = h2::Frames::open(&gateway.edge());
    assert!(frames.find(|_| false).is_none(), "an idle connection stays open");
}

#[test]
fn a_tls_handshake_that_stops_is_cut() {
    let authority = crate::harness::tls::Authority::new();
    let setup = crate::harness::Setup::new().pair("a", &authority.issue(&["a.example"]));
    let gateway = setup.start(
        "listeners:\n  edge: { bind: 127.0.0.1:0, timeout: { handshake: 300ms }, tls: { certs: [{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }] } }\n\
         routes:\n  all: { match: '/*', respond: 204 }\n",
    );
    for bytes in [&b""[..], &[0x16, 3, 1], &[0x16, 3, 1, 2, 0, 1]] {
        assert!(gateway.connect().send(bytes).ends_within(Duration::from_secs(5)));
    }
}

#[test]
fn a_body_that_is_too_slow_is_408_and_frees_the_upstream() {
    let (_origin, gateway) = limited("limits: { body_rate: 1MiB/s }");
    let mut connection = gateway.connect();
    connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    let start = Instant::now();
    let mut said = Vec::new();
    while start.elapsed() < Duration::from_secs(20) {
        connection.send(b"slow");
        let (more, ended) = connection.rest(Duration::from_millis(100));
        said.extend(more);
        if ended {
            break;
        }
    }
    assert!(start.elapsed() < Duration::from_secs(15), "never cut");
    assert_eq!(wire::answers(&said).first().map(wire::Response::verdict), Some((408, "request.timeout".into())));
}

#[test]
fn a_client_that_reads_nothing_is_cut_and_memory_stays() {
    let origin = Origin::new(|_, talk| talk.answer(200, "", vec![b'x'; 64 << 20]));
    let rest = Gateway::document(&origin, "all: { match: /*, to: app }");
    let gateway =
        Gateway::start(format!("listeners: {{ edge: {{ bind: 127.0.0.1:0, timeout: {{ write: 500ms }} }} }}\n{rest}"));
    let before = gateway.memory();
    let waiting = times(4, || {
        let mut connection = gateway.connect();
        connection.send(Request::get("/").bytes());
        connection
    });
    eventually("all four are cut", || {
        (gateway.metrics().sum("yumen_http_requests_in_flight", &[]) < 0.5 && origin.seen().len() == 4).then_some(())
    });
    assert!(gateway.memory() < before + (32 << 10), "{} -> {} KiB", before, gateway.memory());
    drop(waiting);
}

#[test]
fn connections_are_capped_and_come_back() {
    for (settings, reason) in
        [("limits: { connections: 3 }", "connections"), ("limits: { per_address: 3 }", "per_address")]
    {
        let (_origin, gateway) = limited(settings);
        let mut held = times(3, || {
            let mut connection = gateway.connect();
            assert_eq!(connection.get("/").status, 200);
            connection
        });
        let mut fourth = gateway.connect();
        let refused = fourth.send(Request::get("/").bytes()).try_response();
        assert!(!matches!(refused, Ok(Some(answer)) if answer.status == 200), "{reason}: the fourth was served");
        for connection in &mut held {
            assert_eq!(connection.get("/").status, 200, "{reason}: those that were here are served");
        }
        assert!(gateway.metrics().sum("yumen_connections_refused_total", &[]) > 0.5, "{reason}");
        drop(held);
        eventually("room again", || {
            let mut connection = gateway.connect();
            let answer = connection.send(Request::get("/").bytes()).try_response();
            matches!(answer, Ok(Some(answer)) if answer.status == 200).then_some(())
        });
    }
}

#[test]
fn a_connection_ends_after_its_requests() {
    let (_origin, gateway) = limited("limits: { requests: 3 }");
    let mut connection = gateway.connect();
    let kept = times(3, || connection.get("/").field("connection").map(str::to_ascii_lowercase));
    assert_eq!(kept[2].as_deref(), Some("close"));
    assert!(kept[..2].iter().all(|said| said.as_deref() != Some("close")), "{kept:?}");
    assert!(connection.ends());
}

#[test]
fn streams_of_one_connection_are_capped() {
    let (_origin, gateway) = limited("limits: { streams: 7 }");
    let mut frames = h2::Frames::open(&gateway.edge());
    let settings = frames.find(|frame| frame.kind == h2::SETTINGS && frame.flags & h2::ACK == 0).unwrap();
    let told = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).map(|setting| setting[5]);
    assert_eq!(told, Some(7), "SETTINGS_MAX_CONCURRENT_STREAMS");
}

#[test]
fn too_many_fields_are_431() {
    let (origin, gateway) = limited("limits: { fields: 20 }");
    let with = |n: usize| (0..n).fold(Request::get("/"), |request, n| request.with(&format!("X-{n}"), n));
    assert_eq!(gateway.ask(with(19)).status, 200);
    origin.forget();
    let refused = gateway.ask(with(20));
    assert_eq!(refused.verdict(), (431, "request.header_too_large".into()));
    assert!(origin.seen().is_empty());
}

#[test]
fn too_large_a_head_is_431() {
    let (origin, gateway) = limited("limits: { head: 4KiB }");
    assert_eq!(gateway.ask(Request::get("/").with("X-A", "a".repeat(3000))).status, 200);
    origin.forget();
    for size in [4097, 40_000, 2_000_000] {
        let (answers, ended) = gateway.raw(Request::get("/").with("X-A", "a".repeat(size)).bytes());
        assert!(ended && answers.iter().all(|answer| answer.status == 431), "{size}: {answers:?}");
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn too_long_a_target_is_414() {
    let (origin, gateway) = limited("limits: { uri: 1KiB }");
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(1000))).status, 200);
    origin.forget();
    for target in [format!("/{}", "a".repeat(1024)), format!("/?{}", "a".repeat(1024))] {
        assert_eq!(gateway.get(&target).verdict(), (414, "request.uri_too_long".into()));
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn the_defaults_hold_without_a_word() {
    let (origin, gateway) = limited("");
    let fields = (0..101).fold(Request::get("/"), |request, n| request.with(&format!("X-{n}"), n));
    assert_eq!(gateway.ask(fields).status, 431);
    assert_eq!(gateway.ask(Request::get("/").with("X-A", "a".repeat(33 << 10))).status, 431);
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(8 << 10))).status, 414);
    assert!(origin.seen().is_empty());
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn the_same_limits_hold_over_http_2() {
    let (origin, gateway) = limited("limits: { fields: 20, head: 4KiB, uri: 1KiB }");
    let ask = |request: http::request::Builder| h2::ask(&gateway.edge(), request.body(()).unwrap(), b"");
    let get = |path: &str| http::Request::get(format!("http://a.example{path}"));
    let fields = (0..30).fold(get("/"), |request, n| request.header(format!("x-{n}"), "1"));
    let status = |answer: Result<h2::Answer, _>| answer.map_or(0, |answer| answer.status);
    assert!(matches!(status(ask(fields)), 431 | 0));
    assert!(matches!(status(ask(get("/").header("x-a", "a".repeat(5000)))), 431 | 0));
    assert_eq!(status(ask(get(&format!("/{}", "a".repeat(1100))))), 414);
    assert!(origin.seen().is_empty());
    assert_eq!(status(ask(get("/"))), 200);
}

#[test]
fn many_idle_connections_are_cheap() {
    let (_origin, gateway) = limited("");
    gateway.get("/");
    let opened = |n: usize| {
        times(n, || {
            let mut connection = gateway.connect();
            assert_eq!(connection.get("/").status, 200);
            connection
        })
    };
    let warm = opened(200);
    let before = gateway.memory();
    let held = opened(400);
    let each = gateway.memory().saturating_sub(before) / 400;
    assert!(each <= 24, "{each} KiB per idle connection");
    drop((warm, held));
}

#[test]
fn a_closed_client_frees_its_connection() {
    let (_origin, gateway) = limited("");
    let held = times(20, || gateway.connect());
    eventually("twenty connections", || {
        (gateway.metrics().sum("yumen_connections", &[("listener", "edge")]) > 19.5).then_some(())
    });
    drop(held);
    eventually("none", || (gateway.metrics().sum("yumen_connections", &[("listener", "edge")]) < 0.5).then_some(()));
    let mut nothing = [0; 1];
    assert_eq!(wire::tcp(&gateway.edge()).take(0).read(&mut nothing).unwrap(), 0);
}
