//! Part of the requests goes to another pool: how many, whose, and who asks for it.

use std::thread;

use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually, times};

/// Two pools that say their names, and the route's further settings.
fn document(stable: &Origin, canary: &Origin, route: &str) -> String {
    format!(
        "runtime: {{ workers: 1 }}
pools: {{ stable: ['{stable}'], canary: ['{canary}'] }}
routes: {{ all: {{ match: '/:id/*', {route} }} }}
"
    )
}

fn origins() -> (Origin, Origin) {
    (Origin::answering("stable"), Origin::answering("canary"))
}

/// Which users are with the canary.
fn there(gateway: &Gateway, users: u32) -> Vec<bool> {
    let mut connection = gateway.connect();
    let mut ask = |user| connection.ask(&Request::get("/a/b").with("X-User", format!("u{user}"))).text() == "canary";
    (0..users).map(&mut ask).collect()
}

fn count(there: &[bool]) -> usize {
    there.iter().filter(|there| **there).count()
}

#[test]
fn a_tenth_of_ten_thousand_requests_is_a_thousand() {
    let (stable, canary) = origins();
    let gateway = Gateway::start(document(&stable, &canary, "to: { stable: 90, canary: 10 }"));
    let quarter = |mut connection: Connection| times(2500, || connection.get("/a/b").status == 200);
    let asking = times(4, || gateway.connect()).into_iter().map(|to| thread::spawn(move || quarter(to)));
    let asking: Vec<_> = asking.collect();
    assert!(asking.into_iter().all(|thread| thread.join().unwrap().into_iter().all(|well| well)));
    assert_eq!((stable.seen().len(), canary.seen().len()), (9000, 1000));
}

#[test]
fn the_same_user_stays_on_one_side_and_a_larger_share_moves_only_whom_it_must() {
    let (stable, canary) = origins();
    let document = |share: u32| {
        let to = format!("to: {{ stable: {}, canary: {share} }}, stick: header.x-user", 100 - share);
        document(&stable, &canary, &to)
    };
    let mut gateway = Gateway::start(document(10));
    let tenth = there(&gateway, 1000);
    assert!((70..130).contains(&count(&tenth)), "{} of 1000, a tenth is due", count(&tenth));
    assert_eq!(there(&gateway, 1000), tenth, "someone changed sides");
    let other = Gateway::start(document(10));
    assert_eq!(there(&other, 300), tenth[..300], "another host sees it otherwise");
    gateway.reload(document(20));
    let fifth = there(&gateway, 1000);
    assert!((150..250).contains(&count(&fifth)), "{} of 1000, a fifth is due", count(&fifth));
    let came_back = tenth.iter().zip(&fifth).filter(|(was, is)| **was && !**is).count();
    assert_eq!(came_back, 0, "nobody had to leave the canary");
}

#[test]
fn who_has_no_key_is_known_by_another_or_spread_by_weight() {
    let (stable, canary) = origins();
    let spread = Gateway::start(document(&stable, &canary, "to: { stable: 50, canary: 50 }, stick: cookie.user"));
    assert_eq!(times(4, || spread.get("/a/b").text()), ["canary", "stable", "canary", "stable"]);
    let known = "to: { stable: 50, canary: 50 }, stick: { key: path.id, else: client.ip }";
    let known = Gateway::start(document(&stable, &canary, known));
    for user in 0..8 {
        let side = times(5, || known.get(&format!("/{user}/b")).text());
        assert!(side.windows(2).all(|two| two[0] == two[1]), "{side:?}");
    }
    let address = "to: { stable: 50, canary: 50 }, stick: { key: cookie.user, else: client.ip }";
    let address = Gateway::start(document(&stable, &canary, address));
    let side = times(5, || address.get("/a/b").text());
    assert!(side.windows(2).all(|two| two[0] == two[1]), "{side:?}");
}

#[test]
fn who_asks_for_the_canary_gets_it() {
    let (stable, canary) = origins();
    let asks = "opt_in: { canary: { headers: { x-canary: '1' } }, stable: { cookies: { old: { present: true } }, query: { q: { regex: 'a+' } } } }";
    let text = document(
        &stable,
        &canary,
        &format!("to: {{ stable: 100, canary: 0 }}, stick: {{ key: header.x-user }}, {asks}"),
    );
    let refused = Setup::new().run(&text, "check", &[]);
    assert!(refused.out.contains("`to` gives weight to one only"), "{}", refused.out + &refused.err);
    let gateway = Gateway::start(document(&stable, &canary, &format!("to: {{ stable: 100, canary: 0 }}, {asks}")));
    assert_eq!(times(5, || gateway.get("/a/b").text()), ["stable"; 5]);
    let ask = |request: Request| gateway.ask(request).text();
    assert_eq!(ask(Request::get("/a/b").with("X-Canary", "1")), "canary");
    assert_eq!(ask(Request::get("/a/b").with("X-Canary", "0")), "stable");
    let all = document(&stable, &canary, &format!("to: {{ stable: 0, canary: 100 }}, {asks}"));
    let gateway = Gateway::start(all);
    assert_eq!(gateway.get("/a/b?q=aa").text(), "canary", "one of two conditions is not enough");
    assert_eq!(gateway.ask(Request::get("/a/b?q=aa").with("Cookie", "old=x")).text(), "stable");
    let told = gateway.yumen("explain", &["GET", "a/a/b", "-H", "X-Canary: 1"]);
    assert!(told.out.contains("\n  this request asks for pool canary\n"), "{}", told.out + &told.err);
}

#[test]
fn the_example_does_what_it_says() {
    let (one, other) = (Origin::answering("stable"), Origin::answering("stable"));
    let canary = Origin::answering("canary");
    let mut text = std::fs::read_to_string("conf/examples/canary.yaml").unwrap();
    for (said, here) in [
        ("web: { bind: 127.0.0.1:8080 }", "edge: { bind: 127.0.0.1:0 }"),
        ("127.0.0.1:9901", "127.0.0.1:0"),
        ("127.0.0.1:9001", &format!("'{one}'")),
        ("127.0.0.1:9002", &format!("'{other}'")),
        ("127.0.0.1:9003", &format!("'{canary}'")),
    ] {
        assert!(text.contains(said), "{said}");
        text = text.replace(said, here);
    }
    let gateway = Gateway::start(text);
    let mut connection = gateway.connect();
    let asked = Request::get("/orders/7").with("x-canary", "yes");
    for request in [Request::get("/orders/7"), asked.clone()] {
        eventually("the targets are well", || (connection.ask(&request).status == 200).then_some(()));
    }
    let there = (0..100).filter(|_| connection.get("/orders/7").text() == "canary").count();
    assert_eq!(there, 10, "of any hundred in a row");
    assert!(times(20, || connection.ask(&asked).text()).iter().all(|text| text == "canary"));
    assert_eq!(gateway.get("/other").status, 404);
}
