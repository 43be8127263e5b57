//! Each reason of the one table: provoked on the wire, told by `why` with its rule and place, foreseen by `explain`.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use yumen::fault::Fault;

use crate::harness::handshake::upgrade;
use crate::harness::tls::Authority;
use crate::harness::tools;
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, eventually, h2};
use crate::why::kept_as;

/// What no client can bring about.
const NOT_ON_THE_WIRE: [(&str, &str); 2] = [
    ("auth.invalid", "clients are told it in place of the exact code, which is what is kept"),
    ("gateway.internal", "a defect of ours"),
];

/// The codes that were seen.
#[derive(Default)]
struct Walk(BTreeSet<String>);

fn id_of(answer: &Response) -> String {
    let said = answer.field("x-request-id").map(str::to_owned);
    said.unwrap_or_else(|| answer.json()["request_id"].as_str().unwrap().to_owned())
}

impl Walk {
    fn new() -> Self {
        Self::default()
    }

    /// These were all of them.
    fn was(self, codes: &[&str]) {
        assert_eq!(self.0, codes.iter().map(|code| (*code).to_owned()).collect());
    }

    /// `why` names the code and the rule that begins so, with its place.
    fn told(&mut self, gateway: &Gateway, code: &str, id: &str, rule: &str) -> Value {
        let page = kept_as(gateway, id);
        assert_eq!(page["code"], code, "{page}");
        let said = page["rule"].as_str().unwrap_or_else(|| panic!("{code} has no rule: {page}"));
        let place =
            regex::Regex::new(r" \(([a-z.]+yaml:\d+:\d+|defaults\.\w+ yumen\.yaml:\d+:\d+|built-in)\)$").unwrap();
        assert!(said.starts_with(rule) && place.is_match(said), "{code} by {rule}: {said}");
        self.0.insert(code.to_owned());
        page
    }

    /// The same, and `explain` has said so before.
    fn foreseen(&mut self, gateway: &Gateway, code: &str, answer: &Response, rule: &str, asked: &[&str]) {
        let page = self.told(gateway, code, &id_of(answer), rule);
        let ended = gateway.yumen("explain", &[asked, &["-o", "json"]].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        let text = ended.out.replace(&format!("{}/", gateway.setup.path().display()), "");
        let before: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let before = &before["answer"];
        assert_eq!((&before["code"], &before["status"]), (&page["code"], &page["status"]), "{asked:?}: {text}");
        assert!(
            before["rule"].is_null() || before["rule"] == page["rule"],
            "{asked:?}: {before}, but {}",
            page["rule"]
        );
        let for_people = gateway.yumen("explain", asked).out;
        assert!(for_people.contains(code), "{code}: {for_people}");
    }
}

/// The codes of each test below.
const WALKS: [&[&str]; 11] =
    [REQUESTS, WAYS, IDENTITIES, ASKED, SENT, LIMITS, POOLS, TARGETS, NONSENSE, CALLS, PRESSURE];

#[test]
fn each_reason_has_its_row() {
    let exempt = NOT_ON_THE_WIRE.map(|(code, _)| code);
    let here: BTreeSet<&str> = WALKS.into_iter().flatten().copied().chain(exempt).collect();
    let all: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.code()).collect();
    assert_eq!(all, here, "each code of `src/fault.rs` is provoked here");
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let left_out: Vec<_> = all.iter().filter(|code| !guide.contains(&format!("`{code}`"))).collect();
    assert!(left_out.is_empty(), "README says what to look at: {left_out:?}");
}

const REQUESTS: &[&str] = &[
    "request.malformed",
    "request.host",
    "request.target",
    "request.framing",
    "request.header_too_large",
    "request.uri_too_long",
    "request.method_unknown",
    "request.expect",
    "request.loop",
    "request.upgrade",
    "request.timeout",
    "request.misdirected",
];

#[test]
fn requests_that_are_none() {
    let walk = &mut Walk::new();
    let origin = Origin::answering("ok");
    let gateway = Gateway::start(format!(
        "listeners:\n  edge:\n    bind: 127.0.0.1:0\n    limits: {{ head: 2KiB, fields: 20, uri: 256B }}\n    timeout: {{ head: 300ms }}\n{}",
        Gateway::document(&origin, "all: { match: /*, to: app }")
    ));
    let raw = |text: &str| gateway.raw(text).0.remove(0);
    let (edge, limits) = ("listeners.edge (", "listeners.edge.limits (");
    let many: Vec<String> = (0..30).map(|n| format!("x-{n}: 1")).collect();
    let said: Vec<&str> = many.iter().flat_map(|line| ["-H", line]).collect();
    let long = format!("/{}", "a".repeat(300));
    let version = ["-H", "Upgrade: websocket", "-H", "Connection: upgrade", "-H", "Sec-WebSocket-Version: 8"];
    let via = "1.1 yumen, 1.1 yumen, 1.1 yumen, 1.1 yumen, 1.1 yumen";
    let field = |line: &str| raw(&format!("GET /x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
    for (code, rule, answer, asked) in [
        ("request.malformed", edge, field("Bad Name: x"), vec!["GET", "a/x", "-H", "Bad Name: x"]),
        ("request.host", edge, field("Host: b"), vec!["GET", "a/x", "-H", "Host: a", "-H", "Host: b"]),
        ("request.target", edge, raw("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"), vec!["GET", "a/%zz"]),
        (
            "request.framing",
            edge,
            field("Content-Length: 1\r\nTransfer-Encoding: chunked"),
            vec!["GET", "a/x", "-H", "Content-Length: 1", "-H", "Transfer-Encoding: chunked"],
        ),
        ("request.header_too_large", limits, field(&many.join("\r\n")), [&["GET", "a/x"], &said[..]].concat()),
        ("request.uri_too_long", limits, gateway.get(&long), vec!["GET", &long]),
        ("request.method_unknown", edge, raw("BREW / HTTP/1.1\r\nHost: a\r\n\r\n"), vec!["BREW", "a/"]),
        ("request.expect", edge, field("Expect: tea"), vec!["GET", "a/x", "-H", "Expect: tea"]),
        (
            "request.loop",
            edge,
            field(&format!("Via: {via}")),
            vec!["GET", "a/x", "-H", "Via: 1.1 yumen, 1.1 yumen, 1.1 yumen, 1.1 yumen, 1.1 yumen"],
        ),
    ] {
        walk.foreseen(&gateway, code, &answer, rule, &asked);
    }
    let old = field("Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 8");
    walk.foreseen(&gateway, "request.upgrade", &old, "routes.all (", &[&["GET", "a/x"], &version[..]].concat());
    let (late, _) = gateway.raw("GET /x HTTP/1.1\r\nHost: a\r\n");
    walk.told(&gateway, "request.timeout", &id_of(&late[0]), "listeners.edge.timeout.head (yumen.yaml:8:");
    two_names(walk);
    std::mem::take(walk).was(REQUESTS);
}

fn two_names(walk: &mut Walk) {
    let authority = Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["a.example"])).pair("b", &authority.issue(&["b.example"]));
    let gateway = setup.start(
        "listeners:\n  edge:\n    bind: 127.0.0.1:0\n    tls: { certs: [{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }, { cert: \"$DIR/b.pem\", key: \"$DIR/b.key\" }] }\nroutes: { all: { match: /*, respond: 204 } }\n",
    );
    let mut secured = authority.client().connect(&gateway.edge(), "a.example").unwrap();
    let other = secured.connection.ask(&Request::get("/").host("b.example"));
    let asked = ["GET", "https://b.example/", "--sni", "a.example"];
    walk.foreseen(&gateway, "request.misdirected", &other, "listeners.edge.tls.certs (", &asked);
}

const WAYS: &[&str] = &["route.none", "route.method", "client.refused", "cors.refused"];

#[test]
fn requests_without_a_way() {
    let walk = &mut Walk::new();
    let gateway = Gateway::start(
        "routes:
  orders: { match: GET /orders/:id, respond: 204 }
  inner: { match: /inner, ip: { allow: [10.0.0.0/8] }, respond: 204 }
  pages: { match: GET /pages, cors: { origins: ['https://good.example'] }, respond: 204 }
",
    );
    let at = |request: Request| gateway.ask(request.host("a"));
    walk.foreseen(&gateway, "route.none", &at(Request::get("/orders")), "routes.orders (", &["GET", "a/orders"]);
    let posted = at(Request::post("/orders/7", ""));
    walk.foreseen(&gateway, "route.method", &posted, "routes.orders (", &["POST", "a/orders/7"]);
    let refused = at(Request::get("/inner"));
    walk.foreseen(&gateway, "client.refused", &refused, "routes.inner.ip (", &["GET", "a/inner"]);
    let there = gateway.yumen("explain", &["GET", "a/inner", "--client", "10.1.2.3"]).out;
    assert!(there.contains("passes") && !there.contains("client.refused"), "{there}");
    let preflight = Request::new("OPTIONS", "/pages").with("Origin", "https://evil.example");
    let refused = at(preflight.with("Access-Control-Request-Method", "GET"));
    let asked =
        ["OPTIONS", "a/pages", "-H", "Origin: https://evil.example", "-H", "Access-Control-Request-Method: GET"];
    walk.foreseen(&gateway, "cors.refused", &refused, "routes.pages.cors (", &asked);
    std::mem::take(walk).was(WAYS);
}

const SECRET: &str = "a secret that is long enough for HS256";

fn token(changes: &Value, secret: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({ "iss": "https://id/", "aud": "orders", "sub": "u1", "tenant": "t1", "exp": now + 300 });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

const IDENTITIES: &[&str] = &[
    "auth.missing",
    "auth.malformed",
    "auth.signature",
    "auth.expired",
    "auth.not_yet",
    "auth.issuer",
    "auth.audience",
    "auth.claims",
    "auth.algorithm",
    "auth.key_unknown",
    "auth.key",
    "auth.password",
    "require.refused",
];

#[test]
fn who_it_is() {
    let walk = &mut Walk::new();
    let key = tools::yumen(&["key", "new", "ci"]).out;
    let set = json!({ "keys": [{ "kty": "oct", "kid": "one", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) }] });
    let setup = Setup::new().file("secret", SECRET).file("keys.json", set.to_string());
    let setup = setup.file("keys.yaml", key.lines().find_map(|line| line.strip_prefix("line:")).unwrap().trim());
    let setup = setup.file("users", "acme:$2y$10$LXh5YGIRVvOJDzpKM2EHkOepyk.CxOuh4RW.HpTDDXssfLedMwEky\n");
    let gateway = setup.start(
        "auth:
  staff: { jwt: { issuer: 'https://id/', audience: orders, secret: 'file:$DIR/secret', claims: [tenant] } }
  set: { jwt: { jwks: keys.json } }
  machines: { key: { file: ./keys.yaml } }
  partners: { basic: { file: ./users } }
routes:
  staff: { match: /staff, auth: staff, require: { role: admin }, respond: 204 }
  set: { match: /set, auth: set, respond: 204 }
  machines: { match: /machines, auth: machines, respond: 204 }
  partners: { match: /partners, auth: partners, respond: 204 }
",
    );
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"u1"}"#);
    let bearer = |token: String| format!("Bearer {token}");
    let signed = |changes: Value| bearer(token(&changes, SECRET));
    let shown = |code: &str, path: &str, rule: &str, credential: &str, walk: &mut Walk| {
        let name = if path == "/machines" { "X-Api-Key" } else { "Authorization" };
        let answer = gateway.ask(Request::get(path).host("a").with(name, credential));
        walk.foreseen(
            &gateway,
            code,
            &answer,
            rule,
            &["GET", &format!("a{path}"), "-H", &format!("{name}: {credential}")],
        );
    };
    let missing = gateway.ask(Request::get("/staff").host("a"));
    walk.foreseen(&gateway, "auth.missing", &missing, "auth.staff (", &["GET", "a/staff"]);
    for (code, credential) in [
        ("auth.malformed", bearer("x".to_owned())),
        ("auth.signature", bearer(token(&json!({}), "another secret that is long enough"))),
        ("auth.expired", signed(json!({ "exp": 1 }))),
        ("auth.not_yet", signed(json!({ "nbf": 9_999_999_999_u64 }))),
        ("auth.issuer", signed(json!({ "iss": "https://other/" }))),
        ("auth.audience", signed(json!({ "aud": "others" }))),
        ("auth.claims", signed(json!({ "tenant": null }))),
        ("auth.algorithm", bearer(format!("{none}.{payload}.AAAA"))),
    ] {
        shown(code, "/staff", "auth.staff (", &credential, walk);
    }
    let header = Header { kid: Some("two".to_owned()), ..Header::default() };
    let unknown = encode(&header, &json!({ "sub": "u1" }), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    shown("auth.key_unknown", "/set", "auth.set (", &bearer(unknown), walk);
    shown("auth.key", "/machines", "auth.machines (", "yumen_nobody", walk);
    shown("auth.password", "/partners", "auth.partners (", &format!("Basic {}", STANDARD.encode("acme:wrong")), walk);
    shown("require.refused", "/staff", "routes.staff.require (", &signed(json!({ "roles": ["guest"] })), walk);
    let known = gateway.yumen("explain", &["GET", "a/staff", "--as", r#"{"sub":"u1","roles":["guest"]}"#]).out;
    assert!(known.contains("403 require.refused by routes.staff.require ("), "{known}");
    std::mem::take(walk).was(IDENTITIES);
}

const ASKED: &[&str] = &["auth.external", "auth.unavailable", "auth.certificate"];

#[test]
fn who_cannot_be_told() {
    let walk = &mut Walk::new();
    let service = Origin::new(|_, talk| talk.answer(401, "", ""));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let authority = Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["a.example"])).file("ca.pem", &authority.pem);
    let gateway = setup.start(format!(
        "listeners:\n  edge:\n    bind: 127.0.0.1:0\n    tls: {{ certs: [{{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }}], client_ca: {{ file: \"$DIR/ca.pem\", mode: optional }} }}
auth:
  sso: {{ ext: {{ url: 'http://{service}/' }} }}
  down: {{ ext: {{ url: 'http://{closed}/' }} }}
  shown: {{ certificate: {{ subject: ['CN=orders'] }} }}
routes:
  sso: {{ match: /sso, auth: sso, respond: 204 }}
  down: {{ match: /down, auth: down, respond: 204 }}
  shown: {{ match: /shown, auth: shown, respond: 204 }}
"
    ));
    let client = authority.client().showing(&authority.issue(&["stranger"]));
    let mut secured = client.connect(&gateway.edge(), "a.example").unwrap();
    for (code, path, rule) in [
        ("auth.external", "/sso", "auth.sso ("),
        ("auth.unavailable", "/down", "auth.down ("),
        ("auth.certificate", "/shown", "auth.shown ("),
    ] {
        let request = Request::get(path).host("a.example").with("Authorization", "Bearer x");
        let answer = secured.connection.ask(&request);
        walk.told(&gateway, code, &id_of(&answer), rule);
    }
    let told = gateway.yumen("explain", &["GET", "https://a.example/sso"]).out;
    assert!(told.contains("asks elsewhere") && told.contains("--as"), "{told}");
    std::mem::take(walk).was(ASKED);
}

const SENT: &[&str] = &[
    "body.too_large",
    "body.type",
    "request.invalid",
    "body.invalid",
    "transform.failed",
    "graphql.invalid",
    "graphql.refused",
];

#[test]
fn what_may_be_sent() {
    let walk = &mut Walk::new();
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(
        &origin,
        "small: { match: /small, body: { max: 8B, type: [application/json] }, to: app }
shaped: { match: /shaped, validate: { query: { page: { regex: '[0-9]+' } }, body: { schema: { type: object } } }, to: app }
asked: { match: /asked, graphql: { depth: 1 }, to: app }
changed: { match: /changed, transform: { request: { add: { a.b: 1 } } }, to: app }
plain: { match: /plain, to: app }",
    );
    let send = |path: &str, kind: &str, body: &str| {
        gateway.ask(Request::post(path, body).host("a").with("Content-Type", kind))
    };
    let json = "application/json";
    let large = send("/small", json, "123456789");
    let rule = "routes.small.body (";
    let asked = ["POST", "a/small", "-H", "content-type: application/json", "--body", "123456789"];
    walk.foreseen(&gateway, "body.too_large", &large, rule, &asked);
    let built_in = gateway.yumen("explain", &["POST", "a/plain", "--length", "20MiB"]).out;
    assert!(built_in.contains("413 body.too_large by body.max (built in)"), "{built_in}");
    let asked = ["POST", "a/small", "-H", "content-type: text/plain", "--body", "1"];
    walk.foreseen(&gateway, "body.type", &send("/small", "text/plain", "1"), rule, &asked);
    let rule = "routes.shaped.validate (";
    let asked = ["POST", "a/shaped?page=x", "-H", "content-type: application/json", "--body", "{}"];
    walk.foreseen(&gateway, "request.invalid", &send("/shaped?page=x", json, "{}"), rule, &asked);
    let asked = ["POST", "a/shaped", "-H", "content-type: application/json", "--body", "[1]"];
    walk.foreseen(&gateway, "body.invalid", &send("/shaped", json, "[1]"), rule, &asked);
    let rule = "routes.asked.graphql (";
    for (code, body) in [("graphql.invalid", "{\"query\":\"{\"}"), ("graphql.refused", "{\"query\":\"{a{b}}\"}")] {
        let asked = ["POST", "a/asked", "-H", "content-type: application/json", "--body", body];
        walk.foreseen(&gateway, code, &send("/asked", json, body), rule, &asked);
    }
    let changed = send("/changed", json, "{\"a\":7}");
    walk.told(&gateway, "transform.failed", &id_of(&changed), "routes.changed.transform.request (");
    std::mem::take(walk).was(SENT);
}

const LIMITS: &[&str] = &["limit.rate", "limit.quota", "limit.store_down", "limit.in_flight"];

#[test]
fn how_often() {
    let walk = &mut Walk::new();
    let origin = Origin::new(|_, _| thread::park_timeout(Duration::from_secs(5)));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(format!(
        "stores: {{ shared: {{ redis: '{closed}' }} }}
limits:
  rate: {{ rate: 1/h, key: client.ip }}
  month: {{ quota: 1/month, key: client.ip }}
  shared: {{ rate: 1/h, key: client.ip, share: shared, if_store_down: closed }}
{}",
        Gateway::document(
            &origin,
            "rate: { match: /rate, limit: rate, respond: 204 }
month: { match: /month, limit: month, respond: 204 }
shared: { match: /shared, limit: shared, respond: 204 }
busy: { match: /busy, limit: { in_flight: 1, key: client.ip }, to: app }"
        )
    ));
    let mut held = gateway.connect();
    held.send(Request::get("/busy").bytes());
    eventually("it is under way", || (origin.seen().len() == 1).then_some(()));
    for (code, path, rule) in [
        ("limit.rate", "/rate", "limits.rate ("),
        ("limit.quota", "/month", "limits.month ("),
        ("limit.store_down", "/shared", "limits.shared ("),
        ("limit.in_flight", "/busy", "routes.busy.limit ("),
    ] {
        let refused = eventually(code, || Some(gateway.get(path)).filter(|answer| answer.status >= 400));
        walk.told(&gateway, code, &id_of(&refused), rule);
        let told = gateway.yumen("explain", &["GET", &format!("a{path}")]).out;
        assert!(told.contains(rule) && told.contains("counts"), "only the running gateway knows: {told}");
    }
    std::mem::take(walk).was(LIMITS);
}

const POOLS: &[&str] =
    &["pool.no_healthy", "pool.empty", "breaker.open", "pool.queue_full", "pool.queue_timeout", "mqtt.unavailable"];

#[test]
fn pools_without_a_target() {
    let walk = &mut Walk::new();
    let sick = Origin::new(|_, talk| talk.answer(500, "", ""));
    let slow = Origin::new(|_, _| thread::park_timeout(Duration::from_secs(5)));
    let gateway = Gateway::start(format!(
        "pools:
  sick: {{ targets: ['{sick}'], health: {{ http: /, every: 100ms, down_after: 1 }} }}
  nowhere: {{ targets: ['nowhere.invalid:80'] }}
  broken: {{ targets: ['{sick}'], breaker: {{ open_after: 1, open_for: 60s }} }}
  full: {{ targets: ['{slow}'], max_in_flight: {{ per_target: 1, queue: 1, wait: 300ms }} }}
stores: {{ plant: {{ mqtt: '127.0.0.1:1' }} }}
routes:
  tell: {{ match: POST /tell, publish: {{ store: plant, topic: a }} }}
  sick: {{ match: /sick, to: sick }}
  nowhere: {{ match: /nowhere, to: nowhere }}
  broken: {{ match: /broken, to: broken }}
  full: {{ match: /full, to: full }}
"
    ));
    for (code, path, rule, out) in [
        ("pool.no_healthy", "/sick", "pools.sick.health (yumen.yaml:6:", "down"),
        ("pool.empty", "/nowhere", "pools.nowhere.targets (yumen.yaml:7:", ""),
        ("breaker.open", "/broken", "pools.broken.breaker (yumen.yaml:8:", "breaker"),
    ] {
        let refused = eventually(code, || Some(gateway.get(path)).filter(|answer| answer.code() == code));
        let page = walk.told(&gateway, code, &id_of(&refused), rule);
        let said = page["targets"][0]["out"].as_str().unwrap_or_default();
        assert_eq!(said, out, "{page}");
    }
    let refused = gateway.ask(Request::post("/tell", "x"));
    assert_eq!(refused.code(), "mqtt.unavailable");
    walk.told(&gateway, "mqtt.unavailable", &id_of(&refused), "routes.tell (yumen.yaml:12:");
    let ask = || {
        let address = gateway.edge();
        thread::spawn(move || crate::harness::Connection::to(&address).ask(&Request::get("/full")))
    };
    let mut held = gateway.connect();
    held.send(Request::get("/full").bytes());
    eventually("it is there", || (slow.seen().len() == 1).then_some(()));
    let second = ask();
    eventually("it waits", || (gateway.admin("/pools").text().contains("\"waiting\": 1")).then_some(()));
    let third = gateway.get("/full");
    walk.told(&gateway, "pool.queue_full", &id_of(&third), "pools.full.max_in_flight (yumen.yaml:9:");
    let page = kept_as(&gateway, &id_of(&second.join().unwrap()));
    assert!(page["timings_ms"]["queue"].as_f64() > Some(250.0), "{page}");
    walk.told(&gateway, "pool.queue_timeout", page["request_id"].as_str().unwrap(), "pools.full.max_in_flight (");
    std::mem::take(walk).was(POOLS);
}

/// A gateway before one target with these settings, which is never asked twice.
fn before(target: &str, settings: &str) -> Gateway {
    Gateway::start(format!(
        "pools:\n  app: {{ targets: ['{target}'], retry: off{settings} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"
    ))
}

const TARGETS: &[&str] =
    &["upstream.connect", "upstream.refused", "upstream.connect_timeout", "upstream.tls", "upstream.timeout.total"];

#[test]
fn targets_that_fail() {
    let walk = &mut Walk::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (_full, unreachable, _filling) = tools::unreachable();
    let unreachable = unreachable.to_string();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = deaf.local_addr().unwrap().to_string();
    let origin = h2::Origin::secured(&Authority::new().issue(&["a.example"]), &[]);
    let stranger = origin.to_string();
    for (code, target, settings, rule) in [
        ("upstream.connect", "255.255.255.255:80", "", "pools.app ("),
        ("upstream.refused", &closed, "", "pools.app ("),
        ("upstream.connect_timeout", &unreachable, ", timeout: { connect: 200ms }", "pools.app.timeout.connect ("),
        ("upstream.tls", &stranger, ", protocol: h2, tls: { sni: a.example }", "pools.app.tls ("),
        ("upstream.timeout.total", &silent, ", timeout: { total: 200ms }", "pools.app.timeout.total ("),
    ] {
        let gateway = before(target, settings);
        let page = walk.told(&gateway, code, &id_of(&gateway.get("/")), rule);
        assert_eq!(page["attempts"][0]["target"], target, "{page}");
    }
    std::mem::take(walk).was(TARGETS);
}

const NONSENSE: &[&str] = &[
    "upstream.reset",
    "upstream.protocol",
    "upstream.header_too_large",
    "upstream.upgrade",
    "upstream.timeout.first_byte",
    "upstream.timeout.idle",
    "upstream.reset_reused",
    "client.gone",
];

#[test]
fn targets_that_talk_nonsense() {
    let walk = &mut Walk::new();
    let scripted = |bytes: String, ends: bool| {
        Origin::new(move |_, talk| {
            talk.send(&bytes);
            if ends {
                talk.close();
            } else {
                thread::park_timeout(Duration::from_secs(5));
            }
        })
    };
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(2 << 20));
    let idle = ", timeout: { idle: 200ms }";
    for (code, origin, settings, request, rule) in [
        ("upstream.reset", scripted(String::new(), true), "", Request::get("/"), "pools.app ("),
        ("upstream.protocol", scripted("nonsense\r\n\r\n".into(), true), "", Request::get("/"), "pools.app ("),
        ("upstream.header_too_large", scripted(huge, true), "", Request::get("/"), "pools.app ("),
        (
            "upstream.upgrade",
            scripted("HTTP/1.1 101 Switching Protocols\r\n\r\n".into(), false),
            "",
            upgrade(),
            "pools.app (",
        ),
        (
            "upstream.timeout.first_byte",
            scripted(String::new(), false),
            ", timeout: { first_byte: 200ms }",
            Request::get("/"),
            "pools.app.timeout.first_byte (",
        ),
    ] {
        let gateway = before(&origin.to_string(), settings);
        walk.told(&gateway, code, &id_of(&gateway.ask(request)), rule);
    }
    let origin = scripted("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".into(), false);
    let gateway = before(&origin.to_string(), idle);
    let mut client = gateway.connect();
    let head = client.send(Request::get("/").bytes()).head();
    let page = walk.told(&gateway, "upstream.timeout.idle", &id_of(&head), "pools.app.timeout.idle (");
    assert_eq!(page["cut"], true, "{page}");
    who_leaves(walk);
    std::mem::take(walk).was(NONSENSE);
}

const CALLS: &[&str] = &["upstream.too_large", "gather.failed", "gather.template", "cache.nothing"];

#[test]
fn calls_that_bring_nothing_of_use() {
    let walk = &mut Walk::new();
    let origin = Origin::answering("no json");
    for (code, more, beside, rule) in [
        ("upstream.too_large", "max: 4B", "", "routes.all.gather.one ("),
        ("gather.failed", "", "", "routes.all.gather.one ("),
        ("gather.template", "read: text", ", template: \"{{ two }}\"", "routes.all.gather ("),
    ] {
        let call = format!("{{ match: '/*', gather: {{ one: {{ pool: app, path: /, {more} }}{beside} }} }}");
        let gateway = Gateway::before(&origin, &format!("all: {call}"));
        let page = walk.told(&gateway, code, &id_of(&gateway.get("/")), rule);
        assert_eq!(page["calls"][0]["name"], "one", "{page}");
    }
    let gateway = Gateway::before(&origin, "all: { match: '/*', to: app, cache: 60s }");
    let nothing = gateway.ask(Request::get("/").with("Cache-Control", "only-if-cached"));
    walk.told(&gateway, "cache.nothing", &id_of(&nothing), "routes.all.cache (");
    std::mem::take(walk).was(CALLS);
}

fn who_leaves(walk: &mut Walk) {
    let origin = Origin::new(|seen, talk| match &*seen.target {
        "/" => talk.answer(200, "", "kept"),
        "/again" => talk.close(),
        _ => thread::park_timeout(Duration::from_secs(5)),
    });
    let gateway = before(&origin.to_string(), "");
    let id = eventually("a request on a kept connection", || {
        assert_eq!(gateway.get("/").text(), "kept");
        let lost = gateway.get("/again");
        (lost.code() == "upstream.reset_reused").then(|| id_of(&lost))
    });
    let page = walk.told(&gateway, "upstream.reset_reused", &id, "pools.app (");
    assert_eq!(page["attempts"][0]["reused"], true, "{page}");
    let mut leaving = gateway.connect();
    leaving.send(Request::get("/left").bytes());
    eventually("it is there", || (origin.last().target == "/left").then_some(()));
    drop(leaving);
    let page = eventually("it is kept", || {
        let page = gateway.admin("/why?last=1").json()["requests"][0].clone();
        (page["path"] == "/left").then_some(page)
    });
    assert_eq!((&page["code"], &page["status"]), (&json!("client.gone"), &json!(499)), "{page}");
    walk.0.insert("client.gone".to_owned());
}

const PRESSURE: &[&str] = &["shed.memory"];

#[test]
fn what_there_is_no_room_for() {
    let walk = &mut Walk::new();
    let gateway =
        Gateway::start("runtime: { memory: { limit: 32MiB } }\nroutes: { all: { match: /*, respond: 204 } }\n");
    let refused = eventually("memory runs short", || Some(gateway.get("/")).filter(|answer| answer.status == 503));
    walk.told(&gateway, "shed.memory", &id_of(&refused), "runtime.memory (yumen.yaml:5:");
    std::mem::take(walk).was(PRESSURE);
}
