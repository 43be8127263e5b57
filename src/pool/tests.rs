//! Pools as their users see them: documents, picks, reloads.

mod serving;
mod wire;

use super::health::{State, Verdict};
use super::*;
use crate::exchange::asked::Asked as Ask;
use crate::fault::Fault;

pub(super) fn read(yaml: &str) -> Result<Config, String> {
    serde_yaml::from_str(yaml).map_err(|why| why.to_string())
}

pub(super) fn compile(yaml: &str, shelves: &Shelves, observer: &Arc<dyn Observer>) -> Arc<Pool> {
    let mut problems = Problems::default();
    let (name, at) = ("orders".parse().unwrap(), Path::of(["pools", "orders"]));
    let tools = Tools { shelves, observer, listeners: &[], counted: None };
    let pool = Pool::compile(&name, &read(yaml).unwrap(), &at, &tools, &mut problems);
    pool.unwrap_or_else(|| panic!("{problems:?}"))
}

fn pool(yaml: &str, shelves: &Shelves) -> Arc<Pool> {
    compile(yaml, shelves, &(Arc::new(()) as _))
}

fn problems(yaml: &str) -> Vec<String> {
    let mut problems = Problems::default();
    let (name, at) = ("orders".parse().unwrap(), Path::of(["orders"]));
    let tools = Tools { shelves: &Shelves::default(), observer: &(Arc::new(()) as _), listeners: &[], counted: None };
    let pool = Pool::compile(&name, &read(yaml).unwrap(), &at, &tools, &mut problems);
    assert_eq!(pool.is_none(), problems.errors() > 0);
    problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect()
}

fn picked(pool: &Pool, ask: &Ask) -> Result<String, Fault> {
    let picked = pool.pick(ask, &[]).map_err(|unserved| unserved.fault)?;
    Ok(picked.target().name().to_owned())
}

fn last(name: &str) -> char {
    name.chars().next_back().unwrap_or(' ')
}

/// The last digits of the ports of the next picks.
fn turns(pool: &Pool, times: usize) -> String {
    (0..times).map(|_| picked(pool, &Ask::new()).map_or('!', |name| last(&name))).collect()
}

impl Pool {
    /// As if a probe had ended.
    fn tell(&self, port: u16, verdict: Verdict) {
        let live = self.live.load_full();
        let target = live.all().iter().find(|target| target.name().ends_with(&port.to_string())).unwrap();
        chores::learn(self, self.check.as_ref().unwrap(), target, verdict);
    }
}

const WATCHED: &str = "health: { tcp: true, down_after: 1, up_after: 1 }";

#[test]
fn short_and_long_forms_are_the_same() {
    let long = "targets: [{ at: 10.0.0.1:80 }, { at: app:80, weight: 1 }]";
    assert_eq!(read("[10.0.0.1:80, app:80]").unwrap(), read(long).unwrap());
    let there = read(
        "{ targets: [app:80], balance: hash(cookie.s), protocol: h2c, health: { http: /, status: [200, 300..310] } }",
    )
    .unwrap();
    assert_eq!(read(&serde_yaml::to_string(&there).unwrap()).unwrap(), there);
}

#[test]
fn targets_have_one_source() {
    assert!(matches!(read("targets: 'file:/etc/a.targets'").unwrap().targets, Targets::File(_)));
    assert!(read("targets: /etc/a.targets").unwrap_err().contains("write [/etc/a.targets], or file:/path"));
    assert!(read("discover: { srv: _a._b.c, alow: [loopback] }").unwrap_err().contains("alow"));
    assert!(read("discover: { allow: [lopback] }").is_err());
    for (yaml, sentence) in [
        ("discover: { allow: [loopback] }", "orders.targets: needs at least one address, e.g. [10.0.0.5:8080]"),
        (
            "{ targets: [a:1], discover: { srv: _a._b.c } }",
            "orders.discover.srv: stands beside `targets`; targets have one source",
        ),
        (
            "discover: { srv: _a._b.c, consul: a }",
            "orders.discover.consul: stands beside `srv`; targets have one source",
        ),
        (
            "discover: { srv: a.b.c }",
            "orders.discover.srv: `a.b.c` is not the name of a service, e.g. _http._tcp.app.internal",
        ),
        ("{ targets: [a:1], discover: { tag: a } }", "orders.discover.tag: is asked for beside `consul` only"),
        ("discover: { consul: '' }", "orders.discover.consul: is empty; name a service, e.g. events"),
        (
            "discover: { consul: a, at: 'http://c:1/?x' }",
            "orders.discover.at: has a query; say where Consul answers, e.g. http://127.0.0.1:8500",
        ),
        (
            "discover: { consul: a, token: 'env:NOT_SET_HERE' }",
            "orders.discover.token: environment variable NOT_SET_HERE is not set",
        ),
    ] {
        assert_eq!(problems(yaml), [sentence], "{yaml}");
    }
    assert_eq!(problems("discover: { srv: _a._b.c }"), [""; 0]);
    let told = problems("discover: { consul: a, at: 'http://consul.internal:8500', token: abc }");
    assert_eq!(told.len(), 2, "a literal token, and over http: {told:?}");
}

#[test]
fn refuses_unknown_keys_and_words() {
    let refused = |yaml, with: &str| {
        let why = read(yaml).unwrap_err();
        assert!(why.contains(with), "{why}");
    };
    refused("{ targets: [a:1], ballance: random }", "ballance");
    refused("{ targets: [{ at: a:1, wieght: 1 }] }", "wieght");
    refused("[8080]", "`8080` needs a host");
    refused("{ targets: [a:1], protocol: h3 }", "h3");
    refused("{ targets: [a:1], balance: least_request }", "Did you mean `least_requests`?");
    refused("{ targets: [a:1], balance: hash }", "needs a key");
    refused("{ targets: [a:1], balance: hash(header) }", "no such key");
    refused("{ targets: [a:1], balance: random(x) }", "takes no key");
    refused("{ targets: [a:1], health: { http: /, status: [99] } }", "`99` is not a status");
    refused("{ targets: [a:1], health: { http: /, status: [399..200] } }", "399..200");
    refused("{ targets: [a:1], timeout: { connect: 5 } }", "needs a unit");
}

#[test]
fn every_field_is_described() {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let undescribed = |definition: &serde_json::Value| -> Vec<String> {
        let fields = definition["properties"].as_object().cloned().unwrap_or_default();
        fields.into_iter().filter(|(_, field)| field.get("description").is_none()).map(|(name, _)| name).collect()
    };
    assert_eq!(undescribed(&schema["anyOf"][1]), [""; 0]);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        assert_eq!(undescribed(definition), [""; 0], "{name}");
    }
}

#[test]
fn what_cannot_work_is_a_problem() {
    let one = |yaml, problem: &str| assert_eq!(problems(yaml), [problem]);
    one("[]", "orders.targets: needs at least one address, e.g. [10.0.0.5:8080]");
    one("['0.0.0.0:80']", "orders.targets[0]: `0.0.0.0:80` cannot be connected to; name a host, e.g. 127.0.0.1:80");
    one("['a:0']", "orders.targets[0]: port 0 cannot be connected to");
    one("[a:1, a:1]", "orders.targets[1]: `a:1` is the same address as targets[0]");
    one("targets: [{ at: a:1, weight: 1001 }]", "orders.targets[0].weight: `1001` is too heavy; at most 1000");
    one("targets: [{ at: a:1, weight: 0 }]", "orders.targets: every target has weight 0: no request will be served");
    one(
        "{ targets: [a:1], protocol: h2 }",
        "orders.protocol: `h2` is HTTP/2 over TLS and needs `tls`; without TLS it is `h2c`",
    );
    one(
        "{ targets: [a:1], protocol: h2c, tls: {} }",
        "orders.protocol: `h2c` is HTTP/2 without TLS; beside `tls` it is `h2`",
    );
    one("{ targets: [a:1], timeout: { idle: 0s } }", "orders.timeout.idle: must be more than zero");
    one("{ targets: [a:1], health: {} }", "orders.health: needs `http: /path`, `grpc: service` or `tcp: true`");
    one(
        "{ targets: [a:1], health: { grpc: a.B } }",
        "orders.health.grpc: is asked over HTTP/2; say `protocol: h2c`, or `h2` with `tls`",
    );
    one(
        "{ targets: [a:1], protocol: h2c, health: { grpc: a.B, tcp: true } }",
        "orders.health.tcp: stands beside `grpc`; a target is asked in one way only",
    );
    one("{ targets: [a:1], health: { http: x } }", "orders.health.http: `x` is not a path, e.g. /healthz");
    one(
        "{ targets: [a:1], health: { tcp: true, body: x } }",
        "orders.health.body: is only asked for with `http: /path`",
    );
    one(
        "{ targets: [a:1], health: { tcp: true, every: 1ms } }",
        "orders.health.every: `1ms` is too often; at least 100ms",
    );
}

#[test]
fn tls_that_verifies_nothing_is_told_or_refused() {
    assert_eq!(problems("{ targets: ['10.0.0.1:443'], tls: {} }"), [""; 0], "verified by its IP address");
    assert_eq!(
        problems("{ targets: [a:443], tls: { verify: false } }"),
        ["orders.tls.verify: certificates of the targets are not checked: anyone on the way can pose as a target"]
    );
    assert_eq!(
        problems("{ targets: ['unix:/run/a'], tls: {} }"),
        ["orders.targets[0]: a unix socket has no name that its certificate could carry; say `tls: { sni: name }`"]
    );
    assert_eq!(
        problems("{ targets: [a:443], tls: { sni: '' } }"),
        ["orders.tls.sni: `` is not a host name or an IP address"]
    );
    assert_eq!(problems("{ targets: [a:443], tls: { cert: /x } }"), ["orders.tls.cert: needs its `key` beside it"]);
    let missing = problems("{ targets: [a:443], tls: { ca: /nowhere/ca.pem } }");
    assert!(missing[0].starts_with("orders.tls.ca: cannot read /nowhere/ca.pem: "), "{missing:?}");
}

#[test]
fn files_of_a_pool_are_known() {
    let config = read("{ targets: [a:1], tls: { ca: /a, cert: /b, key: /c } }").unwrap();
    assert_eq!(config.files(), ["/a", "/b", "/c"].map(PathBuf::from));
}

#[test]
fn turns_are_smooth_and_a_drained_target_has_none() {
    let shelves = Shelves::default();
    let smooth = pool("targets: [{ at: '1.1.1.1:1', weight: 5 }, '1.1.1.1:2', '1.1.1.1:3']", &shelves);
    assert_eq!(turns(&smooth, 7), "1121311");
    let drained = pool("targets: [{ at: '1.1.1.1:1', weight: 0 }, '1.1.1.1:2']", &Shelves::default());
    assert_eq!(turns(&drained, 3), "222");
}

#[test]
fn a_pool_without_targets_is_empty_and_without_healthy_ones_says_so() {
    let shelves = Shelves::default();
    assert_eq!(
        picked(&pool("targets: [{ at: '1.1.1.1:1', weight: 0 }]", &shelves), &Ask::new()),
        Err(Fault::PoolEmpty)
    );
    let unresolved = pool("[app.internal:80]", &shelves);
    assert_eq!(picked(&unresolved, &Ask::new()), Err(Fault::PoolEmpty));
    assert_eq!(unresolved.status().state, status::PoolState::Unknown);
    let down = pool(&format!("{{ targets: ['1.1.1.1:1'], {WATCHED} }}"), &shelves);
    assert_eq!(turns(&down, 1), "1", "at start it serves at once");
    down.tell(1, Err("status 500".into()));
    assert_eq!(picked(&down, &Ask::new()), Err(Fault::PoolNoHealthy));
    assert_eq!(down.status().state, status::PoolState::Down);
    assert_eq!(down.status().targets[0].reason.as_deref(), Some("status 500"));
}

#[test]
fn what_was_tried_is_avoided_while_there_is_another() {
    for balance in ["round_robin", "least_requests", "ewma", "random", "hash(client.ip)"] {
        let yaml = format!("{{ targets: ['1.1.1.1:1', '1.1.1.1:2', '1.1.1.1:3'], balance: {balance} }}");
        let pool = pool(&yaml, &Shelves::default());
        for _ in 0..20 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let picked = pool.pick(&Ask::new(), &tried).unwrap();
                tried.push(Arc::clone(picked.target()));
            }
            let mut names: Vec<_> = tried.iter().map(|target| target.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), 3, "{balance}");
            assert!(pool.pick(&Ask::new(), &tried).is_ok(), "all tried: again one of them");
        }
    }
}

#[test]
fn a_key_keeps_its_target_and_gets_it_back() {
    let targets = "targets: ['1.1.1.1:1', '1.1.1.1:2', '1.1.1.1:3', '1.1.1.1:4']";
    let pool = pool(&format!("{{ {targets}, balance: hash(header.x-user), {WATCHED} }}"), &Shelves::default());
    let asks: Vec<_> = (0..50).map(|user| Ask::new().with("x-user", &format!("user-{user}"))).collect();
    let all = |pool: &Pool| asks.iter().map(|ask| picked(pool, ask).unwrap()).collect::<Vec<_>>();
    let before = all(&pool);
    pool.tell(3, Err("refused".into()));
    for (was, is) in before.iter().zip(all(&pool)) {
        assert!(*was == is || last(was) == '3', "{was} became {is}");
        assert_ne!(last(&is), '3');
    }
    pool.tell(3, Ok(()));
    assert_eq!(all(&pool), before);
}

#[test]
fn keys_come_from_cookie_client_and_path_and_without_one_chance_decides() {
    let spread = |balance: &str, asks: &dyn Fn(u8) -> Ask| {
        let targets = "targets: ['1.1.1.1:1', '1.1.1.1:2', '1.1.1.1:3']";
        let pool = pool(&format!("{{ {targets}, balance: {balance} }}"), &Shelves::default());
        let mut seen: Vec<_> = (0..60).map(|ask| picked(&pool, &asks(ask)).unwrap()).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    };
    assert_eq!(spread("hash(path.id)", &|_| Ask::new()), 1);
    assert_eq!(spread("hash(path.other)", &|_| Ask::new()), 3);
    assert_eq!(spread("hash(cookie.s)", &|_| Ask::new().with("cookie", "a=b; s=1")), 1);
    assert_eq!(spread("hash(client.ip)", &|ask| Ask::from_client(&format!("10.0.0.{ask}"))), 3);
    let mapped = |ask| Ask::from_client(if ask % 2 == 0 { "10.0.0.1" } else { "::ffff:10.0.0.1" });
    assert_eq!(spread("hash(client.ip)", &mapped), 1);
}

#[test]
fn requests_are_in_flight_until_they_are_let_go() {
    let pool = pool("['1.1.1.1:1']", &Shelves::default());
    let first = pool.pick(&Ask::new(), &[]).unwrap();
    let mut second = pool.pick(&Ask::new(), &[]).unwrap();
    assert_eq!(first.target().in_flight(), 2);
    second.record(Some(Fault::UpstreamReset), 502);
    drop(second);
    let status = &pool.status().targets[0];
    assert_eq!((status.in_flight, status.picks, status.failures, status.state), (1, 2, 1, "up"));
}

#[test]
fn many_pools_and_large_ones_are_made_in_no_time() {
    let start = Instant::now();
    let shelves = Shelves::default();
    let (observer, mut problems) = (Arc::new(()) as Arc<dyn Observer>, Problems::default());
    let tools = Tools { shelves: &shelves, observer: &observer, listeners: &[], counted: None };
    let config = read("{ targets: ['1.1.1.1:1', '1.1.1.1:2'], health: { http: / } }").unwrap();
    let make = |number: usize| {
        let name = format!("pool-{number}").parse().unwrap();
        Pool::compile(&name, &config, &Path::default(), &tools, &mut problems).unwrap()
    };
    let pools: Vec<_> = (0..10_000).map(make).collect();
    for balance in ["round_robin", "least_requests", "hash(client.ip)"] {
        let targets: Vec<_> =
            (1..=10_000).map(|port| format!("{{ at: '1.1.1.1:{port}', weight: {} }}", port % 50)).collect();
        pool(&format!("{{ targets: [{}], balance: {balance} }}", targets.join(", ")), &shelves);
    }
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    drop(pools);
}
