//! What a change or a purge makes void: all that is kept of an address, on whatever route the change came.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::harness::redis::Redis;
use crate::harness::tools::yumen;
use crate::harness::{Gateway, Origin, Request, eventually};

/// Answers to GET with a number that counts up, and to all else with 204.
fn counting() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::new(move |seen, talk| match &*seen.method {
        "GET" => talk.answer(200, "", (count.fetch_add(1, SeqCst) + 1).to_string()),
        _ => talk.answer(204, "", ""),
    })
}

fn purge(gateway: &Gateway, url: &str) {
    let document = gateway.setup.path().join("yumen.yaml");
    let config = document.to_str().unwrap();
    let ended = yumen(&["cache", "purge", "--config", config, "--admin", gateway.admin_address(), url]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
}

#[test]
fn a_change_reaches_what_is_kept_by_less_than_its_whole_address() {
    for (key, other) in [("[path]", "/i?u=2"), ("[path, query.a]", "/i?a=2&u=2"), ("[header.x]", "/j?u=2")] {
        let origin = counting();
        let gateway =
            Gateway::before(&origin, &format!("all: {{ match: /*, to: app, cache: {{ ttl: 60s, key: {key} }} }}"));
        let get = |target: &str| gateway.get(target).text();
        let first = get("/i?u=1");
        assert_eq!(get("/i"), first, "{key}");
        let beside = get(other);
        for change in ["/i", "/i?u=1", "/i?u=7"] {
            let before = get("/i");
            assert_eq!(gateway.ask(Request::new("PUT", change)).status, 204);
            let after = get("/i");
            assert_ne!(after, before, "{key} {change}");
            assert_eq!(get("/i?u=1"), after, "{key} {change}: kept again");
            purge(&gateway, &format!("http://test.example{change}"));
            assert_ne!(get("/i"), after, "{key} {change}");
        }
        assert_ne!(get(other), beside, "{key}: of the same path, or host");
        let kept = get("/i");
        gateway.ask(Request::new("PUT", "/i").host("other.example"));
        assert_eq!(get("/i"), kept, "{key}: another host");
    }
}

#[test]
fn a_change_of_one_query_leaves_the_others_where_the_key_has_all_of_it() {
    let origin = counting();
    let gateway = Gateway::before(
        &origin,
        "part: { match: /part/*, to: app, cache: { ttl: 60s, key: [path] } }\nall: { match: /*, to: app, cache: 60s }",
    );
    let see = || ["/i?u=1", "/i?u=2", "/i", "/part/x"].map(|target| gateway.get(target).text());
    let before = see();
    gateway.ask(Request::new("PUT", "/i?u=1"));
    let after = see();
    let changed: Vec<_> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(changed, [true, false, false, false]);
}

#[test]
fn a_change_that_the_gateway_answers_itself_is_a_change() {
    let origin = counting();
    let gateway = Gateway::start(format!(
        "pools: {{ app: ['{origin}'] }}
routes:
  read: {{ match: GET /*, to: app, cache: 60s }}
  fixed: {{ match: PUT /fixed, respond: 204 }}
  moved: {{ match: PUT /moved, redirect: {{ to: /elsewhere, status: 303 }} }}
  gathered: {{ match: POST /gathered, gather: {{ a: {{ pool: app, method: PUT, path: /gathered }} }} }}
  refused: {{ match: PUT /refused, respond: 403 }}
  barred: {{ match: PUT /barred, ip: {{ deny: [127.0.0.0/8] }}, respond: 204 }}
"
    ));
    let get = |target: &str| gateway.get(target).text();
    for (method, target, changes) in [
        ("PUT", "/fixed", true),
        ("PUT", "/moved", true),
        ("POST", "/gathered", true),
        ("PUT", "/refused", false),
        ("PUT", "/barred", false),
    ] {
        let before = get(target);
        let answer = gateway.ask(Request { body: b"{}".to_vec(), ..Request::new(method, target) });
        assert_eq!(answer.status < 400, changes, "{target}: {}", answer.text());
        assert_eq!(get(target) != before, changes, "{target}");
    }
}

fn hosts(origin: &Origin, redis: &Redis) -> [Gateway; 2] {
    let document = format!(
        "stores: {{ shared: {{ redis: {}, timeout: 100ms }} }}\n{}",
        redis.address(),
        Gateway::document(origin, "all: { match: /*, to: app, cache: { ttl: 60s, store: shared } }")
    );
    let hosts = [0, 1].map(|_| Gateway::start(&document));
    for host in &hosts {
        eventually("the store", || up(host).then_some(()));
    }
    hosts
}

fn up(gateway: &Gateway) -> bool {
    gateway.metrics().sum("yumen_store_up", &[("store", "shared")]) > 0.5
}

#[test]
fn a_change_that_a_redis_could_not_be_told_of_is_told_once_it_is_back() {
    let (origin, redis) = (counting(), Redis::start());
    let [one, other] = hosts(&origin, &redis);
    assert_eq!([one.get("/x").text(), one.get("/y").text()], ["1", "2"]);
    eventually("the other one has them", || (other.get("/y").text() == "2").then_some(()));
    redis.freeze();
    eventually("the breaker", || {
        other.get("/z");
        one.get("/z");
        (!up(&one) && !up(&other)).then_some(())
    });
    assert_eq!(one.ask(Request::new("PUT", "/x")).status, 204);
    redis.thaw();
    eventually("the store", || up(&one).then_some(()));
    assert_ne!(one.get("/x").text(), "1", "who knows of the change serves nothing older");
    assert_eq!(one.get("/y").text(), "2", "all else is still kept");
    eventually("the store of the other one", || up(&other).then_some(()));
    eventually("the other one is told", || (other.get("/x").text() != "1").then_some(()));
    let kept = one.get("/x").text();
    assert_eq!(one.get("/x").text(), kept, "and it is kept again");
}

#[test]
fn one_key_of_another_kind_is_a_miss_and_takes_nothing_down() {
    let (origin, redis) = (counting(), Redis::start());
    let [gateway, _] = hosts(&origin, &redis);
    assert_eq!([gateway.get("/x").text(), gateway.get("/x").text()], ["1", "1"]);
    let spoil = |name: &str| {
        redis.ask(&format!("DEL {name}"));
        redis.ask(&format!("RPUSH {name} odd"));
    };
    redis.keys().iter().filter(|name| name.starts_with("yumen:cache:")).for_each(|name| spoil(name));
    assert_eq!([gateway.get("/x").text(), gateway.get("/x").text()], ["2", "2"], "it is overwritten");
    for change in [false, true] {
        let before = gateway.get("/x").text();
        spoil("yumen:cache:purged");
        if change {
            assert_eq!(gateway.ask(Request::new("PUT", "/y")).status, 204);
        }
        assert_ne!(gateway.get("/x").text(), before, "what is lost could have meant it");
        eventually("it is kept again", || (gateway.get("/x").text() == gateway.get("/x").text()).then_some(()));
    }
    assert!(up(&gateway));
}
