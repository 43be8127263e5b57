//! Copies of requests for another pool: what they are, what they cost the live request (nothing), and what bounds them.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Origin, Request, Setup, eventually, h2, times};

fn document(live: &Origin, next: &str, copy_to: &str) -> String {
    format!(
        "pools: {{ app: [\"{live}\"], next: {next} }}\nroutes:\n  \
         all: {{ match: '/*', to: app, copy_to: {copy_to}, request: {{ set: {{ x-set: by-route }} }} }}\n"
    )
}

fn copying(live: &Origin, next: &Origin, copy_to: &str) -> Gateway {
    Gateway::start(document(live, &format!("[\"{next}\"]"), copy_to))
}

/// How many copies of the route `all` have ended so.
fn ended(gateway: &Gateway, result: &str) -> u64 {
    let sum = gateway.metrics().sum("yumen_copies_total", &[("route", "all"), ("result", result)]);
    sum.to_string().trim_start_matches('-').parse().unwrap()
}

fn comes_to(gateway: &Gateway, result: &str, number: u64) {
    eventually(result, || (ended(gateway, result) == number).then_some(()));
}

#[test]
fn a_copy_is_what_the_first_target_gets() {
    let (live, next) = (Origin::answering("live"), Origin::answering("next"));
    let gateway = copying(&live, &next, "next");
    let posted = gateway.ask(Request::post("/orders?x=1", "a body").with("X-Own", "7"));
    assert_eq!((posted.status, posted.text().as_str()), (200, "live"));
    let copy = eventually("the copy", || next.seen().first().cloned());
    let first = &live.seen()[0];
    assert_eq!((&copy.method, &copy.target, &copy.body), (&first.method, &first.target, &first.body));
    for name in ["host", "x-own", "x-set", "x-request-id", "traceparent", "x-forwarded-for", "via", "content-length"] {
        assert_eq!(copy.field(name), first.field(name), "{name}");
        assert!(copy.field(name).is_some(), "{name}");
    }
    assert_eq!((copy.field("x-yumen-copy"), first.field("x-yumen-copy")), (Some("1"), None));
    comes_to(&gateway, "answered", 1);
    assert_eq!(gateway.admin("/routes").json()["all"]["copy_to"], "next");
    gateway.get("/plain");
    let plain = eventually("another copy", || next.seen().get(1).cloned());
    assert_eq!((plain.method.as_str(), plain.target.as_str(), plain.field("content-length")), ("GET", "/plain", None));
    comes_to(&gateway, "answered", 2);
    assert_eq!(
        gateway.metrics().sum("yumen_pool_requests_total", &[("pool", "next"), ("code", "200")]).to_string(),
        "2"
    );
}

#[test]
fn explain_says_where_copies_go() {
    let text = "version: 1\nlisteners: { edge: { bind: 80 } }\npools:\n  app: [10.0.0.1:80]\n  next: [10.0.0.2:80]\n\
                routes:\n  all: { match: /*, to: app, copy_to: { pool: next, sample: 5% } }\n";
    let told = Setup::new().run(text, "explain", &["GET", "http://a.example/x"]).out;
    assert!(told.contains("copy_to next") && told.contains("  sample 5%"), "{told}");
}

#[test]
fn a_client_cannot_mark_its_request_as_a_copy() {
    let live = Origin::answering("live");
    let gateway = Gateway::passing(&live);
    gateway.ask(Request::get("/").with("X-Yumen-Copy", "1"));
    assert_eq!(live.seen()[0].field("x-yumen-copy"), None);
}

#[test]
fn a_chunked_body_is_copied_whole() {
    let (live, next) = (Origin::answering("live"), Origin::answering("next"));
    let gateway = copying(&live, &next, "next");
    let head = "POST /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let (answers, _) = gateway.raw(format!("{head}3\r\none\r\n4\r\n two\r\n0\r\n\r\n"));
    assert_eq!(answers[0].status, 200);
    let copy = eventually("the copy", || next.seen().first().cloned());
    assert_eq!((copy.body.as_slice(), copy.field("content-length")), (b"one two".as_slice(), Some("7")));
}

#[test]
fn requests_over_http_2_are_copied_too() {
    let (live, next) = (Origin::answering("live"), Origin::answering("next"));
    let gateway = copying(&live, &next, "next");
    let url = "http://a.example/over-h2?x";
    h2::ask(&gateway.edge(), http::Request::get(url).body(()).unwrap(), b"").unwrap();
    let plain = eventually("the copy", || next.seen().first().cloned());
    assert_eq!((plain.method.as_str(), plain.target.as_str()), ("GET", "/over-h2?x"));
    assert_eq!((plain.field("host"), plain.body.len()), (Some("a.example"), 0));
    h2::ask(&gateway.edge(), http::Request::post(url).body(()).unwrap(), b"a body").unwrap();
    let posted = eventually("another", || next.seen().get(1).cloned());
    assert_eq!((posted.body.as_slice(), posted.field("content-length")), (b"a body".as_slice(), Some("6")));
}

#[test]
fn whatever_becomes_of_a_copy_the_client_does_not_notice() {
    let live = Origin::answering("live");
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let garbage = Origin::new(|_, talk| {
        talk.send("nonsense\r\n\r\n").close();
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (next, result) in [
        (nobody.to_string(), "failed"),
        (garbage.to_string(), "failed"),
        (deaf.local_addr().unwrap().to_string(), "failed"),
        (Origin::answering("error").to_string(), "answered"),
    ] {
        let gateway = Gateway::start(document(&live, &format!("[\"{next}\"]"), "{ pool: next, timeout: 3s }"));
        let mut connection = gateway.connect();
        let before = Instant::now();
        for answer in times(5, || connection.ask(&Request::post("/", "body"))) {
            assert_eq!((answer.status, answer.text().as_str()), (200, "live"), "{next}");
        }
        assert!(before.elapsed() < Duration::from_secs(3), "a copy was waited for: {next}");
        comes_to(&gateway, result, 5);
    }
}

#[test]
fn a_share_of_the_requests_is_copied() {
    let (live, next) = (Origin::answering("live"), Origin::answering("next"));
    let mut gateway = copying(&live, &next, "{ pool: next, sample: 50%, in_flight: 400 }");
    let mut connection = gateway.connect();
    times(200, || connection.get("/half"));
    drop(connection);
    let with = |sample: &str| document(&live, &format!("[\"{next}\"]"), &format!("{{ pool: next, sample: {sample} }}"));
    gateway.reload(with("0%"));
    times(20, || gateway.get("/never"));
    gateway.reload(with("100%"));
    gateway.get("/always");
    let copied = |target: &str| next.seen().iter().filter(|seen| seen.target == target).count();
    eventually("the last copy", || (copied("/always") == 1).then_some(()));
    eventually("about half", || (copied("/half") > 60).then_some(()));
    assert!(copied("/half") < 140 && copied("/never") == 0, "{}", copied("/half"));
}

#[test]
fn a_larger_body_is_not_copied() {
    let (live, next) = (Origin::answering("live"), Origin::answering("next"));
    let gateway = copying(&live, &next, "{ pool: next, body: 1KiB }");
    assert_eq!(gateway.ask(Request::post("/large", vec![b'x'; 1025])).status, 200);
    assert_eq!(live.seen()[0].body.len(), 1025);
    comes_to(&gateway, "too_large", 1);
    assert_eq!(gateway.ask(Request::post("/fits", vec![b'x'; 1024])).status, 200);
    let copy = eventually("the copy", || next.seen().first().cloned());
    assert_eq!((copy.target.as_str(), copy.body.len()), ("/fits", 1024));
}

#[test]
fn only_so_many_copies_are_under_way() {
    let live = Origin::answering("live");
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let next = format!("[\"{}\"]", deaf.local_addr().unwrap());
    let gateway = Gateway::start(document(&live, &next, "{ pool: next, in_flight: 2, timeout: 60s }"));
    let mut connection = gateway.connect();
    assert!(times(10, || connection.get("/").status).iter().all(|status| *status == 200));
    comes_to(&gateway, "dropped", 8);
}

#[test]
fn a_copy_is_given_up_in_its_time() {
    let live = Origin::answering("live");
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let next = format!("[\"{}\"]", deaf.local_addr().unwrap());
    let gateway = Gateway::start(document(&live, &next, "{ pool: next, in_flight: 1, timeout: 200ms }"));
    gateway.get("/");
    comes_to(&gateway, "failed", 1);
    gateway.get("/");
    comes_to(&gateway, "failed", 2);
    assert_eq!(ended(&gateway, "dropped"), 0, "its place is free again");
}

#[test]
fn the_breaker_of_the_other_pool_holds_and_its_budget_is_left_alone() {
    let live = Origin::answering("live");
    let sick = Origin::new(|_, talk| talk.answer(500, "", "sick"));
    let next = format!("{{ targets: [\"{sick}\"], breaker: {{ open_after: 2, open_for: 60s }} }}");
    let gateway = Gateway::start(document(&live, &next, "next"));
    for number in 1..=2 {
        assert_eq!(gateway.get("/").text(), "live");
        comes_to(&gateway, "answered", number);
    }
    assert_eq!(gateway.get("/").text(), "live");
    comes_to(&gateway, "no_target", 1);
    let pools = gateway.admin("/pools").json();
    let pool = pools.as_array().unwrap().iter().find(|pool| pool["name"] == "next").unwrap();
    assert_eq!((&pool["retries"]["made"], &pool["retries"]["budget_left"]), (&0.into(), &10.into()), "{pool}");
}

#[test]
fn a_further_try_is_not_copied_again_and_its_body_comes_once() {
    let next = Origin::answering("next");
    let live = Origin::new(|seen, talk| {
        if seen.field("x-yumen-attempt").is_none() { talk.close() } else { talk.answer(200, "", "second") }
    });
    let gateway = copying(&live, &next, "next");
    let answer = gateway.ask(Request::post("/", "once").with("Idempotency-Key", "1"));
    assert_eq!(answer.text(), "second");
    comes_to(&gateway, "answered", 1);
    let copies = next.seen();
    assert_eq!((copies.len(), copies[0].body.as_slice()), (1, b"once".as_slice()));
    assert_eq!(copies[0].field("x-yumen-attempt"), None);
}

#[test]
fn what_breaks_off_is_not_copied() {
    let (live, next) = (Origin::answering("live"), Origin::answering("next"));
    let gateway = copying(&live, &next, "next");
    let mut connection = gateway.connect();
    connection.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhalf");
    eventually("the first half", || (live.connections() > 0).then_some(()));
    drop(connection);
    comes_to(&gateway, "incomplete", 1);
    assert!(next.seen().is_empty());
}

#[test]
fn copies_speak_the_protocol_of_their_pool() {
    let (live, next) = (Origin::answering("live"), h2::Origin::plain(&[]));
    let pool = format!("{{ targets: [\"{next}\"], protocol: h2c }}");
    let gateway = Gateway::start(document(&live, &pool, "next"));
    assert_eq!(gateway.ask(Request::post("/x?y", "over h2c").host("a.example")).text(), "live");
    comes_to(&gateway, "answered", 1);
    let asked = &next.asked()[0].head;
    assert_eq!((asked.version, asked.uri.path()), (http::Version::HTTP_2, "/x"));
    assert_eq!(asked.uri.authority().unwrap(), "a.example");
    assert_eq!(asked.headers["x-yumen-copy"], "1");
}
