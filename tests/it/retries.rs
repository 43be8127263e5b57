//! Further tries: a request that a target failed is answered by another one, and a failing pool is not asked twice as much.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use http::Response;

use crate::harness::origin::{Seen, Talk};
use crate::harness::{Gateway, Origin, Request, eventually, h2, times};

/// A gateway before two targets, of which the first takes nearly every first try.
fn before(first: &Origin, second: &Origin, retry: &str) -> Gateway {
    pooled(&format!("{{ targets: [{{ at: '{first}', weight: 1000 }}, '{second}'], {retry} }}"))
}

fn pooled(pool: &str) -> Gateway {
    Gateway::start(format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"))
}

fn well() -> Origin {
    Origin::answering("well")
}

fn closing(_: &Seen, talk: &mut Talk) {
    talk.close();
}

fn retried(gateway: &Gateway, cause: &str, result: &str) -> f64 {
    gateway.metrics().sum("yumen_pool_retries_total", &[("pool", "app"), ("cause", cause), ("result", result)])
}

#[test]
fn with_one_sick_target_of_three_no_idempotent_request_fails() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (hangs_up, breaks_off) = (Origin::new(closing), Origin::saying("HTTP/1.1 200 OK\r\nConte"));
    let garbage = Origin::saying("nonsense\r\n\r\n");
    let sicknesses = [
        ("refuses", gone, "connect"),
        ("hangs up", hangs_up.to_string(), "reset"),
        ("breaks off", breaks_off.to_string(), "reset"),
        ("talks nonsense", garbage.to_string(), "reset"),
    ];
    for (name, sick, cause) in &sicknesses {
        let (a, b) = (well(), well());
        let gateway = pooled(&format!("['{sick}', '{a}', '{b}']"));
        assert_eq!(times(45, || gateway.get("/").text()), vec!["well"; 45], "{name}");
        assert_eq!(a.seen().len() + b.seen().len(), 45, "{name}: each was answered once");
        let line = gateway.access_line(|line| line["tries"] == 2);
        assert_eq!(
            (&line["retried_after"], line["http.response.status_code"].as_u64()),
            (&(*cause).into(), Some(200)),
            "{name}"
        );
        assert!(retried(&gateway, cause, "answered") > 2.5, "{name}");
        gateway.log.wait("is ejected for 10s, time 1 in a row: 3 requests in a row without an answer");
        assert!(retried(&gateway, cause, "failed") < 0.5, "{name}");
    }
}

#[test]
fn a_target_that_is_killed_under_load_is_not_noticed() {
    let target = || Gateway::start("routes: { all: { match: /*, respond: { body: well } } }\n");
    let targets = [target(), target(), target()];
    let [a, b, c] = targets.each_ref().map(Gateway::edge);
    let gateway = Arc::new(pooled(&format!("['{a}', '{b}', '{c}']")));
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (gateway, done) = (gateway.clone(), done.clone());
            thread::spawn(move || {
                let mut connection = gateway.connect();
                for _ in 0..300 {
                    assert_eq!(connection.get("/").text(), "well");
                    done.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    eventually("some answers", || (done.load(SeqCst) > 200).then_some(()));
    targets[0].signal("KILL");
    for client in clients {
        client.join().unwrap();
    }
    let asked = ["connect", "reset"].map(|cause| retried(&gateway, cause, "answered"));
    assert!(asked.iter().sum::<f64>() > 0.5, "it was asked after its end");
}

#[test]
fn an_answer_that_is_tried_again_leaves_nothing_behind() {
    let sick = Origin::new(|_, talk| talk.answer(503, "X-Sick: 1\r\nSet-Cookie: sick=1\r\n", vec![b'x'; 1 << 20]));
    let well = well();
    let gateway = before(&sick, &well, "retry: { on: [503] }");
    let answer = gateway.ask(Request::get("/").with("X-Yumen-Attempt", "7"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "well"));
    assert_eq!((answer.field("x-sick"), answer.field("set-cookie")), (None, None));
    assert_eq!(sick.last().field("x-yumen-attempt"), None, "what the client says of it is not passed on");
    assert_eq!(well.last().field("x-yumen-attempt"), Some("2"));
    let mut connection = gateway.connect();
    assert_eq!(times(10, || connection.get("/").text()), vec!["well"; 10]);
    assert!(retried(&gateway, "status", "answered") > 9.5);
    let codes = |code| gateway.metrics().sum("yumen_pool_requests_total", &[("pool", "app"), ("code", code)]);
    eventually("each try is counted", || (codes("503") > 9.5 && codes("200") > 10.5).then_some(()));
    let shown = gateway.admin("/pools").json();
    assert_eq!(shown[0]["retries"]["over_budget"], 0, "{shown}");
    assert!(shown[0]["retries"]["made"].as_u64().unwrap() >= 10, "{shown}");
}

#[test]
fn without_another_target_the_same_one_is_asked_again() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |_, talk| match count.fetch_add(1, SeqCst) {
        0 | 1 => talk.close(),
        _ => talk.answer(200, "", "third"),
    });
    let gateway = pooled(&format!("['{origin}']"));
    assert_eq!(gateway.get("/").text(), "third");
    assert_eq!(origin.last().field("x-yumen-attempt"), Some("3"));
    assert_eq!(gateway.access_line(|line| line["http.response.status_code"] == 200)["tries"], 3);
}

#[test]
fn a_post_is_sent_again_only_with_a_key_or_where_nothing_was_sent() {
    let (sick, sound) = (Origin::new(closing), well());
    let gateway = before(&sick, &sound, "balance: round_robin");
    assert_eq!(gateway.ask(Request::post("/", "x")).verdict(), (502, "upstream.reset".into()));
    assert_eq!(
        gateway.access_line(|line| line["http.response.status_code"] == 502)["not_retried"],
        "method not idempotent"
    );
    assert_eq!(gateway.ask(Request::post("/", "x").with("Idempotency-Key", "1")).text(), "well");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let well = well();
    let gateway = pooled(&format!("{{ targets: [{{ at: '{gone}', weight: 1000 }}, '{well}'] }}"));
    assert_eq!(gateway.ask(Request::post("/", "whole")).text(), "well");
    assert_eq!(well.last().body, b"whole");
}

#[test]
fn the_document_says_which_methods() {
    let (sick, sound) = (Origin::new(closing), well());
    let gateway = before(&sick, &sound, "retry: { methods: all }");
    assert_eq!(gateway.ask(Request::post("/", "x")).status, 200);
    let gateway = before(&sick, &sound, "retry: { methods: [POST, HEAD] }");
    assert_eq!(gateway.ask(Request::post("/", "x")).status, 200);
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn nothing_is_sent_again_once_an_answer_has_begun() {
    let sick = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour");
        talk.close();
    });
    let well = well();
    let gateway = before(&sick, &well, "retry: { on: [connect, reset, timeout, '400..599'], methods: all }");
    let mut connection = gateway.connect();
    assert_eq!(connection.send(Request::get("/").bytes()).head().status, 200);
    assert_eq!(connection.exactly(4), b"four");
    assert!(connection.ends());
    assert_eq!((sick.seen().len(), well.seen().len()), (1, 0));
    assert_eq!(gateway.access_line(|line| line["tries"] == 1)["not_retried"], "answer begun");
}

#[test]
fn a_body_is_sent_again_whole_or_not_at_all() {
    let (sick, well) = (Origin::new(closing), Origin::new(|seen, talk| talk.answer(200, "", &seen.body)));
    let gateway = before(&sick, &well, "balance: round_robin");
    let put = |size: usize| Request { method: "PUT".into(), ..Request::post("/", vec![b'b'; size]) };
    let small = gateway.ask(put(60 << 10));
    assert_eq!((small.status, small.body.len()), (200, 60 << 10));
    let chunked = Request::new("PUT", "/").with("Transfer-Encoding", "chunked").bytes();
    let mut connection = gateway.connect();
    let answer = connection.send([&chunked[..], b"5\r\nhello\r\n5\r\nagain\r\n0\r\n\r\n"].concat()).response();
    assert_eq!(answer.text(), "helloagain");
    assert_eq!(gateway.ask(put(200 << 10)).status, 502);
    assert_eq!(gateway.access_line(|line| line["http.response.status_code"] == 502)["not_retried"], "body too large");
}

#[test]
fn silence_is_tried_elsewhere_unless_the_document_says_otherwise() {
    let (deaf, well) = (TcpListener::bind("127.0.0.1:0").unwrap(), well());
    let targets = format!("targets: [{{ at: '{}', weight: 1000 }}, '{well}']", deaf.local_addr().unwrap());
    let gateway = pooled(&format!("{{ {targets}, timeout: {{ idle: 300ms }}, retry: {{ on: [connect, reset] }} }}"));
    assert_eq!(gateway.get("/").verdict(), (504, "upstream.timeout.first_byte".into()));
    let gateway = pooled(&format!("{{ {targets}, timeout: {{ idle: 300ms }} }}"));
    assert_eq!(gateway.ask(Request::post("/", "x")).verdict(), (504, "upstream.timeout.first_byte".into()));
    assert_eq!(gateway.get("/").text(), "well");
    assert_eq!(well.last().field("x-yumen-attempt"), Some("2"));
    assert_eq!(gateway.access_line(|line| line["http.response.status_code"] == 200)["retried_after"], "timeout");
}

#[test]
fn a_call_whose_status_is_named_is_tried_again() {
    let status = |code| Response::builder().header("content-type", "application/grpc").header("grpc-status", code);
    let origin = h2::Origin::scripted(move |before, mut respond| {
        let code = if before == 0 { "14" } else { "8" };
        respond.send_response(status(code).body(()).unwrap(), true).unwrap();
    });
    let gateway =
        pooled(&format!("{{ targets: ['{origin}'], protocol: h2c, retry: {{ on: [unavailable], methods: all }} }}"));
    let answer = gateway.ask(Request::post("/app.Service/Call", "x").with("Content-Type", "application/grpc"));
    assert_eq!((answer.status, answer.field("grpc-status")), (200, Some("8")), "another one is the client's");
    assert_eq!(origin.asked().len(), 2);
    assert_eq!(origin.asked()[1].head.headers["x-yumen-attempt"], "2");
    assert!(retried(&gateway, "grpc", "failed") > 0.5);
}

#[test]
fn what_a_target_says_that_it_did_not_read_is_sent_again_whatever_it_is() {
    let origin = h2::Origin::scripted(|before, mut respond| match before {
        0 => respond.send_reset(::h2::Reason::REFUSED_STREAM),
        1 => drop(respond.send_response(Response::builder().status(204).body(()).unwrap(), true)),
        _ => respond.send_reset(::h2::Reason::INTERNAL_ERROR),
    });
    let gateway = pooled(&format!("{{ targets: ['{origin}'], protocol: h2c }}"));
    assert_eq!(gateway.ask(Request::post("/", "x")).status, 204);
    assert_eq!(gateway.ask(Request::post("/", "x")).status, 502, "who knows what was done with this one");
    assert_eq!(origin.asked().len(), 3);
}

#[test]
fn a_pool_that_fails_is_asked_a_fifth_more_and_not_thrice() {
    let start = Instant::now();
    let origins = [Origin::new(closing), Origin::new(closing), Origin::new(closing)];
    let [a, b, c] = &origins;
    let gateway = Arc::new(pooled(&format!("{{ targets: ['{a}', '{b}', '{c}'], retry: {{ backoff: 1ms..2ms }} }}")));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let gateway = gateway.clone();
            thread::spawn(move || times(100, || assert_eq!(gateway.get("/").status, 502)))
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let reached: usize = origins.iter().map(|origin| origin.seen().len()).sum();
    let most = 1.2 * 600.0 + 10.0 + 3.0 * (1.0 + start.elapsed().as_secs_f64());
    assert!(f64::from(u32::try_from(reached).unwrap()) <= most, "{reached} of at most {most}");
    assert!(reached > 700, "a fifth of them is used: {reached}");
    assert!(gateway.metrics().sum("yumen_pool_retry_budget_exhausted_total", &[("pool", "app")]) > 100.0);
    gateway.access_line(|line| line["not_retried"] == "budget used up");
}

#[test]
fn the_budget_is_what_the_document_says_and_is_not_filled_by_a_reload() {
    let origin = Origin::new(closing);
    let document = |budget: &str, more: &str| {
        format!(
            "pools: {{ app: {{ targets: ['{origin}'], retry: {{ backoff: 1ms..2ms, budget: {budget}, attempts: 1 }} }} }}
routes: {{ all: {{ match: /*, to: app }}{more} }}\n"
        )
    };
    let start = Instant::now();
    let mut gateway = Gateway::start(document("0%", ""));
    assert_eq!(times(100, || gateway.get("/").status), vec![502; 100]);
    let made = |gateway: &Gateway| gateway.admin("/pools").json()[0]["retries"]["made"].as_u64().unwrap();
    let most = |start: Instant| 10.0 + 3.0 * (1.0 + start.elapsed().as_secs_f64());
    let first = made(&gateway);
    assert!(f64::from(u32::try_from(first).unwrap()) <= most(start), "{first}: only the floor");
    gateway.reload(document("100%", ", more: { match: /more, respond: 204 }"));
    assert!(made(&gateway) >= first, "what was counted stays");
    let before = made(&gateway);
    assert_eq!(times(100, || gateway.get("/").status), vec![502; 100]);
    assert_eq!(made(&gateway) - before, 100, "each of them pays for a further try");
}

#[test]
fn a_target_is_given_the_time_that_it_asks_for_where_that_is_short() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let origin = Origin::new(move |request, talk| match counter.fetch_add(1, SeqCst) % 2 {
        0 => talk.answer(503, &format!("Retry-After: {}\r\n", &request.target[1..]), "busy"),
        _ => talk.answer(200, "", "well"),
    });
    let gateway = pooled(&format!("{{ targets: ['{origin}'], retry: {{ on: [503], backoff: 10ms..3s }} }}"));
    let start = Instant::now();
    assert_eq!(gateway.get("/1").text(), "well");
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let answer = gateway.get("/4");
    assert_eq!((answer.status, answer.field("retry-after"), answer.text().as_str()), (503, Some("4"), "busy"));
    assert_eq!(seen.load(SeqCst), 3);
    assert_eq!(
        gateway.access_line(|line| line["http.response.status_code"] == 503)["not_retried"],
        "retry-after too long"
    );
}

#[test]
fn a_route_may_try_more_often_after_other_failures_or_never() {
    let sick = Origin::new(|seen, talk| match seen.target.as_str() {
        "/busy" => talk.answer(503, "Retry-After: 2\r\n", ""),
        _ => talk.close(),
    });
    let well = well();
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: [{{ at: '{sick}', weight: 1000 }}, '{well}'], eject: off }}, alone: ['{sick}'] }}
routes:
  all: {{ match: /*, to: app }}
  never: {{ match: /never, to: app, retry: off }}
  often: {{ match: /often, to: alone, retry: {{ attempts: 3, backoff: 1ms..2ms }} }}
  posts: {{ match: POST /posts, to: app, retry: {{ methods: [POST] }} }}
  other: {{ match: /other, to: app, retry: {{ on: [timeout] }} }}
  busy: {{ match: /busy, to: app, retry: {{ on: [503], backoff: 10ms..1s }} }}
"
    ));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.get("/never").status, 502);
    assert_eq!(gateway.get("/other").status, 502);
    assert_eq!(gateway.get("/busy").status, 503);
    assert_eq!(gateway.ask(Request::post("/posts", "x")).status, 200);
    assert_eq!(gateway.get("/often").status, 502);
    assert_eq!(gateway.access_line(|line| line["route"] == "often")["tries"], 4);
}

#[test]
fn a_pool_may_never_try_again() {
    let (sick, well) = (Origin::new(closing), well());
    let gateway = before(&sick, &well, "retry: off");
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.field("connection")), (502, Some("close")));
    assert_eq!((sick.seen().len(), well.seen().len()), (1, 0));
    assert!(gateway.access_line(|line| line["http.response.status_code"] == 502)["not_retried"].is_null());
}

#[test]
fn each_try_is_told_once_to_the_breaker_of_its_target() {
    let (sick, well) = (Origin::new(|_, talk| talk.answer(500, "", "")), well());
    let gateway = before(&sick, &well, "retry: { on: ['500..599'] }, breaker: { open_after: 3, open_for: 1h }");
    assert_eq!(times(10, || gateway.get("/").text()), vec!["well"; 10]);
    assert_eq!((sick.seen().len(), well.seen().len()), (3, 10));
    let shown = gateway.admin("/pools").json();
    let target = |origin: &Origin| {
        let targets = shown[0]["targets"].as_array().unwrap().clone();
        targets.into_iter().find(|target| target["address"] == origin.to_string()).unwrap()
    };
    assert_eq!((&target(&sick)["failures"], &target(&well)["failures"]), (&3.into(), &0.into()), "{shown}");
    assert_eq!(target(&sick)["breaker"]["cause"], "3 failures in a row");
    eventually("nothing is in flight", || {
        let pools = gateway.admin("/pools").json();
        let targets = pools[0]["targets"].as_array().unwrap();
        targets.iter().all(|target| target["in_flight"] == 0).then_some(())
    });
}

#[test]
fn over_http2_on_both_sides_it_is_the_same() {
    let request = |method: &str, target: &str, gateway: &Gateway, body: &[u8]| {
        let uri = format!("http://test.example{target}");
        let request = http::Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
        h2::ask(&gateway.edge(), request.body(()).unwrap(), body).unwrap()
    };
    let (sick, sound) = (Origin::new(closing), Origin::new(|seen, talk| talk.answer(200, "", &seen.body)));
    let gateway = before(&sick, &sound, "balance: round_robin");
    assert_eq!(request("GET", "/", &gateway, b"").status, 200);
    let answer = request("PUT", "/", &gateway, &[b'b'; 30 << 10]);
    assert_eq!((answer.status, answer.body.len()), (200, 30 << 10));
    assert_eq!(request("POST", "/", &gateway, b"x").status, 502);
    let busy = h2::Origin::scripted(|before, mut respond| {
        let status = if before % 2 == 0 { 503 } else { 200 };
        let answer = Response::builder().status(status).header("x-tried", before);
        let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
        body.send_data(vec![b'0' + u8::try_from(before).unwrap(); 20_000].into(), true).unwrap();
    });
    let gateway = pooled(&format!("{{ targets: ['{busy}'], protocol: h2c, retry: {{ on: [503] }} }}"));
    for tried in ["1", "3"] {
        let answer = request("GET", "/", &gateway, b"");
        assert_eq!((answer.status, answer.header("x-tried"), answer.body.len()), (200, Some(tried), 20_000));
        assert!(answer.body.iter().all(|byte| *byte == tried.as_bytes()[0]), "nothing of the other answer");
    }
}
