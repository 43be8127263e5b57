//! What a reload changes is said before and after, in effect and not in letters, and no secret with it.

use std::fs;

use serde_json::Value;

use crate::harness::tools::{Ended, yumen};
use crate::harness::{Gateway, Request, Setup, eventually};

const OLD: &str = "\
version: 1
listeners: { edge: { bind: 8080 } }
limits: { orders-user: { rate: 100/min, key: client.ip } }
pools: { orders: [10.0.0.1:80], canary: [10.0.0.2:80] }
routes:
  orders: { match: /orders/*, limit: orders-user, to: { orders: 95, canary: 5 } }
";

fn between(setup: &Setup, old: &str, new: &str, more: &[&str]) -> Ended {
    let path = |name: &str| setup.path().join(name).to_str().unwrap().to_owned();
    yumen(&[&["diff", &path(old), &path(new)], more].concat())
}

#[test]
fn two_documents_are_compared_by_what_they_mean() {
    let new = OLD.replace("95, canary: 5", "90, canary: 10").replace("100/min", "60/min");
    let setup = Setup::new().file("old.yaml", OLD).file("new.yaml", format!("{new}runtime: {{ workers: 3 }}\n"));
    let told = between(&setup, "old.yaml", "new.yaml", &[]);
    let expected = "\
hot        route orders: to.canary 5 % -> 10 %
hot        route orders: to.orders 95 % -> 90 %
hot        limit orders-user: rate 100/min -> 60/min
hand-over  runtime: workers auto -> 3
";
    assert_eq!((told.code, told.out.as_str()), (1, expected), "{told:?}");
    let told = between(&setup, "old.yaml", "new.yaml", &["-o", "json"]);
    let changes: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(changes["changes"][0]["path"], "routes.orders.to.canary");
    assert_eq!(changes["changes"][0]["is"], "10 %");
    assert_eq!(changes["changes"][3]["reload"], "handover");
    assert_eq!(yumen(&["diff", "one.yaml"]).code, 64);
    assert_eq!(between(&setup, "old.yaml", "none.yaml", &[]).code, 66);
}

#[test]
fn other_words_and_other_files_for_the_same_are_no_difference() {
    let main = "\
include: [conf.d/*.yaml]
listeners: { edge: { protocols: [h2, h1], bind: [8080] } }
defaults: { pool: { timeout: { connect: 1000ms } } }
version: 1
limits: { orders-user: { key: client.ip, rate: 100/min } }
";
    let setup = Setup::new()
        .file("old.yaml", OLD)
        .file("new/yumen.yaml", main)
        .file("new/conf.d/b.yaml", "pools: { canary: { like: orders, targets: [{ at: 10.0.0.2:80, weight: 1 }] } }\n")
        .file("new/conf.d/a.yaml", "pools: { orders: { targets: [10.0.0.1:80] } }\nroutes:\n  orders:\n    to: { canary: 1, orders: 19 }\n    limit: [orders-user]\n    match: { path: /orders/*, host: '*' }\n");
    let told = between(&setup, "old.yaml", "new/yumen.yaml", &[]);
    assert_eq!((told.code, told.out.as_str()), (0, "nothing differs\n"), "{told:?}");
}

#[test]
fn files_are_compared_by_what_is_in_them() {
    let text = "version: 1\nlisteners: { edge: { bind: 8080 } }\nroutes: { a: { match: /, ip: { deny: file:$DIR/DIR/bad } , respond: 204 } }\n";
    let of = |dir: &str| text.replace("DIR/bad", &format!("{dir}/bad"));
    let setup = Setup::new()
        .file("a/yumen.yaml", of("a"))
        .file("b/yumen.yaml", of("b"))
        .file("a/bad", "10.0.0.0/8\n")
        .file("b/bad", "10.0.0.0/8\n");
    let told = between(&setup, "a/yumen.yaml", "b/yumen.yaml", &[]);
    assert_eq!((told.code, told.out.as_str()), (0, "nothing differs\n"), "{told:?}");
    fs::write(setup.path().join("b/bad"), "10.0.0.0/9\n").unwrap();
    let told = between(&setup, "a/yumen.yaml", "b/yumen.yaml", &[]);
    assert_eq!(told.out, "hot        route a: ip.deny file:bad: its content changed\n", "{told:?}");
}

fn saying(word: &str) -> String {
    format!(
        "routes:\n  all: {{ match: '/*', respond: {{ body: {word} }}, response: {{ set: {{ x-api-key: hunter-{word} }} }} }}\n"
    )
}

#[test]
fn what_serves_is_compared_with_a_document_before_it_is_applied() {
    let gateway = Gateway::start(saying("one"));
    let admin = gateway.admin_address().to_owned();
    let diff = |more: &[&str]| gateway.yumen("diff", &[&["--running", "--admin", &admin], more].concat());
    let told = diff(&[]);
    assert_eq!((told.code, told.out.as_str()), (0, "nothing differs\n"), "{told:?}");
    let next = gateway.setup.path().join("next.yaml");
    fs::write(&next, gateway.read("yumen.yaml").replace("one", "two")).unwrap();
    let told = diff(&[next.to_str().unwrap()]);
    let expected =
        "hot        route all: respond.body one -> two\nhot        route all: response.set.x-api-key changed\n";
    assert_eq!((told.code, told.out.as_str()), (1, expected), "{told:?}");
    fs::write(&next, "version: 1\nrouts: {}\n").unwrap();
    assert_eq!(diff(&[next.to_str().unwrap()]).code, 78);
    let odd = gateway.admin_ask(Request::post("/diff", "{}"));
    assert_eq!(odd.status, 400, "{odd:?}");
    assert_eq!(gateway.admin("/diff").status, 405, "nothing is asked of GET that has no body");
}

#[test]
fn a_reload_says_what_it_changed() {
    let mut gateway = Gateway::start(saying("one"));
    let one_worker = |word: &str| format!("{}runtime: {{ workers: 1 }}\n", saying(word));
    gateway.reload(one_worker("two"));
    gateway.log.wait("  hot  route all: respond.body one -> two");
    gateway.log.wait("  hot  route all: response.set.x-api-key changed");
    gateway.log.wait("  hand-over  runtime: workers auto -> 1");
    let admin = gateway.admin_address().to_owned();
    let mut turn = 0;
    // The gateway notices the change by itself too; who comes first tells it.
    let told = eventually("the verb comes first", || {
        turn += 1;
        gateway.write(one_worker(&format!("turn{turn}")));
        Some(gateway.yumen("reload", &["--wait", "--admin", &admin])).filter(|told| told.out.contains("applied"))
    });
    assert!(told.out.contains(&format!("-> turn{turn}\n")) && told.out.contains("x-api-key changed\n"), "{told:?}");
    assert!(!gateway.log.all().join("\n").contains("hunter"), "a secret is in the log");
}
