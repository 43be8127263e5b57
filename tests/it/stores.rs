//! Stores: how several hosts count together, and what happens while the store is away.

use std::time::{Duration, Instant};

use crate::harness::redis::Slow;
use crate::harness::tls::Authority;
use crate::harness::{Connection, Gateway, Origin, Redis, Request, Setup, eventually, times};

/// Waits until the store counts as `up` or `down`.
fn store_is(gateway: &Gateway, wanted: &str) {
    eventually("the store is as wanted", || {
        let health = gateway.admin("/health").json();
        (health["stores"]["shared"]["state"] == wanted).then_some(())
    });
}

/// A document with a store of these settings and nothing else to do.
fn with_store(settings: &str) -> String {
    format!("stores: {{ shared: {settings} }}\nroutes: {{ all: {{ match: /*, respond: 204 }} }}")
}

#[test]
fn a_store_is_connected_at_once_and_told_of() {
    let redis = Redis::start();
    let gateway = Gateway::start(with_store(&format!("'{}'", redis.address())));
    store_is(&gateway, "up");
    let health = gateway.admin("/health").json();
    assert_eq!(health["stores"]["shared"]["redis"][0], redis.address().as_str());
    assert_eq!((health["stores"]["shared"]["hosts"].as_u64(), health["status"].as_str()), (Some(1), Some("up")));
    let page = gateway.metrics();
    let of = |name: &str| page.sum(name, &[("store", "shared")]);
    assert!(of("yumen_store_up") > 0.5 && of("yumen_store_hosts") > 0.5);
    let second = Gateway::start(with_store(&format!("'{}'", redis.address())));
    eventually("both know of each other", || {
        let hosts = |gateway: &Gateway| gateway.admin("/health").json()["stores"]["shared"]["hosts"].as_u64();
        (hosts(&gateway) == Some(2) && hosts(&second) == Some(2)).then_some(())
    });
}

#[test]
fn a_store_that_comes_late_or_comes_back_is_found() {
    let mut redis = Redis::absent(&[]);
    let gateway = Gateway::start(with_store(&format!("'{}'", redis.address())));
    assert_eq!(gateway.get("/").status, 204);
    gateway.log.wait("store shared: cannot connect to ");
    assert_eq!(gateway.admin("/health").json()["status"], "degraded");
    let status = gateway.yumen("status", &["--admin", gateway.admin_address()]).out;
    assert!(status.lines().any(|line| line.starts_with("store shared ") && line.contains("down, ")), "{status}");
    redis.again();
    store_is(&gateway, "up");
    redis.stop();
    store_is(&gateway, "down");
    gateway.log.wait("store shared is down: its connection has ended");
    redis.again();
    store_is(&gateway, "up");
    let switched = |to| gateway.metrics().sum("yumen_store_switches_total", &[("store", "shared"), ("to", to)]);
    assert!(switched("down") < 1.5 && switched("up") < 2.5, "each switch is counted once");
}

#[test]
fn a_reload_keeps_the_connection() {
    let redis = Redis::start();
    let document = with_store(&format!("'{}'", redis.address()));
    let mut gateway = Gateway::start(&document);
    store_is(&gateway, "up");
    let connections = || redis.ask("CLIENT LIST").iter().filter(|line| line.contains("addr=")).count();
    let before = connections();
    for number in 0..3 {
        gateway.reload(format!("{document}\n# {number}"));
        assert_eq!(gateway.admin("/health").json()["stores"]["shared"]["state"], "up");
    }
    assert_eq!(connections(), before);
    let total =
        redis.ask("INFO stats").iter().find_map(|line| line.strip_prefix("total_connections_received:")?.parse().ok());
    assert!(total.is_some_and(|total: u32| total < 8), "{total:?}: the rest are ours");
    assert!(gateway.log.all().iter().all(|line| !line.contains("store shared is down")));
}

#[test]
fn a_wrong_password_is_told_without_it_and_the_right_one_lets_us_in() {
    let redis = Redis::with(&["--requirepass", "open-sesame"]);
    let setup = Setup::new().file("password", "sesame-street\n");
    let settings = format!("{{ redis: '{}', password: 'file:$DIR/password' }}", redis.address());
    let gateway = setup.start(with_store(&settings));
    let said = gateway.log.wait("does not let us in");
    assert!(!gateway.log.all().iter().any(|line| line.contains("sesame")), "{said}");
    std::fs::write(gateway.setup.path().join("password"), "open-sesame\n").unwrap();
    store_is(&gateway, "up");
}

#[test]
fn a_user_of_ones_own_and_another_database_are_used() {
    let redis = Redis::start();
    redis.ask("ACL SETUSER yumen on >secret ~yumen:* +@all");
    std::fs::write(redis.path().join("password"), "secret").unwrap();
    let file = redis.path().join("password");
    let settings =
        format!("{{ redis: '{}', user: yumen, password: 'file:{}', database: 3 }}", redis.address(), file.display());
    let gateway = Gateway::start(with_store(&settings));
    store_is(&gateway, "up");
    assert!(redis.ask("CLIENT LIST").iter().any(|line| line.contains("user=yumen") && line.contains("db=3")));
    assert!(redis.ask("INFO keyspace").iter().any(|line| line.starts_with("db3:")));
}

#[test]
fn of_several_addresses_the_first_that_can_be_written_to_is_used() {
    let (dead, primary) = (Redis::absent(&[]), Redis::start());
    let (host, port) = ("127.0.0.1", primary.address().rsplit(':').next().unwrap().to_owned());
    let replica = Redis::with(&["--replicaof", host, &port]);
    let list = format!("['{}', '{}', '{}']", dead.address(), replica.address(), primary.address());
    let gateway = Gateway::start(with_store(&format!("{{ redis: {list} }}")));
    store_is(&gateway, "up");
    assert!(primary.ask("CLIENT LIST").iter().any(|line| line.contains("cmd=evalsha")));
}

/// Gateways before nothing, with a limit that they share by this Redis.
fn sharing(number: usize, redis: &Redis, limit: &str) -> Vec<Gateway> {
    let document = shared_document(redis, limit);
    let gateways: Vec<_> = (0..number).map(|_| Gateway::start(&document)).collect();
    for gateway in &gateways {
        knows_hosts(gateway, number);
    }
    gateways
}

fn shared_document(redis: &Redis, limit: &str) -> String {
    format!(
        "stores: {{ shared: {{ redis: '{}', timeout: 200ms }} }}\n\
         limits: {{ all: {{ {limit}, key: header.x-client-id, else: client.ip }} }}\n\
         routes: {{ all: {{ match: /*, limit: all, respond: 204 }} }}",
        redis.address()
    )
}

fn knows_hosts(gateway: &Gateway, number: usize) {
    eventually("all know of each other", || {
        let shared = &gateway.admin("/health").json()["stores"]["shared"];
        (shared["hosts"] == number && shared["state"] == "up").then_some(())
    });
}

fn as_client(id: &str) -> Request {
    Request::get("/").with("X-Client-Id", id)
}

/// How many of so many requests of one client each of these gateways admits, when all are asked at once.
fn admitted(gateways: &[Gateway], id: &str, each: usize) -> Vec<usize> {
    let ask = |gateway: &Gateway| {
        let mut connection = gateway.connect();
        times(each, || connection.ask(&as_client(id)).status).into_iter().filter(|status| *status == 204).count()
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = gateways.iter().map(|gateway| scope.spawn(move || ask(gateway))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

#[test]
fn three_gateways_on_one_store_admit_exactly_what_the_limit_says() {
    for algorithm in ["token_bucket", "sliding_window", "fixed_window"] {
        let redis = Redis::start();
        let gateways = sharing(3, &redis, &format!("rate: 100/h, algorithm: {algorithm}, share: shared"));
        let counts = admitted(&gateways, "a", 60);
        assert_eq!(counts.iter().sum::<usize>(), 100, "{algorithm}: {counts:?}");
        assert_eq!(admitted(&gateways, "b", 1), [1; 3], "another client has its own count");
        let refused = gateways[0].ask(as_client("a"));
        assert_eq!(refused.verdict(), (429, "limit.rate".to_owned()));
        assert!(refused.field("RateLimit").unwrap().starts_with("\"all\";r=0;t="), "{refused:?}");
        assert!(refused.field("Retry-After").is_some());
        let answered = gateways.iter().map(|one| one.metrics().sum("yumen_store_commands_total", &[("result", "ok")]));
        assert!(answered.sum::<f64>() > 99.5, "each that was admitted has asked");
        let before = gateways[0].metrics().sum("yumen_store_commands_total", &[]);
        assert_eq!(admitted(&gateways[..1], "a", 100), [0]);
        let asked = gateways[0].metrics().sum("yumen_store_commands_total", &[]) - before;
        assert!(asked < 20.0, "{asked} of 100 refusals have asked: the store does not feel a flood");
        assert!(gateways[0].metrics().sum("yumen_store_commands_total", &[("result", "error")]) < 0.5);
        let keys = redis.keys();
        assert!(keys.iter().any(|key| key.starts_with(&format!("yumen:limits.all:{algorithm}:"))), "{keys:?}");
        for key in keys {
            let left: i64 = redis.ask(&format!("PTTL {key}"))[0].trim_start_matches(':').parse().unwrap();
            assert!((1..=4_000_000).contains(&left), "{key} stays for {left} ms");
        }
    }
}

#[test]
fn a_rate_that_is_shared_admits_again_after_the_time_that_was_told() {
    for algorithm in ["token_bucket", "sliding_window", "fixed_window"] {
        let redis = Redis::start();
        let gateways = sharing(1, &redis, &format!("rate: 2/s, algorithm: {algorithm}, share: {{ store: shared }}"));
        let mut connection = gateways[0].connect();
        let statuses = times(3, || connection.ask(&as_client(algorithm)).status);
        assert_eq!(statuses[..2], [204, 204], "{algorithm}");
        eventually("admitted again", || (connection.ask(&as_client(algorithm)).status == 204).then_some(()));
    }
}

#[test]
fn a_store_that_is_frozen_costs_its_timeout_and_limits_hold_on() {
    let redis = Redis::start();
    let gateways = sharing(3, &redis, "rate: 90/h, share: shared");
    let latencies = |ids: std::ops::Range<usize>| {
        let mut connection = gateways[0].connect();
        let ask = |id: usize| {
            let began = Instant::now();
            assert_eq!(connection.ask(&as_client(&id.to_string())).status, 204);
            began.elapsed()
        };
        let mut all: Vec<Duration> = ids.map(ask).collect();
        all.sort_unstable();
        all
    };
    let before = latencies(0..300);
    assert_eq!(admitted(&gateways, "half", 15), [15; 3]);
    assert_eq!(admitted(&gateways, "spent", 40).iter().sum::<usize>(), 90);
    assert_eq!(admitted(&gateways, "spent", 1), [0; 3], "each has heard that nothing is left");
    redis.freeze();
    let after = latencies(300..600);
    let grown = after[297].saturating_sub(before[297]);
    assert!(grown <= Duration::from_millis(300), "{grown:?}: the timeout is 200 ms");
    assert!(after[150] <= before[150] + Duration::from_millis(50), "nearly all wait for nothing: {:?}", after[150]);
    for gateway in &gateways {
        eventually("down", || {
            gateway.ask(as_client("probe"));
            (gateway.admin("/health").json()["stores"]["shared"]["state"] == "down").then_some(())
        });
    }
    assert_eq!(admitted(&gateways, "new", 40), [30; 3], "each host admits its part");
    assert_eq!(admitted(&gateways, "spent", 5), [0; 3], "who was at the limit has no fresh start");
    // Each host has last heard of what was left at another moment, in the end of a half.
    let half: usize = admitted(&gateways, "half", 40).iter().sum();
    assert!((40..=60).contains(&half), "{half}: half of it was used");
    redis.thaw();
    for gateway in &gateways {
        store_is(gateway, "up");
        let counted = gateway.log.all().iter().filter(|line| line.contains("store shared is down")).count();
        assert_eq!(counted, 1, "told once");
    }
    assert_eq!(
        admitted(&gateways, "new", 5).iter().sum::<usize>(),
        0,
        "what was admitted meanwhile is told to the store"
    );
    assert_eq!(admitted(&gateways, "after", 60).iter().sum::<usize>(), 90, "exact again");
}

/// How much longer the slowest of a hundred may take on a machine that is busy with other tests, the timeout apart.
const NOISE: Duration = Duration::from_millis(60);

#[test]
fn a_store_that_is_frozen_under_load_adds_its_timeout_to_the_slowest_and_no_more() {
    let redis = Redis::start();
    // As long as a command may take where the document does not say.
    let timeout = Duration::from_millis(20);
    let document = shared_document(&redis, "rate: 100k/h, share: shared").replace(", timeout: 200ms", "");
    let gateway = Gateway::start(document);
    knows_hosts(&gateway, 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let latencies = |name: &str| {
        let mut connection = gateway.connect();
        let ask = |id: usize| {
            let began = Instant::now();
            assert_eq!(connection.ask(&as_client(&format!("{name}-{id}"))).status, 204);
            began.elapsed()
        };
        let mut all: Vec<Duration> = (0..500).map(ask).collect();
        all.sort_unstable();
        all
    };
    let (before, after) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = gateway.connect();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(connection.ask(&as_client("load")).status, 204);
            }
        });
        let before = latencies("before");
        redis.freeze();
        let after = latencies("after");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        (before, after)
    });
    redis.thaw();
    let p99 = |all: &[Duration]| all[all.len() * 99 / 100];
    assert!(p99(&after) <= p99(&before) + timeout + NOISE, "{:?} after {:?}", p99(&after), p99(&before));
    assert!(gateway.metrics().sum("yumen_store_commands_total", &[("result", "timeout")]) > 0.5, "it was asked");
}

#[test]
fn without_its_store_a_limit_counts_here_admits_all_or_nobody_as_the_document_says() {
    let redis = Redis::absent(&[]);
    let document = format!(
        "stores: {{ shared: '{}' }}\nlimits:
  local: {{ rate: 2/h, key: client.ip, share: shared }}
  open: {{ rate: 2/h, key: client.ip, share: shared, if_store_down: open }}
  closed: {{ rate: 2/h, key: client.ip, share: shared, if_store_down: closed }}
  watched: {{ rate: 2/h, key: client.ip, share: shared, if_store_down: closed, mode: shadow }}
routes:
  local: {{ match: /local, limit: local, respond: 204 }}
  open: {{ match: /open, limit: open, respond: 204 }}
  closed: {{ match: /closed, limit: closed, respond: 204 }}
  watched: {{ match: /watched, limit: watched, respond: 204 }}",
        redis.address()
    );
    let gateway = Gateway::start(document);
    assert_eq!([(); 3].map(|()| gateway.get("/local").status), [204, 204, 429]);
    assert_eq!([(); 5].map(|()| gateway.get("/open").status), [204; 5]);
    assert!(gateway.get("/open").field("RateLimit").is_none(), "nobody has counted");
    let closed = gateway.get("/closed");
    assert_eq!(closed.verdict(), (503, "limit.store_down".to_owned()));
    assert!(closed.field("Retry-After").is_some());
    assert_eq!(gateway.get("/watched").status, 204);
    let line = gateway.access_line(|line| line["would_refuse"].is_string());
    assert!(line["would_refuse"].as_str().unwrap().starts_with("limit.store_down by limits.watched ("), "{line}");
}

#[test]
fn a_store_that_starts_anew_knows_no_script_and_counts_from_the_start() {
    let mut redis = Redis::start();
    let gateways = sharing(2, &redis, "rate: 10/h, share: shared");
    assert_eq!(admitted(&gateways, "a", 10).iter().sum::<usize>(), 10);
    redis.ask("SCRIPT FLUSH");
    assert_eq!(admitted(&gateways, "b", 10).iter().sum::<usize>(), 10, "the script is sent again");
    redis.stop();
    redis.again();
    for gateway in &gateways {
        knows_hosts(gateway, 2);
    }
    assert_eq!(admitted(&gateways, "c", 10).iter().sum::<usize>(), 10);
}

#[test]
fn all_limits_must_admit_and_who_is_refused_has_used_nothing_of_those_that_are_shared() {
    let redis = Redis::start();
    let document = format!(
        "stores: {{ shared: '{}' }}\nlimits:
  wide: {{ rate: 5/h, key: client.ip, share: shared }}
  narrow: {{ rate: 1/h, key: header.x-client-id, else: client.ip, algorithm: sliding_window, share: shared }}
  here: {{ rate: 50/h, key: client.ip }}
routes:
  all: {{ match: /*, limit: [wide, here, narrow], respond: 204 }}",
        redis.address()
    );
    let gateway = Gateway::start(document);
    store_is(&gateway, "up");
    let first = gateway.ask(as_client("a"));
    assert!(first.field("RateLimit").unwrap().starts_with("\"narrow\";r=0;"), "{first:?}");
    for _ in 0..60 {
        let refused = gateway.ask(as_client("a"));
        assert!(refused.status == 429 && refused.field("RateLimit").unwrap().starts_with("\"narrow\";"), "{refused:?}");
    }
    let others = ["b", "c", "d", "e", "f"].map(|id| gateway.ask(as_client(id)).status);
    assert_eq!(others, [204, 204, 204, 204, 429]);
}

#[test]
fn a_slow_store_is_not_waited_for() {
    let redis = Redis::start();
    let slow = Slow::before(&redis.address());
    let document = shared_document(&redis, "rate: 1000/h, share: shared");
    let document = document.replace(&redis.address(), &slow.address).replace("200ms", "50ms");
    let gateway = Gateway::start(document);
    store_is(&gateway, "up");
    slow.delay(Duration::from_millis(120));
    let mut waited = 0;
    eventually("down", || {
        let began = Instant::now();
        assert_eq!(gateway.ask(as_client("a")).status, 204);
        waited += u32::from(began.elapsed() > Duration::from_millis(45));
        (gateway.admin("/health").json()["stores"]["shared"]["state"] == "down").then_some(())
    });
    assert!((1..=12).contains(&waited), "{waited} requests waited");
    assert!(gateway.metrics().sum("yumen_store_commands_total", &[("result", "timeout")]) > 0.5);
    let skipped = || gateway.metrics().sum("yumen_store_commands_total", &[("result", "skipped")]);
    let before = skipped();
    assert_eq!(times(5, || gateway.ask(as_client("a")).status), [204; 5]);
    assert!(skipped() > before + 4.5, "a probe that is late does not bring it back");
    slow.delay(Duration::ZERO);
    store_is(&gateway, "up");
}

/// As it lies in the source, at times that the test says.
#[test]
fn the_script_counts_as_the_plain_models_do() {
    let redis = Redis::start();
    let text = include_str!("../../src/policy/limit/shared.lua").replace("redis.call('TIME')", "{ARGV[7], ARGV[8]}");
    let mut talk = redis.talk();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for (round, algorithm) in
        ["token_bucket", "sliding_window", "fixed_window"].into_iter().cycle().take(24).enumerate()
    {
        let (number, period) = (1 + next(20), 1_000_000 * (1 + next(5)));
        let burst = if algorithm == "token_bucket" { 1 + next(20) } else { number };
        let (mut now, mut admitted) = (1_800_000_000_000_000_u64 + next(1_000_000), Vec::new());
        let (mut tokens, mut window) = (u128::from(burst * period), (0, 0));
        for _ in 0..250 {
            let step = next(2 * period / number);
            now += step;
            let arguments = [number, period, burst, 1, 0, now / 1_000_000, now % 1_000_000].map(|one| one.to_string());
            let said = talk.script(&text, &format!("key-{round}"), algorithm, &arguments);
            let may = match algorithm {
                "token_bucket" => {
                    tokens = (tokens + u128::from(step * number)).min(u128::from(burst * period));
                    let may = tokens >= u128::from(period);
                    tokens -= if may { u128::from(period) } else { 0 };
                    assert_eq!(u128::from(said[1]), tokens / u128::from(period), "{algorithm}: what is left");
                    may
                }
                "fixed_window" => {
                    window = if now >= window.0 { (now + period, 0) } else { window };
                    window.1 += 1;
                    window.1 <= number
                }
                _ => {
                    let part = |at: u64| at / period.div_ceil(10);
                    let last = admitted.iter().filter(|at| part(**at) + 11 > part(now)).count() as u64;
                    last < number
                }
            };
            assert_eq!(said[0] == 1, may, "{algorithm} {number} in {period}: {said:?}");
            if may {
                admitted.push(now);
            }
            let most = if algorithm == "fixed_window" { 2 * number } else { number + burst };
            assert!(admitted.iter().filter(|at| **at + period > now).count() as u64 <= most);
        }
    }
}

#[test]
fn a_limit_of_a_route_may_share_too() {
    let mut redis = Redis::start();
    let share = "share: { store: shared }, if_store_down: closed";
    let document = format!(
        "stores: {{ shared: '{}' }}\nroutes:
  a: {{ match: /a, limit: {{ rate: 3/h, key: client.ip, {share} }}, respond: 204 }}
  b: {{ match: /b, limit: [{{ rate: 1/h, key: route, {share} }}], respond: 204 }}",
        redis.address()
    );
    let gateways = times(2, || Gateway::start(&document));
    for gateway in &gateways {
        store_is(gateway, "up");
    }
    let ask = |path: &str| [0, 1, 0, 1].map(|at: usize| gateways[at].get(path).status);
    assert_eq!((ask("/a"), ask("/b")), ([204, 204, 204, 429], [204, 429, 429, 429]));
    redis.stop();
    for gateway in &gateways {
        store_is(gateway, "down");
    }
    eventually("nobody is admitted, and no refusal is remembered", || (ask("/a") == [503; 4]).then_some(()));
}

#[test]
fn a_leased_limit_asks_seldom_and_admits_at_most_its_bound_more() {
    let redis = Redis::start();
    let share = "share: { store: shared, mode: leased, lease: 10 }";
    let gateways = sharing(3, &redis, &format!("rate: 100/h, {share}"));
    let sum: usize = admitted(&gateways, "a", 80).iter().sum();
    assert!((71..=130).contains(&sum), "{sum}: at most one slice for each host is off");
    let asked: f64 = gateways.iter().map(|one| one.metrics().sum("yumen_store_commands_total", &[])).sum();
    assert!(asked < 60.0, "{asked} commands for {sum} requests and 140 refusals");
    let bound = gateways[0].metrics().sum("yumen_limit_overshoot_bound", &[("limit", "all")]);
    assert!((bound - 30.0).abs() < 0.5, "{bound}");
    // A host that has a slice in hand spends it while the store is away.
    assert_eq!(gateways[1].ask(as_client("b")).status, 204);
    redis.freeze();
    assert_eq!(admitted(&gateways[1..2], "b", 6), [6]);
    assert_eq!(gateways[0].metrics().sum("yumen_store_commands_total", &[("result", "error")]).to_bits(), 0);
}

#[test]
fn check_says_how_far_a_leased_limit_may_be_off() {
    let document = "stores: { shared: '127.0.0.1:6379' }
limits: { all: { rate: 100/min, key: client.ip, share: { store: shared, mode: leased } } }
routes: { all: { match: /*, limit: all, respond: 204 } }";
    let ended = Setup::new().run(document, "check", &[]);
    assert_eq!(ended.code, 0);
    let said = "note   limits.all.share: admits at most 5 more than it says for each host that shares it";
    assert!(ended.out.contains(said) && ended.out.contains("0 warnings"), "{}", ended.out);
}

#[test]
fn a_store_may_be_reached_by_tls_with_our_certificate_and_no_other_way() {
    let authority = Authority::new();
    let setup = Setup::new().file("ca.pem", &authority.pem).pair("server", &authority.issue(&["redis.test"]));
    let setup = setup.pair("client", &authority.issue(&["yumen"])).file("other.pem", &Authority::new().pem);
    let file = |name: &str| setup.path().join(name).to_str().unwrap().to_owned();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (cert, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
    let tls = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let redis = Redis::with(&tls);
    let store = |tls: &str| with_store(&format!("{{ redis: '127.0.0.1:{port}', tls: {{ {tls} }} }}"));
    let ours = "cert: $DIR/client.pem, key: $DIR/client.key";
    let mut gateway = setup.start(store(&format!("ca: $DIR/other.pem, {ours}, sni: redis.test")));
    gateway.log.wait("cannot connect to");
    for wrong in [format!("ca: $DIR/ca.pem, {ours}"), "ca: $DIR/ca.pem, sni: redis.test".to_owned()] {
        gateway.reload(store(&wrong));
        assert_eq!(gateway.admin("/health").json()["stores"]["shared"]["state"], "down", "{wrong}");
    }
    gateway.reload(store(&format!("ca: $DIR/ca.pem, {ours}, sni: redis.test")));
    store_is(&gateway, "up");
    assert!(
        redis
            .ask("CLIENT LIST")
            .iter()
            .any(|line| line.contains("cmd=evalsha") && line.contains(&format!("laddr=127.0.0.1:{port}")))
    );
}

#[test]
fn sentinels_say_which_redis_is_the_master_also_after_it_has_failed() {
    let mut master = Redis::start();
    let port = master.address().rsplit(':').next().unwrap().to_owned();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &port]);
    eventually("the replica follows", || {
        replica.ask("INFO replication").iter().any(|line| line == "master_link_status:up").then_some(())
    });
    let (dead, sentinel) = (Redis::absent(&[]), Redis::sentinel(&master));
    eventually("the sentinel knows of the replica", || {
        sentinel.ask("SENTINEL replicas main").iter().any(|line| line.contains(&replica.address())).then_some(())
    });
    let redis = format!("{{ sentinel: ['{}', '{}'], master: main }}", dead.address(), sentinel.address());
    let gateway = Gateway::start(with_store(&format!("{{ redis: {redis} }}")));
    store_is(&gateway, "up");
    assert!(master.ask("CLIENT LIST").iter().any(|line| line.contains("cmd=evalsha")));
    master.stop();
    gateway.log.wait("store shared is down");
    store_is(&gateway, "up");
    assert!(replica.ask("CLIENT LIST").iter().any(|line| line.contains("cmd=evalsha")));
    let nobody = redis.replace("main", "other");
    let gateway = Gateway::start(with_store(&format!("{{ redis: {nobody} }}")));
    gateway.log.wait("knows no master `other`");
}

/// Three masters with a third of the slots each.
fn cluster() -> Vec<Redis> {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let nodes = times(3, || Redis::with(&["--cluster-enabled", "yes", "--cluster-port", &free()]));
    for (node, slots) in nodes.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
        node.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
    }
    for node in &nodes[1..] {
        let bus = node.ask("CONFIG GET cluster-port").pop().unwrap();
        nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.address().rsplit(':').next().unwrap()));
    }
    for node in &nodes {
        eventually("the cluster is whole", || {
            let info = node.ask("CLUSTER INFO");
            let says = |line: &str| info.iter().any(|said| said == line);
            (says("cluster_state:ok") && says("cluster_known_nodes:3")).then_some(())
        });
    }
    nodes
}

#[test]
fn a_cluster_is_asked_where_the_key_belongs_also_after_it_has_moved() {
    let nodes = cluster();
    let list = format!("{{ cluster: ['{}', '{}'] }}", Redis::absent(&[]).address(), nodes[1].address());
    let document = shared_document(&nodes[0], "rate: 10/h, share: shared");
    let document = document.replace(&format!("'{}'", nodes[0].address()), &list);
    let gateways = times(2, || Gateway::start(&document));
    for gateway in &gateways {
        knows_hosts(gateway, 2);
    }
    for id in 0..12 {
        assert_eq!(admitted(&gateways, &id.to_string(), 8).iter().sum::<usize>(), 10);
    }
    assert!(nodes.iter().all(|node| !node.keys().is_empty()), "the keys are spread");
    let failed = |gateway: &Gateway| gateway.metrics().sum("yumen_store_commands_total", &[("result", "error")]);
    assert!(gateways.iter().all(|gateway| failed(gateway) < 0.5));
    // The last third goes to the first node.
    nodes[2].ask("FLUSHALL");
    let new = nodes[0].ask("CLUSTER MYID").pop().unwrap();
    for node in &nodes {
        let slots = (10_923..=16_383).map(|slot| format!("CLUSTER SETSLOT {slot} NODE {new}\r\n")).collect::<String>();
        node.ask(slots.trim_end());
    }
    for gateway in &gateways {
        eventually("a key is no longer where it was", || {
            let statuses: Vec<u16> = (0..30).map(|id| gateway.ask(as_client(&format!("x{id}"))).status).collect();
            assert!(statuses.iter().all(|status| [204, 429].contains(status)), "{statuses:?}");
            (failed(gateway) > 0.5).then_some(())
        });
        gateway.log.wait("its keys have moved");
    }
    for gateway in &gateways {
        knows_hosts(gateway, 2);
    }
    let again = (0..8).map(|id| admitted(&gateways, &format!("new-{id}"), 8).iter().sum::<usize>());
    assert_eq!(again.collect::<Vec<_>>(), [10; 8]);
}

#[test]
fn the_example_admits_100_requests_a_minute_over_two_hosts() {
    let (redis, origin) = (Redis::start(), Origin::answering("in"));
    let text = std::fs::read_to_string("conf/examples/shared.yaml").unwrap();
    let text = text.replace("[::]:8080", "127.0.0.1:0").replace("127.0.0.1:6379", &redis.address());
    let text = text.replace("20ms", "500ms").replace("127.0.0.1:9001, 127.0.0.1:9002", &format!("'{origin}'"));
    let gateways = times(2, || Gateway::start(&text));
    for gateway in &gateways {
        knows_hosts(gateway, 2);
    }
    let ask = |gateway: &Gateway| {
        let mut connection = Connection::to(&gateway.listener("web"));
        let request = Request::get("/api/orders").with("X-Client-Id", "a");
        times(60, || connection.ask(&request).status).into_iter().filter(|status| *status == 200).count()
    };
    assert_eq!(gateways.iter().map(ask).sum::<usize>(), 100);
}

#[test]
fn a_store_that_is_down_takes_no_other_store_with_it() {
    let (away, redis) = (Redis::absent(&[]), Redis::start());
    let document = format!(
        "stores: {{ away: '{}', shared: '{}' }}\nlimits:
  first: {{ rate: 100/h, key: client.ip, share: away }}
  second: {{ rate: 3/h, key: client.ip, share: shared }}
routes: {{ all: {{ match: /*, limit: [first, second], respond: 204 }} }}",
        away.address(),
        redis.address()
    );
    let gateways = times(2, || Gateway::start(&document));
    for gateway in &gateways {
        knows_hosts(gateway, 2);
    }
    assert_eq!([0, 1, 0, 1].map(|at: usize| gateways[at].get("/").status), [204, 204, 204, 429]);
}
