//! A pool that takes no requests as a whole: its one breaker, who serves instead, and what is said by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Origin, eventually, times};

/// An origin that fails while its switch is off; it counts the requests that it saw.
fn failing(name: &'static str) -> (Origin, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (well, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (switch, counter) = (well.clone(), seen.clone());
    let origin = Origin::new(move |_, talk| {
        counter.fetch_add(1, SeqCst);
        if switch.load(SeqCst) { talk.answer(200, "", name) } else { talk.answer(500, "", "failed") }
    });
    (origin, well, seen)
}

fn pool(gateway: &Gateway, name: &str) -> serde_json::Value {
    let shown = gateway.admin("/pools").json();
    shown.as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap().clone()
}

#[test]
fn a_pool_may_have_one_breaker_for_all_its_targets() {
    let (a, a_well, a_seen) = failing("well");
    let (b, b_well, b_seen) = failing("well");
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{a}', '{b}'], breaker: {{ open_after: 4, open_for: 2s, probes: 3, per: pool }} }} }}
routes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    assert_eq!(times(4, || gateway.get("/").status), [500; 4]);
    gateway.log.wait("breaker of all targets is open for 2s: 4 failures in a row");
    assert_eq!(gateway.get("/").verdict(), (503, "breaker.open".to_owned()));
    assert_eq!((a_seen.load(SeqCst), b_seen.load(SeqCst)), (2, 2), "their failures are counted together");
    let shown = pool(&gateway, "app");
    assert_eq!((&shown["breaker"]["state"], &shown["state"]), (&"open".into(), &"down".into()), "{shown}");
    assert!(shown["targets"][0]["breaker"].is_null(), "{shown}");
    let stage = || gateway.metrics().sum("yumen_breaker_state", &[("pool", "app"), ("target", "-")]);
    assert!(stage() > 1.5);
    a_well.store(true, SeqCst);
    b_well.store(true, SeqCst);
    eventually("it is tried", || (gateway.get("/").status == 200).then_some(()));
    assert_eq!(times(4, || gateway.get("/").text()), vec!["well"; 4]);
    gateway.log.wait("breaker of all targets is closed");
    assert!(stage() < 0.5);
    assert_eq!(a_seen.load(SeqCst) + b_seen.load(SeqCst), 9);
}

#[test]
fn another_pool_serves_while_no_target_takes_requests() {
    let (sick, well, seen) = failing("first");
    let (second, third) = (Origin::answering("second"), Origin::answering("third"));
    let gateway = Gateway::start(format!(
        "pools:
  app: {{ targets: ['{sick}'], breaker: {{ open_after: 2, open_for: 2s }}, fallback: middle }}
  middle: {{ targets: [nowhere.invalid:80], fallback: last }}
  last: ['{third}']
  other: {{ targets: ['{second}'], fallback: app }}
routes: {{ all: {{ match: /*, to: app }}, other: {{ match: /other, to: other }} }}\n"
    ));
    assert_eq!(times(2, || gateway.get("/").status), [500, 500], "a target's own answers are passed on");
    gateway.log.wait("is open for 2s");
    assert_eq!(gateway.get("/").text(), "third");
    assert_eq!((gateway.get("/other").text(), seen.load(SeqCst)), ("second".into(), 2));
    let line = gateway.access_line(|line| line["pool"] == "last");
    assert_eq!(line["detail"], "pool app takes no requests (breaker.open): its fallback", "{line}");
    let count = |pool| gateway.metrics().sum("yumen_pool_fallbacks_total", &[("pool", pool)]);
    assert!(count("app") > 0.5 && count("middle") > 0.5 && count("other") < 0.5);
    well.store(true, SeqCst);
    eventually("it is back", || (gateway.get("/").text() == "first").then_some(()));
}

#[test]
fn a_fixed_answer_may_stand_in() {
    let gateway = Gateway::start(
        "pools:
  app:
    targets: [nowhere.invalid:80]
    fallback: { status: 503, type: application/json, body: '{\"items\":[]}' }
routes: { all: { match: /*, to: app, response: { set: { x-from: route } } } }\n",
    );
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (503, "{\"items\":[]}"));
    assert_eq!((answer.field("content-type"), answer.field("x-from")), (Some("application/json"), Some("route")));
    let line = gateway.access_line(|line| line["http.response.status_code"] == 503);
    assert_eq!(line["detail"], "pool app takes no requests (pool.empty): its fallback");
    assert!(line["reason"].is_null(), "{line}");
    assert!(gateway.metrics().sum("yumen_pool_fallbacks_total", &[("pool", "app")]) > 0.5);
}

#[test]
fn a_breaker_is_held_open_by_hand_for_a_while_and_through_a_reload() {
    let origin = Origin::answering("well");
    let document =
        |more: &str| format!("pools: {{ app: ['{origin}'] }}\nroutes: {{ all: {{ match: /*, to: app }}{more} }}\n");
    let mut gateway = Gateway::start(document(""));
    let admin = gateway.admin_address().to_owned();
    let say = |gateway: &Gateway, words: &[&str]| gateway.yumen("breaker", &[words, &["--admin", &admin]].concat());
    assert_eq!(gateway.get("/").status, 200);
    let start = Instant::now();
    let said = say(&gateway, &["app", "open", "--for", "3s"]);
    assert_eq!((said.code, said.out.as_str()), (0, "pool app: no request goes through for 3s\n"), "{}", said.err);
    gateway.log.wait("pool app: no request goes through for 3s, said by hand");
    let refused = gateway.get("/");
    assert_eq!(refused.verdict(), (503, "breaker.open".to_owned()));
    assert!(refused.field("retry-after").is_some());
    let shown = pool(&gateway, "app");
    assert_eq!((&shown["by_hand"]["held"], &shown["state"]), (&"open".into(), &"down".into()), "{shown}");
    gateway.reload(document(", more: { match: /more, respond: 204 }"));
    if start.elapsed() < Duration::from_secs(2) {
        assert_eq!(gateway.get("/").status, 503, "a reload changes nothing of it");
    }
    eventually("its end", || (gateway.get("/").status == 200).then_some(()));
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(pool(&gateway, "app")["by_hand"].is_null());
    say(&gateway, &["app", "open", "--for", "1h"]);
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!(say(&gateway, &["app", "auto"]).code, 0);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(say(&gateway, &["app", "open"]).code, 64, "it always ends");
    assert_eq!(say(&gateway, &["app", "open", "--for", "25h"]).code, 64);
    assert_eq!(say(&gateway, &["apq", "close", "--for", "1h"]).code, 64);
}

#[test]
fn a_breaker_is_held_closed_by_hand_whatever_comes_back() {
    let (origin, _, seen) = failing("well");
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], breaker: {{ open_after: 2, open_for: 1h }} }} }}
routes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    assert_eq!(times(2, || gateway.get("/").status), [500, 500]);
    gateway.log.wait("is open for 3600s");
    assert_eq!(gateway.get("/").status, 503);
    let admin = gateway.admin_address().to_owned();
    assert_eq!(gateway.yumen("breaker", &["app", "close", "--for", "1h", "--admin", &admin]).code, 0);
    assert_eq!(times(10, || gateway.get("/").status), [500; 10]);
    assert_eq!(seen.load(SeqCst), 12);
    assert_eq!(gateway.yumen("breaker", &["app", "auto", "--admin", &admin]).code, 0);
    assert_eq!(gateway.get("/").status, 503, "it is as open as it was");
}
