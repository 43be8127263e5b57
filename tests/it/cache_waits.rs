//! Who waits for whom, what one request does to the next, and what `Cache-Status` says of it.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use crate::harness::redis::Redis;
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, eventually, times};

fn caching(origin: &Origin, cache: &str) -> Gateway {
    Gateway::before(origin, &format!("all: {{ match: /*, to: app, cache: {cache} }}"))
}

fn said(answer: &Response) -> &str {
    answer.field("cache-status").unwrap_or("-")
}

#[test]
fn an_answer_that_is_not_kept_takes_nothing_from_those_that_are() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |seen, talk| {
        if seen.field("x-l") == Some("bad") {
            return talk.answer(400, "Vary: X-L\r\n", "bad");
        }
        let number = (count.fetch_add(1, SeqCst) + 1).to_string();
        talk.answer(200, "Vary: X-L\r\nCache-Control: max-age=60\r\n", number);
    });
    let gateway = caching(&origin, "{}");
    let get = |target: &str, said: &str| gateway.ask(Request::get(target).with("X-L", said));
    assert_eq!(get("/x", "a").text(), "1");
    assert_eq!(get("/x", "bad").status, 400);
    let kept = get("/x", "a");
    assert_eq!(kept.text(), "1");
    assert!(said(&kept).starts_with("yumen;hit"), "{}", said(&kept));
    times(3, || get("/new", "bad"));
    assert_eq!([get("/new", "a").text(), get("/new", "a").text()], ["2", "2"], "and what comes first is no matter");
}

#[test]
fn what_is_not_kept_is_asked_for_as_the_client_asks() {
    let origin = Origin::new(|seen, talk| match seen.field("range") {
        Some(_) => talk.answer(206, "Content-Range: bytes 0-1/4\r\n", "ab"),
        None => talk.answer(200, "Cache-Control: no-store\r\n", "abcd"),
    });
    let gateway = caching(&origin, "{}");
    gateway.get("/film");
    let part = gateway.ask(Request::get("/film").with("Range", "bytes=0-1"));
    assert_eq!((part.status, part.text()), (206, "ab".to_owned()));
    assert_eq!(origin.last().field("range"), Some("bytes=0-1"), "not all of it for a part");
    assert_eq!(said(&part), "yumen;fwd=bypass;fwd-status=206;detail=\"status\"");
}

#[test]
fn requests_whose_answers_are_not_kept_do_not_wait_for_each_other() {
    let (gate, asked) = (Arc::new((Mutex::new(true), Condvar::new())), Arc::new(AtomicUsize::new(0)));
    let (mine, count) = (gate.clone(), asked.clone());
    let origin = Origin::new(move |_, talk| {
        count.fetch_add(1, SeqCst);
        drop(mine.1.wait_while(mine.0.lock().unwrap(), |open| !*open).unwrap());
        talk.answer(200, "Cache-Control: max-age=60\r\n", "x");
    });
    let gateway = caching(&origin, "{ wait: 30s }");
    let request = || Request::get("/x").with("Authorization", "Basic eA==");
    let first = gateway.ask(request());
    assert_eq!(said(&first), "yumen;fwd=uri-miss;fwd-status=200;detail=\"authorization\"");
    *gate.0.lock().unwrap() = false;
    let mut connections = times(4, || gateway.connect());
    for connection in &mut connections {
        connection.send(request().bytes());
    }
    eventually("all of them are at the origin", || (asked.load(SeqCst) == 5).then_some(()));
    let mut others = times(3, || gateway.connect());
    for connection in &mut others {
        connection.send(Request::get("/x").bytes());
    }
    eventually("one of the others is, for all of them", || (asked.load(SeqCst) >= 6).then_some(()));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for connection in connections.iter_mut().chain(&mut others) {
        assert_eq!(connection.response().status, 200);
    }
    assert_eq!(asked.load(SeqCst), 6);
}

#[test]
fn an_answer_without_a_date_was_made_when_it_came() {
    let origin = Origin::new(|seen, talk| {
        if seen.field("if-none-match").is_some() {
            return talk.answer(304, "Cache-Control: max-age=60\r\n", "");
        }
        let old = "ETag: \"a\"\r\nCache-Control: max-age=60\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        talk.answer(200, if seen.target == "/old" { old } else { "Cache-Control: max-age=60\r\n" }, "body");
    });
    let gateway = caching(&origin, "{}");
    assert_eq!(times(4, || gateway.get("/old").text()), ["body"; 4]);
    assert_eq!(origin.seen().len(), 2, "once it is found unchanged, it is fresh again");
    let kept = times(2, || gateway.get("/new")).pop().unwrap();
    assert!(said(&kept).starts_with("yumen;hit"), "{}", said(&kept));
    assert!(kept.field("date").is_some_and(|date| date.ends_with("GMT")), "{:?}", kept.field("date"));
}

#[test]
fn what_is_said_of_an_answer_is_so() {
    let origin = Origin::new(|seen, talk| match &*seen.target {
        "/long" => talk.answer(200, "", vec![b'x'; 5000]),
        "/chunks" => {
            let chunk = format!("{:x}\r\n{}\r\n", 2500, "x".repeat(2500));
            talk.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"));
        }
        _ => talk.answer(200, "Vary: X-L\r\nETag: \"a\"\r\n", "0123456789"),
    });
    let gateway = caching(&origin, "{ ttl: 60s, max: 4KiB }");
    let told = |request: Request| said(&gateway.ask(request)).to_owned();
    let get = |target: &str| Request::get(target);
    assert_eq!(told(get("/x").with("X-L", "a")), "yumen;fwd=uri-miss;fwd-status=200;stored");
    assert_eq!(told(get("/x").with("X-L", "b")), "yumen;fwd=vary-miss;fwd-status=200;stored");
    assert!(told(get("/x").with("X-L", "b")).starts_with("yumen;hit"));
    // Who wants less than all of it may be served before all of it is here.
    assert_eq!(told(get("/part").with("Range", "bytes=0-1")), "yumen;fwd=uri-miss;fwd-status=200");
    assert_eq!(told(get("/same").with("If-None-Match", "\"a\"")), "yumen;fwd=uri-miss;fwd-status=200");
    assert_eq!(told(get("/long")), "yumen;fwd=uri-miss;fwd-status=200;detail=\"too large\"");
    assert_eq!(told(get("/chunks")), "yumen;fwd=uri-miss;fwd-status=200", "who knows how long it will be");
}

#[test]
fn nothing_is_said_to_be_stored_where_nobody_knows() {
    let (origin, redis) = (Origin::answering("x"), Redis::absent(&[]));
    let gateway = Gateway::start(format!(
        "stores: {{ shared: {{ redis: {} }} }}\n{}",
        redis.address(),
        Gateway::document(&origin, "all: { match: /*, to: app, cache: { ttl: 60s, store: shared } }")
    ));
    assert_eq!(said(&gateway.get("/x")), "yumen;fwd=uri-miss;fwd-status=200");
}
