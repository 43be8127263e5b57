//! How long a request may take: its steps, its tries, and the whole, by the document and by what its client says.

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Origin, Request, eventually, h2, times, tools};

fn pooled(pool: &str) -> Gateway {
    Gateway::start(format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"))
}

fn deaf() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// An origin that answers at once and ends its body when it is told to.
fn halting() -> (Origin, Sender<()>) {
    let (go, gate) = channel();
    let gate = Mutex::new(gate);
    let origin = Origin::new(move |_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        // Whoever waits for the end in vain is gone by then.
        let _ = gate.lock().unwrap().recv();
        talk.send("half");
    });
    (origin, go)
}

/// A moment that is longer than any limit here that must not hold.
fn pass(time: Duration) {
    let start = Instant::now();
    eventually("time passes", || (start.elapsed() > time).then_some(()));
}

const MOMENT: Duration = Duration::from_millis(400);

#[test]
fn the_head_has_a_limit_that_the_body_does_not_have() {
    let (origin, go) = halting();
    let deaf = deaf();
    let gateway = pooled(&format!("{{ targets: ['{origin}'], timeout: {{ first_byte: 150ms }} }}"));
    let mut connection = gateway.connect();
    assert_eq!(connection.send(Request::get("/").bytes()).head().status, 200);
    pass(MOMENT);
    go.send(()).unwrap();
    connection.until("halfhalf");
    let address = deaf.local_addr().unwrap();
    let gateway = pooled(&format!("{{ targets: ['{address}'], timeout: {{ first_byte: 150ms }} }}"));
    assert_eq!(gateway.get("/").verdict(), (504, "upstream.timeout.first_byte".into()));
}

#[test]
fn a_route_has_limits_of_its_own() {
    let deaf = deaf();
    let limits = ["first_byte: 100ms", "per_try: 100ms", "total: 100ms", "deadline_header: x-wait"];
    let routes = limits
        .iter()
        .enumerate()
        .map(|(n, limit)| format!("  r{n}: {{ match: /{n}, to: app, timeout: {{ {limit} }} }}\n"));
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{}'], timeout: {{ first_byte: 30s }} }} }}\nroutes:\n{}",
        deaf.local_addr().unwrap(),
        routes.collect::<String>()
    ));
    let start = Instant::now();
    for (path, code) in [("/0", "first_byte"), ("/1", "first_byte"), ("/2", "total"), ("/3", "total")] {
        let answer = gateway.ask(Request::get(path).with("X-Wait", "100"));
        assert_eq!(answer.verdict(), (504, format!("upstream.timeout.{code}")), "{path}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_try_ends_in_its_time() {
    let (deaf, (_full, unreachable, _filling)) = (deaf(), tools::unreachable());
    for target in [deaf.local_addr().unwrap(), unreachable] {
        let limits = "timeout: { per_try: 200ms, connect: 20s, first_byte: 20s }";
        let gateway = pooled(&format!("{{ targets: ['{target}'], {limits} }}"));
        let start = Instant::now();
        assert_eq!(gateway.get("/").status, 504);
        assert!((0.19..15.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    }
}

#[test]
fn the_whole_has_a_limit_that_cuts_an_answer_which_never_ends() {
    let deaf = deaf();
    let gateway = pooled(&format!("{{ targets: ['{}'], timeout: {{ total: 200ms }} }}", deaf.local_addr().unwrap()));
    assert_eq!(gateway.get("/").verdict(), (504, "upstream.timeout.total".into()));
    // A drop now and then is no silence; only the whole ends it.
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::new(move |_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while gate.lock().unwrap().recv_timeout(Duration::from_millis(20)).is_err() {
            talk.send("1\r\nx\r\n");
        }
    });
    let gateway = pooled(&format!("{{ targets: ['{origin}'], timeout: {{ total: 300ms, idle: 10s }} }}"));
    let mut connection = gateway.connect();
    assert_eq!(connection.send(Request::get("/").bytes()).head().status, 200);
    assert!(connection.ends());
    drop(go);
    gateway.access_line(|line| line["reason"] == "upstream.timeout.total");
}

#[test]
fn a_client_may_shorten_the_time_and_the_target_is_told_what_is_left() {
    let origin = Origin::answering("in");
    let gateway = pooled(&format!("{{ targets: ['{origin}'], timeout: {{ total: 5s, deadline_header: x-wait }} }}"));
    let left = |request: Request| {
        assert_eq!(gateway.ask(request).status, 200);
        let said = origin.last().field("x-wait").unwrap().to_owned();
        said.strip_suffix("ms").unwrap().parse::<u64>().unwrap()
    };
    assert!((1..=5000).contains(&left(Request::get("/"))));
    assert!((1..=3000).contains(&left(Request::get("/").with("X-Wait", "3s"))));
    assert!((3001..=5000).contains(&left(Request::get("/").with("X-Wait", "1h"))), "it can only shorten");
}

#[test]
fn a_client_that_would_not_wait_counts_against_no_target() {
    let deaf = deaf();
    let breaker = "breaker: { open_after: 2, open_for: 1m }, timeout: { total: 300ms, deadline_header: x-wait }";
    let gateway = pooled(&format!("{{ targets: ['{}'], {breaker} }}", deaf.local_addr().unwrap()));
    let hurried = |gateway: &Gateway| gateway.ask(Request::get("/").with("X-Wait", "20")).verdict();
    let late = (504, "upstream.timeout.total".to_owned());
    assert_eq!(times(4, || hurried(&gateway)), vec![late.clone(); 4]);
    // Those that were given the whole time do count.
    assert_eq!(times(2, || gateway.get("/").verdict()), [late.clone(), late]);
    eventually("it opens", || (gateway.get("/").code() == "breaker.open").then_some(()));
}

#[test]
fn a_grpc_deadline_is_kept_and_passed_on() {
    const H2: &str = "listeners: { edge: { bind: '127.0.0.1:0', protocols: [h1, h2] } }\n";
    let call = |gateway: &Gateway, limit: &str| {
        let request = http::Request::post("http://test.example/s/m").header("content-type", "application/grpc");
        h2::ask(&gateway.edge(), request.header("te", "trailers").header("grpc-timeout", limit).body(()).unwrap(), b"")
    };
    let origin = h2::Origin::plain(&[("grpc-status", "0")]);
    let start = |target: &str| {
        Gateway::start(format!(
            "{H2}pools: {{ app: {{ targets: ['{target}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"
        ))
    };
    let gateway = start(&origin.to_string());
    assert_eq!(call(&gateway, "9S").unwrap().trailers["grpc-status"], "0");
    let told = origin.asked().last().unwrap().head.headers["grpc-timeout"].to_str().unwrap().to_owned();
    let left: u64 = told.strip_suffix('m').unwrap().parse().unwrap();
    assert!((1..=9000).contains(&left), "{told}");
    let deaf = deaf();
    let gateway = start(&deaf.local_addr().unwrap().to_string());
    let late = call(&gateway, "200m").unwrap();
    let status = late.header("grpc-status").map(str::to_owned);
    assert_eq!(status.as_deref().or(late.trailers.get("grpc-status").and_then(|said| said.to_str().ok())), Some("4"));
}

#[test]
fn what_may_not_be_sent_twice_gets_no_connection_that_its_target_may_just_close() {
    let origin = Origin::answering("done");
    let gateway = pooled(&format!("['{origin}']"));
    let mut connection = gateway.connect();
    let mut post = || assert_eq!(connection.ask(&Request::post("/", "1")).status, 200);
    post();
    post();
    assert_eq!(origin.connections(), 1, "a young one is used again");
    pass(Duration::from_millis(1200));
    post();
    assert_eq!(origin.connections(), 2, "nobody knows how long it is kept");
    let origin = Origin::new(|_, talk| talk.answer(200, "Keep-Alive: timeout=5\r\n", "done"));
    let gateway = pooled(&format!("['{origin}']"));
    let mut connection = gateway.connect();
    for _ in 0..2 {
        assert_eq!(connection.ask(&Request::post("/", "1")).status, 200);
        pass(Duration::from_millis(1200));
    }
    assert_eq!(origin.connections(), 1, "the target says that it keeps it for five seconds");
}

#[test]
fn a_client_that_does_not_end_its_request_counts_against_no_target() {
    let deaf = deaf();
    let limits = "timeout: { first_byte: 100ms, per_try: 400ms }, breaker: { open_after: 1, open_for: 1m }";
    let gateway = pooled(&format!("{{ targets: ['{}'], {limits} }}", deaf.local_addr().unwrap()));
    for _ in 0..3 {
        let mut slow = gateway.connect();
        let start = Instant::now();
        slow.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
        assert_eq!(slow.response().verdict(), (504, "upstream.timeout.first_byte".into()), "not breaker.open");
        assert!(
            start.elapsed() > Duration::from_millis(390),
            "its target was not to answer yet: {:?}",
            start.elapsed()
        );
    }
    assert_eq!(gateway.get("/").verdict(), (504, "upstream.timeout.first_byte".into()));
    eventually("it opens", || (gateway.get("/").code() == "breaker.open").then_some(()));
}
