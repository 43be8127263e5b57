//! What is done by hand at 3 a.m., always for a while, and what shows how things are.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::tls::Authority;
use crate::harness::tools::Ended;
use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually, times};

fn say(gateway: &Gateway, verb: &str, words: &[&str]) -> Ended {
    gateway.yumen(verb, &[words, &["--admin", gateway.admin_address()]].concat())
}

fn pooled(settings: &str) -> String {
    format!("pools: {{ app: {{ {settings} }} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n")
}

/// Who answered so many requests.
fn answered(gateway: &Gateway, requests: usize) -> Vec<String> {
    let mut all = times(requests, || gateway.get("/").text());
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_drained_target_finishes_what_it_has_and_gets_nothing_new_until_its_time_is_over() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let first = Origin::new(move |seen, talk| {
        if seen.target == "/slow" {
            wait.lock().unwrap().recv().unwrap();
        }
        talk.answer(200, "", "first");
    });
    let second = Origin::answering("second");
    let targets = format!("targets: ['{first}', '{second}']");
    let mut gateway = Gateway::start(pooled(&targets));
    let mut held: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for connection in &mut held {
        connection.send(Request::get("/slow").bytes());
    }
    eventually("one of them is with the first", || (!first.seen().is_empty()).then_some(()));
    let name = first.to_string();
    let ended = say(&gateway, "target", &["app", &name, "drain", "--for", "1h"]);
    assert_eq!(
        (ended.code, &*ended.out),
        (0, &*format!("pool app: {name} gets no new requests for 1h\n")),
        "{ended:?}"
    );
    assert_eq!(answered(&gateway, 20), ["second"]);
    gateway.reload(format!("{}# another document\n", pooled(&targets)));
    assert_eq!(answered(&gateway, 20), ["second"], "it survives a reload");
    let shown = gateway.admin("/pools").json()[0]["targets"][0].clone();
    assert_eq!(
        (&shown["out"], &shown["by_hand"]["weight"], &shown["in_flight"]),
        (&"drained".into(), &0.into(), &1.into())
    );
    let status = say(&gateway, "status", &[]).out;
    assert!(status.contains(&format!("pool app: {name} is drained, ends in ")), "{status}");
    let pools = say(&gateway, "pools", &[]).out;
    assert!(pools.contains("drained") && pools.contains("app  up, 1 of 1 healthy"), "{pools}");
    go.send(()).unwrap();
    let mut answers: Vec<_> = held.iter_mut().map(|connection| connection.response().text()).collect();
    answers.sort();
    assert_eq!(answers, ["first", "second"], "what it had is finished");
    assert_eq!(say(&gateway, "target", &["app", &name, "drain", "--for", "500ms"]).code, 0);
    eventually("its time is over", || (answered(&gateway, 4) == ["first", "second"]).then_some(()));
    assert_eq!(gateway.status()["by_hand"], json!([]));
    assert_eq!(say(&gateway, "target", &["app", &name, "drain", "--for", "1h"]).code, 0);
    assert_eq!(say(&gateway, "target", &["app", &name, "auto"]).code, 0);
    assert_eq!(answered(&gateway, 4), ["first", "second"]);
}

#[test]
fn neither_a_cookie_nor_a_hash_leads_to_a_drained_target() {
    let origins: Vec<_> = ["a", "b", "c"].map(Origin::answering).into();
    let list: Vec<_> = origins.iter().map(|origin| format!("'{origin}'")).collect();
    let list = list.join(", ");
    for more in ["sticky: { name: at, secret: 'file:$DIR/key' }", "balance: { hash: header.x-user }"] {
        let setup = Setup::new().file("key", "a key for cookies that is long enough");
        let gateway = setup.start(pooled(&format!("targets: [{list}], {more}")));
        let ask = |cookie: Option<&str>| {
            let request = Request::get("/").with("X-User", "u1");
            gateway.ask(cookie.into_iter().fold(request, |request, cookie| request.with("Cookie", cookie)))
        };
        let first = ask(None);
        let cookie = first.field("set-cookie").and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        let again = || ask(cookie.as_deref()).text();
        assert_eq!(again(), first.text(), "{more}");
        let place = ["a", "b", "c"].iter().position(|name| *name == first.text()).unwrap();
        let target = origins[place].to_string();
        assert_eq!(say(&gateway, "target", &["app", &target, "drain", "--for", "1h"]).code, 0);
        assert!(times(10, again).iter().all(|answer| *answer != first.text()), "{more}");
        assert_eq!(say(&gateway, "target", &["app", &target, "auto"]).code, 0);
        assert_eq!(again(), first.text(), "{more}: it comes back");
    }
}

#[test]
fn a_pool_whose_targets_are_all_drained_says_so_or_falls_back() {
    let (origin, spare) = (Origin::answering("here"), Origin::answering("spare"));
    let gateway = Gateway::start(format!(
        "pools:\n  app: ['{origin}']\n  safe: {{ targets: ['{origin}'], fallback: spare, panic_below: 50%, health: {{ tcp: true }} }}\n  spare: ['{spare}']\nroutes:\n  all: {{ match: /*, to: app }}\n  safe: {{ match: /safe, to: safe }}\n"
    ));
    for pool in ["app", "safe"] {
        assert_eq!(say(&gateway, "target", &[pool, &origin.to_string(), "drain", "--for", "1h"]).code, 0);
    }
    let refused = gateway.get("/");
    assert_eq!(refused.verdict(), (503, "pool.empty".into()));
    assert!(refused.field("retry-after").is_some());
    let page = crate::why::kept(&gateway, &refused);
    assert!(page["detail"].as_str().unwrap().starts_with("every target is drained by hand"), "{page}");
    assert_eq!(page["targets"][0]["out"], "drained", "{page}");
    assert_eq!(gateway.get("/safe").text(), "spare", "no panic brings a drained target back");
}

#[test]
fn a_target_has_another_weight_for_a_while() {
    let (one, two) = (Origin::answering("one"), Origin::answering("two"));
    let gateway = Gateway::start(pooled(&format!("targets: ['{one}', '{two}']")));
    assert_eq!(say(&gateway, "target", &["app", &one.to_string(), "9", "--for", "1h"]).code, 0);
    let counted = times(20, || gateway.get("/").text()).into_iter().filter(|answer| answer == "one").count();
    assert_eq!(counted, 18);
    for (words, code) in [
        (&["app", "10.9.9.9:80", "drain", "--for", "1h"][..], 64),
        (&["nobody", "10.9.9.9:80", "drain", "--for", "1h"], 64),
        (&["app", "10.9.9.9:80", "drain"], 64),
        (&["app", "10.9.9.9:80", "drain", "--for", "25h"], 64),
        (&["app", "10.9.9.9:80", "drink", "--for", "1h"], 64),
    ] {
        let ended = say(&gateway, "target", words);
        assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    }
}

#[test]
fn the_log_says_more_for_a_while() {
    let mut gateway = Gateway::start(
        "routes: { all: { match: /*, respond: 204 } }\npools: { app: { targets: ['127.0.0.1:9'], health: { tcp: true } } }\n",
    );
    let number = AtomicBool::new(false);
    let heard = |gateway: &mut Gateway, from: usize| {
        let text = if number.fetch_xor(true, SeqCst) { "# one\n" } else { "# other\n" };
        gateway.reload(format!("{text}routes: {{ all: {{ match: /*, respond: 204 }} }}\npools: {{ app: {{ targets: ['127.0.0.1:9'], health: {{ tcp: true }} }} }}\n"));
        // Lines are written by a thread of their own: this one comes after those of the chores.
        gateway.log.wait(&format!("generation {} serves", gateway.generation()));
        let lines = gateway.log.all();
        lines.iter().skip(from).any(|line| line.contains(" DEBUG ") && line.contains("chore health/app starts"))
    };
    let count = |gateway: &Gateway| gateway.log.all().len();
    let from = count(&gateway);
    assert!(!heard(&mut gateway, from));
    assert_eq!(say(&gateway, "log-level", &["debug", "--for", "1h", "--module", "yumen::pool"]).code, 0);
    let from = count(&gateway);
    assert!(!heard(&mut gateway, from), "another part of the program");
    let ended = say(&gateway, "log-level", &["debug", "--for", "1h"]);
    assert_eq!((ended.code, &*ended.out), (0, "the log says debug for 1h\n"), "{ended:?}");
    assert!(say(&gateway, "status", &[]).out.contains("log level debug, ends in "));
    let from = count(&gateway);
    assert!(heard(&mut gateway, from), "a reload does not end it");
    assert_eq!(say(&gateway, "log-level", &["debug", "--for", "300ms"]).code, 0);
    eventually("its time is over", || (gateway.status()["by_hand"] == json!([])).then_some(()));
    let from = count(&gateway);
    assert!(!heard(&mut gateway, from));
    assert_eq!(say(&gateway, "log-level", &["debug"]).code, 64, "never without an end");
}

#[test]
fn orders_come_by_post_and_not_from_other_pages() {
    let gateway = Gateway::start("routes: { all: { match: /*, respond: 204 } }\npools: { app: ['127.0.0.1:9'] }\n");
    for order in
        ["/reload", "/breaker?pool=app&to=auto", "/target?pool=app&target=127.0.0.1:9&to=auto", "/log-level?level=auto"]
    {
        assert_eq!(gateway.admin(order).status, 405, "{order}");
        let from = |name: &str, value: &str| gateway.admin_ask(Request::new("POST", order).with(name, value)).status;
        assert_eq!(from("Origin", "https://evil.example"), 403, "{order}");
        assert_eq!(from("Origin", "http://localhost:3000"), 403, "{order}");
        assert_eq!(from("Origin", "null"), 403, "{order}");
        assert_eq!(from("Sec-Fetch-Site", "cross-site"), 403, "{order}");
        let own = format!("http://{}", gateway.admin_address());
        assert!([200, 202].contains(&from("Origin", &own)), "{order}");
        assert!([200, 202].contains(&from("Sec-Fetch-Site", "same-origin")), "{order}");
    }
}

#[test]
fn certificates_are_listed_with_their_names_and_days() {
    let authority = Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["a.example", "*.b.example"]));
    let gateway = setup.start(
        "listeners: { edge: { bind: 127.0.0.1:0, tls: { certs: [{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }] } } }\nroutes: { all: { match: /*, respond: 204 } }\n",
    );
    let certs = gateway.admin("/certs").json();
    assert_eq!(certs[0]["names"], json!(["a.example", "*.b.example"]), "{certs}");
    assert!(certs[0]["days_left"].as_i64().unwrap() > 100 && certs[0]["listener"] == "edge", "{certs}");
    let told = say(&gateway, "certs", &[]).out;
    assert!(told.starts_with("DAYS LEFT  ENDS ") && told.contains("a.example, *.b.example"), "{told}");
}

#[test]
fn connections_are_counted_on_both_sides() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::new(move |seen, talk| {
        if seen.target == "/slow" {
            wait.lock().unwrap().recv().unwrap();
        }
        talk.answer(200, "", "ok");
    });
    let gateway = Gateway::passing(&origin);
    let mut kept: Connection = gateway.connect();
    assert_eq!(kept.get("/").text(), "ok");
    let mut slow = gateway.connect();
    slow.send(Request::get("/slow").bytes());
    let page = eventually("both are counted", || {
        let page = gateway.admin("/connections").json();
        let all = page["requests"] == 1 && page["listeners"][0]["open"] == 2 && page["upstream"][0]["in_flight"] == 1;
        all.then_some(page)
    });
    let edge = &page["listeners"][0];
    assert_eq!((&edge["listener"], &edge["h1"], &edge["h2"]), (&"edge".into(), &2.into(), &0.into()), "{page}");
    assert_eq!((&edge["ages"][0], &edge["clients"]), (&json!(["10s", 2]), &json!([["127.0.0.1", 2]])), "{page}");
    let told = say(&gateway, "connections", &[]).out;
    assert!(told.starts_with("LISTENER  OPEN  H1  H2 ") && told.contains("1 requests under way"), "{told}");
    go.send(()).unwrap();
    assert_eq!(slow.response().text(), "ok");
    eventually("connections to the target rest", || {
        let page = gateway.admin("/connections").json();
        (page["upstream"][0]["kept"].as_u64() > Some(0)).then_some(())
    });
    drop((kept, slow));
    eventually("they have left", || (gateway.admin("/connections").json()["listeners"][0]["open"] == 0).then_some(()));
}

#[test]
fn routes_and_status_are_told_for_people_and_for_programs() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(
        &origin,
        "orders: { match: GET /orders/*, ip: { deny: [10.0.0.0/8] }, to: app }\ngone: { match: /gone, respond: 410 }",
    );
    let routes = say(&gateway, "routes", &[]).out;
    for word in ["ROUTE ", "GET /orders/*", "routes.orders.ip", "answers 410", "yumen.yaml:"] {
        assert!(routes.contains(word), "{word}: {routes}");
    }
    let whole: Value = serde_json::from_str(&say(&gateway, "routes", &["-o", "json"]).out).unwrap();
    assert_eq!(whole["orders"]["pools"], json!(["app"]));
    let status = say(&gateway, "status", &[]).out;
    for word in ["running ", "generation      1, hash ", "the files on disk say the same", "listener edge"] {
        assert!(status.contains(word), "{word}: {status}");
    }
    gateway.write("nonsense: 1\n");
    let changed = eventually("it is noticed", || {
        let status = say(&gateway, "status", &[]).out;
        status.contains("last reload").then_some(status)
    });
    assert!(changed.contains("the files on disk say something else") && changed.contains("unknown key"), "{changed}");
    let whole: Value = serde_json::from_str(&say(&gateway, "status", &["-o", "json"]).out).unwrap();
    assert_eq!((&whole["generation"], &whole["up_to_date"]), (&1.into(), &false.into()));
}

/// Orders, reloads and requests at the same time.
#[test]
fn weights_by_hand_lose_no_request() {
    let (one, two) = (Origin::answering("one"), Origin::answering("two"));
    let gateway = Arc::new(Gateway::start(pooled(&format!("targets: ['{one}', '{two}']"))));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (gateway, over) = (gateway.clone(), over.clone());
            thread::spawn(move || {
                while !over.load(SeqCst) {
                    assert_eq!(gateway.get("/").status, 200);
                }
            })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        for to in ["drain&for=20ms", "5&for=20ms", "auto"] {
            let order = format!("/target?pool=app&target={one}&to={to}");
            assert_eq!(gateway.admin_ask(Request::new("POST", &order)).status, 200);
        }
    }
    over.store(true, SeqCst);
    assert!(clients.into_iter().all(|client| client.join().is_ok()));
}
