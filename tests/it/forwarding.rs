//! What passes through to the upstream and back, and what does not.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::harness::{Gateway, Origin, Request, eventually};

#[test]
fn a_request_is_forwarded_and_its_answer_returned() {
    let origin = Origin::new(|_, talk| talk.answer(201, "X-Made: yes\r\n", "made"));
    let gateway = Gateway::passing(&origin);
    let answer = gateway.ask(Request::post("/orders?x=1&y", "a body").with("Content-Type", "text/plain"));
    assert_eq!((answer.status, answer.text().as_str(), answer.field("x-made")), (201, "made", Some("yes")));
    let seen = origin.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/orders?x=1&y"));
    assert_eq!((seen.body.as_slice(), seen.field("content-type")), (&b"a body"[..], Some("text/plain")));
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let origin = Origin::new(|_, talk| {
        let fields =
            "Connection: x-theirs\r\nX-Theirs: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nX-End: 1\r\n";
        talk.answer(200, fields, "ok");
    });
    let gateway = Gateway::passing(&origin);
    let request = Request::get("/")
        .with("Connection", "x-mine, keep-alive")
        .with("X-Mine", 1)
        .with("Keep-Alive", "timeout=5")
        .with("Proxy-Connection", "keep-alive")
        .with("TE", "trailers, deflate")
        .with("X-End", 1);
    let answer = gateway.ask(request);
    let seen = origin.last();
    for name in ["x-mine", "keep-alive", "proxy-connection"] {
        assert_eq!(seen.field(name), None, "{name} reached the origin");
    }
    assert!(seen.fields.all("te").iter().all(|te| *te == "trailers"));
    assert_eq!(seen.field("x-end"), Some("1"));
    for name in ["x-theirs", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.field(name), None, "{name} reached the client");
    }
    assert_eq!(answer.field("x-end"), Some("1"));
}

#[test]
fn connection_cannot_strip_what_matters() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let request = Request::get("/")
        .with("Connection", "authorization, cookie, host, x-forwarded-for, forwarded, x-request-id, traceparent, via")
        .with("Authorization", "Bearer x")
        .with("Cookie", "a=b");
    let answer = gateway.ask(request);
    if answer.status == 200 {
        let seen = origin.last();
        for name in ["authorization", "cookie", "host", "x-forwarded-for", "x-request-id", "traceparent", "via"] {
            assert!(seen.field(name).is_some(), "{name} was stripped by Connection");
        }
    } else {
        assert_eq!((answer.status, origin.seen().len()), (400, 0));
    }
}

#[test]
fn the_upstream_learns_who_asked_for_what_and_how() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    gateway.ask(Request::get("/").host("api.example.com"));
    let seen = origin.last();
    assert_eq!(seen.fields.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.fields.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.fields.all("x-forwarded-host"), ["api.example.com"]);
    let forwarded = seen.field("forwarded").unwrap().to_ascii_lowercase().replace('"', "");
    for part in ["for=127.0.0.1", "proto=http", "host=api.example.com"] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
    assert!(seen.field("via").unwrap().starts_with("1.1 "));
}

#[test]
fn a_request_that_comes_back_to_us_is_a_loop() {
    let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    drop(door);
    let gateway = Gateway::start(format!(
        "listeners: {{ edge: {{ bind: \"{address}\" }} }}\npools: {{ self: [\"{address}\"] }}\n\
         routes:\n  all: {{ match: /*, to: self }}\n"
    ));
    assert_eq!(gateway.get("/").verdict(), (508, "request.loop".into()));
}

#[test]
fn a_stranger_in_via_is_no_loop() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    assert_eq!(gateway.ask(Request::get("/").with("Via", "1.1 proxy.example, 1.0 other")).status, 200);
    let via = origin.last().fields.all("via").join(", ");
    assert!(via.starts_with("1.1 proxy.example, 1.0 other, 1.1 "), "{via}");
}

#[test]
fn every_request_has_an_id_that_both_sides_see() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let answer = gateway.ask(Request::get("/").with("X-Request-Id", "forged"));
    let id = answer.field("x-request-id").unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    assert_eq!(origin.last().fields.all("x-request-id"), [id.as_str()]);
    let line = gateway.access_line(|line| line.to_string().contains(&id));
    assert!(line.is_object());
    assert_ne!(gateway.get("/").field("x-request-id"), Some(id.as_str()));
}

#[test]
fn a_trace_is_continued_or_started() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    gateway.ask(Request::get("/").with("traceparent", theirs).with("tracestate", "a=1"));
    let ours = origin.last().field("traceparent").unwrap().to_owned();
    assert_eq!(ours.split('-').nth(1), theirs.split('-').nth(1));
    assert_ne!(ours.split('-').nth(2), theirs.split('-').nth(2), "a hop has a span of its own");
    assert_eq!(origin.last().field("tracestate"), Some("a=1"));
    for bad in [
        "",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-x",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        gateway.ask(Request::get("/").with("traceparent", bad).with("tracestate", "a=1"));
        let seen = origin.last();
        let started = seen.field("traceparent").unwrap();
        let parts: Vec<_> = started.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{started}");
        assert!(seen.fields.all("traceparent").len() == 1 && !started.contains("0000000000000000"), "{started}");
        assert_eq!(seen.field("tracestate"), None, "the state of a trace that was not continued");
    }
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(connection.head().status, 100);
    let answer = connection.send("body").response();
    assert_eq!((answer.status, origin.last().body), (200, b"body".to_vec()));
}

#[test]
fn other_expectations_are_417_and_http_1_0_never_sees_a_100() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let refused = gateway.ask(Request::post("/", "x").with("Expect", "200-ok"));
    assert_eq!(refused.verdict(), (417, "request.expect".into()));
    assert!(origin.seen().is_empty());
    let old = "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody";
    let (answers, _) = gateway.raw(old);
    assert_eq!((answers.len(), answers[0].status, answers[0].interim.len()), (1, 200, 0));
}

#[test]
fn trailers_pass_and_those_that_would_change_the_request_do_not() {
    let origin = Origin::new(|_, talk| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        talk.send(head).send("2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n\r\n");
    });
    let gateway = Gateway::passing(&origin);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
                   3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\nHost: b\r\nAuthorization: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    let answer = gateway.connect().send(request).response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    for name in ["content-length", "set-cookie"] {
        assert_eq!(answer.trailers.get(name), None, "{name} in a trailer reached the client");
    }
    let seen = origin.last();
    assert_eq!(seen.body, b"abc");
    for name in ["content-length", "host", "authorization", "x-forwarded-for"] {
        assert_eq!(seen.trailers.get(name), None, "{name} in a trailer reached the origin");
    }
    assert_eq!(seen.fields.all("host"), ["a"]);
    assert_eq!(seen.fields.all("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn an_answer_is_streamed_as_it_comes() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            talk.send(format!("{:x}\r\n{event}\r\n", event.len()));
            wait.lock().unwrap().recv().unwrap();
        }
        talk.send("0\r\n\r\n");
    });
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    assert_eq!(connection.send(Request::get("/").bytes()).head().status, 200);
    assert!(connection.until("data: 1\n\n").contains("data: 1"));
    go.send(()).unwrap();
    assert!(connection.until("data: 2\n\n").contains("data: 2"));
    go.send(()).unwrap();
    connection.until("0\r\n\r\n");
}

#[test]
fn an_answer_of_known_length_is_not_held_back() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfour");
        wait.lock().unwrap().recv().unwrap();
        talk.send("more");
    });
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.send(Request::get("/").bytes()).until("four");
    go.send(()).unwrap();
    connection.until("more");
}

#[test]
fn a_body_is_streamed_as_it_comes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(format!(
        "pools: {{ app: [\"{}\"] }}\nroutes:\n  all: {{ match: /*, to: app }}\n",
        listener.local_addr().unwrap()
    ));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nfour");
    let mut origin = crate::harness::Connection::over(listener.accept().unwrap().0);
    assert!(origin.until("four").starts_with("POST / "));
    client.send("more");
    origin.until("more");
    origin.send("HTTP/1.1 204 None\r\n\r\n");
    assert_eq!(client.response().status, 204);
}

#[test]
fn large_bodies_pass_both_ways_in_little_memory() {
    let origin = Origin::new(|seen, talk| talk.answer(200, "", &seen.body));
    let gateway = Gateway::before(&origin, "all: { match: /*, body: { max: none }, to: app }");
    gateway.get("/");
    let before = gateway.memory();
    let body: Vec<u8> = (0..32_u32 << 20).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let answer = gateway.ask(Request::post("/", &body));
    assert!(answer.body == body, "{} of {} bytes", answer.body.len(), body.len());
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB for a body that only passes through");
}

#[test]
fn connections_are_reused_on_both_sides() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    for _ in 0..20 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::new(|seen, talk| talk.answer(200, "", &seen.target));
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection
        .send([Request::get("/1").bytes(), Request::post("/2", "x").bytes(), Request::get("/3").bytes()].concat());
    for expected in ["/1", "/2", "/3"] {
        assert_eq!(connection.response().text(), expected);
    }
    assert_eq!(origin.targets(), ["/1", "/2", "/3"]);
}

#[test]
fn head_and_304_have_no_body_and_the_next_answer_is_in_step() {
    let origin = Origin::new(|seen, talk| match (seen.method.as_str(), seen.target.as_str()) {
        ("HEAD", _) => drop(talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")),
        (_, "/304") => drop(talk.send("HTTP/1.1 304 Same\r\nETag: \"a\"\r\n\r\n")),
        _ => talk.answer(200, "", "next"),
    });
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    let head = connection.ask(&Request::new("HEAD", "/"));
    assert_eq!((head.status, head.field("content-length")), (200, Some("100")));
    assert_eq!(connection.get("/304").status, 304);
    assert_eq!(connection.get("/").text(), "next");
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let origin = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    });
    let gateway = Gateway::passing(&origin);
    let (answers, ended) = gateway.raw("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(ended);
    assert_eq!(answers[0].text(), "ok");
    assert_eq!(answers[0].field("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
}

#[test]
fn an_absolute_target_is_forwarded_as_a_path_with_its_host() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    gateway.ask(Request::get("http://api.example.com/x?y=1").host("api.example.com"));
    assert_eq!(origin.last().target, "/x?y=1");
    assert_eq!(origin.last().fields.all("host"), ["api.example.com"]);
}

#[test]
fn a_client_that_leaves_frees_the_upstream() {
    let (seen, arrived) = channel();
    let origin = Origin::new(move |_, talk| {
        seen.send(()).unwrap();
        talk.echo();
        seen.send(()).unwrap();
    });
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.send(Request::get("/").bytes());
    arrived.recv_timeout(crate::harness::PATIENCE).unwrap();
    drop(connection);
    arrived.recv_timeout(crate::harness::PATIENCE).expect("the upstream connection is freed");
    eventually("no request in flight", || {
        (gateway.metrics().sum("yumen_http_requests_in_flight", &[]) < 0.5).then_some(())
    });
}
