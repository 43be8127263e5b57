//! The service goes from one process to the next, and no client notices.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::tools::{self, signal};
use crate::harness::{Connection, Gateway, Origin, PATIENCE, Request, eventually};
use crate::tunnels::{Socket, conversing};

/// A gateway before this origin whose user may order upgrades.
fn document(origin: &Origin, more: &str) -> String {
    format!(
        "admin: {{ bind: 127.0.0.1:0, control: \"unix:$DIR/control.sock\" }}\n{more}\n{}",
        Gateway::document(origin, "all: { match: /*, to: app }")
    )
}

fn succeeding(origin: &Origin) -> Gateway {
    Gateway::start(document(origin, "runtime: { drain: { idle: 500ms } }"))
}

/// An origin that answers `/slow` when the lock that comes with it is let go of.
fn holding() -> (Origin, Arc<RwLock<()>>) {
    let gate = Arc::new(RwLock::new(()));
    let at_the_gate = gate.clone();
    let origin = Origin::new(move |seen, talk| {
        let _passed = (seen.target == "/slow").then(|| at_the_gate.read().unwrap());
        talk.answer(200, "", "hello");
    });
    (origin, gate)
}

/// Ends the clients also where a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks again and again until it is over; how often it was answered. Whoever is told that an answer was the last opens
/// another connection, as clients do.
fn asks(address: &str, over: &AtomicBool, keeps: bool) -> usize {
    let (mut connection, mut answered) = (Connection::to(address), 0);
    while !over.load(Ordering::Relaxed) {
        let response = connection.ask(&Request::get("/x"));
        assert_eq!(response.status, 200, "{response:?}");
        answered += 1;
        if !keeps || response.field("connection").is_some_and(|said| said.eq_ignore_ascii_case("close")) {
            connection = Connection::to(address);
        }
    }
    answered
}

#[test]
fn upgrades_in_a_row_lose_no_request() {
    let upgrades = std::env::var("UPGRADES").map_or(5, |number| number.parse().unwrap());
    let origin = Origin::answering("hello");
    let mut gateway = succeeding(&origin);
    let (over, edge) = (AtomicBool::new(false), gateway.edge());
    let answered = thread::scope(|scope| {
        let clients: Vec<_> = [true, true, false, false]
            .map(|keeps| {
                let (over, edge) = (&over, edge.clone());
                scope.spawn(move || asks(&edge, over, keeps))
            })
            .into();
        let over = Over(&over);
        for number in 1..=upgrades {
            let generation = gateway.generation();
            gateway.upgrade();
            assert_eq!(gateway.generation(), generation + 1, "upgrade {number}");
        }
        drop(over);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    println!("{upgrades} upgrades, {answered} requests, none failed");
    assert!(answered > 4 * upgrades);
    assert_eq!(gateway.ended(), 0, "the first process has drained");
    assert!(gateway.metrics().sum("yumen_upgrades_total", &[("result", "ok")]) > 0.0);
}

#[test]
fn what_is_in_flight_ends_where_it_began() {
    let (origin, gate) = holding();
    let held = gate.write().unwrap();
    let mut gateway = succeeding(&origin);
    let first = gateway.pid();
    let mut waiting = gateway.connect();
    waiting.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the request is there", || (origin.seen().len() == 1).then_some(()));
    let second = gateway.upgrade();
    assert_ne!(first, second);
    let draining = eventually("the first drains", || {
        gateway.status()["draining_generations"][0]["connections"].as_u64().filter(|connections| *connections == 1)
    });
    assert_eq!(draining, 1);
    drop(held);
    assert_eq!(waiting.response().status, 200);
    assert_eq!(gateway.ended(), 0);
    eventually("nobody drains", || {
        gateway.status()["draining_generations"].as_array().unwrap().is_empty().then_some(())
    });
}

#[test]
fn tunnels_are_told_to_come_back_and_live_until_then() {
    let origin = conversing();
    let mut gateway = Gateway::start(document(&origin, "runtime: { drain: { streams: 4s, requests: 4s } }"));
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(&gateway)).collect();
    gateway.upgrade();
    let mut fresh = Socket::open(&gateway);
    for socket in &mut sockets {
        assert_eq!(socket.is_closed(), 1012);
    }
    fresh.converses(b"the next process");
    assert_eq!(gateway.ended(), 0);
}

#[test]
fn hundreds_of_listeners_go_over_and_so_do_unix_sockets() {
    let origin = Origin::answering("hello");
    let listeners: String = (0..300).map(|at| format!("  l{at}: {{ bind: '127.0.0.1:0' }}\n")).collect();
    let listeners = format!("listeners:\n{listeners}  local: {{ bind: \"unix:$DIR/edge.sock\" }}");
    let mut gateway = Gateway::start(document(&origin, &format!("runtime: {{ workers: 1 }}\n{listeners}")));
    let before = gateway.status()["listeners"].clone();
    gateway.upgrade();
    assert_eq!(gateway.status()["listeners"], before);
    for name in ["l0", "l149", "l299", "local"] {
        let response = Connection::to(&gateway.listener(name)).ask(&Request::get("/"));
        assert_eq!(response.status, 200, "{name}");
    }
    assert_eq!(gateway.ended(), 0);
    let local = gateway.listener("local");
    assert_eq!(Connection::to(&local).ask(&Request::get("/")).status, 200, "its file is still there");
}

#[test]
fn a_change_that_needs_a_new_process_brings_one() {
    let origin = Origin::answering("hello");
    let mut gateway = Gateway::start(document(&origin, "runtime: { workers: 1, drain: { idle: 500ms } }"));
    let first = gateway.pid();
    gateway.write(document(&origin, "runtime: { workers: 3, drain: { idle: 500ms } }"));
    let second = gateway.succeeded(first);
    let threads = fs::read_dir(format!("/proc/{second}/task")).unwrap().flatten();
    let workers = threads
        .filter(|thread| fs::read_to_string(thread.path().join("comm")).unwrap_or_default().starts_with("worker-"));
    assert_eq!(workers.count(), 3);
    assert_eq!((gateway.generation(), gateway.get("/").status), (2, 200));
    assert_eq!(gateway.ended(), 0);

    gateway.write(document(&origin, "runtime: { workers: 2, drain: { idle: 500ms } }"));
    let ended = gateway.yumen("reload", &["--wait", "--admin", gateway.admin_address()]);
    // Whichever comes first, the watch or this order: it serves in a third process.
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    gateway.succeeded(second);
    assert_eq!(gateway.generation(), 3);
}

#[test]
fn a_signal_brings_a_successor_too() {
    let origin = Origin::answering("hello");
    let mut gateway = succeeding(&origin);
    let first = gateway.pid();
    gateway.signal("USR2");
    gateway.succeeded(first);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.ended(), 0);
}

#[test]
fn a_target_that_is_drained_by_hand_stays_so_for_its_time() {
    let (a, b) = (Origin::answering("a"), Origin::answering("b"));
    let mut gateway = Gateway::start(format!(
        "admin: {{ bind: 127.0.0.1:0, control: \"unix:$DIR/control.sock\" }}\nruntime: {{ drain: {{ idle: 500ms }} }}\n\
         pools: {{ app: [\"{a}\", \"{b}\"] }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    let order = Request::post(&format!("/target?pool=app&target={a}&to=drain&for=10s"), "");
    assert_eq!(gateway.admin_ask(order).status, 200);
    gateway.upgrade();
    a.forget();
    for _ in 0..6 {
        assert_eq!(gateway.get("/").text(), "b");
    }
    assert!(a.seen().is_empty());
    eventually("its time is over", || (gateway.get("/").text() == "a").then_some(()));
}

/// A program in the directory of the gateway.
fn program(gateway: &Gateway, name: &str, text: &str) -> String {
    let file = gateway.setup.path().join(name);
    // By another process: one that is started meanwhile must not have it open for writing.
    let script = format!("cat > '{0}' <<'END'\n{text}\nEND\nchmod 755 '{0}'", file.display());
    assert_eq!(tools::run("sh", &["-c", &script]).code, 0);
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_successor_that_fails_leaves_the_old_process_serving() {
    let origin = Origin::answering("hello");
    let gateway = succeeding(&origin);
    let (over, edge) = (AtomicBool::new(false), gateway.edge());
    let kept = thread::scope(|scope| {
        let client = scope.spawn(|| asks(&edge, &over, true));
        let over = Over(&over);
        let real = env!("CARGO_BIN_EXE_yumen");
        for (name, text, said) in [
            ("ends", "#!/bin/sh\nexit 3", "ended and was not ready"),
            ("no-program", "neither", "cannot start"),
            ("for-nobody", "#!/no/such/interpreter", "cannot start"),
            ("deaf", "#!/bin/sh\nexec 0</dev/null\nexec sleep 0.2", "ended and was not ready"),
            (
                "killed",
                &format!("#!/bin/sh\n(sleep 0.3; kill -9 0) &\nexec '{real}' check --config /dev/null"),
                "ended",
            ),
        ] {
            let ended = gateway.yumen("upgrade", &[&program(&gateway, name, text)]);
            assert_eq!(ended.code, 75, "{name}: {}{}", ended.out, ended.err);
            assert!(ended.err.contains(said), "{name}: {}", ended.err);
        }
        drop(over);
        client.join().unwrap()
    });
    assert!(kept > 0);
    assert_eq!(gateway.generation(), 1);
    assert!(gateway.metrics().sum("yumen_upgrades_total", &[("result", "failed")]) > 4.0);
    assert_eq!(gateway.yumen("upgrade", &["/no/such/program"]).code, 66);
}

#[test]
fn a_document_that_the_new_program_refuses_is_told_with_its_place() {
    let origin = Origin::answering("hello");
    let gateway = succeeding(&origin);
    let broken = document(&origin, "runtime: { drain: { idle: 500ms } }\npool: {}");
    fs::write(gateway.setup.path().join("yumen.yaml"), broken.replace("$DIR", gateway.setup.path().to_str().unwrap()))
        .unwrap();
    let ended = gateway.yumen("upgrade", &[]);
    assert_eq!(ended.code, 78, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("yumen.yaml:3:1  error  pool: unknown key. Did you mean `pools`?"), "{}", ended.err);
    assert!(ended.err.contains("refused: generation 1 serves on"), "{}", ended.err);
    assert_eq!((gateway.get("/").status, gateway.generation()), (200, 1));
}

#[test]
fn only_the_user_of_the_gateway_may_order_an_upgrade() {
    let origin = Origin::answering("hello");
    let gateway = succeeding(&origin);
    let control = gateway.setup.path().join("control.sock");
    assert_eq!(fs::metadata(control).unwrap().permissions().mode() & 0o777, 0o600);
    let post = Request::new("POST", "/upgrade?program=/bin/true");
    assert_eq!(gateway.admin_ask(post).status, 403);
    assert_eq!(gateway.admin("/upgrade").status, 405);
    let without = Gateway::passing(&origin);
    let ended = without.yumen("upgrade", &[]);
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("admin.control"), "{}", ended.err);
}

#[test]
fn no_more_than_four_generations_drain() {
    let (origin, gate) = holding();
    let held = gate.write().unwrap();
    let mut gateway = succeeding(&origin);
    let mut waiting = Vec::new();
    for number in 1..=6 {
        let mut client = gateway.connect();
        client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        eventually("the request is there", || (origin.seen().len() == number).then_some(()));
        waiting.push(client);
        gateway.upgrade();
    }
    eventually("four of them drain", || {
        (gateway.status()["draining_generations"].as_array().unwrap().len() == 4).then_some(())
    });
    assert_eq!(gateway.ended(), 0, "the first had to leave");
    drop(held);
    let answered = waiting.into_iter().skip(2).map(|mut client| client.response().status);
    assert!(answered.eq([200; 4]));
}

#[test]
fn signals_in_any_order_have_a_defined_end() {
    let origin = Origin::answering("hello");
    for order in [["HUP", "TERM", "QUIT"], ["TERM", "HUP", "USR2"], ["QUIT", "USR1", "TERM"], ["USR2", "HUP", "TERM"]] {
        let mut gateway = succeeding(&origin);
        let idle = gateway.connect();
        let first = gateway.pid();
        for name in order {
            let _ = tools::try_signal(gateway.pid(), name);
        }
        assert_eq!(gateway.ended(), 0, "{order:?}");
        drop(idle);
        // A successor that had come so far serves on, and obeys.
        if let Some(next) = gateway
            .log
            .all()
            .iter()
            .find_map(|line| line.split("the successor ").nth(1)?.split(' ').next()?.parse().ok())
        {
            assert_ne!(first, next);
            let _ = tools::try_signal(next, "TERM");
        }
    }
}

#[test]
fn connections_at_rest_get_one_more_answer_before_they_are_closed() {
    let origin = Origin::answering("hello");
    let mut gateway = Gateway::start(document(&origin, "runtime: { drain: { idle: 5s } }"));
    let mut kept: Vec<_> = (0..50).map(|_| gateway.connect()).collect();
    for connection in &mut kept {
        assert_eq!(connection.ask(&Request::get("/")).status, 200);
    }
    signal(gateway.pid(), "TERM");
    eventually("it drains", || gateway.status()["draining"].as_bool().filter(|draining| *draining));
    for connection in &mut kept {
        let last = connection.ask(&Request::get("/"));
        assert_eq!((last.status, last.field("connection")), (200, Some("close")));
    }
    let start = Instant::now();
    assert_eq!(gateway.ended(), 0);
    assert!(start.elapsed() < Duration::from_secs(4), "nobody is left: {:?}", start.elapsed());
}

#[test]
fn who_rests_too_long_is_closed_without_a_reset() {
    let origin = Origin::answering("hello");
    let mut gateway = Gateway::start(document(&origin, "runtime: { drain: { idle: 300ms } }"));
    let mut kept = gateway.connect();
    assert_eq!(kept.ask(&Request::get("/")).status, 200);
    signal(gateway.pid(), "TERM");
    let (rest, ended) = kept.rest(PATIENCE);
    assert!(rest.is_empty() && ended, "{rest:?}");
    assert_eq!(gateway.ended(), 0);
}
