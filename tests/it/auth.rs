//! Who may come in: tokens on the wire, what the client and the target are told, and what the log knows.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use crate::harness::tls::Authority;
use crate::harness::tools::yumen;
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, eventually};

pub const SECRET: &str = "a secret that is long enough for HS256";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// What a good token says, with changes.
fn claims(changes: Value) -> Value {
    let mut claims = json!({ "iss": "https://id/", "aud": "orders", "sub": "u1", "tenant": "t1", "exp": now() + 300 });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

pub fn signed(claims: &Value, secret: &str) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn token(changes: Value) -> String {
    signed(&claims(changes), SECRET)
}

fn bearing(gateway: &Gateway, path: &str, token: &str) -> Response {
    gateway.ask(Request::get(path).with("Authorization", format!("Bearer {token}")))
}

/// A gateway with these schemes and routes and the secret in a file.
fn gateway(origin: &Origin, auth: &str, routes: &str) -> Gateway {
    let setup = Setup::new().file("secret", SECRET);
    setup.start(format!("auth:\n{auth}\n{}", Gateway::document(origin, routes)))
}

const STAFF: &str = "  staff: { jwt: { issuer: 'https://id/', audience: [admin, orders], secret: 'file:$DIR/secret', claims: [tenant], leeway: 30s } }";

#[test]
fn a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only() {
    let origin = Origin::answering("in");
    let gateway = gateway(
        &origin,
        STAFF,
        "closed: { match: /closed/*, auth: staff, to: app }
own: { match: /own/*, auth: { jwt: { secret: 'file:$DIR/secret' } }, to: app }
open: { match: /open/*, to: app }",
    );
    assert_eq!((gateway.get("/open/x").status, bearing(&gateway, "/closed/x", &token(json!({}))).status), (200, 200));
    assert_eq!(bearing(&gateway, "/own/x", &token(json!({ "aud": "anyone" }))).status, 200);
    let line = gateway.access_line(|line| line["route"] == "closed");
    assert_eq!(line["consumer"], "u1");
    origin.forget();

    let missing = gateway.get("/closed/x");
    assert_eq!((missing.status, &missing.json()["code"]), (401, &json!("auth.missing")));
    assert_eq!(missing.field("www-authenticate"), Some("Bearer realm=\"staff\""));
    let late = bearing(&gateway, "/closed/x", &token(json!({ "exp": now() - 31 })));
    assert_eq!((late.status, &late.json()["code"]), (401, &json!("auth.expired")));
    assert!(late.field("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    assert_eq!(bearing(&gateway, "/closed/x", &token(json!({ "exp": now() - 5 }))).status, 200, "within the leeway");
    origin.forget();

    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let payload = URL_SAFE_NO_PAD.encode(claims(json!({})).to_string());
    let mut answers = Vec::new();
    for (bad, reason) in [
        ("x".to_owned(), "auth.malformed"),
        (token(json!({})) + "=", "auth.malformed"),
        ("a".repeat(17_000), "auth.malformed"),
        (signed(&claims(json!({})), "another secret that is long enough too"), "auth.signature"),
        (format!("{none}.{payload}."), "auth.signature"),
        (format!("{none}.{payload}.AAAA"), "auth.algorithm"),
        (token(json!({ "nbf": now() + 100 })), "auth.not_yet"),
        (token(json!({ "iss": "https://id" })), "auth.issuer"),
        (token(json!({ "aud": "order" })), "auth.audience"),
        (token(json!({ "tenant": null })), "auth.claims"),
        (token(json!({ "exp": "tomorrow" })), "auth.claims"),
    ] {
        let answer = bearing(&gateway, "/closed/x", &bad);
        assert_eq!(answer.status, 401, "{reason}");
        let line = gateway.access_line(|line| line["request_id"] == answer.field("x-request-id").unwrap());
        assert_eq!(line["reason"], reason, "{line}");
        assert!(!line.to_string().contains(&bad[..bad.len().min(60)]) || bad == "x", "no token in the log: {line}");
        let mut problem = answer.json();
        assert_eq!(problem["instance"].take(), answer.field("x-request-id").unwrap());
        answers.push((
            problem,
            answer.field("www-authenticate").unwrap().to_owned(),
            answer.field("proxy-status").map(str::to_owned),
        ));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "all invalid ones look alike: {answers:#?}");
    assert_eq!(answers[0].0["code"], "auth.invalid");
    assert_eq!(origin.seen().len(), 0, "nobody reached the target");
    assert!(gateway.metrics().sum("yumen_faults_total", &[("reason", "auth.issuer")]) > 0.5);
}

/// A key pair for ES256 or `EdDSA`: what signs, the public half as PEM and as a JWK.
fn pair(algorithm: Algorithm, id: &str) -> (EncodingKey, String, Value) {
    let kind = if algorithm == Algorithm::ES256 { &rcgen::PKCS_ECDSA_P256_SHA256 } else { &rcgen::PKCS_ED25519 };
    let key = KeyPair::generate_for(kind).unwrap();
    let raw = key.der_bytes();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (private, jwk) = if algorithm == Algorithm::ES256 {
        let (x, y) = (text(&raw[1..33]), text(&raw[33..]));
        (
            EncodingKey::from_ec_der(&key.serialize_der()),
            json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y }),
        )
    } else {
        (
            EncodingKey::from_ed_der(&key.serialize_der()),
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": text(raw) }),
        )
    };
    (private, key.public_key_pem(), jwk)
}

fn by(key: &EncodingKey, algorithm: Algorithm, id: Option<&str>) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims(json!({})), key).unwrap()
}

#[test]
fn keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm() {
    let origin = Origin::answering("in");
    let (first, pem, jwk) = pair(Algorithm::ES256, "one");
    let (second, _, other) = pair(Algorithm::EdDSA, "two");
    let weak = json!({ "kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB" });
    let set = |keys: &[&Value]| json!({ "keys": keys }).to_string();
    let long = SECRET.repeat(2);
    let setup = Setup::new().file("idp.pem", &pem).file("keys.json", set(&[&jwk, &weak])).file("long", &long);
    let file = setup.path().join("keys.json");
    let gateway = setup.start(
        "auth:
  pem: { jwt: { key: ./idp.pem } }
  set: { jwt: { jwks: keys.json } }
  long-form: { jwt: { jwks: { file: keys.json } } }
  long: { jwt: { secret: 'file:$DIR/long', algorithm: HS512 } }\n"
            .to_owned()
            + &Gateway::document(
                &origin,
                "pem: { match: /pem, auth: pem, to: app }
set: { match: /set, auth: set, to: app }
also: { match: /also, auth: long-form, to: app }
long: { match: /long, auth: long, to: app }",
            ),
    );
    let es256 = by(&first, Algorithm::ES256, Some("one"));
    let paths = ["/pem", "/set", "/also", "/long"];
    assert_eq!(paths.map(|path| bearing(&gateway, path, &es256).status), [200, 200, 200, 401]);
    let hs512 = encode(&Header::new(Algorithm::HS512), &claims(json!({})), &EncodingKey::from_secret(long.as_bytes()));
    assert_eq!(bearing(&gateway, "/long", &hs512.unwrap()).status, 200);
    assert_eq!(
        bearing(&gateway, "/long", &signed(&claims(json!({})), &long)).status,
        401,
        "HS256 with a key for HS512"
    );
    let swapped = signed(&claims(json!({})), &pem);
    assert_eq!(bearing(&gateway, "/pem", &swapped).status, 401, "a public key is no secret");
    let line = gateway.access_line(|line| line["route"] == "pem" && line["reason"] != Value::Null);
    assert_eq!(line["reason"], "auth.algorithm");
    let unknown = by(&second, Algorithm::EdDSA, Some("two"));
    assert_eq!(bearing(&gateway, "/set", &unknown).status, 401);
    assert_eq!(gateway.access_line(|line| line["reason"] == "auth.key_unknown")["route"], "set");
    // The file changes: the new key serves and the old one no longer does, although its token was seen before.
    std::fs::write(&file, set(&[&other])).unwrap();
    eventually("the new key", || (bearing(&gateway, "/set", &unknown).status == 200).then_some(()));
    assert_eq!(bearing(&gateway, "/set", &es256).status, 401, "a token of a key that is gone");
}

#[test]
fn a_token_lies_where_the_document_says_and_nowhere_twice() {
    let origin = Origin::answering("in");
    let places = "in: [header.authorization, cookie.session, header.x-token, query.token]";
    let gateway = gateway(
        &origin,
        &format!("  four: {{ jwt: {{ secret: 'file:$DIR/secret', {places} }}, strip: true }}\n{STAFF}"),
        "four: { match: /four, auth: four, to: app }
staff: { match: /staff, auth: staff, to: app }",
    );
    let good = token(json!({}));
    let ask = |request: Request| gateway.ask(request).status;
    assert_eq!(ask(Request::get("/four").with("Authorization", format!("bEaReR   {good}"))), 200);
    assert_eq!(origin.last().field("authorization"), None, "the token stays here");
    assert_eq!(ask(Request::get("/four").with("X-Token", &good)), 200);
    assert_eq!(origin.last().field("x-token"), None);
    assert_eq!(ask(Request::get("/four").with("Cookie", format!("a=1; session={good}; b=2"))), 200);
    assert_eq!(origin.last().field("cookie"), Some("a=1; b=2"));
    assert_eq!(ask(Request::get(&format!("/four?a=1&token={good}&b=2"))), 200);
    assert_eq!(origin.last().target, "/four?a=1&b=2");
    origin.forget();
    let twice = Request::get("/four").with("Authorization", format!("Bearer {good}"));
    assert_eq!(ask(twice.with("Authorization", format!("Bearer {good}"))), 401);
    assert_eq!(ask(Request::get(&format!("/four?token={good}")).with("X-Token", &good)), 401);
    assert_eq!(ask(Request::get(&format!("/staff?token={good}"))), 401, "the query is read only where it is asked for");
    assert_eq!(ask(Request::get("/four").with("Authorization", format!("Basic {good}"))), 401);
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(bearing(&gateway, "/staff", &good).status, 200);
    assert!(origin.last().field("authorization").is_some(), "passed on unless the document says otherwise");
}

#[test]
fn the_target_is_told_who_asks_by_nobody_but_us() {
    let origin = Origin::answering("in");
    let gateway = gateway(
        &origin,
        "  staff: { jwt: { secret: 'file:$DIR/secret' }, forward: { x-user: jwt.sub, x-tenant: jwt.tenant, x-roles: jwt.roles } }",
        "all: { match: /*, auth: staff, to: app }",
    );
    let token = token(json!({ "tenant": null, "roles": ["a", "b"] }));
    let request = Request::get("/").with("Authorization", format!("Bearer {token}"));
    let request =
        request.with("X-User", "admin").with("x-USER", "root").with("X-Tenant", "theirs").with("Connection", "x-user");
    assert_eq!(gateway.ask(request).status, 200);
    let seen = origin.last();
    assert_eq!((seen.field("x-user"), seen.field("x-roles"), seen.field("x-tenant")), (Some("u1"), Some("a,b"), None));
    assert_eq!(seen.head.to_lowercase().matches("x-user:").count(), 1, "{}", seen.head);
}

#[test]
fn one_of_several_is_enough_or_all_of_them_are_asked() {
    let origin = Origin::answering("in");
    let setup = Setup::new().file("secret", SECRET).file("other", SECRET.repeat(2));
    let gateway = setup.start(
        "auth:
  staff: { jwt: { secret: 'file:$DIR/secret' }, forward: { x-staff: jwt.sub } }
  partner: { jwt: { secret: 'file:$DIR/other', in: [header.x-partner] }, forward: { x-from: jwt.sub } }
  either: { any: [staff, partner] }\n"
            .to_owned()
            + &Gateway::document(
                &origin,
                "either: { match: /either, auth: either, to: app }
both: { match: /both, auth: { all: [staff, partner] }, to: app }",
            ),
    );
    let staff = format!("Bearer {}", token(json!({})));
    let partner = signed(&claims(json!({ "sub": "p1" })), &SECRET.repeat(2));
    let ask = |path: &str, fields: &[(&str, &str)]| {
        let request = Request::get(path);
        gateway.ask(fields.iter().fold(request, |request, (name, value)| request.with(name, value))).status
    };
    let (one, other) = (("Authorization", staff.as_str()), ("X-Partner", partner.as_str()));
    assert_eq!([ask("/either", &[one]), ask("/either", &[other]), ask("/either", &[])], [200, 200, 401]);
    assert_eq!([ask("/both", &[one]), ask("/both", &[other]), ask("/both", &[one, other])], [401, 401, 200]);
    assert_eq!((origin.last().field("x-staff"), origin.last().field("x-from")), (Some("u1"), Some("p1")));
    assert_eq!(ask("/either", &[other, ("X-Staff", "forged")]), 200);
    assert_eq!((origin.last().field("x-staff"), origin.last().field("x-from")), (None, Some("p1")));
    gateway.access_line(|line| line["route"] == "either" && line["consumer"] == "p1");
}

#[test]
fn a_shadow_of_auth_changes_nothing() {
    let origin = Origin::answering("in");
    let gateway = gateway(
        &origin,
        "  watched: { jwt: { secret: 'file:$DIR/secret' }, strip: true, forward: { x-user: jwt.sub }, mode: shadow }",
        "plain: { match: /plain, to: app }
watched: { match: /watched, auth: watched, to: app }",
    );
    let names = |answer: &Response| answer.fields.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for shown in ["Bearer no.token.", "Bearer"] {
        let ask = |path: &str| gateway.ask(Request::get(path).with("Authorization", shown));
        let (plain, watched) = (ask("/plain"), ask("/watched"));
        assert_eq!((watched.status, watched.text(), names(&watched)), (plain.status, plain.text(), names(&plain)));
        assert_eq!(origin.last().field("authorization"), Some(shown), "the request is not changed either");
    }
    let said = |line: &Value| line["would_refuse"].as_str().unwrap_or_default().to_owned();
    gateway.access_line(|line| said(line).starts_with("auth.missing by auth.watched ("));
    let shadow = [("route", "watched"), ("reason", "auth.signature")];
    eventually("counted", || (gateway.metrics().sum("yumen_shadow_refusals_total", &shadow) > 0.5).then_some(()));
}

#[test]
fn none_opens_a_route_that_defaults_would_close() {
    let origin = Origin::answering("in");
    let gateway = gateway(
        &origin,
        &format!("{STAFF}\ndefaults: {{ route: {{ auth: staff }} }}"),
        "closed: { match: /*, to: app }
health: { match: /health, auth: none, to: app }",
    );
    assert_eq!([gateway.get("/x").status, gateway.get("/health").status], [401, 200]);
}

/// An identity provider: discovery, and a set of keys that can be changed.
fn provider(keys: &Arc<Mutex<String>>) -> Origin {
    let keys = Arc::clone(keys);
    Origin::new(move |seen, talk| {
        let issuer = format!("http://{}", seen.field("host").unwrap());
        match &*seen.target {
            "/.well-known/openid-configuration" => {
                talk.answer(200, "", json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }).to_string());
            }
            "/moved" => talk.answer(302, "Location: /keys\r\n", ""),
            _ => talk.answer(200, "Cache-Control: max-age=600\r\n", keys.lock().unwrap().as_str()),
        }
    })
}

fn set(keys: &[&Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn by_issuer(key: &EncodingKey, issuer: &str, id: &str) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
    encode(&header, &claims(json!({ "iss": issuer })), key).unwrap()
}

#[test]
fn keys_are_discovered_and_ten_thousand_unknown_names_fetch_once() {
    let origin = Origin::answering("in");
    let ((first, _, one), (second, _, two)) = (pair(Algorithm::ES256, "one"), pair(Algorithm::ES256, "two"));
    let keys = Arc::new(Mutex::new(set(&[&one])));
    let idp = provider(&keys);
    let issuer = format!("http://{idp}");
    let gateway = Gateway::start(format!(
        "auth: {{ idp: {{ jwt: {{ issuer: '{issuer}', jwks: {{ discover: true, refetch_unknown_kid: 1h }} }} }} }}\n{}",
        Gateway::document(&origin, "all: { match: /*, auth: idp, to: app }")
    ));
    let (old, new) = (by_issuer(&first, &issuer, "one"), by_issuer(&second, &issuer, "two"));
    eventually("the first keys", || (bearing(&gateway, "/", &old).status == 200).then_some(()));
    assert_eq!(idp.targets(), ["/.well-known/openid-configuration", "/keys"]);
    // The issuer rotates: the first token with the new key makes us fetch, and waits for that.
    *keys.lock().unwrap() = set(&[&one, &two]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| bearing(&gateway, "/", &new).status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 20]);
    assert_eq!(bearing(&gateway, "/", &old).status, 200);
    let mut connection = gateway.connect();
    for at in 0..10_000 {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "ES256", "kid": format!("made-up-{at}") }).to_string());
        let request = Request::get("/").with("Authorization", format!("Bearer {header}.e30.AAAA"));
        if at % 500 == 0 {
            connection = gateway.connect();
        }
        assert_eq!(connection.ask(&request).status, 401);
    }
    assert_eq!(
        idp.targets().iter().filter(|target| *target == "/keys").count(),
        2,
        "one fetch an hour for unknown names"
    );
    let metrics = gateway.metrics();
    assert!(metrics.sum("yumen_jwks_refreshes_total", &[("auth", "idp"), ("result", "ok")]) > 1.5);
    assert!(metrics.0.contains("yumen_jwks_age_seconds{auth=\"idp\"}"));
    let decisions =
        |result| metrics.sum("yumen_auth_decisions_total", &[("route", "all"), ("method", "jwt"), ("result", result)]);
    assert!(decisions("admitted") > 2.5 && decisions("invalid") > 9_999.5);
}

#[test]
fn the_last_good_keys_outlive_an_outage_and_a_restart_but_not_their_time() {
    let origin = Origin::answering("in");
    let (key, _, jwk) = pair(Algorithm::ES256, "one");
    let keys = Arc::new(Mutex::new(set(&[&jwk])));
    let idp = provider(&keys);
    let token = by_issuer(&key, "https://id/", "one");
    let state = tempfile::tempdir().unwrap();
    let url = format!("http://{idp}/keys");
    let document = |state: &std::path::Path, keep: &str| {
        format!(
            "runtime: {{ state: '{}' }}\nauth: {{ idp: {{ jwt: {{ jwks: {{ url: '{url}', keep_if_down: {keep}, refetch_unknown_kid: 1ms }} }} }} }}\n{}",
            state.display(),
            Gateway::document(&origin, "closed: { match: /*, auth: idp, to: app }\nopen: { match: /open, to: app }")
        )
    };
    let gateway = Gateway::start(document(state.path(), "24h"));
    eventually("the first keys", || (bearing(&gateway, "/", &token).status == 200).then_some(()));
    // What is no set of keys changes nothing: HTML, too large, too many, secrets, nothing.
    let secret = json!({ "kty": "oct", "kid": "s", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let many = set(&vec![&jwk; 10_000]);
    let failed = || gateway.metrics().sum("yumen_jwks_refreshes_total", &[("result", "failed")]);
    for bad in ["<html>".to_owned(), " ".repeat(1 << 20), many, set(&[&secret]), set(&[])] {
        *keys.lock().unwrap() = bad;
        let before = failed();
        eventually("a failed fetch", || {
            bearing(&gateway, "/", &by_issuer(&key, "https://id/", "unknown"));
            (failed() > before).then_some(())
        });
        assert_eq!(bearing(&gateway, "/", &token).status, 200, "the last good keys are kept");
    }
    drop(gateway);
    drop(idp);
    let gateway = Gateway::start(document(state.path(), "24h"));
    assert_eq!(bearing(&gateway, "/", &token).status, 200, "a restart during the outage");
    drop(gateway);
    let gateway = Gateway::start(document(state.path(), "1ms"));
    assert_eq!(bearing(&gateway, "/", &token).status, 503, "too old to be believed");
    let elsewhere = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(document(elsewhere.path(), "24h"));
    let refused = bearing(&gateway, "/", &token);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("auth.unavailable")));
    assert!(refused.field("retry-after").is_some());
    assert_eq!([gateway.get("/").status, gateway.get("/open").status], [401, 200]);
}

#[test]
fn keys_that_drip_are_given_up_and_open_routes_serve_meanwhile() {
    let origin = Origin::answering("in");
    let idp = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for _ in 0..200 {
            talk.send(" ");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    });
    let gateway = Gateway::start(format!(
        "auth: {{ idp: {{ jwt: {{ jwks: 'http://{idp}/keys' }} }} }}\n{}",
        Gateway::document(&origin, "closed: { match: /*, auth: idp, to: app }\nopen: { match: /open, to: app }")
    ));
    let shown = bearing(&gateway, "/", &token(json!({})));
    assert_eq!((shown.status, &shown.json()["code"]), (503, &json!("auth.unavailable")));
    assert_eq!(gateway.get("/open").status, 200);
    gateway.log.wait("was not complete within 5s");
}

#[test]
fn keys_are_believed_from_who_proves_to_be_the_issuer_only() {
    let keys = Arc::new(Mutex::new(set(&[&pair(Algorithm::ES256, "one").2])));
    let idp = provider(&keys);
    let authority = Authority::new();
    let check = |jwt: &str| {
        let text =
            format!("auth: {{ idp: {{ jwt: {jwt} }} }}\nroutes: {{ all: {{ match: /*, auth: idp, respond: 204 }} }}\n");
        Setup::new().file("ca.pem", &authority.pem).run(&text, "check", &[])
    };
    for (jwt, code) in [
        ("{ jwks: 'http://id.example.com/keys' }", 78),
        ("{ jwks: { url: 'http://id.example.com/keys', plain_http: true } }", 0),
        ("{ jwks: 'https://id.example.com/keys' }", 0),
        ("{ jwks: discover }", 78),
        ("{ jwks: discover, issuer: 'https://id.example.com' }", 0),
        ("{ jwks: { url: 'https://id.example.com/keys', ca: $DIR/nowhere.pem } }", 78),
        ("{ jwks: { url: 'https://id.example.com/keys', ca: $DIR/ca.pem } }", 0),
    ] {
        let ended = check(jwt);
        assert_eq!(ended.code, code, "{jwt}\n{}", ended.out);
    }
    // A certificate of an authority that is not believed, another issuer, a redirection: no keys, whatever they say.
    let tls =
        ["moved", "system", "ours"].map(|name| format!("{name}: {{ match: /{name}, auth: {name}, respond: 204 }}"));
    let pair = authority.issue(&["localhost"]);
    let origin = Origin::answering("{}");
    let setup = Setup::new().file("ca.pem", &authority.pem).file("id.crt", &pair.cert).file("id.key", &pair.key);
    // The issuer's TLS is a listener of the gateway itself, before the plain provider.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "listeners: {{ edge: {{ bind: '127.0.0.1:0' }}, id: {{ bind: '127.0.0.1:{port}', tls: {{ certs: [{{ cert: id.crt, key: id.key }}] }} }} }}
auth:
  moved: {{ jwt: {{ jwks: 'http://{idp}/moved' }} }}
  system: {{ jwt: {{ jwks: 'https://localhost:{port}/keys' }} }}
  ours: {{ jwt: {{ jwks: {{ url: 'https://localhost:{port}/keys', ca: ca.pem }} }} }}
pools: {{ app: ['{origin}'], id: ['{idp}'] }}
routes:
  keys: {{ match: /keys, to: id }}
  app: {{ match: /app, to: app }}
  {}\n",
        tls.join("\n  ")
    );
    let gateway = setup.start(text);
    let status = |path: &str| bearing(&gateway, path, &token(json!({}))).status;
    // 401: there are keys, and the token is not theirs.
    eventually("keys over TLS", || (status("/ours") == 401).then_some(()));
    for name in ["moved", "system"] {
        let failed = || gateway.metrics().sum("yumen_jwks_refreshes_total", &[("auth", name), ("result", "failed")]);
        eventually("a failed fetch", || (failed() > 0.5).then_some(()));
        assert_eq!(status(&format!("/{name}")), 503);
    }
}

#[test]
fn a_key_opens_the_door_and_the_file_holds_only_its_hash() {
    let origin = Origin::answering("in");
    let made = || {
        let printed = yumen(&["key", "new", "acme"]).out;
        let word = |start: &str| printed.lines().find_map(|line| line.strip_prefix(start)).unwrap().trim().to_owned();
        (word("key:"), word("line:").replace(" }", ", plan: gold }"))
    };
    let ((key, line), (other, second)) = (made(), made());
    assert!(key.starts_with("ymn_") && !line.contains(&key) && key != other);
    let setup = Setup::new().file("partner-keys.yaml", &line);
    let file = setup.path().join("partner-keys.yaml");
    let gateway = setup.start(
        "auth:
  partners: { key: { file: partner-keys.yaml, in: [header.x-api-key, query.key] }, strip: true, forward: { x-plan: consumer.plan, x-who: consumer } }\n"
            .to_owned()
            + &Gateway::document(&origin, "all: { match: /*, auth: partners, to: app }"),
    );
    let ask = |key: &str| gateway.ask(Request::get("/").with("X-Api-Key", key).with("X-Plan", "platinum"));
    assert_eq!(ask(&key).status, 200);
    let seen = origin.last();
    assert_eq!(
        (seen.field("x-plan"), seen.field("x-who"), seen.field("x-api-key")),
        (Some("gold"), Some("acme"), None)
    );
    assert_eq!(gateway.access_line(|line| line["route"] == "all")["consumer"], "acme");
    assert_eq!(gateway.get(&format!("/?a=1&key={key}")).status, 200);
    assert_eq!(origin.last().target, "/?a=1");
    origin.forget();
    assert_eq!(gateway.get("/").json()["code"], "auth.missing");
    for wrong in [&other, &key[..key.len() - 1], &format!("{key}A"), &"A".repeat(5000)] {
        let refused = ask(wrong);
        assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("auth.invalid")));
        assert_eq!(refused.field("www-authenticate"), Some("ApiKey realm=\"partners\""));
    }
    assert_eq!(gateway.access_line(|line| line["reason"] == "auth.key")["detail"], "the key is nobody's");
    assert_eq!(origin.seen().len(), 0);
    assert!(!gateway.read("access.log").contains(&key) && !gateway.log.all().join(" ").contains(&key));
    // The file changes, and the key with it.
    std::fs::write(&file, &second).unwrap();
    eventually("the new key", || (ask(&other).status == 200).then_some(()));
    assert_eq!(ask(&key).status, 401);
    std::fs::write(&file, "acme: { hash: plain }").unwrap();
    eventually("the reload is refused", || {
        (gateway.metrics().sum("yumen_config_last_reload_success", &[]) < 0.5).then_some(())
    });
    assert_eq!(ask(&other).status, 200);
}

#[test]
fn a_secret_in_the_query_stands_in_no_log() {
    let origin = Origin::answering("in");
    let places = "in: [query.token, query.other]";
    let log = "observe: { access_log: { to: 'file:$DIR/access.log', query: true } }";
    let gateway = gateway(
        &origin,
        &format!("  open: {{ jwt: {{ secret: 'file:$DIR/secret', {places} }} }}\n  either: {{ any: [open] }}\n{log}"),
        "open: { match: /open, auth: open, to: app }
either: { match: /either, auth: either, to: app }",
    );
    for path in ["/open", "/either"] {
        let good = token(json!({}));
        assert_eq!(gateway.get(&format!("{path}?a=1&token={good}&b=2")).status, 200);
        assert_eq!(origin.last().target, format!("{path}?a=1&token={good}&b=2"), "not stripped");
        assert_eq!(gateway.get(&format!("{path}?canary=1&token={good}x")).status, 401);
        assert_eq!(gateway.get(&format!("{path}?token={good}&other={good}")).status, 401);
        gateway.access_line(|line| line["url.path"] == path && line["url.query"] == "a=1&b=2");
        gateway.access_line(|line| line["url.path"] == path && line["url.query"] == "canary=1");
        let said = gateway.read("access.log") + &gateway.log.all().join(" ");
        assert!(!said.contains(good.rsplit('.').next().unwrap()), "{said}");
    }
}

#[test]
fn a_client_certificate_says_who_it_is() {
    let origin = Origin::answering("in");
    let authority = Authority::new();
    let (known, other) = (authority.issue(&["orders"]), authority.issue(&["billing"]));
    let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &other.chain()[0]);
    let print: Vec<_> = print.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let setup = Setup::new().pair("a", &authority.issue(&["a.example"])).file("ca.pem", &authority.pem);
    let gateway = setup.start(format!(
        "listeners:
  edge: {{ bind: '127.0.0.1:0', tls: {{ certs: [{{ cert: a.pem, key: a.key }}], client_ca: {{ file: ca.pem, mode: optional }} }} }}
auth:
  anyone: {{ certificate: {{}}, forward: {{ x-client: consumer }} }}
  orders: {{ certificate: {{ subject: CN=orders }} }}
  billing: {{ certificate: {{ fingerprint: ['{}'] }} }}
{}",
        print.join(":"),
        Gateway::document(
            &origin,
            "anyone: {{ match: /anyone, auth: anyone, to: app }}
orders: {{ match: /orders, auth: orders, to: app }}
billing: {{ match: /billing, auth: billing, to: app }}"
        )
        .replace("{{", "{")
        .replace("}}", "}")
    ));
    let ask = |client: crate::harness::tls::Client| {
        let mut secured = client.connect(&gateway.edge(), "a.example").unwrap();
        ["/anyone", "/orders", "/billing"]
            .map(|path| secured.connection.ask(&Request::get(path).host("a.example")).status)
    };
    assert_eq!(ask(authority.client()), [401, 401, 401]);
    assert_eq!(ask(authority.client().showing(&known)), [200, 200, 401]);
    assert_eq!(origin.seen()[0].field("x-client"), Some("CN=orders"));
    assert_eq!(ask(authority.client().showing(&other)), [200, 401, 200]);
    gateway.access_line(|line| line["reason"] == "auth.certificate" && line["route"] == "billing");
}

#[test]
fn a_client_certificate_may_be_known_by_its_other_names() {
    let origin = Origin::answering("in");
    let authority = Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["a.example"])).file("ca.pem", &authority.pem);
    let routes: String = ["dns", "below", "uri", "email", "any"]
        .map(|name| format!("{name}: {{ match: /{name}, auth: {name}, to: app }}\n"))
        .concat();
    let gateway = setup.start(
        "listeners:
  edge: { bind: '127.0.0.1:0', tls: { certs: [{ cert: a.pem, key: a.key }], client_ca: { file: ca.pem, mode: optional } } }
auth:
  dns: { certificate: { dns: [orders.example.com, billing.example.com] } }
  below: { certificate: { dns: '*.example.com' } }
  uri: { certificate: { uri: 'spiffe://example.com/ns/orders/*' }, forward: { x-client: consumer, x-uri: consumer.uri, x-dns: consumer.dns } }
  email: { certificate: { email: ann@example.com, uri: 'spiffe://example.com/ns/mail' } }
  any: { certificate: {}, forward: { x-client: consumer } }
"
        .to_owned()
            + &Gateway::document(&origin, &routes),
    );
    let ask = |names: &[&str]| {
        let client = authority.client().showing(&authority.issue_nameless(names));
        let mut secured = client.connect(&gateway.edge(), "a.example").unwrap();
        let mut ask = |path: &str| {
            let request = Request::get(path).host("a.example").with("X-Uri", "forged").with("X-Dns", "forged");
            secured.connection.ask(&request).status
        };
        ["/dns", "/below", "/email", "/any", "/uri"].map(&mut ask)
    };
    assert_eq!(ask(&["Orders.example.com", "spiffe://example.com/ns/orders/sa/api"]), [200, 200, 401, 200, 200]);
    let seen = origin.last();
    let told = ["x-client", "x-uri", "x-dns"].map(|name| seen.field(name));
    let uri = "spiffe://example.com/ns/orders/sa/api";
    assert_eq!(told, [Some(uri), Some(uri), Some("orders.example.com")]);
    gateway.access_line(|line| line["consumer"] == uri);
    assert_eq!(ask(&["a.b.example.com", "spiffe://example.com/ns/orders/../mail"]), [401, 401, 401, 200, 401]);
    assert_eq!(ask(&["ann@example.com"]), [401, 401, 200, 200, 401]);
    assert_eq!(origin.last().field("x-client"), Some("ann@example.com"));
    assert_eq!(ask(&["spiffe://example.com/ns/mail"]), [401, 401, 200, 200, 401]);
    assert_eq!(ask(&["evil.com", "bob@example.com", "spiffe://example.com/ns/orders"]), [401, 401, 401, 200, 401]);
    let line = gateway.access_line(|line| line["reason"] == "auth.certificate" && line["route"] == "uri");
    assert!(line["detail"].as_str().unwrap().contains("is not listed"), "{line}");
}
