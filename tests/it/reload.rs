//! A changed document serves by itself, a broken one never does, and nobody notices either.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Gateway, Origin, Setup, eventually};

fn saying(word: &str) -> String {
    format!(
        "version: 1\nadmin: {{ bind: 127.0.0.1:0 }}\nlisteners: {{ edge: {{ bind: 127.0.0.1:0 }} }}\n\
         observe: {{ access_log: {{ to: off }} }}\nroutes:\n  all: {{ match: '/*', respond: {{ body: {word} }} }}\n"
    )
}

fn until(gateway: &Gateway, word: &str) {
    eventually(word, || (gateway.get("/").text() == word).then_some(()));
}

#[test]
fn every_way_of_writing_a_file_is_noticed() {
    let gateway = Gateway::start(saying("first"));
    let file = gateway.setup.path().join("yumen.yaml");
    gateway.write(saying("renamed"));
    until(&gateway, "renamed");
    fs::write(&file, saying("rewritten")).unwrap();
    until(&gateway, "rewritten");
    fs::remove_file(&file).unwrap();
    fs::write(&file, saying("recreated")).unwrap();
    until(&gateway, "recreated");
    let text = saying("halves");
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    gateway.log.wait("yumen.yaml");
    fs::write(&file, &text).unwrap();
    until(&gateway, "halves");
}

#[test]
fn a_swapped_symlink_is_noticed() {
    let setup = Setup::new().file("v1/yumen.yaml", saying("one")).file("v2/yumen.yaml", saying("two"));
    let dir = setup.path().to_owned();
    // As Kubernetes mounts a ConfigMap: the file is a link into a directory that is itself a link.
    symlink(dir.join("v1"), dir.join("data")).unwrap();
    let mut gateway = setup.start(saying("start"));
    let document = dir.join("yumen.yaml");
    fs::remove_file(&document).unwrap();
    symlink("data/yumen.yaml", &document).unwrap();
    until(&gateway, "one");
    symlink(dir.join("v2"), dir.join("data.new")).unwrap();
    fs::rename(dir.join("data.new"), dir.join("data")).unwrap();
    until(&gateway, "two");
    assert!(gateway.is_running());
}

#[test]
fn an_included_file_is_watched_too() {
    let route = |word: &str| format!("routes:\n  all: {{ match: '/*', respond: {{ body: {word} }} }}\n");
    let setup = Setup::new().file("conf.d/a.yaml", route("one"));
    let gateway = setup.start("include: [conf.d/*.yaml]\n");
    until(&gateway, "one");
    fs::write(gateway.setup.path().join("conf.d/a.yaml"), route("two")).unwrap();
    until(&gateway, "two");
    fs::write(
        gateway.setup.path().join("conf.d/b.yaml"),
        "routes:\n  more: { match: /more, respond: { body: more } }\n",
    )
    .unwrap();
    eventually("a new file", || (gateway.get("/more").text() == "more").then_some(()));
}

#[test]
fn a_broken_document_changes_nothing_and_everyone_is_told() {
    let mut gateway = Gateway::start(saying("good"));
    let before = gateway.generation();
    gateway.write("version: 1\nroutes:\n  all: { mtach: '/*', respond: 204 }\n");
    gateway.log.wait("mtach");
    assert_eq!(gateway.get("/").text(), "good");
    assert_eq!(gateway.generation(), before);
    eventually("the metric", || (gateway.metrics().sum("yumen_config_last_reload_success", &[]) < 0.5).then_some(()));
    assert!(gateway.metrics().sum("yumen_config_reloads_total", &[("result", "refused")]) > 0.5);
    assert!(gateway.status().to_string().contains("mtach"), "{}", gateway.status());
    assert!(gateway.is_running());
    gateway.write(saying("better"));
    until(&gateway, "better");
    assert!(gateway.metrics().sum("yumen_config_last_reload_success", &[]) > 0.5);
}

#[test]
fn a_listener_that_cannot_be_bound_refuses_the_reload() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(saying("good"));
    let address = taken.local_addr().unwrap().to_string();
    let both = format!("{{ edge: {{ bind: 127.0.0.1:0 }}, more: {{ bind: \"{address}\" }} }}");
    gateway.write(saying("bad").replace("{ edge: { bind: 127.0.0.1:0 } }", &both));
    gateway.log.wait(&address);
    assert_eq!(gateway.get("/").text(), "good");
}

#[test]
fn the_verb_reload_tells_the_verdict() {
    let gateway = Gateway::start(saying("first"));
    let admin = gateway.admin_address().to_owned();
    let reload = || gateway.yumen("reload", &["--wait", "--admin", &admin]);
    gateway.write(saying("second"));
    assert_eq!(reload().code, 0);
    assert_eq!(gateway.get("/").text(), "second");
    gateway.write(saying("third").replace("match", "mtach"));
    let refused = reload();
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!((refused.out + &refused.err).contains("mtach"));
    assert_eq!(gateway.get("/").text(), "second");
    drop(gateway);
    let nobody = crate::harness::tools::yumen(&["reload", "--wait", "--admin", &admin]);
    assert_eq!(nobody.code, 69, "{nobody:?}");
}

#[test]
fn hup_and_the_admin_door_reload() {
    let gateway = Gateway::start(saying("first"));
    gateway.signal("HUP");
    gateway.log.wait("reload (signal)");
    let answer = gateway.admin_ask(crate::harness::Request::new("POST", "/reload").with("Content-Length", 0));
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(gateway.admin("/reload").status, 405, "nothing changes by GET");
}

#[test]
fn the_level_of_the_log_changes_while_running() {
    let mut gateway = Gateway::start(saying("first"));
    let level = |level: &str| saying(level).replace("observe: {", &format!("observe: {{ log: {{ level: {level} }},"));
    gateway.reload(level("error"));
    let quiet = gateway.log.all().len();
    gateway.reload(level("trace"));
    gateway.get("/");
    eventually("more to read", || (gateway.log.all().len() > quiet).then_some(()));
}

#[test]
fn a_removed_target_finishes_its_requests() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = Origin::new(move |_, talk| {
        wait.lock().unwrap().recv().unwrap();
        talk.answer(200, "", "finished");
    });
    let other = Origin::answering("other");
    let mut gateway = Gateway::passing(&slow);
    let mut connection = gateway.connect();
    connection.send(crate::harness::Request::get("/").bytes());
    slow.last();
    gateway.reload(Gateway::document(&other, "all: { match: /*, to: app }"));
    assert_eq!(gateway.get("/").text(), "other");
    go.send(()).unwrap();
    assert_eq!(connection.response().text(), "finished");
}

#[test]
fn counters_and_connections_survive() {
    let origin = Origin::answering("ok");
    let mut gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.get("/");
    let count = |gateway: &Gateway| gateway.metrics().sum("yumen_http_requests_total", &[("route", "all")]);
    eventually("it is counted", || (count(&gateway) > 0.5).then_some(()));
    gateway.reload(Gateway::document(&origin, "all: { match: /*, to: app }\nmore: { match: /more, respond: 204 }"));
    assert_eq!(connection.get("/more").status, 204);
    assert_eq!(connection.get("/").status, 200);
    eventually("both are counted", || (count(&gateway) > 1.5).then_some(()));
    assert_eq!(origin.connections(), 1, "the upstream connection survived too");
}

#[test]
fn a_hundred_reloads_under_load_lose_nothing() {
    let origin = Origin::answering("ok");
    let document = |n: usize| {
        Gateway::document(
            &origin,
            &format!("all: {{ match: /*, to: app }}\nnth: {{ match: /nth, respond: {{ body: n{n} }} }}"),
        )
    };
    let mut gateway = Gateway::start(document(0));
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let edge = gateway.edge();
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (done, asked, edge) = (done.clone(), asked.clone(), edge.clone());
            thread::spawn(move || {
                let mut kept = crate::harness::Connection::to(&edge);
                while !done.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        kept = crate::harness::Connection::to(&edge);
                    }
                    let answer = kept.get("/");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    if answer.field("connection") == Some("close") {
                        kept = crate::harness::Connection::to(&edge);
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut memory = 0;
    for n in 1..=100 {
        gateway.reload(document(n));
        assert_eq!(gateway.get("/nth").text(), format!("n{n}"));
        if n == 30 {
            memory = gateway.memory();
        }
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("a request failed");
    }
    assert!(asked.load(Ordering::SeqCst) > 100);
    assert!(gateway.memory() < memory + (16 << 10), "{memory} -> {} KiB", gateway.memory());
}
