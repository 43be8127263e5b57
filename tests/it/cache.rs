//! Answers that are remembered: what is kept, for how long, for whom, and who is asked when.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::h2;
use crate::harness::redis::Redis;
use crate::harness::tools::{Ended, yumen};
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, eventually, times};

/// Answers with a number that counts up, and these fields; a HEAD is never seen behind a cache.
fn counting(fields: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::new(move |_, talk| talk.answer(200, fields, (count.fetch_add(1, SeqCst) + 1).to_string()))
}

/// One route with this cache before the origin.
fn caching(origin: &Origin, cache: &str) -> Gateway {
    Gateway::before(origin, &format!("all: {{ match: /*, to: app, cache: {cache} }}"))
}

fn said(answer: &Response) -> &str {
    answer.field("cache-status").unwrap_or("-")
}

/// Whether at least so many requests got this of the cache; the last one is counted after its answer.
fn counted(gateway: &Gateway, result: &str, least: u32) -> Option<()> {
    let sum = gateway.metrics().sum("yumen_cache_requests_total", &[("route", "all"), ("result", result)]);
    (sum >= f64::from(least)).then_some(())
}

/// `yumen cache purge` of this.
fn purge(gateway: &Gateway, what: &[&str]) -> Ended {
    let document = gateway.setup.path().join("yumen.yaml");
    yumen(
        &[&["cache", "purge", "--config", document.to_str().unwrap(), "--admin", gateway.admin_address()], what]
            .concat(),
    )
}

#[test]
fn an_answer_is_fetched_once_and_served_until_its_time_is_over() {
    let origin = counting("X-Request-Id: of-the-origin\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Kept: 1\r\n");
    let gateway = caching(&origin, "60s");
    let (first, second) = (gateway.get("/a?b=1"), gateway.get("/a?b=1"));
    assert_eq!((first.text(), second.text()), ("1".to_owned(), "1".to_owned()));
    assert_eq!(said(&first), "yumen;fwd=uri-miss;fwd-status=200;stored");
    let told = said(&second).to_owned();
    assert!(told.starts_with("yumen;hit;ttl=5") || told == "yumen;hit;ttl=60", "{told}");
    assert_eq!((first.field("age"), second.field("age")), (None, Some("0")));
    assert_eq!((second.field("x-kept"), second.field("x-hop")), (Some("1"), None));
    assert_ne!(first.field("x-request-id"), second.field("x-request-id"), "each answer has its own id");
    assert_eq!(gateway.get("/a?b=2").text(), "2", "another query");
    assert_eq!(gateway.ask(Request::get("/a?b=1").host("other.example")).text(), "3", "another host");
    assert_eq!(origin.seen().len(), 3);
    let line = gateway.access_line(|line| line["cache"] == "hit");
    assert_eq!((line["http.response.status_code"].as_u64(), line["tries"].as_u64()), (Some(200), Some(0)));
    eventually("all are counted", || counted(&gateway, "hit", 1).and_then(|()| counted(&gateway, "miss", 3)));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("yumen_cache_objects", &[("store", "built-in")]).to_string(), "3");
    assert!(metrics.sum("yumen_cache_bytes", &[]) > 1500.0, "{}", metrics.0);
}

#[test]
fn a_time_of_the_route_holds_whatever_the_answer_says_and_without_one_what_it_says() {
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/short" | "/own/short" => talk.answer(200, "Cache-Control: max-age=0\r\n", "x"),
        "/own/long" => talk.answer(200, "Cache-Control: max-age=60\r\n", "x"),
        _ => talk.answer(200, "", "x"),
    });
    let gateway = Gateway::before(
        &origin,
        "own: { match: /own/*, to: app, cache: {} }\nall: { match: /*, to: app, cache: { ttl: 200ms } }",
    );
    let asked = |target: &str| origin.targets().iter().filter(|seen| *seen == target).count();
    times(3, || gateway.get("/short"));
    assert_eq!(asked("/short"), 1);
    eventually("its time is over", || {
        gateway.get("/short");
        (asked("/short") == 2).then_some(())
    });
    times(3, || ["/own/short", "/own/long", "/own/nothing"].map(|target| gateway.get(target)));
    assert_eq!((asked("/own/short"), asked("/own/long"), asked("/own/nothing")), (3, 1, 3));
}

#[test]
fn a_thousand_requests_at_once_are_one_at_the_origin() {
    let (gate, opened) = (Arc::new((Mutex::new(false), Condvar::new())), Arc::new(AtomicUsize::new(0)));
    let (mine, asked) = (gate.clone(), opened.clone());
    let origin = Origin::new(move |_, talk| {
        asked.fetch_add(1, SeqCst);
        let open = mine.1.wait_while(mine.0.lock().unwrap(), |open| !*open).unwrap();
        drop(open);
        talk.answer(200, "", "one for all");
    });
    let gateway = caching(&origin, "{ ttl: 60s, wait: 30s }");
    let mut connections = times(1000, || gateway.connect());
    for connection in &mut connections {
        connection.send(Request::get("/popular").bytes());
    }
    eventually("the request at the origin", || (opened.load(SeqCst) > 0).then_some(()));
    eventually("all of them wait", || {
        (gateway.metrics().sum("yumen_http_requests_in_flight", &[("route", "all")]) >= 1000.0).then_some(())
    });
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for connection in &mut connections {
        let answer = connection.response();
        assert_eq!((answer.status, answer.text()), (200, "one for all".to_owned()));
    }
    assert_eq!(opened.load(SeqCst), 1);
}

#[test]
fn a_fetch_that_hangs_frees_those_who_wait_for_it() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |_, talk| {
        if count.fetch_add(1, SeqCst) == 0 {
            talk.echo();
        } else {
            talk.answer(200, "", "well");
        }
    });
    let gateway = caching(&origin, "{ ttl: 60s, wait: 300ms }");
    let mut hung = gateway.connect();
    hung.send(Request::get("/x").bytes());
    eventually("it hangs at the origin", || (!origin.seen().is_empty()).then_some(()));
    let began = Instant::now();
    let freed = gateway.get("/x");
    assert_eq!((freed.status, freed.text()), (200, "well".to_owned()));
    assert!(began.elapsed() >= Duration::from_millis(290) && began.elapsed() < Duration::from_secs(4));
}

#[test]
fn an_old_answer_is_served_while_a_new_one_is_fetched_beside_the_request() {
    let (gate, count) = (Arc::new((Mutex::new(true), Condvar::new())), AtomicUsize::new(0));
    let mine = gate.clone();
    let origin = Origin::new(move |_, talk| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let open = mine.1.wait_while(mine.0.lock().unwrap(), |open| !*open).unwrap();
        drop(open);
        talk.answer(200, "", number.to_string());
    });
    let gateway = caching(&origin, "{ ttl: 100ms, stale: 1h }");
    assert_eq!(gateway.get("/x").text(), "1");
    *gate.0.lock().unwrap() = false;
    let old = eventually("an old answer", || {
        Some(gateway.get("/x")).filter(|answer| said(answer).contains("ttl=-") || origin.seen().len() > 1)
    });
    assert_eq!(old.text(), "1", "nobody waits for the new one");
    assert_eq!(times(5, || gateway.get("/x").text()), ["1"; 5]);
    eventually("the request beside them", || (origin.seen().len() == 2).then_some(()));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    eventually("the new answer", || (gateway.get("/x").text() != "1").then_some(()));
    eventually("all are counted", || counted(&gateway, "stale", 6));
}

#[test]
fn an_old_answer_stands_in_for_a_service_that_fails() {
    let status = Arc::new(AtomicU16::new(200));
    let mine = status.clone();
    let origin = Origin::new(move |_, talk| match mine.load(SeqCst) {
        0 => talk.send("HTTP/1.1 200 OK\r\nContent-Le").close(),
        status => talk.answer(status, "", status.to_string()),
    });
    let gateway = Gateway::before(
        &origin,
        "kept: { match: /kept, to: app, cache: { ttl: 50ms, stale_if_error: 1h } }\nall: { match: /*, to: app, cache: 50ms }",
    );
    let both = || (gateway.get("/kept").status, gateway.get("/other").status);
    assert_eq!(both(), (200, 200));
    status.store(503, SeqCst);
    eventually("the time is over", || (both() == (200, 503)).then_some(()));
    let kept = gateway.get("/kept");
    assert_eq!((kept.text().as_str(), said(&kept)), ("200", "yumen;fwd=stale"));
    status.store(0, SeqCst);
    assert_eq!(both(), (200, 502));
    assert_eq!(
        gateway.access_line(|line| line["url.path"] == "/kept" && line["cache"] == "stale")["reason"],
        serde_json::Value::Null
    );
    drop(origin);
    eventually("nobody listens there any more", || (both() == (200, 502)).then_some(()));
}

#[test]
fn what_is_not_there_is_remembered_for_a_time_of_its_own() {
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/gone" => talk.answer(410, "", "gone"),
        "/broken" => talk.answer(500, "", "broken"),
        _ => talk.answer(404, "", "nothing"),
    });
    let gateway = Gateway::before(
        &origin,
        "neg: { match: [/none, /gone, /broken], to: app, cache: { ttl: 60s, negative: 60s } }\nall: { match: /*, to: app, cache: 60s }",
    );
    for (target, asked) in [("/none", 1), ("/gone", 1), ("/broken", 3), ("/other", 3)] {
        origin.forget();
        times(3, || gateway.get(target));
        assert_eq!(origin.seen().len(), asked, "{target}");
    }
}

#[test]
fn the_key_says_what_tells_answers_apart() {
    let origin = Origin::new(|seen, talk| talk.answer(200, "", seen.field("accept-language").unwrap_or("-")));
    let gateway = caching(&origin, "{ ttl: 60s, key: [path, query.page, header.accept-language, cookie.side] }");
    let get = |target: &str, language: &str, cookie: &str| {
        gateway.ask(Request::get(target).with("Accept-Language", language).with("Cookie", cookie)).text()
    };
    assert_eq!(get("/x?page=1", "en", "side=a"), "en");
    assert_eq!(get("/x?page=1&other=2", "en", "side=a; other=1"), "en");
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(get("/x?page=1", "de", "side=a"), "de");
    get("/x?page=2", "en", "side=a");
    get("/x?page=1", "en", "side=b");
    assert_eq!(origin.seen().len(), 4);
    let told = gateway.yumen("explain", &["GET", "test.example/x"]);
    assert!(
        told.out.contains("by path, query.page, header.accept-language, cookie.side and who asks, for 1m, in memory"),
        "{}",
        told.out
    );
    assert!(gateway.admin("/routes").json()["all"]["cache"].as_str().unwrap().starts_with("by path, query.page"));
}

/// Two people with their keys, and a service that greets them.
fn people(cache: &str, answer: &'static str) -> (Origin, Gateway, [String; 2]) {
    let origin = Origin::new(move |seen, talk| talk.answer(200, answer, seen.field("x-user").unwrap_or("-")));
    let made = |name| {
        let out = yumen(&["key", "new", name]).out;
        let of = |word: &str| out.lines().find_map(|line| line.strip_prefix(word)).unwrap().trim().to_owned();
        (of("key:"), of("line:"))
    };
    let (anna, ben) = (made("anna"), made("ben"));
    let gateway = Setup::new().file("keys.yaml", format!("{}\n{}\n", anna.1, ben.1)).start(format!(
        "pools: {{ app: ['{origin}'] }}\nroutes:\n  all: {{ match: /*, auth: {{ key: {{ file: ./keys.yaml }}, forward: {{ x-user: consumer }} }}, to: app, limit: {{ rate: 100/min, key: consumer, else: client.ip }}, cache: {cache} }}\n"
    ));
    (origin, gateway, [anna.0, ben.0])
}

#[test]
fn nobody_gets_the_answer_of_another_one() {
    let (origin, gateway, keys) = people("60s", "");
    let get = |at: usize| gateway.ask(Request::get("/me").with("X-Api-Key", &keys[at]));
    let answers = [get(0), get(1), get(0), get(1)];
    assert_eq!(answers.each_ref().map(Response::text), ["anna", "ben", "anna", "ben"]);
    assert_eq!(origin.seen().len(), 2, "each is asked for once");
    assert_eq!(gateway.get("/me").status, 401, "an answer that is kept is no way in");
    let left = |answer: &Response| answer.field("ratelimit").unwrap_or_default().to_owned();
    assert_ne!(left(&answers[0]), left(&answers[2]), "what is left is told anew, and a hit counts");
}

#[test]
fn answers_are_shared_between_people_only_where_route_and_answer_say_so() {
    for (answer, asked) in [("Cache-Control: public, max-age=60\r\n", 1), ("Cache-Control: max-age=60\r\n", 4)] {
        let (origin, gateway, keys) = people("{ share: true }", answer);
        for at in [0, 1, 0, 1] {
            gateway.ask(Request::get("/me").with("X-Api-Key", &keys[at]));
        }
        assert_eq!(origin.seen().len(), asked, "{answer}");
    }
}

#[test]
fn what_is_for_one_client_is_not_kept() {
    let origin = Origin::new(|seen, talk| {
        let fields = match seen.target.as_str() {
            "/cookie" => "Set-Cookie: a=b\r\n",
            "/private" => "Cache-Control: private\r\n",
            "/no-store" => "Cache-Control: no-store\r\n",
            "/vary" => "Vary: X-Forwarded-For\r\n",
            _ => "",
        };
        talk.answer(200, fields, seen.field("authorization").unwrap_or("-"));
    });
    let gateway = caching(&origin, "60s");
    for target in ["/cookie", "/private", "/no-store", "/vary"] {
        origin.forget();
        times(3, || gateway.get(target));
        assert_eq!(origin.seen().len(), 3, "{target}");
    }
    let with = |secret: &str| gateway.ask(Request::get("/auth").with("Authorization", secret)).text();
    assert_eq!([with("one"), with("two"), gateway.get("/auth").text(), with("two")], ["one", "two", "-", "-"]);
}

#[test]
fn what_a_client_says_beside_the_key_poisons_nothing() {
    let origin = Origin::new(|seen, talk| {
        let heard = |name| seen.field(name).unwrap_or("-").to_owned();
        talk.answer(
            200,
            "",
            format!("{} {} {}", seen.method, heard("x-http-method-override"), heard("x-forwarded-host")),
        );
    });
    let gateway = caching(&origin, "60s");
    gateway.ask(Request::get("/x").with("X-HTTP-Method-Override", "DELETE"));
    gateway.ask(Request::get("/x").with("X-Forwarded-Host", "evil.example"));
    assert_eq!(gateway.get("/x").text(), "GET - test.example");
    gateway.ask(Request { body: b"fat".to_vec(), ..Request::get("/fat") });
    assert_eq!(said(&gateway.get("/fat")), "yumen;fwd=uri-miss;fwd-status=200;stored");
    let trusting = Gateway::start(format!(
        "runtime: {{ client_ip: {{ trust: [127.0.0.1] }} }}\n{}",
        Gateway::document(&origin, "all: { match: /*, to: app, cache: 60s }")
    ));
    let said_by = |host: &str| trusting.ask(Request::get("/x").with("X-Forwarded-Host", host)).text();
    assert_eq!([said_by("a.example"), said_by("b.example")], ["GET - a.example", "GET - b.example"]);
}

#[test]
fn variants_are_kept_side_by_side() {
    let origin = Origin::new(|seen, talk| {
        talk.answer(200, "Vary: Accept-Language\r\n", seen.field("accept-language").unwrap_or("-"));
    });
    let gateway = caching(&origin, "60s");
    let get = |language: &str| gateway.ask(Request::get("/x").with("Accept-Language", language)).text();
    for _ in 0..3 {
        assert_eq!(["en", "de", "zh"].map(get), ["en", "de", "zh"]);
    }
    assert_eq!(origin.seen().len(), 3);
}

#[test]
fn a_body_that_is_too_long_or_not_whole_is_not_kept() {
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/long" => talk.answer(200, "", vec![b'x'; 5000]),
        "/long-chunks" => {
            let chunk = format!("{:x}\r\n{}\r\n", 2500, "x".repeat(2500));
            talk.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"));
        }
        "/cut" => talk.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").close(),
        "/cut-chunks" => talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").close(),
        "/endless" => talk.send("HTTP/1.1 200 OK\r\n\r\nperhaps whole").close(),
        _ => talk.answer(200, "", vec![b'x'; 4000]),
    });
    let gateway = caching(&origin, "{ ttl: 60s, max: 4KiB }");
    for (target, asked) in
        [("/long", 3), ("/long-chunks", 3), ("/cut", 3), ("/cut-chunks", 3), ("/endless", 3), ("/well", 1)]
    {
        origin.forget();
        times(3, || gateway.raw(Request::get(target).with("Connection", "close").bytes()));
        assert_eq!(origin.seen().len(), asked, "{target}");
    }
    let whole = gateway.get("/long-chunks");
    assert_eq!((whole.status, whole.body.len()), (200, 5000), "it is passed on all the same");
}

#[test]
fn parts_heads_and_conditions_are_answered_from_what_is_kept() {
    let origin = Origin::new(|_, talk| talk.answer(200, "ETag: \"a\"\r\n", "0123456789"));
    let gateway = caching(&origin, "60s");
    let ask = |request: Request| {
        let answer = gateway.ask(request);
        (answer.status, answer.text(), answer.field("content-range").map(str::to_owned))
    };
    assert_eq!(ask(Request::get("/x").with("Range", "bytes=2-4")), (206, "234".into(), Some("bytes 2-4/10".into())));
    assert_eq!(ask(Request::get("/x")), (200, "0123456789".into(), None));
    assert_eq!(ask(Request::get("/x").with("Range", "bytes=-3")), (206, "789".into(), Some("bytes 7-9/10".into())));
    assert_eq!(ask(Request::get("/x").with("Range", "bytes=10-")), (416, String::new(), Some("bytes */10".into())));
    assert_eq!(ask(Request::get("/x").with("If-None-Match", "\"a\"")), (304, String::new(), None));
    let mut connection = gateway.connect();
    let head = connection.ask(&Request::new("HEAD", "/x"));
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (200, Some("10"), 0));
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(origin.last().field("range"), None, "all of it is fetched");
}

#[test]
fn an_answer_past_its_time_is_asked_for_by_what_it_is_known_by() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |seen, talk| {
        let number = count.fetch_add(1, SeqCst) + 1;
        match seen.field("if-none-match") {
            Some("\"a\"") => talk.answer(304, &format!("X-Number: {number}\r\nETag: \"a\"\r\nSet-Cookie: s=1\r\n"), ""),
            _ => talk.answer(200, &format!("X-Number: {number}\r\nETag: \"a\"\r\nCache-Control: no-cache\r\n"), "body"),
        }
    });
    let gateway = caching(&origin, "{}");
    let first = gateway.get("/x");
    let again = gateway.get("/x");
    assert_eq!((again.status, again.text().as_str()), (200, "body"));
    assert_eq!((first.field("x-number"), again.field("x-number")), (Some("1"), Some("2")));
    assert_eq!((said(&again), again.field("set-cookie")), ("yumen;fwd=stale", Some("s=1")));
    eventually("it is counted", || counted(&gateway, "revalidated", 1));
}

#[test]
fn a_change_is_seen_at_once() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |seen, talk| match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", _) => talk.answer(200, "", (count.fetch_add(1, SeqCst) + 1).to_string()),
        (_, "/fails") => talk.answer(500, "", ""),
        _ => {
            talk.answer(
                201,
                "Location: http://test.example/list?page=1\r\nContent-Location: //other.example/x\r\n",
                "",
            );
        }
    });
    let gateway = Gateway::before(
        &origin,
        "read: { match: 'GET /*', to: app, cache: 60s }\nwrite: { match: 'POST,PUT,DELETE /*', to: app }",
    );
    let number = |target: &str| gateway.get(target).text().parse::<u32>().unwrap();
    let before = ["/item", "/list?page=1", "/list?page=2", "/fails"].map(number);
    gateway.ask(Request::new("PUT", "/item"));
    gateway.ask(Request::new("DELETE", "/fails"));
    let after = ["/item", "/list?page=1", "/list?page=2", "/fails"].map(number);
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    assert_eq!((after[2], after[3]), (before[2], before[3]), "what was not named, and what failed");
}

#[test]
fn clients_have_a_say_only_where_the_route_obeys() {
    let origin = counting("Cache-Control: max-age=60\r\n");
    let gateway = Gateway::before(
        &origin,
        "obeys: { match: /o, to: app, cache: { obey: true } }\nall: { match: /*, to: app, cache: {} }",
    );
    let get = |target: &str, say: &str| gateway.ask(Request::get(target).with("Cache-Control", say));
    for target in ["/o", "/x"] {
        origin.forget();
        get(target, "no-cache");
        for say in ["no-cache", "max-age=0", "min-fresh=600", "no-store"] {
            get(target, say);
        }
        assert_eq!(origin.seen().len(), if target == "/o" { 5 } else { 1 }, "{target}");
    }
    assert_eq!(get("/x", "only-if-cached").status, 200);
    assert_eq!(get("/new", "only-if-cached").verdict(), (504, "cache.nothing".to_owned()));
}

#[test]
fn what_one_protocol_has_fetched_serves_the_other() {
    let origin = counting("");
    let gateway = caching(&origin, "{ ttl: 100ms, stale: 1h }");
    let over_h2 = || {
        let request = http::Request::get("http://test.example/x").body(()).unwrap();
        h2::ask(&gateway.edge(), request, b"").unwrap()
    };
    assert_eq!(gateway.get("/x").text(), "1");
    let kept = over_h2();
    assert_eq!((kept.status, kept.body.as_slice(), kept.header("transfer-encoding")), (200, &b"1"[..], None));
    eventually("a new answer, fetched beside a request over HTTP/2", || (over_h2().body != b"1").then_some(()));
    assert_eq!(origin.last().field("host"), Some("test.example"));
}

#[test]
fn a_purge_by_address_tag_or_route_is_at_once_and_only_by_post() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |seen, talk| {
        let tag = seen.target.trim_start_matches('/').split('/').next().unwrap().to_owned();
        talk.answer(200, &format!("X-Tags: {tag}, all\r\n"), (count.fetch_add(1, SeqCst) + 1).to_string());
    });
    let gateway = caching(&origin, "{ ttl: 60s, tags: x-tags }");
    let get = |target: &str| gateway.get(target).text();
    let see = || ["/a/1", "/a/2", "/b/1?q=1"].map(get);
    assert_eq!(gateway.get("/a/1").field("x-tags"), None, "clients do not get to see tags");
    let first = see();
    assert_eq!(see(), first);
    assert_eq!(gateway.admin("/cache/purge?all").status, 405);
    assert_eq!(see(), first, "nothing is purged by GET");
    let order = |arguments: &[&str]| {
        let ended = purge(&gateway, arguments);
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        ended.out
    };
    let changed = |before: &[String; 3]| {
        let after = see();
        let pairs = before.iter().zip(&after).map(|(before, after)| before != after);
        (pairs.collect::<Vec<_>>(), after)
    };
    assert_eq!(order(&["http://test.example/b/1?q=1"]), "purged http://test.example/b/1?q=1 in 1 store\n");
    let (gone, second) = changed(&first);
    assert_eq!(gone, [false, false, true]);
    order(&["--tag", "a"]);
    let (gone, third) = changed(&second);
    assert_eq!(gone, [true, true, false]);
    order(&["--route", "all"]);
    let (gone, fourth) = changed(&third);
    assert_eq!(gone, [true, true, true]);
    order(&["--all"]);
    assert_eq!(changed(&fourth).0, [true, true, true]);
    assert_eq!(gateway.metrics().sum("yumen_cache_purges_total", &[]).to_string(), "4");
    let wrong = |order: &str| gateway.admin_ask(Request::new("POST", order)).status;
    assert_eq!(
        (wrong("/cache/purge"), wrong("/cache/purge?route=nope"), wrong("/cache/purge?url=%00")),
        (400, 404, 400)
    );
    assert_eq!(purge(&gateway, &[]).code, 64);
}

#[test]
fn a_reload_keeps_what_is_kept_and_another_store_begins_empty() {
    let origin = counting("");
    let document = |cache: &str, store: &str| {
        format!(
            "stores: {{ {store} }}\n{}",
            Gateway::document(&origin, &format!("all: {{ match: /*, to: app, cache: {{ ttl: 60s, {cache} }} }}"))
        )
    };
    let mut gateway = Gateway::start(document("store: pages", "pages: { memory: 16MiB }"));
    assert_eq!(gateway.get("/x").text(), "1");
    gateway.reload(document("store: pages, stale: 1s", "pages: { memory: 16MiB }"));
    assert_eq!(gateway.get("/x").text(), "1", "a reload forgets nothing");
    gateway.reload(document("store: other", "other: { memory: 16MiB }"));
    assert_eq!(gateway.get("/x").text(), "2");
    eventually("a store that is gone is gone", || (!gateway.metrics().0.contains("store=\"pages\"")).then_some(()));
    gateway.reload(document("store: pages", "pages: { memory: 16MiB }"));
    assert_eq!(gateway.get("/x").text(), "3");
}

#[test]
fn a_store_in_memory_never_holds_more_than_it_may() {
    let origin = Origin::new(|_, talk| talk.answer(200, "", vec![b'x'; 20_000]));
    let gateway = Gateway::start(format!(
        "stores: {{ small: {{ memory: 1MiB }} }}\n{}",
        Gateway::document(&origin, "all: { match: /*, to: app, cache: { ttl: 60s, store: small, max: 64KiB } }")
    ));
    let mut connection = gateway.connect();
    for number in 0..200 {
        assert_eq!(connection.get(&format!("/{number}")).status, 200);
        if number % 20 == 0 {
            let held = gateway.metrics().sum("yumen_cache_bytes", &[("store", "small")]);
            assert!(held <= f64::from(1 << 20), "{held} bytes after {number}");
        }
    }
    let objects = gateway.metrics().sum("yumen_cache_objects", &[("store", "small")]);
    assert!((20.0..60.0).contains(&objects), "{objects}");
}

#[test]
fn what_is_kept_is_served_while_no_target_takes_requests_and_takes_no_place_there() {
    let origin = counting("");
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], max_in_flight: {{ per_target: 1 }} }} }}\nroutes: {{ all: {{ match: /*, to: app, cache: 60s }} }}\n"
    ));
    assert_eq!(gateway.get("/x").text(), "1");
    drop(origin);
    let answers: Vec<_> = times(8, || gateway.connect())
        .into_iter()
        .map(|mut connection| thread::spawn(move || connection.get("/x").text()))
        .collect();
    assert!(answers.into_iter().all(|answer| answer.join().unwrap() == "1"));
    let line = gateway.access_line(|line| line["cache"] == "hit");
    assert_eq!((&line["target"], &line["pool"]), (&serde_json::Value::Null, &serde_json::Value::Null));
}

/// Two gateways with one Redis, before one origin.
fn hosts(origin: &Origin, redis: &Redis) -> [Gateway; 2] {
    let document = format!(
        "stores: {{ shared: {{ redis: {}, timeout: 100ms }} }}\n{}",
        redis.address(),
        Gateway::document(origin, "all: { match: /*, to: app, cache: { ttl: 60s, store: shared, tags: x-tags } }")
    );
    [0, 1].map(|_| Gateway::start(&document))
}

fn up(gateway: &Gateway) -> bool {
    gateway.metrics().sum("yumen_store_up", &[("store", "shared")]) > 0.5
}

#[test]
fn hosts_share_what_they_keep_in_a_redis_and_purge_it_together() {
    let origin = counting("X-Tags: t\r\nX-Odd: \u{e9}\r\n");
    let redis = Redis::start();
    let [one, other] = hosts(&origin, &redis);
    eventually("the store", || (up(&one) && up(&other)).then_some(()));
    let first = one.get("/x");
    assert_eq!(first.text(), "1");
    let kept = eventually("what the other one keeps", || Some(other.get("/x")).filter(|answer| answer.text() == "1"));
    assert!(said(&kept).starts_with("yumen;hit;ttl="), "{}", said(&kept));
    assert_eq!((kept.field("x-odd"), kept.field("content-length")), (first.field("x-odd"), Some("1")));
    assert_eq!(other.ask(Request::get("/x").with("Range", "bytes=0-0")).status, 206);
    for arguments in [&["--tag", "t"][..], &["http://test.example/x"], &["--all"]] {
        let before = one.get("/x").text();
        assert_eq!(purge(&other, arguments).code, 0);
        assert_ne!(one.get("/x").text(), before, "{arguments:?}");
    }
    let before = one.get("/x").text();
    one.ask(Request::post("/x", "new"));
    assert_ne!(other.get("/x").text(), before, "a change on one host is seen on the other");
}

#[test]
fn a_redis_that_is_gone_or_frozen_is_a_miss_and_nothing_else() {
    let origin = counting("");
    let mut redis = Redis::start();
    let [gateway, _] = hosts(&origin, &redis);
    eventually("the store", || up(&gateway).then_some(()));
    assert_eq!([gateway.get("/x").text(), gateway.get("/x").text()], ["1", "1"]);
    redis.freeze();
    let began = Instant::now();
    assert_eq!(times(5, || gateway.get("/x").status), [200; 5]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    eventually("the breaker", || (!up(&gateway)).then_some(()));
    let purged = purge(&gateway, &["--all"]);
    assert_eq!(purged.code, 69, "{}{}", purged.out, purged.err);
    redis.thaw();
    redis.stop();
    assert_eq!(times(5, || gateway.get("/x").status), [200; 5]);
    redis.again();
    eventually("the store is back", || up(&gateway).then_some(()));
    let fresh = gateway.get("/x").text();
    assert_eq!(gateway.get("/x").text(), fresh, "kept again");
}

#[test]
fn a_profile_is_asked_for_once_a_minute_for_each_user() {
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/examples/profile.yaml")).unwrap();
    let origin = Origin::new(|seen, talk| talk.answer(200, "", seen.field("x-user").unwrap_or("-")));
    let made = ["anna", "ben"].map(|name| {
        let out = yumen(&["key", "new", name]).out;
        let of = |word: &str| out.lines().find_map(|line| line.strip_prefix(word)).unwrap().trim().to_owned();
        (of("key:"), of("line:"))
    });
    let text = example
        .replace("0.0.0.0:8080", "127.0.0.1:0")
        .replace("10.0.0.11:8080", &origin.to_string())
        .replace("/etc/yumen/app-keys.yaml", "./keys.yaml");
    assert!(text.contains("cache: 60s"), "{text}");
    let keys = format!("{}\n{}\n", made[0].1, made[1].1);
    let gateway = Setup::new().file("keys.yaml", keys).start(text);
    let me = |key: &str| gateway.ask(Request::get("/me").host("api.example.com").with("X-Api-Key", key)).text();
    for _ in 0..3 {
        assert_eq!([me(&made[0].0), me(&made[1].0)], ["anna", "ben"]);
    }
    assert_eq!(origin.seen().len(), 2);
}
