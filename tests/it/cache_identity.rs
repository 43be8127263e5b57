//! Whose answer a kept one is: nothing of one client, or of one pool, is given to another.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};

use crate::auth::{SECRET, signed};
use crate::harness::{Gateway, Origin, Request, Setup, times};

const TTL: &str = "{ ttl: 60s }";
const OWN: &str = "{}";
const SHARED: &str = "{ share: true }";

/// Answers with what the client has shown, for a minute, marked as said.
fn repeating(mark: &'static str) -> Origin {
    Origin::new(move |seen, talk| {
        let shown = seen.field("cookie").or(seen.field("authorization")).unwrap_or("nobody").to_owned();
        talk.answer(200, &format!("Cache-Control: {mark}max-age=60\r\n"), shown);
    })
}

/// The same path behind this way to be known; what else a route says follows it.
fn behind(origin: &Origin, auth: &str, cache: &str) -> Gateway {
    Setup::new().file("secret", SECRET).start(format!(
        "auth: {{ who: {{ {auth} }} }}\n{}",
        Gateway::document(origin, &format!("all: {{ match: /*, auth: who, to: app, cache: {cache} }}"))
    ))
}

/// What two clients get that come one after the other, each twice.
fn two(gateway: &Gateway, name: &str, values: [&str; 2]) -> Vec<String> {
    let get = |value| gateway.ask(Request::get("/me").with(name, value)).text();
    values.into_iter().chain(values).map(get).collect()
}

#[test]
fn who_comes_in_without_a_name_gets_nothing_of_another_one() {
    let asked = Origin::answering("in");
    let sso = format!("ext: {{ url: 'http://{asked}/', timeout: 10s }}");
    let sids = ["sid=alice", "sid=bob"];
    for cache in [OWN, TTL, SHARED] {
        let origin = repeating("");
        assert_eq!(two(&behind(&origin, &sso, cache), "Cookie", sids), [sids, sids].concat(), "{cache}");
        assert_eq!(origin.seen().len(), 4, "{cache}");
    }
    let public = repeating("public, ");
    assert_eq!(two(&behind(&public, &sso, OWN), "Cookie", sids), ["sid=alice"; 4], "it is for everybody");
}

#[test]
fn a_service_that_names_who_comes_in_tells_answers_apart() {
    let asked = Origin::new(|seen, talk| {
        let name = seen.field("cookie").unwrap_or("-").replace("sid=", "");
        talk.answer(200, &format!("X-Name: {name}\r\n"), "in");
    });
    let origin = repeating("");
    let sso = format!("ext: {{ url: 'http://{asked}/', timeout: 10s, consumer: x-name }}");
    let sids = ["sid=alice", "sid=bob"];
    assert_eq!(two(&behind(&origin, &sso, OWN), "Cookie", sids), [sids, sids].concat());
    assert_eq!(origin.seen().len(), 2, "each is kept");
}

/// What is known of a token.
type Claims = fn(&str) -> Value;

/// An issuer that knows every token.
fn issuer(claims: Claims) -> Origin {
    Origin::new(move |seen, talk| {
        let body = String::from_utf8(seen.body.clone()).unwrap();
        let token = body.trim_start_matches("token=").split('&').next().unwrap();
        talk.answer(200, "Content-Type: application/json\r\n", claims(token).to_string());
    })
}

fn introspecting(issuer: &Origin) -> String {
    format!(
        "introspection: {{ url: 'http://{issuer}/', client_id: a, client_secret: 'file:$DIR/secret', timeout: 10s }}"
    )
}

#[test]
fn a_token_of_which_only_is_known_that_it_is_good_is_nobody_else() {
    let tokens = ["Bearer a", "Bearer b"];
    let says: [(&str, Claims, usize); 4] = [
        ("that it is active", |_| json!({ "active": true }), 4),
        ("by which program", |_| json!({ "active": true, "client_id": "app", "scope": "read" }), 4),
        ("which token", |token| json!({ "active": true, "jti": token, "client_id": "app" }), 2),
        ("whose", |token| json!({ "active": true, "sub": token }), 2),
    ];
    for (what, claims, asked) in says {
        let (origin, issuer) = (repeating(""), issuer(claims));
        let gateway = behind(&origin, &introspecting(&issuer), TTL);
        assert_eq!(two(&gateway, "Authorization", tokens), [tokens, tokens].concat(), "{what}");
        assert_eq!(origin.seen().len(), asked, "{what}");
    }
    let (origin, issuer) = (repeating(""), issuer(|_| json!({ "active": true, "client_id": "app" })));
    let gateway = behind(&origin, &introspecting(&issuer), "{ ttl: 60s, key: [path, consumer] }");
    assert_eq!(two(&gateway, "Authorization", tokens), ["Bearer a"; 4], "the route says that the program is who");
}

#[test]
fn tokens_without_a_subject_are_told_apart_by_all_that_they_say() {
    let jwt = "jwt: { issuer: 'https://id/', audience: a, secret: 'file:$DIR/secret' }";
    let bearer = |more: Value| {
        let mut claims = json!({ "iss": "https://id/", "aud": "a", "exp": 4_000_000_000_u64 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("Bearer {}", signed(&claims, SECRET))
    };
    for (one, other, asked) in [
        (json!({ "jti": "1" }), json!({ "jti": "2" }), 2),
        (json!({ "role": "a" }), json!({ "role": "b" }), 4),
        (json!({ "sub": "u1" }), json!({ "sub": "u2" }), 2),
    ] {
        let (origin, tokens) = (repeating(""), [bearer(one.clone()), bearer(other)]);
        let tokens = tokens.each_ref().map(String::as_str);
        assert_eq!(two(&behind(&origin, jwt, OWN), "Authorization", tokens), [tokens, tokens].concat(), "{one}");
        assert_eq!(origin.seen().len(), asked, "{one}");
    }
    let (origin, sub) = (repeating(""), json!({ "sub": "u1", "jti": "1" }));
    let again = [bearer(sub), bearer(json!({ "sub": "u1", "jti": "2" }))];
    let same = two(&behind(&origin, jwt, OWN), "Authorization", again.each_ref().map(String::as_str));
    assert_eq!(same, [again[0].as_str(); 4], "the same person with another token");
}

#[test]
fn where_several_have_to_admit_nobody_is_taken_for_the_other() {
    let asked = Origin::answering("in");
    let origin = repeating("");
    let gateway = Setup::new().file("secret", SECRET).start(format!(
        "auth:
  app: {{ jwt: {{ secret: 'file:$DIR/secret', in: [header.x-app] }} }}
  user: {{ ext: {{ url: 'http://{asked}/', timeout: 10s }} }}
  both: {{ all: [app, user] }}
{}",
        Gateway::document(&origin, "all: { match: /*, auth: both, to: app, cache: 60s }")
    ));
    let app = signed(&json!({ "sub": "shop", "exp": 4_000_000_000_u64 }), SECRET);
    let get = |sid: &str| gateway.ask(Request::get("/me").with("X-App", &app).with("Cookie", sid)).text();
    assert_eq!(["sid=alice", "sid=bob"].map(get), ["sid=alice", "sid=bob"]);
}

#[test]
fn what_one_pool_has_answered_is_given_to_those_of_that_pool_only() {
    let (stable, canary) = (Origin::answering("stable"), Origin::answering("canary"));
    let gateway = Gateway::start(format!(
        "pools: {{ o: ['{stable}'], canary: ['{canary}'] }}
routes:
  can: {{ match: can.test/*, cache: {{ ttl: 20s }}, to: {{ o: 100, canary: 0 }}, opt_in: {{ canary: {{ headers: {{ x-canary: \"1\" }} }} }} }}
  own: {{ match: own.test/*, cache: {{ ttl: 20s, stale: 1h }}, to: {{ o: 50, canary: 50 }}, stick: header.x-user }}
"
    ));
    let asked = |said: &str| gateway.ask(Request::get("/x").host("can.test").with("X-Canary", said)).text();
    assert_eq!([asked("1"), asked("0"), asked("1"), asked("0")], ["canary", "stable", "canary", "stable"]);
    assert_eq!((stable.seen().len(), canary.seen().len()), (1, 1), "each is kept");
    let of = |user: usize| gateway.ask(Request::get("/y").host("own.test").with("X-User", user)).text();
    let first: Vec<_> = (0..12).map(of).collect();
    assert!(first.contains(&"stable".to_owned()) && first.contains(&"canary".to_owned()), "{first:?}");
    assert_eq!((0..12).map(of).collect::<Vec<_>>(), first, "everyone stays where they are");
    assert_eq!((stable.seen().len(), canary.seen().len()), (2, 2));
}

#[test]
fn the_name_of_a_parameter_may_be_written_otherwise_and_is_the_same() {
    let origin = Origin::new(|seen, talk| talk.answer(200, "", &seen.target));
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: { ttl: 60s, key: [path, query.a] } }");
    let targets = ["/echo/e?%61=evil", "/echo/e", "/echo/e?a=1&b=2", "/echo/e?a=2"];
    assert_eq!(targets.map(|target| gateway.get(target).text()), targets);
    assert_eq!(gateway.get("/echo/e?b=3&a=1").text(), "/echo/e?a=1&b=2", "and others are not in the key");
}

#[test]
fn a_field_that_is_no_list_selects_by_all_of_it() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |_, talk| {
        let fields = "Cache-Control: max-age=60\r\nVary: cookie, x-query, accept\r\n";
        talk.answer(200, fields, (count.fetch_add(1, SeqCst) + 1).to_string());
    });
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: {} }");
    let with = |name: &str, value: &str| gateway.ask(Request::get("/x").with(name, value)).text();
    assert_eq!([with("Cookie", "role=u,"), with("Cookie", "role=u")], ["1", "2"]);
    assert_eq!([with("X-Query", "a,b"), with("X-Query", "a, b")], ["3", "4"]);
    assert_eq!([with("Accept", "a,b"), with("Accept", "a , b")], ["5", "5"], "the space in a list means nothing");
    assert_eq!(times(2, || with("Cookie", "role=u,")), ["1", "1"]);
}
