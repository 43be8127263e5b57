//! As many requests at once as a target can bear; who waits, and who hears at once that all is full.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::wire::Response;
use crate::harness::{Connection, Gateway, Origin, eventually, times};

/// An origin that answers so many requests as it was allowed to; others stay with it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    fn allow(&self, more: usize) {
        *self.0.0.lock().unwrap() += more;
        self.0.1.notify_all();
    }
    fn pass(&self) {
        let left = self.0.1.wait_while(self.0.0.lock().unwrap(), |left| *left == 0);
        *left.unwrap() -= 1;
    }
}

struct Busy {
    origin: Origin,
    gate: Gate,
    most: Arc<AtomicUsize>,
}

impl Busy {
    fn new() -> Self {
        let (gate, now, most) = (Gate::default(), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let (door, highest) = (gate.clone(), most.clone());
        let origin = Origin::new(move |seen, talk| {
            highest.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            door.pass();
            now.fetch_sub(1, SeqCst);
            talk.answer(200, "", &seen.target);
        });
        Self { origin, gate, most }
    }

    fn seen(&self) -> usize {
        self.origin.seen().len()
    }
}

fn document(targets: &[&Busy], settings: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|busy| format!("'{}'", busy.origin)).collect();
    format!(
        "pools: {{ app: {{ targets: [{}], {settings} }} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n",
        targets.join(", ")
    )
}

fn asks(gateway: &Gateway, target: &str) -> JoinHandle<Response> {
    let (mut connection, target) = (Connection::to(&gateway.edge()), target.to_owned());
    thread::spawn(move || connection.get(&target))
}

fn waiting(gateway: &Gateway) -> u64 {
    gateway.admin("/pools").json()[0]["queue"]["waiting"].as_u64().unwrap()
}

fn wait_for(gateway: &Gateway, count: u64) {
    eventually(&format!("{count} wait"), || (waiting(gateway) == count).then_some(()));
}

#[test]
fn no_target_has_more_requests_than_it_may_and_the_others_wait() {
    let (one, two) = (Busy::new(), Busy::new());
    let settings = "max_in_flight: { per_target: 3, queue: 20, wait: 20s }";
    let gateway = Gateway::start(document(&[&one, &two], settings));
    let asking: Vec<_> = (0..14).map(|n| asks(&gateway, &format!("/{n}"))).collect();
    wait_for(&gateway, 8);
    eventually("all places are taken", || (one.seen() == 3 && two.seen() == 3).then_some(()));
    let gauge = || gateway.metrics().sum("yumen_pool_queue_length", &[("pool", "app")]);
    assert!((7.5..8.5).contains(&gauge()), "{}", gauge());
    let told = gateway.yumen("pools", &["--admin", gateway.admin_address()]);
    assert!(told.out.contains("8 of 20 wait for one of 3 places a target"), "{}", told.out + &told.err);
    one.gate.allow(100);
    two.gate.allow(100);
    assert!(asking.into_iter().all(|asking| asking.join().unwrap().status == 200));
    assert_eq!((one.most.load(SeqCst), two.most.load(SeqCst), waiting(&gateway)), (3, 3, 0));
    assert!(gauge() < 0.5);
    let queued = |line: &serde_json::Value| line["timings_ms"]["queue"].as_f64();
    gateway.access_line(|line| queued(line).is_some_and(|ms| ms > 0.0));
    eventually("all lines", || {
        (gateway.access().iter().filter(|line| queued(line).is_some()).count() == 8).then_some(())
    });
}

#[test]
fn who_finds_the_queue_full_hears_it_at_once_and_who_waits_too_long_hears_it_then() {
    let busy = Busy::new();
    let gateway = Gateway::start(document(&[&busy], "max_in_flight: { per_target: 1, queue: 1, wait: 300ms }"));
    let first = asks(&gateway, "/first");
    eventually("it is there", || (busy.seen() == 1).then_some(()));
    let start = Instant::now();
    let second = asks(&gateway, "/second");
    wait_for(&gateway, 1);
    let third = gateway.get("/third");
    assert_eq!(third.verdict(), (503, "pool.queue_full".to_owned()));
    assert!(third.field("retry-after").is_some(), "{third:?}");
    assert_eq!(second.join().unwrap().verdict(), (503, "pool.queue_timeout".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    let line = gateway.access_line(|line| line["reason"] == "pool.queue_timeout");
    assert_eq!(line["detail"], "waited in vain: every target has as many requests as `max_in_flight` allows");
    busy.gate.allow(2);
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(gateway.get("/fourth").status, 200, "its place is free again");
    assert_eq!(busy.seen(), 2, "who was refused reached nobody");
}

#[test]
fn nobody_waits_where_the_queue_has_no_places() {
    let busy = Busy::new();
    let gateway = Gateway::start(document(&[&busy], "max_in_flight: { per_target: 1, queue: 0 }"));
    let first = asks(&gateway, "/");
    eventually("it is there", || (busy.seen() == 1).then_some(()));
    assert_eq!(gateway.get("/").verdict(), (503, "pool.queue_full".to_owned()));
    busy.gate.allow(1);
    assert_eq!(first.join().unwrap().status, 200);
}

#[test]
fn who_came_first_is_served_first_also_through_a_reload() {
    let busy = Busy::new();
    let text = document(&[&busy], "max_in_flight: { per_target: 1, queue: 9, wait: 20s }");
    let mut gateway = Gateway::start(&text);
    let mut asking = vec![asks(&gateway, "/0")];
    eventually("it is there", || (busy.seen() == 1).then_some(()));
    for n in 1..4 {
        asking.push(asks(&gateway, &format!("/{n}")));
        wait_for(&gateway, n);
    }
    gateway.reload(text.replace("wait: 20s", "wait: 19s"));
    for n in 4..7 {
        asking.push(asks(&gateway, &format!("/{n}")));
        wait_for(&gateway, n);
    }
    for n in 1..7 {
        busy.gate.allow(1);
        eventually("the next", || (busy.seen() == n + 1).then_some(()));
    }
    busy.gate.allow(1);
    assert!(asking.into_iter().all(|asking| asking.join().unwrap().status == 200));
    assert_eq!(busy.origin.targets(), ["/0", "/1", "/2", "/3", "/4", "/5", "/6"]);
}

#[test]
fn a_full_pool_falls_back_and_a_request_in_a_hurry_does_not_wait_for_it() {
    let (busy, other) = (Busy::new(), Origin::answering("other"));
    let gateway = Gateway::start(format!(
        "pools:
  app: {{ targets: ['{0}'], max_in_flight: {{ per_target: 1, queue: 0 }}, fallback: other }}
  slow: {{ targets: ['{0}'], max_in_flight: {{ per_target: 1, wait: 20s }}, timeout: {{ total: 5s, deadline_header: x-wait }} }}
  other: ['{other}']
routes:
  all: {{ match: /*, to: app }}
  slow: {{ match: /slow, to: slow }}
",
        busy.origin
    ));
    let held = [asks(&gateway, "/"), asks(&gateway, "/slow")];
    eventually("they are there", || (busy.seen() == 2).then_some(()));
    assert_eq!(gateway.get("/").text(), "other");
    let hurry = crate::harness::Request::get("/slow").with("X-Wait", "100ms");
    assert_eq!(gateway.ask(hurry).verdict(), (504, "upstream.timeout.total".to_owned()));
    busy.gate.allow(2);
    assert!(held.into_iter().all(|asking| asking.join().unwrap().status == 200));
}

#[test]
fn a_further_try_needs_no_second_place() {
    let tries = AtomicUsize::new(0);
    let origin = Origin::new(move |_, talk| {
        let status = if tries.fetch_add(1, SeqCst) == 0 { 503 } else { 200 };
        talk.answer(status, "", "");
    });
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], max_in_flight: {{ per_target: 1, queue: 1 }}, retry: {{ on: [503] }} }} }}
routes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    assert_eq!(times(3, || gateway.get("/").status), [200; 3]);
    assert_eq!(origin.seen().len(), 4);
}

#[test]
fn a_shadow_lets_all_of_them_pass_and_counts_who_would_wait() {
    let busy = Busy::new();
    let settings = "max_in_flight: { per_target: 1, queue: 0, mode: shadow }";
    let gateway = Gateway::start(document(&[&busy], settings));
    let asking: Vec<_> = (0..3).map(|n| asks(&gateway, &format!("/{n}"))).collect();
    eventually("all of them are there", || (busy.seen() == 3).then_some(()));
    let queue = gateway.admin("/pools").json()[0]["queue"].clone();
    assert_eq!((&queue["would_wait"], &queue["waiting"]), (&2.into(), &0.into()), "{queue}");
    busy.gate.allow(3);
    assert!(asking.into_iter().all(|asking| asking.join().unwrap().status == 200));
}
