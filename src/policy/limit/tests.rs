//! Several limits together, against a plain model of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::exchange::Found;
use crate::exchange::asked::Asked;

fn asked(a: u8, b: u8) -> Asked {
    Asked::new().with("a", &a.to_string()).with("b", &b.to_string())
}

/// The limits of a route in this form; the complaints where there are some.
fn limits(yaml: &str) -> Result<Limits, Vec<String>> {
    let (shelves, metrics, named) = (Shelves::default(), Metrics::new().unwrap(), Named::new());
    let place = |_: &Path| "y:1:1".to_owned();
    let stores = Stores::new();
    let room = Room { shelves: &shelves, metrics: &metrics, named: &named, stores: &stores };
    let auth = std::collections::BTreeMap::new();
    let tools = Tools { limits: Some(room), ..Tools::alone(&place, &auth) };
    let mut problems = Problems::default();
    let uses = serde_yaml::from_str(yaml).unwrap();
    let made = Limits::compile(&uses, &Path::of(["routes", "all"]), &tools, &mut problems);
    made.ok_or_else(|| problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect())
}

/// A number in a long time, in all ways to count it.
fn counted(number: u64, way: usize) -> String {
    let algorithm = ["token_bucket", "sliding_window", "fixed_window"].get(way);
    algorithm.map_or_else(|| format!("quota: {number}/year"), |one| format!("rate: {number}/h, algorithm: {one}"))
}

proptest! {
    #[test]
    fn all_must_admit_and_who_is_refused_has_used_nothing(
        kinds in prop::collection::vec((1_u64..6, 0_usize..4, any::<bool>(), 0_usize..3), 1..5),
        requests in prop::collection::vec((0_u8..3, 0_u8..3), 1..60),
    ) {
        let one = |(number, algorithm, shadow, key): &(u64, usize, bool, usize)| {
            let key = ["header.a, else: client.ip", "header.b, else: client.ip", "client.ip"][*key];
            let mode = if *shadow { "shadow" } else { "enforce" };
            format!("{{ {}, key: {key}, mode: {mode} }}", counted(*number, *algorithm))
        };
        let limits = limits(&format!("[{}]", kinds.iter().map(one).collect::<Vec<_>>().join(", "))).unwrap();
        let enforced = kinds.iter().any(|(_, _, shadow, _)| !shadow);
        let now = Instant::now();
        let mut counts: HashMap<(usize, u8), u64> = HashMap::new();
        for (a, b) in requests {
            let key = |kind: usize| [a, b, 0][kind];
            let room = |(at, (number, _, _, kind)): (usize, &(u64, usize, bool, usize))| {
                counts.get(&(at, key(*kind))).copied().unwrap_or(0) < *number
            };
            let rooms: Vec<bool> = kinds.iter().enumerate().map(room).collect();
            let may = kinds.iter().zip(&rooms).all(|((_, _, shadow, _), room)| *room || *shadow);
            let (request, mut found) = (asked(a, b), Found::default());
            let got = limits.admit(&mut Exchange { request: &request, found: &mut found }, now);
            prop_assert_eq!(got.is_ok(), may);
            if may {
                for (at, (_, _, _, kind)) in kinds.iter().enumerate().filter(|(at, _)| rooms[*at]) {
                    *counts.entry((at, key(*kind))).or_default() += 1;
                }
                prop_assert_eq!(found.would_refuse.len(), rooms.iter().filter(|room| !**room).count());
            }
            prop_assert_eq!(found.answer.is_empty(), !may || !enforced, "a shadow adds nothing to an answer");
        }
    }
}

#[test]
fn the_longest_wait_is_told() {
    let limits = limits("[{ rate: 1/s, key: client.ip }, { rate: 1/day, key: client.ip }]").unwrap();
    let (request, now) = (asked(1, 1), Instant::now());
    let ask = || limits.admit(&mut Exchange { request: &request, found: &mut Found::default() }, now);
    assert!(ask().is_ok());
    let refused = ask().unwrap_err();
    assert_eq!(&*refused.rule, "routes.all.limit[1] (y:1:1)");
    assert_eq!(refused.fields[0].1, "86400");
}

#[test]
fn a_limit_that_is_wrong_is_no_limit_that_is_left_out() {
    for wrong in ["{ rate: 1/s, key: header.a }", "[{ rate: 1/s, key: route }, { rate: 1/s, key: header.a }]"] {
        assert_eq!(limits(wrong).err().map(|said| said.len()), Some(1), "{wrong}");
    }
}
