//! Who serves: through reloads, among newcomers, and while others are down, out or full.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_known_of_targets_survives_a_reload() {
    let shelves = Shelves::default();
    let old = pool(&format!("{{ targets: ['1.1.1.1:1', '1.1.1.1:2'], {WATCHED} }}"), &shelves);
    old.tell(1, Err("refused".into()));
    old.tell(2, Ok(()));
    let busy = old.pick(&Ask::new(), &[]).unwrap();
    let yaml = format!("{{ targets: [{{ at: '1.1.1.1:1', weight: 9 }}, '1.1.1.1:2', '1.1.1.1:3'], {WATCHED} }}");
    let new = pool(&yaml, &shelves);
    assert_eq!(turns(&new, 3), "222", "the first is down still, the third has to prove itself");
    assert_eq!(new.status().targets[1].in_flight, 1);
    assert_eq!(new.status().state, status::PoolState::Degraded);
    new.tell(3, Ok(()));
    assert_eq!(turns(&new, 4).matches('3').count(), 2);
    drop((old, busy));
    new.tell(1, Ok(()));
    assert_eq!(turns(&new, 11).matches('1').count(), 9);
}

#[test]
fn newcomers_serve_when_nobody_else_does() {
    let shelves = Shelves::default();
    let old = pool(&format!("{{ targets: ['1.1.1.1:1'], {WATCHED} }}"), &shelves);
    let new = pool(&format!("{{ targets: ['1.1.1.1:1', '1.1.1.1:2'], {WATCHED} }}"), &shelves);
    assert_eq!(turns(&new, 2), "11");
    new.tell(1, Err("refused".into()));
    assert_eq!(turns(&new, 2), "22");
    let replaced = pool(&format!("{{ targets: ['1.1.1.1:3', '1.1.1.1:4'], {WATCHED} }}"), &shelves);
    assert_eq!(turns(&replaced, 2).len(), 2);
    drop(old);
}

#[test]
fn newcomers_cause_no_panic() {
    let shelves = Shelves::default();
    let watched = |targets: &str| pool(&format!("{{ targets: [{targets}], panic_below: 60%, {WATCHED} }}"), &shelves);
    let old = watched("'1.1.1.1:1', '1.1.1.1:2'");
    let new = watched("'1.1.1.1:1', '1.1.1.1:2', '1.1.1.1:3', '1.1.1.1:4', '1.1.1.1:5'");
    assert_eq!((turns(&new, 4).as_str(), new.status().whole.panic), ("1212", false), "they have to prove themselves");
    new.tell(1, Err("refused".into()));
    assert!(new.status().whole.panic, "one of the two that are known is too few");
    assert_eq!(turns(&new, 5).len(), 5);
    drop(old);
}

proptest! {
    #[test]
    fn a_target_that_is_down_is_never_picked_while_another_is_up(
        weights in prop::collection::vec(0_u16..5, 1..7),
        balance in prop::sample::select(vec!["round_robin", "least_requests", "ewma", "random", "hash(client.ip)"]),
        changes in prop::collection::vec((0_usize..7, prop::bool::ANY, prop::bool::ANY), 0..20),
    ) {
        let targets = weights.iter().enumerate().map(|(port, weight)| format!("{{ at: '1.1.1.1:{}', weight: {weight} }}", port + 1));
        let targets: Vec<_> = targets.collect();
        let pool = pool(&format!("{{ targets: [{}], balance: {balance}, {WATCHED} }}", targets.join(", ")), &Shelves::default());
        for (place, up, late) in changes {
            let live = pool.live.load_full();
            let Some(target) = live.all().get(place) else { continue };
            let verdict = if up { Ok(()) } else { Err(String::new()) };
            if late {
                // Another generation's chore: this pool was not told.
                target.cell().record(|record| record.learn(verdict, pool.check.as_ref().unwrap(), Instant::now()));
            } else {
                chores::learn(&pool, pool.check.as_ref().unwrap(), target, verdict);
            }
            let up = |target: &Arc<Target>| target.weight() > 0 && target.cell().state() == State::Up;
            for client in 0..10 {
                let picked = pool.pick(&Ask::from_client(&format!("10.0.0.{client}")), &[]);
                if let Ok(picked) = &picked {
                    prop_assert!(picked.target().weight() > 0);
                    prop_assert!(picked.target().cell().state() != State::Down);
                }
                prop_assert!(picked.is_ok() || !live.all().iter().any(up));
            }
        }
    }
}

#[test]
fn nobody_who_is_ejected_serves_in_place_of_who_is_only_full() {
    let shelves = Shelves::default();
    let settings = "eject: { errors: 1, for: 1m }, max_in_flight: { per_target: 1 }";
    let pool = pool(&format!("{{ targets: [127.0.0.1:1, 127.0.0.1:2], {settings} }}"), &shelves);
    let mut bad = pool.pick(&Ask::new(), &[]).unwrap();
    bad.record(Some(Fault::UpstreamConnect), 0);
    let name = bad.target().name().to_owned();
    drop(bad);
    pool.settle();
    let good = pool.pick(&Ask::new(), &[]).unwrap();
    assert_ne!(good.target().name(), name);
    assert_eq!(picked(&pool, &Ask::new()), Err(Fault::PoolQueueFull));
    drop(good);
    assert!(picked(&pool, &Ask::new()).is_ok_and(|other| other != name));
}
