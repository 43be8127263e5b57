//! Quotas: so many in a period of the calendar, on one host or several, through restarts.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use yumen::policy::limit::calendar;
use yumen::units::Period;

use crate::harness::tools::Ended;
use crate::harness::{Gateway, Redis, Request, eventually, times};

fn document(state: &Path, limit: &str) -> String {
    format!(
        "runtime: {{ state: '{}' }}\n\
         limits: {{ all: {{ {limit}, key: header.x-client-id, else: client.ip }} }}\n\
         routes: {{ all: {{ match: /*, limit: all, respond: 204 }} }}",
        state.display()
    )
}

fn shared(redis: &Redis, limit: &str) -> String {
    let stores = format!("stores: {{ shared: {{ redis: '{}', timeout: 500ms }} }}\n", redis.address());
    stores + &document(Path::new("/tmp"), &format!("{limit}, share: shared"))
}

fn as_client(id: &str) -> Request {
    Request::get("/").with("X-Client-Id", id)
}

/// How many of so many requests of one client are admitted.
fn admitted(gateway: &Gateway, id: &str, number: usize) -> usize {
    let mut connection = gateway.connect();
    times(number, || connection.ask(&as_client(id)).status).into_iter().filter(|status| *status == 204).count()
}

/// What the gateway says that a client has used.
fn used(gateway: &Gateway, id: &str) -> Option<u64> {
    gateway.admin(&format!("/limits?key={id}")).json()["all"]["asked"][0]["used"].as_u64()
}

fn written(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("yumen_quota_writes_total", &[("limit", "all"), ("result", "ok")])
}

fn limits(gateway: &Gateway, arguments: &[&str]) -> Ended {
    gateway.yumen("limits", &[&["--admin", gateway.admin_address()], arguments].concat())
}

#[test]
fn a_quota_admits_so_many_in_a_period_and_says_when_it_ends() {
    let state = tempfile::tempdir().unwrap();
    for (period, window) in [("week", ";w=604800"), ("month", ""), ("year", "")] {
        let gateway = Gateway::start(document(state.path(), &format!("quota: 3/{period}")));
        let first = gateway.ask(as_client("a"));
        assert_eq!(first.field("RateLimit-Policy").unwrap(), format!("\"all\";q=3{window}"));
        assert!(first.field("RateLimit").unwrap().starts_with("\"all\";r=2;t="), "{first:?}");
        assert_eq!((admitted(&gateway, "a", 5), admitted(&gateway, "b", 5)), (2, 3), "each client has its own");
        let refused = gateway.ask(as_client("a"));
        assert_eq!(refused.verdict(), (429, "limit.quota".to_owned()));
        let wait = refused.field("Retry-After").unwrap();
        assert_eq!(refused.field("RateLimit").unwrap(), format!("\"all\";r=0;t={wait}"));
        let ends = gateway.admin("/limits").json()["all"]["ends"].as_str().unwrap().to_owned();
        assert!(ends.ends_with("T00:00:00Z") && (period != "year" || ends.contains("-01-01T")), "{ends}");
        let line = gateway.access_line(|line| line["reason"] == "limit.quota");
        assert!(line["rule"].as_str().unwrap().starts_with("limits.all ("), "{line}");
    }
}

#[test]
fn who_is_refused_by_another_limit_has_used_nothing_of_the_quota() {
    let state = tempfile::tempdir().unwrap();
    let limits = "limit: [{ quota: 9/year, key: header.x-client-id, else: client.ip }, { rate: 2/h, key: client.ip }]";
    let gateway = Gateway::start(format!(
        "runtime: {{ state: '{}' }}\nroutes: {{ all: {{ match: /*, {limits}, respond: 204 }} }}",
        state.path().display()
    ));
    assert_eq!(admitted(&gateway, "a", 20), 2);
    let seen = gateway.admin("/limits?key=a").json();
    assert_eq!(seen["routes.all.1"]["asked"][0]["used"], 2, "{seen}");
}

#[test]
fn a_changed_quota_keeps_the_count_and_an_unrelated_reload_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(document(state.path(), "quota: 3/year"));
    assert_eq!(admitted(&gateway, "a", 9), 3);
    gateway.reload(document(state.path(), "quota: 5/year"));
    assert_eq!(admitted(&gateway, "a", 9), 2);
    gateway.reload(document(state.path(), "quota: 5/year") + "\n# nothing");
    assert_eq!(admitted(&gateway, "a", 9), 0);
}

#[test]
fn a_graceful_restart_loses_nothing() {
    let state = tempfile::tempdir().unwrap();
    let document = document(state.path(), "quota: 100/year");
    for round in 1..=3 {
        let mut gateway = Gateway::start(&document);
        assert_eq!(admitted(&gateway, "a", 7), 7);
        assert_eq!(used(&gateway, "a"), Some(7 * round));
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), 0);
    }
}

#[test]
fn a_crash_loses_what_was_not_written_yet_and_no_more() {
    let state = tempfile::tempdir().unwrap();
    let document = document(state.path(), "quota: 100/year");
    let gateway = Gateway::start(&document);
    assert_eq!(admitted(&gateway, "a", 7), 7);
    let before = written(&gateway);
    assert_eq!(admitted(&gateway, "a", 1), 1, "that there is something to write");
    eventually("the counts are written", || (written(&gateway) > before).then_some(()));
    // Killed, without a chance to do anything.
    drop(gateway);
    let gateway = Gateway::start(&document);
    assert!(matches!(used(&gateway, "a"), Some(7 | 8)), "{:?}", used(&gateway, "a"));
    assert_eq!(used(&gateway, "b"), Some(0));
}

#[test]
fn a_damaged_file_and_a_disk_that_takes_nothing_are_told_and_stop_nobody() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("quotas")).unwrap();
    std::fs::write(state.path().join("quotas/limits.all.year"), "half of a fi").unwrap();
    let mut gateway = Gateway::start(document(state.path(), "quota: 2/year"));
    let said = gateway.log.wait("the counts of a quota are lost");
    assert!(said.contains("quotas/limits.all.year: it is damaged"), "{said}");
    assert_eq!(admitted(&gateway, "a", 5), 2);
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let mut gateway = Gateway::start(document(state.path(), "quota: 2/year"));
    assert_eq!(admitted(&gateway, "a", 5), 0, "it was written anew");
    std::fs::remove_dir_all(state.path()).unwrap();
    assert_eq!(admitted(&gateway, "b", 5), 2);
    gateway.log.wait("the counts of limits.all are not kept for a restart");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
}

#[test]
fn two_gateways_share_one_quota() {
    let redis = Redis::start();
    let gateways = times(2, || Gateway::start(shared(&redis, "quota: 30/month")));
    for gateway in &gateways {
        eventually("all know of each other", || {
            (gateway.admin("/health").json()["stores"]["shared"]["hosts"] == 2).then_some(())
        });
    }
    let counts = std::thread::scope(|scope| {
        let asking: Vec<_> = gateways.iter().map(|one| scope.spawn(|| admitted(one, "a", 25))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(counts.iter().sum::<usize>(), 30, "{counts:?}");
    let refused = gateways[0].ask(as_client("a"));
    assert_eq!(refused.verdict(), (429, "limit.quota".to_owned()));
    let wait: u64 = refused.field("Retry-After").unwrap().parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "{wait}");
    assert_eq!(admitted(&gateways[1], "b", 5), 5);
    for gateway in &gateways {
        assert_eq!([used(gateway, "a"), used(gateway, "b"), used(gateway, "c")], [Some(30), Some(5), Some(0)]);
    }
    let keys = redis.keys();
    assert_eq!(keys.iter().filter(|key| key.starts_with("yumen:limits.all:month:")).count(), 2, "{keys:?}");
    for key in keys.iter().filter(|key| key.starts_with("yumen:limits.all:")) {
        let left: i64 = redis.ask(&format!("PTTL {key}"))[0].trim_start_matches(':').parse().unwrap();
        assert!((1..=31 * 86_400_000).contains(&left), "{key} stays for {left} ms");
    }
}

#[test]
fn without_its_store_a_quota_holds_here_to_its_part() {
    let mut redis = Redis::start();
    let gateways = times(2, || Gateway::start(shared(&redis, "quota: 30/year")));
    let closed = Gateway::start(shared(&redis, "quota: 30/year, if_store_down: closed"));
    for gateway in &gateways {
        eventually("all know of each other", || {
            (gateway.admin("/health").json()["stores"]["shared"]["hosts"] == 3).then_some(())
        });
    }
    assert_eq!(admitted(&gateways[0], "a", 40), 30);
    redis.stop();
    for gateway in gateways.iter().chain([&closed]) {
        eventually("down", || (gateway.admin("/health").json()["stores"]["shared"]["state"] == "down").then_some(()));
    }
    assert_eq!(admitted(&gateways[0], "a", 5), 0, "no fresh start");
    assert_eq!([admitted(&gateways[0], "b", 40), admitted(&gateways[1], "b", 40)], [10, 10]);
    assert_eq!(closed.ask(as_client("a")).verdict(), (503, "limit.store_down".to_owned()));
    let said = limits(&closed, &["--key", "a"]).out;
    assert!(said.contains("  ? of 30"), "{said}");
    redis.again();
    eventually("what was admitted meanwhile is told to the store", || {
        gateways[0].ask(as_client("b"));
        (used(&gateways[1], "b")? >= 30).then_some(())
    });
}

/// As it lies in the source, at times that the test says.
#[test]
fn the_script_counts_by_the_calendar() {
    let redis = Redis::start();
    let text = include_str!("../../src/policy/limit/quota.lua").replace("redis.call('TIME')", "{ARGV[7], 0}");
    let text = text.replace("(finish - now) * 1000)", "600000)");
    let mut talk = redis.talk();
    let mut ask = |key: &str, period: Period, number: u64, now: u64| {
        let arguments = [number, 0, 0, 1, 0, now].map(|one| one.to_string());
        talk.script(&text, key, period.word(), &arguments)
    };
    let span = |period, now| calendar::span(period, Duration::from_secs(now));
    let mut random = 88_172_645_463_325_252_u64;
    for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year] {
        let (mut now, mut counts) = (1_700_000_000, HashMap::<u32, u64>::new());
        for _ in 0..300 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            now += random % (u64::from(period.hours()) * 600);
            let ends = span(period, now).ends;
            let count = counts.entry(ends).or_default();
            *count += u64::from(*count < 5);
            let said = ask(&format!("a-{}", period.word()), period, 5, now);
            assert_eq!(said[1..], [5 - *count, (u64::from(ends) * 3600 - now) * 1_000_000], "{period:?} at {now}");
        }
        let ends = u64::from(span(period, now).ends) * 3600;
        let next = u64::from(span(period, ends).ends) * 3600;
        let key = format!("b-{}", period.word());
        let mut left = |now: u64| ask(&key, period, 5, now)[1..].to_vec();
        assert_eq!(left(ends + 5), [4, (next - ends - 5) * 1_000_000]);
        assert_eq!(left(ends - 5), [3, (next - ends + 5) * 1_000_000], "what has begun goes on");
        assert_eq!(left(next - 1), [2, 1_000_000]);
        let before = span(period, ends - 40_000_000);
        let back = u64::from(before.begins) * 3600;
        assert_eq!(left(back), [1, u64::from(before.ends - before.begins) * 3_600_000_000], "far back: counted now");
    }
}

#[test]
fn an_operator_sees_how_limits_are_used() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(format!(
        "runtime: {{ state: '{}' }}\nlimits:
  monthly: {{ quota: 1k/month, key: [header.x-client-id, route], else: client.ip }}
  rate: {{ rate: 100/h, burst: 200, key: client.ip, mode: shadow }}
  window: {{ rate: 100/h, algorithm: sliding_window, key: client.ip }}
  queue: {{ rate: 100/s, algorithm: leaky_bucket, queue: 9, key: client.ip }}
  flight: {{ in_flight: 7, key: client.ip }}
routes: {{ all: {{ match: /*, limit: [monthly, rate, window, queue, flight], respond: 204 }} }}",
        state.path().display()
    ));
    assert_eq!((admitted(&gateway, "a b&c", 3), admitted(&gateway, "d", 2), gateway.get("/").status), (3, 2, 204));
    let seen = gateway.admin("/limits").json();
    let of = |limit: &str, key: &str| seen[limit][key].clone();
    assert_eq!(
        (of("monthly", "kind"), of("monthly", "number"), of("monthly", "keys")),
        ("quota".into(), "1k/month".into(), 3.into())
    );
    let top: Vec<u64> =
        seen["monthly"]["top"].as_array().unwrap().iter().map(|one| one["used"].as_u64().unwrap()).collect();
    assert_eq!(top, [3, 2, 1]);
    assert_eq!(
        (of("rate", "kind"), of("rate", "mode"), of("rate", "number")),
        ("token_bucket".into(), "shadow".into(), "100/h".into())
    );
    assert_eq!((of("flight", "kind"), of("flight", "number")), ("in_flight".into(), "7".into()));
    let told = limits(&gateway, &["--key", "a b&c", "--key", "all", "--limit", "monthly"]);
    assert_eq!(told.code, 0, "{told:?}");
    let lines: Vec<&str> = told.out.lines().collect();
    assert!(
        lines[0].starts_with("monthly  quota 1k/month by header.x-client-id, route, 3 keys here, ends 2"),
        "{told:?}"
    );
    assert!(
        lines[1].starts_with("  asked ") && lines[1].ends_with("  3 of 1000  by header.x-client-id, route"),
        "{told:?}"
    );
    assert_eq!(
        lines[1].split("  ").nth(1),
        lines[2].replace("top  ", "asked").split("  ").nth(1),
        "the same number: {told:?}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&limits(&gateway, &["--key", "127.0.0.1", "--format", "json"]).out).unwrap();
    let asked = |limit: &str| json[limit]["asked"][0]["used"].as_u64();
    assert_eq!(["monthly", "rate", "window", "flight"].map(asked), [Some(1), Some(6), Some(6), Some(0)], "{json}");
    assert_eq!(json["monthly"]["asked"][0]["by"], "client.ip");
    assert_eq!(limits(&gateway, &["--limit", "nothing"]).code, 64);
    assert_eq!(gateway.yumen("limits", &["--admin", "127.0.0.1:1"]).code, 69);
    let page = gateway.admin("/limits").text();
    assert!(!page.contains("a b"), "keys may be secrets: {page}");
}
