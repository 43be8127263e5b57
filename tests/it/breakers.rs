//! Circuit breaking: a target that fails requests is left alone, tried with a few, and back when it is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::harness::{Connection, Gateway, Origin, Request, eventually, times};

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

fn pooled(pool: &str) -> Gateway {
    Gateway::start(format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"))
}

fn stage(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("yumen_breaker_state", &[("pool", "app")])
}

#[test]
fn a_target_that_fails_in_a_row_is_left_alone_then_tried_then_back() {
    let (origin, well, seen) = failing("well");
    let gateway =
        pooled(&format!("{{ targets: ['{origin}'], breaker: {{ open_after: 3, open_for: 2s, probes: 2 }} }}"));
    assert_eq!(times(3, || gateway.get("/").status), [500, 500, 500], "its own answers are passed on");
    assert!(stage(&gateway) > 1.5, "open");
    let refused = gateway.get("/");
    assert_eq!(refused.verdict(), (503, "breaker.open".to_owned()));
    assert!(["1", "2"].contains(&refused.field("retry-after").unwrap()));
    assert_eq!(gateway.access_line(|line| line["reason"] == "breaker.open")["pool"], "app");
    let said = gateway.log.wait("breaker of");
    assert!(said.contains("is open for 2s: 3 failures in a row"), "{said}");
    let shown = &gateway.admin("/pools").json();
    let breaker = &shown[0]["targets"][0]["breaker"];
    assert_eq!(
        (breaker["state"].as_str(), breaker["cause"].as_str()),
        (Some("open"), Some("3 failures in a row")),
        "{shown}"
    );
    assert_eq!(shown[0]["state"], "down");
    assert_eq!(seen.load(SeqCst), 3, "the target has its rest");

    // Still failing: one try, and it is open again, for longer.
    eventually("a try", || (gateway.get("/").status == 500).then_some(()));
    assert_eq!((seen.load(SeqCst), gateway.get("/").status), (4, 503));
    gateway.log.wait("3 failures in a row, and a try in vain since");
    well.store(true, SeqCst);
    eventually("two good tries", || (gateway.get("/").status == 200 && gateway.get("/").status == 200).then_some(()));
    assert!(stage(&gateway) < 0.5, "closed");
    assert_eq!(times(10, || gateway.get("/").text()), vec!["well"; 10]);
    gateway.log.wait("is closed");
}

#[test]
fn exactly_as_many_of_a_thousand_requests_as_allowed_try_a_half_open_target() {
    let (open, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (gate, counter) = (open.clone(), seen.clone());
    let origin = Origin::new(move |request, talk| {
        if request.target == "/fail" {
            return talk.answer(500, "", "");
        }
        counter.fetch_add(1, SeqCst);
        eventually("the answers may go", || gate.load(SeqCst).then_some(()));
        talk.answer(200, "", "");
    });
    let gateway = Gateway::start(format!(
        "listeners: {{ edge: {{ bind: '127.0.0.1:0', limits: {{ per_address: 2000 }} }} }}
pools: {{ app: {{ targets: ['{origin}'], breaker: {{ open_after: 1, open_for: 1s, probes: 5 }} }} }}
routes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    assert_eq!(gateway.get("/fail").status, 500);
    let mut clients: Vec<Connection> = times(1000, || gateway.connect());
    eventually("the rest is over", || {
        let shown = gateway.admin("/pools").json();
        (shown[0]["targets"][0]["breaker"]["next_try_seconds"] == 0.0).then_some(())
    });
    for client in &mut clients {
        client.send(Request::get("/").bytes());
    }
    eventually("those who may are there", || (seen.load(SeqCst) == 5).then_some(()));
    eventually("all others are refused", || {
        let refused = gateway.metrics().sum("yumen_faults_total", &[("reason", "breaker.open")]);
        (refused > 994.5).then_some(())
    });
    open.store(true, SeqCst);
    let answers: Vec<_> = clients.iter_mut().map(|client| client.response().status).collect();
    assert_eq!((answers.iter().filter(|status| **status == 200).count(), seen.load(SeqCst)), (5, 5));
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), 995);
    assert_eq!(gateway.get("/").status, 200, "closed");
}

#[test]
fn others_take_over_while_one_rests_even_across_a_reload() {
    let (bad, _, seen) = failing("bad");
    let (good, well, _) = failing("good");
    well.store(true, SeqCst);
    let document = |more: &str| {
        format!(
            "pools: {{ app: {{ targets: ['{bad}', '{good}'], breaker: {{ open_after: 50% of 4 in 10s, open_for: 1h }} }} }}
routes: {{ all: {{ match: /*, to: app }}{more} }}\n"
        )
    };
    let mut gateway = Gateway::start(document(""));
    let statuses = times(30, || gateway.get("/").status);
    assert_eq!(seen.load(SeqCst), 4, "{statuses:?}");
    assert!(statuses.iter().rev().take(15).all(|status| *status == 200), "{statuses:?}");
    gateway.log.wait("4 of 4 failed in 10s");
    gateway.reload(document(", more: { match: /more, respond: 204 }"));
    assert!(times(20, || gateway.get("/").status).iter().all(|status| *status == 200));
    assert_eq!(seen.load(SeqCst), 4, "what was learned outlives a reload");
}

#[test]
fn what_counts_as_a_failure_is_said_in_the_document() {
    let (origin, _, _) = failing("well");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(format!(
        "pools:
  app: {{ targets: ['{origin}'], breaker: {{ open_after: 2, on: [connect, timeout] }} }}
  gone: {{ targets: ['{port}'], breaker: {{ open_after: 2, on: [connect] }}, retry: off }}
  slow: {{ targets: ['{origin}'], breaker: {{ open_after: 2, on: ['500'] }} }}
routes:
  app: {{ match: /app, to: app }}
  gone: {{ match: /gone, to: gone }}
  slow: {{ match: /slow, to: slow }}\n"
    ));
    assert_eq!(times(4, || gateway.get("/app").status), [500; 4]);
    assert_eq!(times(4, || gateway.get("/gone").status), [502, 502, 503, 503]);
    let shown = gateway.admin("/pools").json();
    let gone = shown.as_array().unwrap().iter().find(|pool| pool["name"] == "gone").unwrap();
    assert_eq!(gone["targets"][0]["failures"], 2, "each failure counts once: {gone}");
    assert_eq!(times(4, || gateway.get("/slow").status), [500, 500, 503, 503]);
}

#[test]
fn a_shadow_opens_and_keeps_nothing_away() {
    let (bad, well, seen) = failing("bad");
    let rules = "open_after: 3, open_for: 200ms, probes: 1, mode: shadow";
    let gateway = pooled(&format!("{{ targets: ['{bad}'], slow_start: 1h, breaker: {{ {rules} }} }}"));
    assert_eq!(times(10, || gateway.get("/").status), vec![500; 10]);
    assert_eq!(seen.load(SeqCst), 10, "as without it");
    gateway.log.wait(&format!("breaker of {bad} would be open for 200ms: 3 failures in a row"));
    let pools = gateway.admin("/pools").json();
    let (pool, breaker) = (&pools[0], &pools[0]["targets"][0]["breaker"]);
    assert_eq!((&pool["state"], &breaker["shadow"]), (&"up".into(), &true.into()), "{pools}");
    assert!(breaker["would_keep"].as_u64().unwrap() > 0, "{pools}");
    assert!(gateway.yumen("pools", &["--admin", gateway.admin_address()]).out.contains("breaker would be "));
    let line = gateway.access_line(|line| !line["would_refuse"].is_null());
    assert_eq!(line["would_refuse"], "breaker.open by pools.app.breaker");
    assert_eq!((&line["http.response.status_code"], &line["reason"]), (&500.into(), &serde_json::Value::Null));
    let would = gateway.metrics().sum("yumen_shadow_refusals_total", &[("reason", "breaker.open")]);
    assert!(would > 0.5, "{would}");
    assert!(!gateway.metrics().0.contains("yumen_breaker_state{"), "it is no state of the target");
    well.store(true, SeqCst);
    eventually("it would be closed", || {
        assert_eq!(gateway.get("/").status, 200);
        gateway.log.all().iter().any(|line| line.contains("would be closed again")).then_some(())
    });
    let good = Origin::answering("good");
    let two = pooled(&format!("{{ targets: ['{bad}', '{good}'], breaker: {{ {rules} }} }}"));
    well.store(false, SeqCst);
    times(20, || two.get("/").status);
    two.log.wait("would be open");
    assert!(two.access().iter().all(|line| line["would_refuse"].is_null()), "the other one would have served");
}
