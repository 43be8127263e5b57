//! Documents side by side.

use std::path::Path;

use super::super::{Loaded, Seals};
use super::*;

const ORDERS: &str = "\
version: 1
listeners: { web: { bind: 80 } }
limits: { orders-user: { rate: 100/min, key: client.ip } }
pools:
  orders: { targets: [10.0.0.1:80, { at: 10.0.0.2:80, weight: 2 }], timeout: { connect: 2s } }
  canary: { like: orders, targets: [10.0.0.3:80] }
routes:
  orders:
    match: GET api.example.com/orders/*
    limit: orders-user
    to: { orders: 95, canary: 5 }
    request: { set: { authorization: abc, x-env: blue } }
";

fn diff(old: &str, new: &str) -> Diff {
    let nonce = Nonce::new().unwrap();
    let effective = |text: &str| {
        let loaded = Loaded::from_text("y", text);
        assert_eq!(loaded.problems.errors(), 0, "{}", super::super::report::human(&loaded.problems, &loaded.places));
        Effective::of(&loaded.document, Path::new(""), &Seals::default(), &nonce)
    };
    Diff::between(&effective(old), &effective(new))
}

fn said(old: &str, new: &str) -> String {
    diff(old, new).human()
}

#[test]
fn what_means_the_same_differs_in_nothing() {
    let other_words = "\
version: 1
routes:
  orders:
    to: { canary: 1, orders: 19 }
    limit: [orders-user]
    request: { set: { x-env: blue, authorization: abc } }
    match: { path: /orders/*, host: api.example.com, methods: [GET] }
defaults: { pool: { timeout: { connect: 2000ms } } }
pools:
  canary: [10.0.0.3:80]
  orders: [{ at: 10.0.0.2:80, weight: 2 }, 10.0.0.1:80]
limits: { orders-user: { key: client.ip, rate: 100/min } }
listeners: { web: { protocols: [h2, h1], bind: [80] } }
";
    assert_eq!(said(ORDERS, other_words), "");
}

#[test]
fn each_difference_is_one_sentence() {
    let changed = |from: &str, to: &str| {
        assert!(ORDERS.contains(from), "{from}");
        said(ORDERS, &ORDERS.replace(from, to))
    };
    for (from, to, sentences) in [
        (
            "orders: 95, canary: 5",
            "orders: 90, canary: 10",
            "hot        route orders: to.canary 5 % -> 10 %\nhot        route orders: to.orders 95 % -> 90 %\n",
        ),
        ("100/min", "60/min", "hot        limit orders-user: rate 100/min -> 60/min\n"),
        ("weight: 2", "weight: 3", "hot        pool orders: target 10.0.0.2:80 weight 2 -> 3\n"),
        (
            "[10.0.0.3:80]",
            "[10.0.0.4:80]",
            "hot        pool canary: target 10.0.0.3:80 removed\nhot        pool canary: target 10.0.0.4:80 added (weight 1)\n",
        ),
        (
            "GET api",
            "GET,HEAD api",
            "hot        route orders: match GET api.example.com/orders/* -> GET,HEAD api.example.com/orders/*\n",
        ),
        ("abc", "abd", "hot        route orders: request.set.authorization changed\n"),
        ("x-env: blue", "x-env: green", "hot        route orders: request.set.x-env blue -> green\n"),
        ("    limit: orders-user\n", "", "hot        route orders: limit orders-user -> not set\n"),
        (
            "version: 1\n",
            "version: 1\nruntime: { workers: 3, upstream_connections: 9 }\n",
            "hand-over  runtime: upstream_connections 1024 -> 9\nhand-over  runtime: workers auto -> 3\n",
        ),
        ("bind: 80", "bind: 81", "hot        listener web: bind [::]:80 -> [::]:81\n"),
        (
            "connect: 2s",
            "connect: 2s, first_byte: 5s",
            "hot        pool canary: timeout.first_byte not set -> 5s\nhot        pool orders: timeout.first_byte not set -> 5s\n",
        ),
    ] {
        assert_eq!(changed(from, to), sentences, "{to}");
    }
}

#[test]
fn what_comes_and_goes_is_told_whole() {
    let more = format!("{ORDERS}  next: {{ match: /next, to: next, limit: {{ rate: 5/s, key: client.ip }} }}\n");
    let more = more.replace("pools:\n", "pools:\n  next: [10.0.0.9:80]\n");
    assert_eq!(
        said(ORDERS, &more),
        "hot        route next: added (/next)\nhot        pool next: added (10.0.0.9:80)\n"
    );
    assert_eq!(said(&more, ORDERS), "hot        route next: removed\nhot        pool next: removed\n");
    let guarded = ORDERS.replace("timeout: {", "breaker: { open_after: 3, open_for: 9s }, timeout: {");
    let told = said(ORDERS, &guarded);
    assert!(told.contains("pool orders: breaker added (") && told.contains("open_after 3"), "{told}");
}

#[test]
fn no_secret_is_told_and_no_mark_fits_another_nonce() {
    let text = |word: &str| {
        format!(
            "version: 1\nlisteners: {{ web: {{ bind: 80 }} }}\n\
             routes: {{ r: {{ match: {{ path: /, headers: {{ x-api-key: {word} }} }}, respond: 204, request: {{ set: {{ cookie: {word}, x-at: 'http://u:{word}@app/' }} }} }} }}\n"
        )
    };
    let loaded = |word: &str| Loaded::from_text("y", &text(word)).document;
    let whole = |word: &str| {
        let effective = Effective::of(&loaded(word), Path::new(""), &Seals::default(), &Nonce::new().unwrap());
        serde_json::to_string(&effective).unwrap()
    };
    assert!(!whole("hunter2").contains("hunter2"), "{}", whole("hunter2"));
    assert_ne!(whole("hunter2"), whole("hunter2"), "a mark means nothing to whom the nonce is unknown");
    let nonce = Nonce::new().unwrap();
    let effective = |word: &str| Effective::of(&loaded(word), Path::new(""), &Seals::default(), &nonce);
    assert_eq!(effective("hunter2"), effective("hunter2"));
    let diff = Diff::between(&effective("hunter2"), &effective("hunter3"));
    let told = serde_json::to_string(&diff).unwrap();
    assert!(told.contains("cookie changed") && !told.contains("hunter"), "{told}");
}

#[test]
fn a_log_is_told_the_first_of_many() {
    let pools: Vec<String> = (0..30).map(|n| format!("  p{n}: [10.0.0.3:80]\n")).collect();
    let pools = pools.concat();
    let brief = diff(ORDERS, &ORDERS.replace("pools:\n", &format!("pools:\n{pools}"))).brief();
    assert_eq!((brief.len(), brief.last().map(String::as_str)), (21, Some("and 10 more")));
}
