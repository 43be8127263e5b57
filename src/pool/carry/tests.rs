//! A pool knows what the one before it knew, at every later moment.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::exchange::asked::Asked;
use crate::fault::Fault;
use crate::pool::breaker::Held;
use crate::pool::tests::compile;
use crate::pool::{Shelves, chores};

const TARGETS: &str = "targets: ['1.1.1.1:1', '1.1.1.1:2', '1.1.1.1:3']";
const ALL: &str = "health: { tcp: true, down_after: 2, up_after: 2 }, balance: ewma, slow_start: 60s, panic_below: 40%,
    eject: { errors: 3, share: 30% of 4 in 10s, slow: 3x of 4 in 10s, for: 20s }";

fn pool(yaml: &str) -> Arc<Pool> {
    compile(&format!("{{ {yaml} }}"), &Shelves::default(), &(Arc::new(()) as _))
}

fn unpack(pool: &Pool, value: &Value, now: Instant) -> Vec<String> {
    pool.unpack(Said { value, now })
}

/// Puts another value somewhere.
fn change(place: &mut Value, path: &[prop::sample::Index], with: Value) {
    let Some((step, rest)) = path.split_first() else { return *place = with };
    match place {
        Value::Object(map) if !map.is_empty() => {
            let at = step.index(map.len());
            change(map.values_mut().nth(at).unwrap(), rest, with);
        }
        Value::Array(list) if !list.is_empty() => {
            let at = step.index(list.len());
            change(&mut list[at], rest, with);
        }
        other => *other = with,
    }
}

/// The round of a breaker is that of one process, and holds are told in whole milliseconds of it.
fn comparable(mut packed: Value) -> Value {
    if let Some(left) = packed["hand"].get_mut("left") {
        *left = ((left.as_u64().unwrap() + 500_000_000) / 1_000_000_000).into();
    }
    let forget = |breaker: Option<&mut Value>| {
        if let Some(machine) = breaker.and_then(|breaker| breaker.get_mut("machine")) {
            machine["round"] = 0.into();
        }
    };
    forget(packed.get_mut("breaker"));
    if let Some(targets) = packed.get_mut("targets").and_then(Value::as_object_mut) {
        targets.values_mut().for_each(|target| forget(target.get_mut("breaker")));
    }
    packed
}

proptest! {
    #[test]
    fn it_knows_at_every_moment_what_the_one_before_would(
        breaker in prop::sample::select(vec!["open_after: 2", "open_after: 50% of 4 in 10s", "open_after: 2, per: pool"]),
        events in prop::collection::vec((0_usize..3, 0_u8..6), 0..60),
        hold in prop::option::of((any::<bool>(), 1_u64..100)),
        later in 1_000_u64..100_000,
    ) {
        let yaml = format!("{TARGETS}, breaker: {{ {breaker}, open_for: 30s }}, {ALL}");
        let old = pool(&yaml);
        if let Some((open, seconds)) = hold {
            let held = if open { Held::Open } else { Held::Closed };
            old.hold(Some((held, Duration::from_secs(seconds))));
        }
        for (at, event) in events {
            let target = Arc::clone(&old.live.load().all()[at]);
            match event {
                0 => chores::learn(&old, old.check.as_ref().unwrap(), &target, Ok(())),
                1 => chores::learn(&old, old.check.as_ref().unwrap(), &target, Err("refused".into())),
                _ => if let Some(mut picked) = crate::pool::Picked::new(target) {
                    let status = [200, 200, 503, 503][usize::from(event - 2)];
                    picked.answered(status, Some(Duration::from_millis(u64::from(event) * 20)));
                    picked.record((event == 5).then_some(Fault::UpstreamReset), status);
                }
            }
        }
        // As the chore would, which has been told of who is ejected.
        old.settle();
        let now = Instant::now();
        let packed = old.pack(now);
        let new = pool(&yaml);
        prop_assert_eq!(unpack(&new, &packed, now), Vec::<String>::new());
        let then = now + Duration::from_millis(later);
        prop_assert_eq!(comparable(new.pack(then)), comparable(old.pack(then)));
        let shown = |pool: &Pool| {
            let status = pool.status();
            let target = |one: &crate::pool::status::TargetStatus| serde_json::to_value(one).unwrap();
            (status.healthy, status.whole.panic, status.targets.iter().map(target).collect::<Vec<_>>())
        };
        prop_assert_eq!(shown(&new), shown(&old));
        let picks = |pool: &Pool| pool.pick(&Asked::new(), &[]).map(|_| ()).map_err(|unserved| unserved.fault);
        prop_assert_eq!(picks(&new), picks(&old));
    }

    #[test]
    fn nothing_said_is_too_strange(
        path in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        with in prop::sample::select(vec![
            "null", "-1", "18446744073709551615", "1e300", "\"x\"", "[]", "{}", "[1]", "true", "0", "[[1,2,3,4]]",
        ]),
    ) {
        let yaml = format!("{TARGETS}, breaker: {{ open_after: 2 }}, {ALL}");
        let (old, new, now) = (pool(&yaml), pool(&yaml), Instant::now());
        old.hold(Some((Held::Open, Duration::from_secs(9))));
        let mut packed = old.pack(now);
        change(&mut packed, &path, serde_json::from_str(with).unwrap());
        unpack(&new, &packed, now);
        for step in [0, 1, 100, 1_000_000] {
            new.pack(now + Duration::from_secs(step));
        }
        new.status();
        new.hold(None);
        if let Ok(mut picked) = new.pick(&Asked::new(), &[]) {
            picked.record(Some(Fault::UpstreamReset), 502);
        }
    }
}

#[test]
fn a_target_that_is_down_ejected_or_broken_gets_no_request_of_the_successor() {
    let yaml = format!("{TARGETS}, breaker: {{ open_after: 2, open_for: 30s }}, {ALL}");
    let (old, new) = (pool(&yaml), pool(&yaml));
    let down = Arc::clone(&old.live.load().all()[0]);
    chores::learn(&old, old.check.as_ref().unwrap(), &down, Err("refused".into()));
    let broken = Arc::clone(&old.live.load().all()[1]);
    for _ in 0..2 {
        crate::pool::Picked::new(Arc::clone(&broken)).unwrap().record(Some(Fault::UpstreamReset), 502);
    }
    let now = Instant::now();
    unpack(&new, &old.pack(now), now);
    for _ in 0..20 {
        assert_eq!(new.pick(&Asked::new(), &[]).unwrap().target().name(), "1.1.1.1:3");
    }
    let status = new.status();
    assert_eq!(status.healthy, old.status().healthy);
    assert_eq!(status.targets[0].state, "down");
}

#[test]
fn requests_that_try_a_target_stay_with_the_predecessor_and_others_try_in_their_place() {
    let yaml = "targets: ['1.1.1.1:1'], breaker: { open_after: 1, open_for: 100ms, probes: 1 }";
    let (old, new) = (pool(yaml), pool(yaml));
    old.pick(&Asked::new(), &[]).unwrap().record(Some(Fault::UpstreamReset), 502);
    let probe = loop {
        if let Ok(probe) = old.pick(&Asked::new(), &[]) {
            break probe;
        }
        std::thread::yield_now();
    };
    assert!(old.pick(&Asked::new(), &[]).is_err(), "one tries");
    let now = Instant::now();
    unpack(&new, &old.pack(now), now);
    let mut another = new.pick(&Asked::new(), &[]).expect("the other process does not hear of the first one");
    assert!(new.pick(&Asked::new(), &[]).is_err());
    another.record(None, 200);
    assert!(new.pick(&Asked::new(), &[]).is_ok());
    drop(probe);
}

#[test]
fn targets_that_were_found_serve_before_their_source_answers() {
    let yaml = "targets: ['app.test:80', '1.1.1.1:9'], health: { tcp: true }";
    let (old, new, now) = (pool(yaml), pool(yaml), Instant::now());
    let found: Value =
        serde_json::from_str(r#"{ "instances": [[0, "app.test", "10.0.0.7:80", 1]], "good": 5000000000 }"#).unwrap();
    let (_, label, lookup) = old.endpoints.iter().find_map(Endpoint::asks).unwrap();
    assert_eq!((label, lookup.unpack(Said { value: &found, now })), ("app.test:80", Some(())));
    old.remake();
    let target = Arc::clone(old.live.load().all().iter().find(|target| target.name().starts_with("app")).unwrap());
    chores::learn(&old, old.check.as_ref().unwrap(), &target, Err("refused".into()));
    let now = Instant::now();
    assert_eq!(unpack(&new, &old.pack(now), now), Vec::<String>::new());
    let status = new.status();
    let names: Vec<_> = status.targets.iter().map(|target| target.address.clone()).collect();
    assert_eq!(names, ["app.test/10.0.0.7:80", "1.1.1.1:9"]);
    let then = now + Duration::from_secs(1);
    assert_eq!(comparable(new.pack(then)), comparable(old.pack(then)));
    let less = pool("targets: ['1.1.1.1:9'], health: { tcp: true }");
    assert_eq!(unpack(&less, &old.pack(now), now), ["pool orders: target app.test/10.0.0.7:80 is gone"]);
}
