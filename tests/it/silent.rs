//! Targets that answer nobody: what their clients notice by default, who is asked instead, and how they come back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::handshake::{SWITCH, upgrade};
use crate::harness::{Gateway, Origin, Request, eventually, h2, times};

/// Longer than a target may be silent by default, twice.
const LONG: Duration = Duration::from_mins(1);

fn pooled(pool: &str) -> Gateway {
    Gateway::start(format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"))
}

fn well() -> Origin {
    Origin::answering("well")
}

/// An origin that counts what comes, and answers none of it while its switch is off.
fn mute() -> (Origin, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (speaks, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (switch, counter) = (speaks.clone(), seen.clone());
    let origin = Origin::new(move |_, talk| {
        counter.fetch_add(1, SeqCst);
        if switch.load(SeqCst) {
            talk.answer(200, "", "back");
        } else {
            // Whoever asked is gone by then, or the test is.
            thread::park_timeout(Duration::from_secs(30));
        }
    });
    (origin, speaks, seen)
}

/// Clients that ask one request after the other, until it is enough; how long the slowest answer of each took.
struct Clients {
    enough: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<Duration>>,
}

impl Clients {
    fn of(gateway: &Arc<Gateway>, count: usize) -> Self {
        let (enough, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let ask = |_| {
            let (gateway, enough, answered) = (gateway.clone(), enough.clone(), answered.clone());
            thread::spawn(move || {
                let (mut connection, mut slowest) = (gateway.connect().patient(LONG), Duration::ZERO);
                while !enough.load(SeqCst) {
                    let begun = Instant::now();
                    assert_eq!(connection.get("/").text(), "well");
                    slowest = slowest.max(begun.elapsed());
                    answered.fetch_add(1, SeqCst);
                }
                slowest
            })
        };
        let threads = (0..count).map(ask).collect();
        Self { enough, answered, threads }
    }

    fn get_more(&self, answers: usize) {
        let before = self.answered.load(SeqCst);
        eventually("answers", || (self.answered.load(SeqCst) >= before + answers).then_some(()));
    }

    fn end(self) -> Duration {
        self.enough.store(true, SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    }
}

fn shown(gateway: &Gateway, target: &str) -> serde_json::Value {
    let pools = gateway.admin("/pools").json();
    pools[0]["targets"].as_array().unwrap().iter().find(|one| one["address"] == target).unwrap().clone()
}

#[test]
fn by_default_no_request_fails_for_a_frozen_target_and_it_comes_back() {
    let target = || Gateway::start("routes: { all: { match: /*, respond: { body: well } } }\n");
    let targets = [target(), target(), target()];
    let [a, b, c] = targets.each_ref().map(Gateway::edge);
    let gateway = Arc::new(pooled(&format!("['{a}', '{b}', '{c}']")));
    let clients = Clients::of(&gateway, 12);
    clients.get_more(100);
    targets[0].signal("STOP");
    let said = gateway.log.wait_for("is ejected for 10s, time 1 in a row", LONG);
    assert!(said.contains(&format!("target {a}")) && said.contains("3 requests in a row without an answer"), "{said}");
    clients.get_more(100);
    assert!(shown(&gateway, &a)["ejection"]["times"].as_u64().unwrap() > 0);
    let slowest = clients.end();
    assert!(slowest > Duration::from_secs(14), "some have waited: {slowest:?}");
    let line = gateway.access_line(|line| line["retried_after"] == "timeout");
    assert_eq!((&line["tries"], &line["http.response.status_code"]), (&2.into(), &200.into()));
    assert_eq!(shown(&gateway, &b)["failures"], 0);
    targets[0].signal("CONT");
    let before = shown(&gateway, &a)["picks"].as_u64().unwrap();
    eventually("it serves again", || {
        times(3, || gateway.get("/").text());
        (shown(&gateway, &a)["picks"].as_u64().unwrap() > before + 3).then_some(())
    });
}

#[test]
fn who_comes_back_has_to_answer_one_request_first() {
    let ((bad, speaks, seen), good) = (mute(), well());
    let settings = "timeout: { first_byte: 200ms }, eject: { errors: 3, for: 300ms }";
    let gateway = Arc::new(pooled(&format!("{{ targets: ['{bad}', '{good}'], {settings} }}")));
    let clients = Clients::of(&gateway, 6);
    gateway.log.wait("is ejected for 300ms, time 1 in a row: 3 failures in a row");
    let before = seen.load(SeqCst);
    gateway.log.wait("is ejected for 600ms, time 2 in a row: the first request after its rest failed");
    gateway.log.wait("is ejected for 1.2s, time 3 in a row: the first request after its rest failed");
    let tried = seen.load(SeqCst) - before;
    assert!((2..=8).contains(&tried), "{tried}: not a third of all requests");
    clients.end();
    speaks.store(true, SeqCst);
    eventually("it serves", || {
        (times(4, || gateway.get("/").text()).iter().filter(|text| *text == "back").count() > 1).then_some(())
    });
}

#[test]
fn where_all_targets_are_silent_the_budget_holds() {
    let (start, targets) = (Instant::now(), [mute(), mute(), mute()]);
    let [a, b, c] = targets.each_ref().map(|(origin, ..)| origin);
    let settings = "timeout: { first_byte: 60ms }, retry: { backoff: 1ms..2ms }";
    let gateway = Arc::new(pooled(&format!("{{ targets: ['{a}', '{b}', '{c}'], {settings} }}")));
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let gateway = gateway.clone();
            thread::spawn(move || times(20, || assert_eq!(gateway.get("/").status, 504)))
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let reached: usize = targets.iter().map(|(.., seen)| seen.load(SeqCst)).sum();
    let most = 1.2 * 400.0 + 10.0 + 3.0 * (1.0 + start.elapsed().as_secs_f64());
    assert!(f64::from(u32::try_from(reached).unwrap()) <= most, "{reached} of at most {most}");
    let gone = gateway.admin("/pools").json()[0]["targets"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["ejection"]["out"] == true)
        .count();
    assert!(gone <= 1, "somebody is always asked: {gone}");
}

#[test]
fn clients_that_leave_before_the_limit_tell_of_a_silence_too() {
    let ((bad, _, seen), good) = (mute(), well());
    let gateway = pooled(&format!("{{ targets: [{{ at: '{bad}', weight: 1000 }}, '{good}'] }}"));
    let mut waiting: Vec<_> = times(3, || gateway.connect());
    for connection in &mut waiting {
        connection.send(Request::get("/").bytes());
    }
    eventually("they wait", || (seen.load(SeqCst) == 3).then_some(()));
    let since = Mutex::new(Instant::now());
    eventually("some patience", || (since.lock().unwrap().elapsed() > Duration::from_millis(5100)).then_some(()));
    drop(waiting);
    gateway.log.wait("is ejected for 10s, time 1 in a row: 3 requests in a row without an answer");
    assert_eq!(gateway.get("/").text(), "well");
}

#[test]
fn nobody_is_ejected_where_the_document_says_off() {
    let ((bad, _, seen), good) = (mute(), well());
    let settings = "timeout: { first_byte: 50ms }, eject: off";
    let gateway = pooled(&format!("{{ targets: ['{bad}', '{good}'], {settings} }}"));
    assert_eq!(times(20, || gateway.get("/").text()), vec!["well"; 20]);
    assert!(seen.load(SeqCst) >= 10, "every first request that is its turn: {seen:?}");
    assert!(shown(&gateway, &bad.to_string())["ejection"].is_null());
}

#[test]
fn a_stream_may_begin_as_late_as_it_may_rest() {
    let origin = Origin::new(|_, talk| {
        thread::park_timeout(Duration::from_millis(700));
        talk.answer(200, "Content-Type: text/event-stream\r\n", "data: 1\n\n");
    });
    let gateway =
        pooled(&format!("{{ targets: ['{origin}'], timeout: {{ idle: 200ms, stream_idle: 20s }}, retry: off }}"));
    assert_eq!(gateway.get("/").verdict(), (504, "upstream.timeout.first_byte".into()));
    assert_eq!(gateway.ask(Request::get("/").with("Accept", "text/event-stream")).text(), "data: 1\n\n");
}

#[test]
fn a_tunnel_from_before_does_not_keep_a_target_from_being_tried() {
    let (bad, good) = (AtomicBool::new(true), well());
    let switch = Arc::new(bad);
    let is_bad = switch.clone();
    let origin = Origin::new(move |seen, talk| {
        if seen.field("upgrade").is_some() {
            talk.send(SWITCH).echo();
        } else if is_bad.load(SeqCst) {
            talk.close();
        } else {
            talk.answer(200, "", "back");
        }
    });
    let gateway = pooled(&format!("{{ targets: ['{origin}', '{good}'], eject: {{ errors: 1, for: 200ms }} }}"));
    let mut tunnel = eventually("a tunnel", || {
        let mut connection = gateway.connect();
        (connection.ask(&upgrade()).status == 101).then_some(connection)
    });
    eventually("the ejection", || {
        gateway.get("/");
        gateway.log.all().iter().any(|line| line.contains("is ejected for 200ms")).then_some(())
    });
    switch.store(false, SeqCst);
    eventually("it is tried, and serves", || (gateway.get("/").text() == "back").then_some(()));
    assert_eq!(tunnel.send("still").exactly(5), b"still");
}

#[test]
fn over_http2_a_silent_target_is_left_for_another_too() {
    let bad = h2::Origin::scripted(|_, respond| {
        // Dropped, it would be reset.
        thread::park_timeout(Duration::from_secs(5));
        drop(respond);
    });
    let good = h2::Origin::plain(&[]);
    let settings = "protocol: h2c, timeout: { first_byte: 300ms }";
    let gateway = pooled(&format!("{{ targets: [{{ at: '{bad}', weight: 1000 }}, '{good}'], {settings} }}"));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(good.asked()[0].head.headers["x-yumen-attempt"], "2");
    gateway.access_line(|line| line["retried_after"] == "timeout");
}
