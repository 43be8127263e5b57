//! Kept answers on their way in and out: what fails, what is cut short, what is too much, and what else a hit has to say.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::harness::h2;
use crate::harness::redis::Redis;
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, eventually};

/// An origin waits before it until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let _ = self.0.1.wait_timeout_while(open, Duration::from_secs(30), |open| !*open).unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 2 {
            self.open();
        }
    }
}

fn said(answer: &Response) -> &str {
    answer.field("cache-status").unwrap_or("-")
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(size: usize) -> String {
    format!("{size:x}\r\n{}\r\n", "x".repeat(size))
}

#[test]
fn what_is_kept_and_cannot_be_changed_is_the_same_error_each_time() {
    let origin = Origin::new(|_, talk| talk.answer(200, "Content-Type: application/json\r\n", r#"{"o":1,"o":2}"#));
    let redis = Redis::start();
    for store in ["", ", store: shared"] {
        origin.forget();
        let gateway = Gateway::start(format!(
            "stores: {{ shared: {{ redis: {} }} }}\n{}",
            redis.address(),
            Gateway::document(
                &origin,
                &format!(
                    "all: {{ match: /*, to: app, cache: {{ ttl: 60s{store} }}, transform: {{ response: {{ pick: [o, u] }} }} }}"
                )
            )
        ));
        eventually("it is kept", || {
            origin.forget();
            let answer = gateway.get("/x");
            assert_eq!((answer.status, answer.code()), (502, "transform.failed".to_owned()));
            origin.seen().is_empty().then_some(())
        });
        let line = gateway.access_line(|line| line["cache"] == "hit");
        assert_eq!(line["reason"], "transform.failed", "{line}");
        assert_eq!(line["http.response.status_code"], 502, "{line}");
        let page = gateway.admin("/why").json();
        assert!(page["requests"].as_array().is_none_or(|all| all.iter().all(|one| one["cut"] != true)), "{page}");
        let request = http::Request::get("http://127.0.0.1/x").body(()).unwrap();
        let answer = h2::ask(&gateway.edge(), request, b"").unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, problem["code"].as_str()), (502, Some("transform.failed")));
    }
}

#[test]
fn what_was_kept_before_the_rules_is_refused_with_a_word_too() {
    let origin = Origin::answering("no JSON");
    let document = |more: &str| Gateway::document(&origin, &format!("all: {{ match: /*, to: app, cache: 60s{more} }}"));
    let mut gateway = Gateway::start(document(""));
    assert_eq!(gateway.get("/x").status, 200);
    gateway.reload(document(", transform: { response: { pick: [a], else: refuse } }"));
    let answer = gateway.get("/x");
    assert_eq!((answer.status, answer.code()), (502, "transform.failed".to_owned()));
    assert_eq!(gateway.ask(Request::new("HEAD", "/x").with("Connection", "close")).status, 502);
    assert_eq!(origin.seen().len(), 1, "both were hits");
}

#[test]
fn a_hit_has_the_fields_and_the_body_that_it_came_with() {
    let origin = Origin::new(|_, talk| talk.answer(200, "grpc-status: 0\r\n", "hello"));
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: 60s }");
    let ask = || {
        let request = http::Request::get("http://127.0.0.1/x").body(()).unwrap();
        h2::ask(&gateway.edge(), request, b"").unwrap()
    };
    let (first, second) = (ask(), ask());
    for answer in [&first, &second] {
        assert_eq!((answer.header("grpc-status"), answer.body.as_slice()), (Some("0"), &b"hello"[..]));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    }
    assert!(second.header("cache-status").unwrap().starts_with("yumen;hit"));
    assert_eq!(gateway.get("/x").field("accept-ranges"), Some("bytes"));
}

#[test]
fn nobody_waits_for_an_answer_that_will_not_be_kept() {
    let (gate, large) = (Gate::default(), Arc::new(AtomicBool::new(true)));
    let origin = {
        let (gate, large) = (gate.clone(), large.clone());
        Origin::new(move |_, talk| {
            if large.load(SeqCst) {
                talk.send(format!("{CHUNKED}{}", chunk(6000)));
                gate.pass();
                talk.send(chunk(6000));
            } else {
                talk.send(format!("{CHUNKED}{}", chunk(10)));
            }
            talk.send("0\r\n\r\n");
        })
    };
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: { ttl: 60s, max: 4KiB, wait: 60s } }");
    let begin = || {
        let mut connection = gateway.connect().patient(Duration::from_secs(5));
        assert_eq!(connection.send(Request::get("/x").bytes()).head().status, 200);
        connection.until("xxx");
        connection
    };
    let all = [begin(), begin(), begin()];
    gate.open();
    for mut connection in all {
        connection.until("0\r\n\r\n");
    }
    assert_eq!(origin.seen().len(), 3);
    assert!(said(&gateway.get("/x")).contains("detail=\"too large\""), "it is known before it is measured");
    large.store(false, SeqCst);
    eventually("one that has become shorter is kept", || {
        said(&gateway.get("/x")).starts_with("yumen;hit").then_some(())
    });
}

#[test]
fn who_asks_for_a_part_begins_a_fetch_of_the_whole() {
    for (kind, field) in
        [("HEAD", None), ("GET", Some(("Range", "bytes=0-1"))), ("GET", Some(("If-None-Match", "\"a\"")))]
    {
        let count = AtomicUsize::new(0);
        let origin = Origin::new(move |_, talk| {
            talk.send("HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 100000\r\n\r\n");
            let slow = count.fetch_add(1, SeqCst) == 0;
            for _ in 0..100 {
                talk.send("x".repeat(1000));
                if slow {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
            }
        });
        let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: 60s }");
        let asked = Request::new(kind, "/x");
        let asked = field.into_iter().fold(asked, |asked, (name, value)| asked.with(name, value));
        let mut connection = gateway.connect();
        let answer = connection.ask(&asked);
        assert!(!said(&answer).contains("stored"), "{kind} {field:?}: {answer:?}");
        eventually("all of it is asked for", || (origin.seen().len() == 2).then_some(()));
        let last = origin.last();
        assert_eq!((last.method.as_str(), last.field("range"), last.field("if-none-match")), ("GET", None, None));
        let whole = gateway.get("/x");
        assert!(said(&whole).starts_with("yumen;hit"), "{kind} {field:?}: {}", said(&whole));
        assert_eq!((whole.body.len(), origin.seen().len()), (100_000, 2));
    }
}

#[test]
fn an_old_answer_is_renewed_as_a_whole_whoever_asks_for_it() {
    let (gate, count) = (Gate::default(), AtomicUsize::new(0));
    let origin = {
        let gate = gate.clone();
        Origin::new(move |_, talk| {
            let number = count.fetch_add(1, SeqCst) + 1;
            talk.send(CHUNKED);
            if number > 1 {
                gate.pass();
            }
            talk.send(format!("1\r\n{number}\r\n0\r\n\r\n"));
        })
    };
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: { ttl: 1s, stale: 60s } }");
    assert_eq!(gateway.get("/x").text(), "1");
    eventually("it is asked for beside a HEAD", || {
        assert_eq!(gateway.connect().ask(&Request::new("HEAD", "/x").with("Range", "bytes=0-0")).status, 200);
        (origin.seen().len() == 2).then_some(())
    });
    let last = origin.last();
    assert_eq!((last.method.as_str(), last.field("range")), ("GET", None));
    gate.open();
    eventually("it is new", || (gateway.get("/x").text() != "1").then_some(()));
}

#[test]
fn an_answer_that_cannot_be_changed_is_an_error_also_where_it_ends_with_trailers() {
    let origin = h2::Origin::scripted(|_, mut respond| {
        let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(r#"{"o":1,"o":2}"#.into(), false).unwrap();
        body.send_trailers([("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect()).unwrap();
    });
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, to: app, transform: {{ response: {{ pick: [o, u] }} }} }} }}\n"
    ));
    assert_eq!(gateway.get("/").verdict(), (502, "transform.failed".to_owned()));
    let request = http::Request::get("http://127.0.0.1/").body(()).unwrap();
    assert_eq!(h2::ask(&gateway.edge(), request, b"").unwrap().status, 502);
}
