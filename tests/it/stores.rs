//! Stores: how several hosts count together, and what happens while the store is away.

use crate::harness::{Gateway, Redis, eventually};

/// Waits until the store counts as `up` or `down`.
fn store_is(gateway: &Gateway, wanted: &str) {
    eventually("the store is as wanted", || {
        let health = gateway.admin("/health").json();
        (health["stores"]["shared"]["state"] == wanted).then_some(())
    });
}

/// A document with a store of these settings and nothing else to do.
fn with_store(settings: &str) -> String {
    format!("stores: {{ shared: {settings} }}\nroutes: {{ all: {{ match: /*, respond: 204 }} }}")
}

#[test]
fn a_store_is_connected_at_once_and_told_of() {
    let redis = Redis::start();
    let gateway = Gateway::start(with_store(&format!("'{}'", redis.address())));
    store_is(&gateway, "up");
    let health = gateway.admin("/health").json();
    assert_eq!(health["stores"]["shared"]["redis"][0], redis.address().as_str());
    assert_eq!((health["stores"]["shared"]["hosts"].as_u64(), health["status"].as_str()), (Some(1), Some("up")));
    let page = gateway.metrics();
    let of = |name: &str| page.sum(name, &[("store", "shared")]);
    assert!(of("yumen_store_up") > 0.5 && of("yumen_store_hosts") > 0.5);
    let second = Gateway::start(with_store(&format!("'{}'", redis.address())));
    eventually("both know of each other", || {
        let hosts = |gateway: &Gateway| gateway.admin("/health").json()["stores"]["shared"]["hosts"].as_u64();
        (hosts(&gateway) == Some(2) && hosts(&second) == Some(2)).then_some(())
    });
}

#[test]
fn a_store_that_comes_late_or_comes_back_is_found() {
    let mut redis = Redis::absent(&[]);
    let gateway = Gateway::start(with_store(&format!("'{}'", redis.address())));
    assert_eq!(gateway.get("/").status, 204);
    gateway.log.wait("store shared: cannot connect to ");
    assert_eq!(gateway.admin("/health").json()["status"], "degraded");
    redis.again();
    store_is(&gateway, "up");
    redis.stop();
    store_is(&gateway, "down");
    gateway.log.wait("store shared is down: its connection has ended");
    redis.again();
    store_is(&gateway, "up");
    let switched = |to| gateway.metrics().sum("yumen_store_switches_total", &[("store", "shared"), ("to", to)]);
    assert!(switched("down") < 1.5 && switched("up") < 2.5, "each switch is counted once");
}

#[test]
fn a_reload_keeps_the_connection() {
    let redis = Redis::start();
    let document = with_store(&format!("'{}'", redis.address()));
    let mut gateway = Gateway::start(&document);
    store_is(&gateway, "up");
    let connections = || redis.ask("CLIENT LIST").iter().filter(|line| line.contains("addr=")).count();
    let before = connections();
    for number in 0..3 {
        gateway.reload(format!("{document}\n# {number}"));
        assert_eq!(gateway.admin("/health").json()["stores"]["shared"]["state"], "up");
    }
    assert_eq!(connections(), before);
    let total =
        redis.ask("INFO stats").iter().find_map(|line| line.strip_prefix("total_connections_received:")?.parse().ok());
    assert!(total.is_some_and(|total: u32| total < 8), "{total:?}: the rest are ours");
    assert!(gateway.log.all().iter().all(|line| !line.contains("store shared is down")));
}

#[test]
fn a_wrong_password_is_told_without_it_and_the_right_one_lets_us_in() {
    let redis = Redis::with(&["--requirepass", "open-sesame"]);
    let setup = crate::harness::Setup::new().file("wrong", "sesame-street\n").file("right", "open-sesame\n");
    let settings = |file: &str| format!("{{ redis: '{}', password: 'file:$DIR/{file}' }}", redis.address());
    let mut gateway = setup.start(with_store(&settings("wrong")));
    let said = gateway.log.wait("does not let us in");
    assert!(!gateway.log.all().iter().any(|line| line.contains("sesame")), "{said}");
    gateway.reload(with_store(&settings("right")));
    store_is(&gateway, "up");
}

#[test]
fn a_user_of_ones_own_and_another_database_are_used() {
    let redis = Redis::start();
    redis.ask("ACL SETUSER yumen on >secret ~yumen:* +@all");
    std::fs::write(redis.path().join("password"), "secret").unwrap();
    let file = redis.path().join("password");
    let settings =
        format!("{{ redis: '{}', user: yumen, password: 'file:{}', database: 3 }}", redis.address(), file.display());
    let gateway = Gateway::start(with_store(&settings));
    store_is(&gateway, "up");
    assert!(redis.ask("CLIENT LIST").iter().any(|line| line.contains("user=yumen") && line.contains("db=3")));
    assert!(redis.ask("INFO keyspace").iter().any(|line| line.starts_with("db3:")));
}

#[test]
fn of_several_addresses_the_first_that_can_be_written_to_is_used() {
    let (dead, primary) = (Redis::absent(&[]), Redis::start());
    let (host, port) = ("127.0.0.1", primary.address().rsplit(':').next().unwrap().to_owned());
    let replica = Redis::with(&["--replicaof", host, &port]);
    let list = format!("['{}', '{}', '{}']", dead.address(), replica.address(), primary.address());
    let gateway = Gateway::start(with_store(&format!("{{ redis: {list} }}")));
    store_is(&gateway, "up");
    assert!(primary.ask("CLIENT LIST").iter().any(|line| line.contains("cmd=evalsha")));
}
