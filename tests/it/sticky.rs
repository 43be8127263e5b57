//! Clients that come back: by a signed cookie that the gateway sets, or by a hash that no hot key can overload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::harness::tls::Authority;
use crate::harness::wire::Response;
use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually, times};

fn document(pool: &str) -> String {
    format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n")
}

fn three() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::answering)
}

fn list(origins: &[Origin]) -> String {
    origins.iter().map(|origin| format!("'{origin}'")).collect::<Vec<_>>().join(", ")
}

/// The value of the cookie that an answer sets.
fn cookie(answer: &Response) -> String {
    let set = answer.field("set-cookie").expect("a cookie");
    set.strip_prefix("at=").and_then(|rest| rest.split(';').next()).expect("its value").to_owned()
}

fn with(value: &str) -> Request {
    Request::get("/").with("Cookie", format!("a=1; at={value}; b=2"))
}

const STICKY: &str = "sticky: { name: at, secret: 'file:$DIR/key' }";

fn setup() -> Setup {
    Setup::new().file("key", "a-secret-that-only-this-test-knows\n")
}

#[test]
fn a_client_comes_back_by_a_cookie_that_the_target_never_sees() {
    let origins = three();
    let gateway = setup().start(document(&format!("{{ targets: [{}], {STICKY} }}", list(&origins))));
    let first = gateway.get("/");
    assert_eq!(first.field("set-cookie").unwrap(), format!("at={}; Path=/; HttpOnly; SameSite=Lax", cookie(&first)));
    let again = times(12, || gateway.ask(with(&cookie(&first))));
    assert!(again.iter().all(|answer| answer.text() == first.text() && answer.field("set-cookie").is_none()));
    let served = origins.iter().find(|origin| origin.seen().len() > 10).unwrap();
    assert_eq!(served.last().field("cookie"), Some("a=1; b=2"));
    gateway.ask(Request::get("/").with("Cookie", format!("at={}", cookie(&first))));
    assert_eq!(served.last().field("cookie"), None);
    let others = times(12, || gateway.get("/").text());
    assert!(others.iter().any(|name| *name != first.text()), "who has none goes anywhere: {others:?}");
}

#[test]
fn a_forged_or_foreign_cookie_is_ignored_and_replaced() {
    let origins = three();
    let pools = format!(
        "pools:\n  app: {{ targets: [{0}], {STICKY} }}\n  other: {{ targets: [{0}], {STICKY} }}\nroutes:\n  all: {{ match: /*, to: app }}\n  other: {{ match: /other, to: other }}\n",
        list(&origins)
    );
    let gateway = setup().start(pools);
    let foreign = cookie(&gateway.get("/other"));
    let own = cookie(&gateway.get("/"));
    let mut near = own.clone();
    near.replace_range(..1, if own.starts_with('A') { "B" } else { "A" });
    for forged in [foreign.as_str(), near.as_str(), &format!("{own}x"), "", "10.0.0.1:80"] {
        let answers = times(9, || gateway.ask(with(forged)));
        assert!(answers.iter().all(|answer| answer.field("set-cookie").is_some()), "{forged}");
        let mut names: Vec<_> = answers.iter().map(Response::text).collect();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() > 1, "{forged} leads nowhere: {names:?}");
    }
    assert!(origins.iter().all(|origin| origin.seen().iter().all(|seen| !seen.head.contains("at="))));
}

#[test]
fn a_cookie_holds_through_restarts_with_its_secret_and_is_nothing_without() {
    let origins = three();
    let text = document(&format!("{{ targets: [{}], {STICKY} }}", list(&origins)));
    let first = setup().start(&text).get("/");
    let gateway = setup().start(&text);
    let again = times(6, || gateway.ask(with(&cookie(&first))).text());
    assert_eq!(again, vec![first.text(); 6]);
    let gateway = Setup::new().file("key", "another secret of some length").start(&text);
    assert!(gateway.ask(with(&cookie(&first))).field("set-cookie").is_some());
}

#[test]
fn the_cookie_is_as_the_document_says() {
    let (origin, authority) = (Origin::answering("a"), Authority::new());
    let listeners = "listeners:\n  edge: { bind: 127.0.0.1:0 }\n  tls: { bind: 127.0.0.1:0, tls: { certs: [{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }] } }\n";
    let sticky = "sticky: { name: at, secret: 'file:$DIR/key', max_age: 2h, path: /app, same_site: strict }";
    let gateway = setup()
        .pair("a", &authority.issue(&["localhost"]))
        .start(format!("{listeners}{}", document(&format!("{{ targets: ['{origin}'], {sticky} }}"))));
    let rest = |answer: &Response| answer.field("set-cookie").unwrap().split_once(';').unwrap().1.to_owned();
    assert_eq!(rest(&gateway.get("/")), " Path=/app; Max-Age=7200; HttpOnly; SameSite=Strict");
    let mut secure = authority.client().connect(&gateway.listener("tls"), "localhost").unwrap().connection;
    assert_eq!(rest(&secure.get("/")), " Path=/app; Max-Age=7200; HttpOnly; SameSite=Strict; Secure");
}

#[test]
fn a_client_whose_target_is_gone_gets_another_and_stays_there() {
    let well = Arc::new(AtomicBool::new(true));
    let switch = well.clone();
    let sick = Origin::new(move |_, talk| talk.answer(if switch.load(SeqCst) { 200 } else { 500 }, "", "sick"));
    let sound = Origin::answering("sound");
    let health = "health: { http: /healthz, every: 100ms, down_after: 1, up_after: 1 }";
    let gateway = setup().start(document(&format!("{{ targets: ['{sick}', '{sound}'], {health}, {STICKY} }}")));
    let first = eventually("the first target", || Some(gateway.get("/")).filter(|answer| answer.text() == "sick"));
    well.store(false, SeqCst);
    let moved =
        eventually("another", || Some(gateway.ask(with(&cookie(&first)))).filter(|answer| answer.text() == "sound"));
    assert_eq!(gateway.ask(with(&cookie(&moved))).field("set-cookie"), None);
}

#[test]
fn a_hot_key_spreads_where_the_hash_has_a_bound() {
    for (balance, bounded) in [("hash(header.x-user)", false), ("{ hash: header.x-user, bound: 125% }", true)] {
        let (seen, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let origins: Vec<_> = (0..4)
            .map(|_| {
                let (seen, open) = (seen.clone(), open.clone());
                Origin::new(move |_, talk| {
                    seen.fetch_add(1, SeqCst);
                    eventually("the end", || open.load(SeqCst).then_some(()));
                    talk.answer(200, "", "");
                })
            })
            .collect();
        let gateway = Gateway::start(document(&format!("{{ targets: [{}], balance: {balance} }}", list(&origins))));
        let ask = |_| {
            let mut connection = gateway.connect();
            connection.send(Request::get("/").with("X-User", "hot").bytes());
            connection
        };
        let mut clients: Vec<Connection> = (0..40).map(ask).collect();
        eventually("all of them", || (seen.load(SeqCst) == 40).then_some(()));
        let counts: Vec<_> = origins.iter().map(|origin| origin.seen().len()).collect();
        let most = counts.iter().copied().max().unwrap();
        assert!(if bounded { (10..=13).contains(&most) } else { most == 40 }, "{balance}: {counts:?}");
        open.store(true, SeqCst);
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
    }
}
