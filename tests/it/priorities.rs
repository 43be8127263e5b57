//! Groups of targets: those of a lower priority number are used first, backups when nobody else can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::{Gateway, Origin, eventually, times};

/// An origin whose probes pass while its switch is on.
fn switched(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let switch = well.clone();
    let origin = Origin::new(move |_, talk| talk.answer(if switch.load(SeqCst) { 200 } else { 500 }, "", name));
    (origin, well)
}

const HEALTH: &str = "health: { http: /healthz, every: 100ms, down_after: 1, up_after: 1 }";

fn pooled(pool: &str) -> Gateway {
    Gateway::start(format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"))
}

/// Who answers, once the pool has so many healthy targets.
fn serving(gateway: &Gateway, healthy: u64) -> Vec<String> {
    eventually("the probes", || (gateway.admin("/pools").json()[0]["healthy"] == healthy).then_some(()));
    let mut names = times(12, || gateway.get("/").text());
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn a_backup_serves_while_nobody_else_can() {
    let (first, first_well) = switched("first");
    let (second, second_well) = switched("second");
    let (backup, _) = switched("backup");
    let gateway =
        pooled(&format!("{{ targets: ['{first}', '{second}', {{ at: '{backup}', backup: true }}], {HEALTH} }}"));
    assert_eq!(serving(&gateway, 3), ["first", "second"]);
    let shown = gateway.admin("/pools").json();
    let spare = &shown[0]["targets"][2];
    assert_eq!((&spare["priority"], &spare["out"]), (&1.into(), &"standby".into()), "{shown}");
    assert!(gateway.yumen("pools", &["--admin", gateway.admin_address()]).out.contains("on standby"));
    first_well.store(false, SeqCst);
    assert_eq!(serving(&gateway, 2), ["second"]);
    second_well.store(false, SeqCst);
    assert_eq!(serving(&gateway, 1), ["backup"]);
    assert_eq!(gateway.admin("/pools").json()[0]["targets"][2]["out"], serde_json::Value::Null);
    first_well.store(true, SeqCst);
    assert_eq!(serving(&gateway, 2), ["first"]);
}

#[test]
fn the_groups_are_used_in_their_order() {
    let origins = [switched("near"), switched("far"), switched("last")];
    let [(near, near_well), (far, far_well), (last, _)] = &origins;
    let gateway = pooled(&format!(
        "{{ targets: [{{ at: '{last}', priority: 7 }}, '{near}', {{ at: '{far}', priority: 2 }}], {HEALTH} }}"
    ));
    assert_eq!(serving(&gateway, 3), ["near"]);
    near_well.store(false, SeqCst);
    assert_eq!(serving(&gateway, 2), ["far"]);
    far_well.store(false, SeqCst);
    assert_eq!(serving(&gateway, 1), ["last"]);
}

#[test]
fn too_few_hand_over_to_the_next_group_and_only_without_one_all_are_used() {
    let origins = [switched("a"), switched("b"), switched("c"), switched("backup")];
    let [(a, a_well), (b, b_well), (c, _), (backup, backup_well)] = &origins;
    let gateway = pooled(&format!(
        "{{ targets: ['{a}', '{b}', '{c}', {{ at: '{backup}', backup: true }}], retry: off, panic_below: 50%, {HEALTH} }}"
    ));
    a_well.store(false, SeqCst);
    assert_eq!(serving(&gateway, 3), ["b", "c"], "two of three are enough");
    b_well.store(false, SeqCst);
    assert_eq!(serving(&gateway, 2), ["backup"], "one of three is not");
    backup_well.store(false, SeqCst);
    gateway.log.wait("all are used");
    assert_eq!(serving(&gateway, 1), ["a", "b", "backup", "c"].map(str::to_owned));
}

#[test]
fn a_breaker_that_opens_hands_over_at_once_and_a_further_try_does_too() {
    let failing = Origin::new(|_, talk| talk.answer(500, "", "failing"));
    let (backup, _) = switched("backup");
    let gateway = pooled(&format!(
        "{{ targets: ['{failing}', {{ at: '{backup}', backup: true }}], retry: {{ on: [500] }}, breaker: {{ open_after: 2, open_for: 1h }} }}"
    ));
    assert_eq!(times(6, || gateway.get("/").text()), vec!["backup"; 6]);
    assert_eq!(failing.seen().len(), 2);
}
