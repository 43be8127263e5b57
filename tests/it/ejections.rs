//! Ejection and panic: who goes worse than the others rests, and when too few are well all are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::harness::{Gateway, Origin, eventually, times};

/// An origin that fails while its switch is off; it counts the requests that it saw beside those for `/healthz`.
fn switched(name: &'static str, well: bool) -> (Origin, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (well, seen) = (Arc::new(AtomicBool::new(well)), Arc::new(AtomicUsize::new(0)));
    let (switch, counter) = (well.clone(), seen.clone());
    let origin = Origin::new(move |asked, talk| {
        counter.fetch_add(usize::from(asked.target != "/healthz"), SeqCst);
        if switch.load(SeqCst) { talk.answer(200, "", name) } else { talk.answer(500, "", "failed") }
    });
    (origin, well, seen)
}

fn pooled(pool: &str) -> Gateway {
    Gateway::start(document(pool))
}

fn document(pool: &str) -> String {
    format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n")
}

fn target(gateway: &Gateway, origin: &Origin) -> serde_json::Value {
    let pools = gateway.admin("/pools").json();
    let targets = pools[0]["targets"].as_array().unwrap();
    targets.iter().find(|target| target["address"] == origin.to_string()).unwrap().clone()
}

fn gauge(gateway: &Gateway, name: &str) -> f64 {
    gateway.metrics().sum(name, &[("pool", "app")])
}

#[test]
fn who_fails_in_a_row_is_ejected_told_of_and_back_after_its_time() {
    let ((bad, well, seen), (good, _, _)) = (switched("bad", false), switched("good", true));
    let mut gateway = pooled(&format!("{{ targets: ['{bad}', '{good}'], eject: {{ errors: 3, for: 1s }} }}"));
    let statuses = times(20, || gateway.get("/").status);
    assert_eq!(seen.load(SeqCst), 3, "{statuses:?}");
    let said = gateway.log.wait("is ejected for");
    assert!(said.contains(&format!("target {bad} is ejected for 1s, time 1 in a row: 3 failures in a row")), "{said}");
    let shown = target(&gateway, &bad);
    assert_eq!(
        (shown["out"].as_str(), shown["ejection"]["cause"].as_str()),
        (Some("ejected"), Some("3 failures in a row"))
    );
    assert_eq!(gateway.admin("/pools").json()[0]["state"], "degraded");
    assert!(gauge(&gateway, "yumen_target_ejected") > 0.5);
    let ejections = [("cause", "errors"), ("result", "ejected")];
    assert!(gateway.metrics().sum("yumen_target_ejections_total", &ejections) > 0.5);
    let told = gateway.yumen("pools", &["--admin", gateway.admin_address()]).out;
    assert!(told.contains("ejected") && told.contains("3 failures in a row"), "{told}");

    // A reload keeps it out.
    gateway.reload(document(&format!(
        "{{ targets: ['{bad}', '{good}'], eject: {{ errors: 3, for: 1s }}, balance: random }}"
    )));
    well.store(true, SeqCst);
    gateway.log.wait(&format!("target {bad} is no longer ejected"));
    assert!(gauge(&gateway, "yumen_target_ejected") < 0.5);
    eventually("it serves again", || (gateway.get("/").text() == "bad").then_some(()));
}

#[test]
fn who_fails_again_soon_is_out_longer() {
    let ((bad, _, _), (good, _, _)) = (switched("bad", false), switched("good", true));
    let gateway =
        pooled(&format!("{{ targets: ['{bad}', '{good}'], eject: {{ errors: 1, for: 200ms }}, retry: off }}"));
    eventually("the third time", || {
        gateway.get("/");
        (target(&gateway, &bad)["ejection"]["times"] == 3).then_some(())
    });
    gateway.log.wait("is ejected for 400ms, time 2 in a row: the first request after its rest failed");
    gateway.log.wait("is ejected for 800ms, time 3 in a row");
}

#[test]
fn never_more_than_the_share_is_out_and_the_last_one_never() {
    let origins: Vec<_> = (0..4).map(|_| switched("bad", false)).collect();
    let targets: Vec<_> = origins.iter().map(|(origin, ..)| format!("'{origin}'")).collect();
    let pool = |count: usize, more: &str| {
        let targets = targets[..count].join(", ");
        document(&format!("{{ targets: [{targets}], retry: off, eject: {{ errors: 2, for: 1h{more} }} }}"))
    };
    let out = |gateway: &Gateway| {
        let pools = gateway.admin("/pools").json();
        pools[0]["targets"].as_array().unwrap().iter().filter(|target| target["ejection"]["out"] == true).count()
    };
    let mut gateway = Gateway::start(pool(4, ""));
    assert_eq!(times(40, || gateway.get("/").status), [500; 40], "somebody always serves");
    assert_eq!(out(&gateway), 2);
    let spared = gateway.metrics().sum("yumen_target_ejections_total", &[("result", "spared")]);
    assert!(spared > 0.5, "{spared}");
    gateway.reload(pool(4, ", at_most: 100%"));
    times(40, || gateway.get("/").status);
    assert_eq!(out(&gateway), 3);
    gateway.reload(pool(2, ""));
    eventually("a pool that shrinks gets back whom it needs", || (out(&gateway) <= 1).then_some(()));
    gateway.reload(pool(1, ""));
    assert_eq!(times(10, || gateway.get("/").status), [500; 10], "the only one is never out");
}

#[test]
fn whose_error_share_is_far_above_the_others_is_ejected() {
    // Every second request fails: never two in a row.
    let turn = AtomicUsize::new(0);
    let bad = Origin::new(move |_, talk| {
        let status = if turn.fetch_add(1, SeqCst).is_multiple_of(2) { 500 } else { 200 };
        talk.answer(status, "", "bad");
    });
    let (good, _, _) = switched("good", true);
    let gateway = pooled(&format!(
        "{{ targets: ['{bad}', '{good}'], retry: off, eject: {{ errors: 100, share: 30% of 10 in 1m, for: 1h }} }}"
    ));
    eventually("the ejection", || {
        gateway.get("/");
        (target(&gateway, &bad)["out"] == "ejected").then_some(())
    });
    let cause = target(&gateway, &bad)["ejection"]["cause"].as_str().unwrap().to_owned();
    assert!(cause.ends_with("failed in 1m, 0% of the others'"), "{cause}");
    assert_eq!(times(10, || gateway.get("/").text()), vec!["good"; 10]);
}

#[test]
fn whose_answers_begin_late_is_ejected() {
    let slow = Origin::new(|_, talk| {
        // It only has to be slower than the other one.
        let until = std::time::Instant::now() + std::time::Duration::from_millis(300);
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
            std::thread::park_timeout(left);
        }
        talk.answer(200, "", "slow");
    });
    let (quick, _, _) = switched("quick", true);
    let gateway = pooled(&format!("{{ targets: ['{slow}', '{quick}'], eject: {{ slow: 2x of 4 in 1m, for: 1h }} }}"));
    eventually("the ejection", || {
        gateway.get("/");
        (target(&gateway, &slow)["out"] == "ejected").then_some(())
    });
    gateway.log.wait("answers begin after");
    assert_eq!(times(5, || gateway.get("/").text()), vec!["quick"; 5]);
}

#[test]
fn what_counts_as_a_failure_is_said_and_a_shadow_ejects_nobody() {
    let ((bad, _, seen), (good, _, _)) = (switched("bad", false), switched("good", true));
    let watching = |rule: &str| {
        document(&format!("{{ targets: ['{bad}', '{good}'], retry: off, eject: {{ errors: 2, for: 1h, {rule} }} }}"))
    };
    let mut gateway = Gateway::start(watching("on: [connect]"));
    times(20, || gateway.get("/").status);
    assert_eq!(target(&gateway, &bad)["ejection"], serde_json::Value::Null);
    gateway.reload(watching("mode: shadow"));
    times(20, || gateway.get("/").status);
    assert!(seen.load(SeqCst) >= 18, "it serves all the same: {seen:?}");
    gateway.log.wait("would be ejected for 3600s");
    assert_eq!(target(&gateway, &bad)["ejection"]["shadow"], true);
    let shadows = gateway.metrics().sum("yumen_target_ejections_total", &[("result", "shadow")]);
    assert!((0.5..1.5).contains(&shadows), "{shadows}");
}

#[test]
fn a_breaker_that_opens_spares_its_target_the_ejection() {
    let ((bad, _, seen), (good, _, _)) = (switched("bad", false), switched("good", true));
    let gateway = pooled(&format!(
        "{{ targets: ['{bad}', '{good}'], retry: off, breaker: {{ open_after: 2, open_for: 1h }}, eject: {{ errors: 2, for: 1h }} }}"
    ));
    times(10, || gateway.get("/").status);
    let shown = target(&gateway, &bad);
    assert_eq!(
        (seen.load(SeqCst), shown["out"].as_str(), &shown["ejection"]),
        (2, Some("breaker"), &serde_json::Value::Null)
    );
}

#[test]
fn when_too_few_are_well_all_are_used_and_both_ends_are_told() {
    let origins = [switched("a", true), switched("b", true), switched("c", true)];
    let targets: Vec<_> = origins.iter().map(|(origin, ..)| format!("'{origin}'")).collect();
    let gateway = pooled(&format!(
        "{{ targets: [{}], retry: off, panic_below: 60%, health: {{ http: /healthz, every: 100ms, down_after: 1, up_after: 1 }} }}",
        targets.join(", ")
    ));
    eventually("all are up", || (gateway.admin("/pools").json()[0]["healthy"] == 3).then_some(()));
    assert!(gauge(&gateway, "yumen_pool_panic") < 0.5);
    origins[0].1.store(false, SeqCst);
    eventually("one is down", || (gateway.admin("/pools").json()[0]["healthy"] == 2).then_some(()));
    assert!(times(12, || gateway.get("/").status).iter().all(|status| *status == 200), "two of three are enough");
    origins[1].1.store(false, SeqCst);
    let said = gateway.log.wait("all are used");
    assert!(said.contains("pool app: only 1 of 3 targets are well, which is below 60%"), "{said}");
    assert!(gauge(&gateway, "yumen_pool_panic") > 0.5);
    let shown = gateway.admin("/pools").json();
    assert_eq!((&shown[0]["panic"], &shown[0]["healthy"]), (&true.into(), &1.into()), "{shown}");
    assert!(gateway.yumen("pools", &["--admin", gateway.admin_address()]).out.contains("panic"), "{shown}");
    let before = origins[0].2.load(SeqCst);
    times(12, || gateway.get("/").status);
    assert!(origins[0].2.load(SeqCst) > before, "who is down gets requests too");
    origins[0].1.store(true, SeqCst);
    gateway.log.wait("no longer are all used");
    eventually("the gauge", || (gauge(&gateway, "yumen_pool_panic") < 0.5).then_some(()));
}

#[test]
fn panic_holds_for_ejection_too() {
    let origins: Vec<_> = (0..2).map(|_| switched("bad", false)).collect();
    let targets: Vec<_> = origins.iter().map(|(origin, ..)| format!("'{origin}'")).collect();
    let gateway = pooled(&format!(
        "{{ targets: [{}], retry: off, panic_below: 60%, eject: {{ errors: 2, for: 1h }} }}",
        targets.join(", ")
    ));
    gateway.get("/");
    eventually("panic", || {
        gateway.get("/");
        gateway.log.all().iter().any(|line| line.contains("all are used")).then_some(())
    });
    let before: Vec<_> = origins.iter().map(|origin| origin.2.load(SeqCst)).collect();
    times(10, || gateway.get("/").status);
    assert!(origins.iter().zip(before).all(|(origin, before)| origin.2.load(SeqCst) > before), "both are used");
}
