//! A real identity provider (npm `oidc-provider`): its tokens, its keys as they change, its outages.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Connection, Gateway, Origin, Request, eventually};

/// The provider, gone when dropped.
struct Provider {
    child: Child,
    address: String,
}

impl Provider {
    /// Nothing where node or its packages are missing.
    fn start() -> Option<Self> {
        let packages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tests-node");
        let node = Command::new("node").arg("--version").output().is_ok_and(|said| said.status.success());
        if !node || !packages.join("node_modules/oidc-provider").exists() {
            eprintln!("LEFT OUT: no npm package oidc-provider; `tests/run` installs it");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/outside/idp.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(packages).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let provider = Self { child, address: format!("127.0.0.1:{}", port.trim()) };
        assert!(!port.is_empty(), "the provider did not start");
        Some(provider)
    }
    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }
    fn get(&self, target: &str) -> String {
        Connection::to(&self.address).ask(&Request::get(target).host(&self.address)).text()
    }
    /// A token for `resource`, or one that only the provider can read.
    fn token(&self, resource: Option<&str>) -> String {
        let resource = resource.map_or_else(String::new, |resource| format!("&resource={resource}"));
        let body = format!("grant_type=client_credentials&scope=orders:read{resource}").into_bytes();
        let request = Request { body, ..Request::new("POST", "/token").host(&self.address) };
        let request = request
            .with("Authorization", format!("Basic {}", STANDARD.encode("robot:a-secret-of-the-robot")))
            .with("Content-Type", "application/x-www-form-urlencoded");
        let answer = Connection::to(&self.address).ask(&request);
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
    }
    fn fetched(&self) -> usize {
        self.get("/test/count").parse().unwrap()
    }
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.end();
    }
}

const RESOURCE: Option<&str> = Some("urn:orders");

fn document(origin: &Origin, provider: &Provider, state: &Path, pause: &str) -> String {
    let issuer = provider.issuer();
    format!(
        "runtime: {{ state: '{}' }}
auth:
  idp:
    jwt: {{ issuer: '{issuer}', audience: orders, jwks: {{ discover: true, refetch_unknown_kid: {pause} }} }}
    forward: {{ x-user: jwt.sub }}
  opaque:
    introspection: {{ url: '{issuer}/token/introspection', client_id: gateway, client_secret: a-secret-of-the-gateway, timeout: 10s }}
{}",
        state.display(),
        Gateway::document(
            origin,
            "all: { match: /*, auth: idp, require: { scope: orders:read }, to: app }
opaque: { match: /opaque, auth: opaque, require: { scope: orders:read }, to: app }"
        )
    )
}

fn bearing(path: &str, token: &str) -> Request {
    Request::get(path).with("Authorization", format!("Bearer {token}"))
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

fn made_up(kid: &str) -> String {
    let header = json!({ "alg": "RS256", "typ": "at+jwt", "kid": kid }).to_string();
    format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header))
}

#[test]
fn a_real_provider_rotates_its_keys_under_load_without_a_single_refusal() {
    let Some(provider) = Provider::start() else { return };
    let (origin, state) = (Origin::answering("in"), tempfile::tempdir().unwrap());
    let gateway = Gateway::start(document(&origin, &provider, state.path(), "1ms"));
    let old = provider.token(RESOURCE);
    assert_eq!(kid(&old), "old");
    eventually("the first keys", || (gateway.ask(bearing("/", &old)).status == 200).then_some(()));
    assert_eq!(origin.last().field("x-user"), Some("robot"));
    assert_eq!(gateway.ask(bearing("/", &made_up("old"))).status, 401);
    assert_eq!(gateway.ask(bearing("/", &provider.token(None))).status, 401, "one that only the provider can read");
    assert_eq!(gateway.ask(bearing("/opaque", &provider.token(None))).status, 200);
    assert_eq!(gateway.ask(bearing("/opaque", "made-up")).status, 401);

    // A new key is published before it signs, and an old one after it did: so no token is ever unknown.
    let refetched = || {
        let ok = || gateway.metrics().sum("yumen_jwks_refreshes_total", &[("auth", "idp"), ("result", "ok")]);
        let before = ok();
        eventually("the keys are fetched again", || {
            gateway.ask(bearing("/", &made_up("nobody's")));
            (ok() > before).then_some(())
        });
    };
    let (stop, served, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let mut connection = gateway.connect();
                    let token = provider.token(RESOURCE);
                    for _ in 0..20 {
                        let answer = connection.ask(&bearing("/", &token)).status;
                        let count = if answer == 200 { &served } else { &refused };
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let load = || {
            let before = served.load(Ordering::SeqCst);
            eventually("load", || (served.load(Ordering::SeqCst) > before + 100).then_some(()));
        };
        load();
        provider.get("/test/keys/old,new");
        refetched();
        load();
        provider.get("/test/keys/new,old");
        load();
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(refused.load(Ordering::SeqCst), 0, "of {}", served.load(Ordering::SeqCst));
    let new = provider.token(RESOURCE);
    assert_eq!((&*kid(&new), gateway.ask(bearing("/", &new)).status), ("new", 200));
    provider.get("/test/keys/new");
    refetched();
    eventually("the old key is gone", || (gateway.ask(bearing("/", &old)).status == 401).then_some(()));
    assert_eq!(gateway.ask(bearing("/", &new)).status, 200);
}

#[test]
fn a_real_provider_may_be_down_while_the_gateway_restarts() {
    let Some(mut provider) = Provider::start() else { return };
    let (origin, state) = (Origin::answering("in"), tempfile::tempdir().unwrap());
    let document = document(&origin, &provider, state.path(), "30s");
    let gateway = Gateway::start(&document);
    let (token, opaque) = (provider.token(RESOURCE), provider.token(None));
    eventually("the first keys", || (gateway.ask(bearing("/", &token)).status == 200).then_some(()));
    provider.end();
    assert_eq!(gateway.ask(bearing("/", &token)).status, 200);
    drop(gateway);
    let gateway = Gateway::start(&document);
    assert_eq!(gateway.ask(bearing("/", &token)).status, 200, "keys from the disk");
    assert_eq!(gateway.ask(bearing("/", &made_up("old"))).status, 401);
    let refused = gateway.ask(bearing("/opaque", &opaque));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("auth.unavailable")));
}

#[test]
fn ten_thousand_made_up_keys_cost_a_real_provider_next_to_nothing() {
    let Some(provider) = Provider::start() else { return };
    let (origin, state) = (Origin::answering("in"), tempfile::tempdir().unwrap());
    let gateway = Gateway::start(document(&origin, &provider, state.path(), "2s"));
    let token = provider.token(RESOURCE);
    eventually("the first keys", || (gateway.ask(bearing("/", &token)).status == 200).then_some(()));
    let (before, started) = (provider.fetched(), Instant::now());
    let mut connection = gateway.connect();
    for at in 0..10_000 {
        if at % 500 == 0 {
            connection = gateway.connect();
        }
        assert_eq!(connection.ask(&bearing("/", &made_up(&format!("made-up-{at}")))).status, 401);
    }
    let most = usize::try_from(started.elapsed().as_secs() / 2).unwrap() + 1;
    let fetched = provider.fetched() - before;
    assert!((1..=most).contains(&fetched), "{fetched} fetches, at most {most}");
    assert_eq!(gateway.ask(bearing("/", &token)).status, 200);
}
