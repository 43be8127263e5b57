//! Limits: how often requests of one key are admitted, how it is told, and what survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::h2;
use crate::harness::tools::yumen;
use crate::harness::wire::Response;
use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually};

/// A gateway before an origin that answers `in`, with these sections and routes.
fn gateway(origin: &Origin, sections: &str, routes: &str) -> Gateway {
    Gateway::start(document(origin, sections, routes))
}

fn document(origin: &Origin, sections: &str, routes: &str) -> String {
    format!("{sections}\n{}", Gateway::document(origin, routes))
}

fn statuses(gateway: &Gateway, requests: &[Request]) -> Vec<u16> {
    requests.iter().map(|request| gateway.ask(request.clone()).status).collect()
}

fn as_client(id: &str) -> Request {
    Request::get("/").with("X-Client-Id", id)
}

#[test]
fn a_bucket_admits_what_it_holds_and_tells_what_is_left() {
    let origin = Origin::answering("in");
    let limits = "limits: { per-client: { rate: 3/h, key: client.ip } }";
    let gateway = gateway(&origin, limits, "all: { match: /*, limit: per-client, to: app }");
    let admitted: Vec<Response> = (0..3).map(|_| gateway.get("/")).collect();
    let left: Vec<_> = admitted.iter().map(|answer| answer.field("RateLimit").unwrap().to_owned()).collect();
    assert!(admitted.iter().all(|answer| answer.status == 200));
    assert_eq!(admitted[0].field("RateLimit-Policy"), Some("\"per-client\";q=3;w=3600"));
    for (said, wanted) in left.iter().zip([2, 1, 0]) {
        assert!(said.starts_with(&format!("\"per-client\";r={wanted};t=")), "{said}");
    }
    let refused = gateway.get("/");
    assert_eq!(refused.verdict(), (429, "limit.rate".to_owned()));
    let after: u64 = refused.field("Retry-After").unwrap().parse().unwrap();
    assert!((1000..=1200).contains(&after), "{after} s until the next token");
    assert_eq!(refused.field("RateLimit"), Some(&*format!("\"per-client\";r=0;t={after}")));
    assert_eq!(refused.fields.all("Retry-After").len(), 1);
    assert_eq!(refused.field("X-RateLimit-Limit"), None);
    assert_eq!(origin.seen().len(), 3, "who is refused does not reach the target");
    let line = gateway.access_line(|line| line["reason"] == "limit.rate");
    assert!(line["rule"].as_str().unwrap().starts_with("limits.per-client ("), "{line}");
    let counted =
        |result| gateway.metrics().sum("yumen_limit_decisions_total", &[("limit", "per-client"), ("result", result)]);
    eventually("counted", || (counted("admitted") > 2.5 && counted("refused") > 0.5).then_some(()));
}

#[test]
fn the_burst_is_how_many_come_at_once() {
    let origin = Origin::answering("in");
    let route = "all: { match: /*, limit: { rate: 100/h, burst: 2, key: client.ip }, to: app }";
    let gateway = gateway(&origin, "", route);
    assert_eq!([(); 3].map(|()| gateway.get("/").status), [200, 200, 429]);
    let refused = gateway.get("/");
    assert_eq!(refused.field("RateLimit-Policy"), Some("\"routes.all\";q=100;w=3600"));
    assert!(refused.field("Retry-After").unwrap().parse::<u64>().unwrap() <= 36);
}

#[test]
fn a_rate_admits_again_after_the_time_that_was_told() {
    let origin = Origin::answering("in");
    let route = "all: { match: /*, limit: { rate: 1/s, key: client.ip }, to: app }";
    let gateway = gateway(&origin, "", route);
    eventually("a refusal", || (gateway.get("/").status == 429).then_some(()));
    eventually("a token", || (gateway.get("/").status == 200).then_some(()));
}

#[test]
fn requests_are_counted_by_what_the_document_says() {
    let origin = Origin::answering("in");
    let one = |key: &str, path: &str| format!("{{ match: '{path}', limit: {{ rate: 1/h, key: {key} }}, to: app }}");
    let routes = format!(
        "a: {}\nb: {}\nc: {}\nd: {}\ne: {}\nf: {}",
        one("header.x-client-id, else: client.ip", "/header"),
        one("cookie.session, else: client.ip", "/cookie"),
        one("path.id, else: route", "/path/:id"),
        one("host", "/host"),
        one("[client.ip, header.x-client-id], else: [client.ip, host]", "/both"),
        one("route", "/route/*"),
    );
    let gateway = gateway(&origin, "", &routes);
    let header = |id: &str| Request::get("/header").with("X-Client-Id", id);
    assert_eq!(statuses(&gateway, &[header("a"), header("a"), header("b")]), [200, 429, 200]);
    let cookie = |id: &str| Request::get("/cookie").with("Cookie", format!("x=1; session={id}"));
    assert_eq!(statuses(&gateway, &[cookie("a"), cookie("a"), cookie("b")]), [200, 429, 200]);
    let path = |id: &str| Request::get(&format!("/path/{id}"));
    assert_eq!(statuses(&gateway, &[path("7"), path("%37"), path("8")]), [200, 429, 200]);
    let host = |name: &str| Request::get("/host").host(name);
    assert_eq!(statuses(&gateway, &[host("a.test"), host("A.TEST."), host("b.test")]), [200, 429, 200]);
    let both = |id: &str| Request::get("/both").with("X-Client-Id", id);
    assert_eq!(statuses(&gateway, &[both("a"), both("a"), both("b")]), [200, 429, 200]);
    assert_eq!(statuses(&gateway, &[Request::get("/route/x"), Request::get("/route/y")]), [200, 429]);
}

#[test]
fn one_network_of_64_bits_is_one_client_and_a_mapped_address_is_its_own() {
    let origin = Origin::answering("in");
    let trust = "runtime: { client_ip: { trust: [127.0.0.1] } }";
    let gateway = gateway(&origin, trust, "all: { match: /*, limit: { rate: 1/h, key: client.ip }, to: app }");
    let from = |client: &str| gateway.ask(Request::get("/").with("X-Forwarded-For", client)).status;
    assert_eq!(["2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1"].map(from), [200, 429, 200]);
    assert_eq!(["203.0.113.7", "::ffff:203.0.113.7", "203.0.113.8"].map(from), [200, 429, 200]);
}

#[test]
fn who_has_no_key_is_counted_by_another() {
    let origin = Origin::answering("in");
    let route = "all: { match: /*, limit: { rate: 1/h, key: header.x-client-id, else: client.ip }, to: app }";
    let gateway = gateway(&origin, "", route);
    assert_eq!(statuses(&gateway, &[Request::get("/"), Request::get("/"), as_client("a")]), [200, 429, 200]);
    let twice = as_client("b").with("X-Client-Id", "c");
    assert_eq!(gateway.ask(twice).status, 429, "who says it twice has no key either");
    assert_eq!(gateway.ask(as_client("")).status, 429);
}

#[test]
fn routes_that_name_the_same_limit_share_its_count() {
    let origin = Origin::answering("in");
    let limits = "limits: { shared: { rate: 2/h, key: client.ip }, apart: { rate: 1/h, key: [client.ip, route] } }";
    let routes = "
  a: { match: /a, limit: shared, to: app }
  b: { match: /b, limit: shared, to: app }
  c: { match: /c, limit: apart, to: app }
  d: { match: /d, limit: apart, to: app }";
    let gateway = gateway(&origin, limits, routes);
    assert_eq!(["/a", "/b", "/a", "/b"].map(|path| gateway.get(path).status), [200, 200, 429, 429]);
    assert_eq!(["/c", "/d", "/c", "/d"].map(|path| gateway.get(path).status), [200, 200, 429, 429]);
}

#[test]
fn all_limits_must_admit_the_strictest_is_told_and_who_is_refused_has_used_nothing() {
    let origin = Origin::answering("in");
    let limits = "limits:
  wide: { rate: 5/h, key: client.ip }
  narrow: { rate: 1/h, key: header.x-client-id, else: client.ip }";
    let gateway = gateway(&origin, limits, "all: { match: /*, limit: [wide, narrow], to: app }");
    let first = gateway.ask(as_client("a"));
    assert!(first.field("RateLimit").unwrap().starts_with("\"narrow\";r=0;"), "{first:?}");
    for _ in 0..6 {
        let refused = gateway.ask(as_client("a"));
        assert_eq!(refused.status, 429);
        assert!(refused.field("RateLimit").unwrap().starts_with("\"narrow\";"), "{refused:?}");
    }
    let others = ["b", "c", "d", "e", "f"].map(|id| gateway.ask(as_client(id)).status);
    assert_eq!(others, [200, 200, 200, 200, 429], "the wide one holds 5, and refused requests took none of them");
    let refused = gateway.ask(as_client("a"));
    assert!(refused.field("RateLimit").unwrap().starts_with("\"narrow\";"), "the longer wait is told: {refused:?}");
}

#[test]
fn a_changed_limit_keeps_the_count_and_an_unrelated_reload_changes_nothing() {
    let origin = Origin::answering("in");
    let rate = |rate: &str, more: &str| {
        let limits = format!("limits: {{ per-client: {{ rate: {rate}, key: client.ip }} }}");
        document(&origin, &limits, &format!("all: {{ match: /*, limit: per-client, to: app }}{more}"))
    };
    let mut gateway = Gateway::start(rate("2/h", ""));
    assert_eq!([(); 3].map(|()| gateway.get("/").status), [200, 200, 429]);
    gateway.reload(rate("2/h", "\nother: { match: /other, respond: 204 }"));
    assert_eq!(gateway.get("/").status, 429);
    gateway.reload(rate("3/h", ""));
    assert_eq!([(); 2].map(|()| gateway.get("/").status), [200, 429], "two of the three were used");
}

#[test]
fn the_fields_are_those_that_the_document_asks_for() {
    let origin = Origin::answering("in");
    let routes = "
  old: { match: /old, limit: { rate: 2/h, key: client.ip, headers: legacy }, to: app }
  none: { match: /none, limit: { rate: 1/h, key: client.ip, headers: none }, to: app }";
    let gateway = gateway(&origin, "", routes);
    let old = gateway.get("/old");
    assert_eq!((old.field("X-RateLimit-Limit"), old.field("X-RateLimit-Remaining")), (Some("2"), Some("1")));
    assert!(old.field("X-RateLimit-Reset").is_some() && old.field("RateLimit").is_some());
    let (none, refused) = (gateway.get("/none"), gateway.get("/none"));
    assert_eq!((none.status, refused.status), (200, 429));
    assert!(refused.field("Retry-After").is_some());
    let told =
        |answer: &Response| answer.fields.0.iter().any(|(name, _)| name.to_ascii_lowercase().contains("ratelimit"));
    assert!(!told(&none) && !told(&refused), "{refused:?}");
}

#[test]
fn a_shadow_counts_and_tells_and_changes_nothing() {
    let origin = Origin::answering("in");
    let routes = "
  plain: { match: /plain, to: app }
  watched: { match: /watched, limit: { rate: 1/h, key: client.ip, mode: shadow }, to: app }";
    let gateway = gateway(&origin, "", routes);
    let plain = gateway.get("/plain");
    let names = |answer: &Response| answer.fields.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for watched in [gateway.get("/watched"), gateway.get("/watched"), gateway.get("/watched")] {
        assert_eq!((watched.status, watched.text(), names(&watched)), (200, plain.text(), names(&plain)));
    }
    let line = gateway.access_line(|line| line["would_refuse"].is_string());
    assert!(line["would_refuse"].as_str().unwrap().starts_with("limit.rate by routes.watched.limit ("), "{line}");
    assert_eq!(line["http.response.status_code"], json!(200));
    let counted = |result| {
        gateway.metrics().sum("yumen_limit_decisions_total", &[("limit", "routes.watched"), ("result", result)])
    };
    eventually("counted", || (counted("would_refuse") > 1.5).then_some(()));
    assert!(counted("refused") < 0.5);
}

#[test]
fn the_number_of_keys_is_bounded_and_who_finds_no_room_is_still_counted() {
    let origin = Origin::answering("in");
    let routes = "
  many: { match: /many, limit: { rate: 1/h, key: header.x-client-id, else: client.ip }, to: app }
  few: { match: /few, limit: { rate: 1/h, key: header.x-client-id, else: client.ip, keys: 1 }, to: app }";
    let gateway = gateway(&origin, "", routes);
    let mut connection = gateway.connect();
    let mut refused = |path: &str| {
        let ids = (0..300).map(|id| Request::get(path).with("X-Client-Id", id));
        ids.map(|request| connection.ask(&request).status).filter(|status| *status == 429).count()
    };
    assert_eq!(refused("/many"), 0);
    assert!(refused("/few") > 100, "keys without room share what is left");
}

#[test]
fn explain_names_the_limits_of_a_route() {
    let text = "version: 1\nlisteners: { web: { bind: '127.0.0.1:0' } }\nlimits:\n  slow: { rate: 1/s, key: client.ip }\nroutes:\n  all:\n    match: /*\n    limit: [slow, { rate: 1/h, key: route, mode: shadow }]\n    respond: 204\n";
    let ended = Setup::new().run(text, "explain", &["GET", "example.com/x"]);
    assert!(ended.out.contains("guard limits.slow ("), "{}", ended.out);
    assert!(ended.out.contains("guard routes.all.limit[1] (") && ended.out.contains("only watches"), "{}", ended.out);
}

#[test]
fn a_sliding_window_admits_so_many_and_says_when_there_is_room() {
    let origin = Origin::answering("in");
    let routes = "
  s: { match: /s, limit: { rate: 3/h, algorithm: sliding_window, key: client.ip }, to: app }
  f: { match: /f, limit: { rate: 2/h, algorithm: fixed_window, key: client.ip }, to: app }";
    let gateway = gateway(&origin, "", routes);
    assert_eq!([(); 4].map(|()| gateway.get("/s").status), [200, 200, 200, 429]);
    let after: u64 = gateway.get("/s").field("Retry-After").unwrap().parse().unwrap();
    assert!((3500..=3960).contains(&after), "{after}: an hour, and a tenth of it");
    assert_eq!([(); 3].map(|()| gateway.get("/f").status), [200, 200, 429]);
    let after: u64 = gateway.get("/f").field("Retry-After").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&after), "{after}: the window began with the first request");
}

#[test]
fn a_leaky_bucket_lets_requests_wait_and_refuses_when_its_queue_is_full() {
    let origin = Origin::answering("in");
    let route = "all: { match: /*, limit: { rate: 2/s, algorithm: leaky_bucket, queue: 2, key: client.ip }, to: app }";
    let gateway = gateway(&origin, "", route);
    let began = Instant::now();
    let mut connections: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        connection.send(Request::get("/").bytes());
    }
    let statuses: Vec<u16> = connections.iter_mut().map(|connection| connection.response().status).collect();
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!(admitted >= 3 && statuses.contains(&429), "{statuses:?}");
    // The third leaves a second after the first, however fast they came.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(origin.seen().len(), admitted);
}

#[test]
fn so_many_may_be_under_way_at_once_and_each_end_makes_room() {
    let (open, opened) = (Arc::new(AtomicBool::new(false)), Duration::from_millis(5));
    let gate = Arc::clone(&open);
    let origin = Origin::new(move |_, talk| {
        while !gate.load(SeqCst) {
            std::thread::park_timeout(opened);
        }
        talk.answer(200, "", "in");
    });
    let route = "all: { match: /*, limit: { in_flight: 2, key: client.ip }, to: app }";
    let gateway = gateway(&origin, "", route);
    let mut waiting: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for connection in &mut waiting {
        connection.send(Request::get("/").bytes());
    }
    eventually("both are under way", || (origin.seen().len() == 2).then_some(()));
    let refused = gateway.get("/");
    assert_eq!(refused.verdict(), (429, "limit.in_flight".to_owned()));
    assert_eq!(refused.field("RateLimit-Policy"), Some("\"routes.all\";q=2"));
    assert_eq!((refused.field("RateLimit"), refused.field("Retry-After")), (Some("\"routes.all\";r=0"), Some("1")));
    // One client goes away without an answer, and its place is free.
    drop(waiting.pop());
    open.store(true, SeqCst);
    eventually("room", || (gateway.get("/").status == 200).then_some(()));
    assert_eq!(waiting[0].response().status, 200);
}

#[test]
fn limits_of_several_kinds_hold_together() {
    let origin = Origin::answering("in");
    let limits = "limits:
  window: { rate: 2/h, algorithm: sliding_window, key: client.ip }
  both: { in_flight: 1, key: client.ip }
  slow: { rate: 1/h, key: header.x-client-id, else: client.ip }";
    let gateway = gateway(&origin, limits, "all: { match: /*, limit: [window, both, slow], to: app }");
    let first = gateway.ask(as_client("a"));
    assert_eq!(first.status, 200);
    eventually("the place of the first is free", || (gateway.ask(as_client("a")).code() == "limit.rate").then_some(()));
    for _ in 0..5 {
        assert_eq!(gateway.ask(as_client("a")).status, 429, "and takes nothing of the window");
    }
    eventually("another client", || (gateway.ask(as_client("b")).status == 200).then_some(()));
    assert_eq!(gateway.ask(as_client("c")).code(), "limit.rate", "the window is full");
}

#[test]
fn when_nearly_all_requests_share_a_key_the_log_says_so() {
    let origin = Origin::answering("in");
    let route = "all: { match: /*, limit: { rate: 1M/h, key: client.ip, headers: none }, respond: 204 }";
    let gateway = gateway(&origin, "", route);
    let mut connection = gateway.connect();
    let log =
        || gateway.log.all().iter().any(|line| line.contains("share one key") && line.contains("routes.all.limit"));
    eventually("a warning", || {
        for _ in 0..50 {
            connection.get("/");
        }
        log().then_some(())
    });
}

#[test]
fn the_example_admits_100_requests_in_60_seconds_for_each_client_id() {
    let origin = Origin::answering("in");
    let text = std::fs::read_to_string("conf/examples/limits.yaml").unwrap();
    let text = text.replace("[::]:8080", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:9001, 127.0.0.1:9002", &format!("'{origin}'"));
    let gateway = Gateway::start(text);
    let ask = |id: &str| Request::get("/api/orders").with("X-Client-Id", id);
    let mut connection = Connection::to(&gateway.listener("web"));
    eventually("the target is well", || (connection.ask(&ask("first")).status == 200).then_some(()));
    let answers: Vec<Response> = (0..105).map(|_| connection.ask(&ask("a"))).collect();
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((admitted, answers[100].verdict()), (100, (429, "limit.rate".to_owned())));
    assert_eq!(answers[100].field("RateLimit-Policy"), Some("\"per-client\";q=100;w=60"));
    assert_eq!(connection.ask(&ask("b")).status, 200, "another client id has its own count");
    assert_eq!(connection.get("/health").status, 204);
    assert_eq!(connection.get("/reports/x").status, 200);
}

#[test]
fn a_client_is_the_same_over_every_protocol() {
    let origin = Origin::answering("in");
    let route = "all: { match: /*, limit: { rate: 2/h, key: client.ip }, to: app }";
    let gateway = gateway(&origin, "", route);
    let over_h2 = || {
        let request = http::Request::get(format!("http://{}/", gateway.edge())).body(()).unwrap();
        let answer = h2::ask(&gateway.edge(), request, b"").unwrap();
        (answer.status, answer.header("retry-after").is_some())
    };
    assert_eq!((gateway.get("/").status, over_h2()), (200, (200, false)));
    assert_eq!((gateway.get("/").status, over_h2()), (429, (429, true)));
}

#[test]
fn an_empty_list_takes_the_limit_of_the_defaults_away() {
    let origin = Origin::answering("in");
    let defaults = "defaults: { route: { limit: { rate: 1/h, key: client.ip } } }";
    let routes = "
  a: { match: /a, to: app }
  b: { match: /b, to: app }
  c: { match: /c, limit: [], to: app }
  d: { match: /d, limit: { in_flight: 9, key: route }, to: app }";
    let gateway = gateway(&origin, defaults, routes);
    assert_eq!(["/a", "/b", "/a", "/b"].map(|path| gateway.get(path).status), [200, 200, 429, 429]);
    assert_eq!(["/c", "/c", "/d", "/d"].map(|path| gateway.get(path).status), [200; 4]);
}

#[test]
fn a_limit_counts_those_for_whom_its_expression_holds() {
    let origin = Origin::answering("in");
    let limits = r#"limits:
  gold: { rate: 3/h, key: host, when: 'request.headers["x-plan"] == "gold"' }
  others: { rate: 2/h, key: host, when: 'request.headers["x-plan"] != "gold"' }"#;
    let routes = "named: { match: /named, limit: [gold, others], to: app }
own: { match: /own, limit: [{ rate: 1/h, key: client.ip, when: 'request.method == \"POST\"' }], to: app }";
    let gateway = gateway(&origin, limits, routes);
    let as_plan = |plan: &str| gateway.ask(Request::get("/named").with("X-Plan", plan)).status;
    assert_eq!(["gold", "gold", "gold", "gold"].map(as_plan), [200, 200, 200, 429]);
    assert_eq!(["basic", "basic", "basic"].map(as_plan), [200, 200, 429]);
    assert_eq!(gateway.get("/named").status, 429, "who leaves the plan out goes by every limit");
    assert_eq!(gateway.get("/own").status, 200);
    assert_eq!(gateway.ask(Request::post("/own", "")).status, 200);
    assert_eq!(gateway.ask(Request::post("/own", "")).status, 429);
    assert_eq!(gateway.get("/own").status, 200);
    gateway.log.wait("every one has a `when`");
}

#[test]
fn partners_have_plans_as_the_example_says() {
    let origin = Origin::answering("in");
    let made = |name: &str| {
        let printed = yumen(&["key", "new", name]).out;
        let word = |start: &str| printed.lines().find_map(|line| line.strip_prefix(start)).unwrap().trim().to_owned();
        (word("key:"), word("line:"))
    };
    let ((gold, first), (plain, second)) = (made("acme"), made("other"));
    let first = first.replace(" }", ", plan: gold }");
    let setup = Setup::new().file("partner-keys.yaml", format!("{first}\n{second}\n"));
    let text = std::fs::read_to_string("conf/examples/partners.yaml").unwrap();
    let text = text
        .replace("0.0.0.0:8080", "127.0.0.1:0")
        .replace("/etc/yumen/", "$DIR/")
        .replace("https://id.example.com/", "https://127.0.0.1:9/")
        .replace("10.0.0.11:8080", &origin.to_string())
        .replace("10.0.0.21:8080", &origin.to_string());
    let gateway = setup.start(text);
    let ask = |key: &str| gateway.ask(Request::get("/orders/1").with("X-Api-Key", key));
    assert_eq!(ask(&gold).field("ratelimit-policy"), Some("\"gold\";q=1000;w=60"));
    assert_eq!((origin.last().field("x-partner"), origin.last().field("x-plan")), (Some("acme"), Some("gold")));
    let other = ask(&plain);
    assert_eq!((other.status, other.field("ratelimit-policy")), (200, Some("\"others\";q=100;w=60")));
    assert_eq!(
        (gateway.get("/orders/1").status, gateway.get("/login").status, gateway.get("/healthz").status),
        (401, 200, 204)
    );
    assert_eq!(ask("ymn_wrong").status, 401);
}
