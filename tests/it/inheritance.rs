//! Built-in, then `defaults`, then the object or what it is `like`: each step seen from the wire; and what runs the process.

use std::net::TcpListener;
use std::sync::{Arc, Barrier};
use std::thread;

use crate::harness::{Connection, Gateway, Origin, Setup};

#[test]
fn defaults_of_a_listener_hold_unless_it_says_otherwise() {
    let gateway = Gateway::start(
        "defaults: { listener: { limits: { requests: 1 } } }\n\
         listeners:\n  edge: { bind: 127.0.0.1:0 }\n  own: { bind: 127.0.0.1:0, limits: { requests: 5 } }\n\
         routes:\n  all: { match: /*, respond: { body: ok } }\n",
    );
    let closes = |name: &str| Connection::to(&gateway.listener(name)).get("/").field("connection").map(str::to_owned);
    assert_eq!(closes("edge").as_deref(), Some("close"));
    assert_ne!(closes("own").as_deref(), Some("close"));
}

#[test]
fn a_listener_is_like_another() {
    let gateway = Gateway::start(
        "listeners:\n  edge: { bind: 127.0.0.1:0, limits: { requests: 1 } }\n  more: { like: edge, bind: 127.0.0.1:0 }\n\
         routes:\n  all: { match: /*, respond: { body: ok } }\n",
    );
    assert_eq!(Connection::to(&gateway.listener("more")).get("/").field("connection"), Some("close"));
}

#[test]
fn defaults_of_a_pool_hold_unless_it_says_otherwise() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap();
    let gateway = Gateway::start(format!(
        "defaults: {{ pool: {{ timeout: {{ idle: 200ms }} }} }}\npools: {{ app: [\"{address}\"] }}\nroutes:\n  all: {{ match: /*, to: app }}\n"
    ));
    assert_eq!(gateway.get("/").status, 504);
}

#[test]
fn defaults_of_a_route_hold_and_like_takes_those_of_another() {
    let gateway = Gateway::start(
        "defaults: { route: { response: { set: { x-by: defaults } } } }\n\
         routes:\n  one: { match: /one, respond: 204 }\n  two: { match: /two, respond: 204, response: { set: { x-by: two } } }\n  \
         three: { like: two, match: /three }\n",
    );
    assert_eq!(gateway.get("/one").field("x-by"), Some("defaults"));
    assert_eq!(gateway.get("/two").field("x-by"), Some("two"));
    assert_eq!(gateway.get("/three").field("x-by"), Some("two"));
}

#[test]
fn only_version_1_is_read() {
    for version in ["2", "\"1\"", "one", "[]"] {
        let ended = Setup::new().run(
            &format!("version: {version}\nroutes:\n  all: {{ match: /*, respond: 204 }}\n"),
            "check",
            &[],
        );
        assert_eq!(ended.code, 78, "{version}");
        assert!((ended.out + &ended.err).contains("version"), "{version}");
    }
}

#[test]
fn workers_are_threads() {
    let threads = |workers: &str| {
        let gateway = Gateway::start(format!(
            "runtime: {{ workers: {workers} }}\nroutes:\n  all: {{ match: /*, respond: 204 }}\n"
        ));
        assert_eq!(gateway.get("/").status, 204);
        std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap().count()
    };
    assert_eq!(threads("5"), threads("2") + 3);
    threads("auto");
}

#[test]
fn idle_upstream_connections_are_capped() {
    for (kept, reconnects) in [(1, true), (1024, false)] {
        let together = Arc::new(Barrier::new(4));
        let origin = Origin::new(move |_, talk| {
            together.wait();
            talk.answer(200, "", "ok");
        });
        let routes = Gateway::document(&origin, "all: { match: /*, to: app }");
        let gateway = Gateway::start(format!("runtime: {{ workers: 1, upstream_connections: {kept} }}\n{routes}"));
        for _ in 0..2 {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| assert_eq!(gateway.get("/").status, 200));
                }
            });
        }
        assert_eq!(origin.connections() > 4, reconnects, "{kept} kept: {} connections", origin.connections());
    }
}
