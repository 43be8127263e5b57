//! Balance that learns: who is quick gets more, who fails fast does not, and who is new begins slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Origin, eventually, times};

fn document(pool: &str) -> String {
    format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n")
}

/// An origin that takes its time.
fn slow(name: &'static str, length: Duration) -> Origin {
    Origin::new(move |_, talk| {
        let until = Instant::now() + length;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        talk.answer(200, "", name);
    })
}

fn count(answers: &[String], name: &str) -> usize {
    answers.iter().filter(|answer| *answer == name).count()
}

#[test]
fn by_ewma_the_slow_one_is_spared() {
    let (slow, quick) = (slow("slow", Duration::from_millis(400)), Origin::answering("quick"));
    let gateway = Gateway::start(document(&format!("{{ targets: ['{slow}', '{quick}'], balance: ewma }}")));
    let mut connection = gateway.connect();
    let answers = times(100, || connection.get("/").text());
    assert!((1..10).contains(&count(&answers, "slow")), "it was asked, and then spared: {answers:?}");
}

#[test]
fn by_ewma_who_fails_fast_draws_no_traffic() {
    let failing = Origin::new(|_, talk| talk.answer(500, "", "failed"));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sound = [slow("sound", Duration::from_millis(10)), slow("sound", Duration::from_millis(10))];
    for bad in [failing.to_string(), gone.to_string()] {
        let [one, two] = &sound;
        let gateway =
            Gateway::start(document(&format!("{{ targets: ['{bad}', '{one}', '{two}'], balance: ewma, retry: off }}")));
        let statuses = times(60, || gateway.get("/").status);
        let failed = statuses.iter().filter(|status| **status != 200).count();
        assert!((1..6).contains(&failed), "{statuses:?}");
    }
}

#[test]
fn who_comes_to_a_serving_pool_begins_with_a_small_share() {
    let (old, new) = (Origin::answering("old"), Origin::answering("new"));
    for balance in ["round_robin", "least_requests", "random", "ewma"] {
        let pool = |targets: &str| document(&format!("{{ targets: [{targets}], balance: {balance}, slow_start: 1h }}"));
        let mut gateway = Gateway::start(pool(&format!("'{old}'")));
        gateway.get("/");
        gateway.reload(pool(&format!("'{old}', '{new}'")));
        let mut connection = gateway.connect();
        let answers = times(300, || connection.get("/").text());
        // A tenth of its half; by ewma it may be much quicker than the other one, or much slower.
        let most = if balance == "ewma" { 75 } else { 45 };
        assert!(count(&answers, "new") < most, "{balance}: {}", count(&answers, "new"));
        if balance != "ewma" {
            assert!(count(&answers, "new") > 0, "{balance}: it gets some");
        }
    }
}

#[test]
fn the_share_grows_to_the_whole() {
    let (old, new) = (Origin::answering("old"), Origin::answering("new"));
    let pool = |targets: &str| document(&format!("{{ targets: [{targets}], slow_start: 1s }}"));
    let mut gateway = Gateway::start(pool(&format!("'{old}'")));
    gateway.reload(pool(&format!("'{old}', '{new}'")));
    let mut connection = gateway.connect();
    eventually("an even share", || {
        let answers = times(40, || connection.get("/").text());
        (count(&answers, "new") >= 19).then_some(())
    });
}

#[test]
fn who_comes_back_by_its_probes_begins_slowly_too() {
    let (well, seen) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (switch, counter) = (well.clone(), seen.clone());
    let back = Origin::new(move |asked, talk| {
        counter.fetch_add(usize::from(asked.target == "/"), SeqCst);
        talk.answer(if switch.load(SeqCst) { 200 } else { 500 }, "", "back");
    });
    let stays = Origin::answering("stays");
    let gateway = Gateway::start(document(&format!(
        "{{ targets: ['{back}', '{stays}'], slow_start: 1h, health: {{ http: /healthz, every: 100ms, down_after: 1, up_after: 1 }} }}"
    )));
    let healthy = |count: u64| {
        eventually("the probes", || (gateway.admin("/pools").json()[0]["healthy"] == count).then_some(()));
    };
    healthy(2);
    assert!(
        times(40, || gateway.get("/").text()).iter().filter(|name| *name == "back").count() >= 19,
        "at the start at once"
    );
    well.store(false, SeqCst);
    healthy(1);
    well.store(true, SeqCst);
    healthy(2);
    let before = seen.load(SeqCst);
    let mut connection = gateway.connect();
    times(300, || connection.get("/").status);
    let got = seen.load(SeqCst) - before;
    assert!((1..45).contains(&got), "{got} of 300");
}
