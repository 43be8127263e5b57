//! A successor decides as its predecessor would have, whatever was counted and whenever it was packed.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::exchange::asked::Asked;
use crate::exchange::{Exchange, Found};
use crate::policy::guard::Tools;
use crate::policy::limit::lease::Slice;
use crate::policy::limit::owed::Owed;
use crate::policy::limit::{Named, Room, Shelves, Stores};
use crate::problem::{Path, Problems};
use crate::state::parcel::parts;
use crate::telemetry::metrics::Metrics;

const KINDS: [&str; 6] = [
    "rate: 5/s",
    "rate: 9/min, burst: 3",
    "rate: 5/s, algorithm: sliding_window",
    "rate: 5/s, algorithm: fixed_window",
    "rate: 5/s, algorithm: leaky_bucket, queue: 3",
    "quota: 5/year",
];

fn limit(kind: &str) -> std::sync::Arc<Limit> {
    let config = serde_yaml::from_str(&format!("{{ {kind}, key: client.ip, keys: 128 }}")).unwrap();
    let (shelves, metrics, named, stores) = (Shelves::default(), Metrics::new().unwrap(), Named::new(), Stores::new());
    let room = Room { shelves: &shelves, metrics: &metrics, named: &named, stores: &stores };
    let (place, auth) = (|_: &Path| "y:1:1".to_owned(), std::collections::BTreeMap::new());
    let tools = Tools { limits: Some(room), ..Tools::alone(&place, &auth) };
    Limit::compile("a", &config, &Path::of(["limits", "a"]), room, &tools, &mut Problems::default()).unwrap()
}

fn packed(limit: &Limit, now: Instant) -> Vec<u8> {
    let mut parcel = Parcel::new(now, limit.packed_size());
    limit.pack(&mut parcel);
    let bytes = parcel.bytes();
    assert!(bytes.len() <= limit.packed_size() + 64, "{} of {}", bytes.len(), limit.packed_size());
    bytes
}

fn unpacked(limit: &Limit, parcel: &[u8], now: Instant) -> Vec<Result<(), String>> {
    parts(parcel).0.into_iter().map(|part| limit.unpack(part, now).unwrap_or_else(|| Err(part.name.into()))).collect()
}

proptest! {
    #[test]
    fn a_successor_decides_as_its_predecessor_would_have(
        kind in prop::sample::select(KINDS.to_vec()),
        before in prop::collection::vec((1_u64..400, 0_u64..400), 0..800),
        after in prop::collection::vec((1_u64..400, 0_u64..400), 1..200),
    ) {
        // Keys crowd in two shards, so that some share a cell.
        let spread = |key: u64| (key / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) / 64 * 64 + key % 2;
        let (old, mut now) = (limit(kind), Instant::now());
        for (key, step) in before {
            now += Duration::from_millis(step);
            let _ = old.gauge.take(spread(key).max(1), now);
        }
        let parcel = packed(&old, now);
        let new = limit(kind);
        prop_assert_eq!(unpacked(&new, &parcel, now), vec![Ok(())]);
        prop_assert_eq!(new.gauge.len(), old.gauge.len());
        for (key, step) in after {
            now += Duration::from_millis(step);
            let key = spread(key).max(1);
            // The end of a year is told by the wall clock, which both read one after the other.
            let told = |left: crate::policy::limit::left::Left| {
                (left.requests, if kind.starts_with("quota") { Duration::ZERO } else { left.reset })
            };
            let would = |limit: &Limit| limit.gauge.peek(key, now).map_err(told);
            prop_assert_eq!(would(&new), would(&old));
            let given = |limit: &Limit| limit.gauge.take(key, now).map(|given| (given.left.map(told), given.wait)).map_err(told);
            prop_assert_eq!(given(&new), given(&old));
        }
    }

    #[test]
    fn no_bytes_are_too_strange(
        kind in prop::sample::select(KINDS.to_vec()),
        keys in prop::collection::vec(1_u64.., 0..50),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        random in prop::collection::vec(any::<u8>(), 0..300),
        end in any::<prop::sample::Index>(),
    ) {
        let (old, now) = (limit(kind), Instant::now());
        for key in &keys {
            let _ = old.gauge.take(*key, now);
        }
        let whole = packed(&old, now);
        let parcel = parts(&whole).0;
        let mut bytes = parcel[0].bytes.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let cut = end.index(bytes.len() + 1);
        for bytes in [&bytes[..], &bytes[..cut], &random] {
            let new = limit(kind);
            let _ = new.unpack(Part { bytes, ..parcel[0] }, now);
            for key in &keys {
                for step in [0, 1, 1_000_000] {
                    let then = now + Duration::from_secs(step);
                    let _ = (new.gauge.peek(*key, then), new.gauge.take(*key, then), new.gauge.used(*key, then));
                    new.gauge.give_back(*key);
                }
            }
        }
    }
}

#[test]
fn keys_have_the_same_numbers_and_other_limits_have_nothing_to_do_with_it() {
    for kind in KINDS {
        let (old, new, now) = (limit(kind), limit(kind), Instant::now());
        let number = |limit: &Limit| {
            let request = Asked::from_client("2001:db8::7");
            limit.number(&Exchange { request: &request, found: &mut Found::default() }, "all")
        };
        assert_ne!(number(&old), number(&new));
        old.gauge.take(number(&old), now).unwrap();
        assert_eq!(unpacked(&new, &packed(&old, now), now), [Ok(())]);
        assert_eq!((number(&old), new.gauge.used(number(&new), now)), (number(&new), 1), "{kind}");
    }
    let (old, now) = (limit(KINDS[0]), Instant::now());
    let parcel = packed(&old, now);
    assert_eq!(limit(KINDS[2]).unpack(parts(&parcel).0[0], now), None, "another algorithm");
    assert_eq!(limit("quota: 5/day").unpack(parts(&packed(&limit("quota: 5/year"), now)).0[0], now), None);
    assert_eq!(parts(&packed(&limit("in_flight: 3"), now)).0, []);
}

#[test]
fn a_limit_that_has_become_smaller_holds_at_once_and_fewer_keys_take_less_room() {
    let (old, now) = (limit("rate: 100/h"), Instant::now());
    for _ in 0..60 {
        old.gauge.take(7, now).unwrap();
    }
    for key in 100..100 + 128 {
        let _ = old.gauge.take(key, now);
    }
    let new = limit("rate: 50/h");
    unpacked(&new, &packed(&old, now), now);
    assert!(new.gauge.take(7, now).is_err());
    assert!(new.gauge.len() <= 128 + 64);
}

#[test]
fn rows_of_a_program_that_knows_more_are_read_and_those_that_say_less_are_not() {
    let (old, now) = (limit(KINDS[0]), Instant::now());
    old.gauge.take(7, now).unwrap();
    old.gauge.take(9, now).unwrap();
    let parcel = packed(&old, now);
    let part = parts(&parcel).0[0];
    let (head, rest) = part.bytes.split_at(HEAD);
    let (shared, rows) = rest.split_at(64 * 16);
    let resized = |width: u32| {
        let resize = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(usize::try_from(width).unwrap(), 0xff);
            bytes
        };
        let mut all = [&head[..24], &width.to_le_bytes(), &head[28..]].concat();
        shared.chunks(16).for_each(|state| all.extend(resize(state)));
        rows.chunks(KEY + 16).for_each(|row| all.extend([&row[..KEY], &resize(&row[KEY..])].concat()));
        all
    };
    let new = limit(KINDS[0]);
    assert_eq!(new.unpack(Part { bytes: &resized(24), ..part }, now), Some(Ok(())));
    assert_eq!((new.gauge.used(7, now), new.gauge.used(9, now)), (1, 1));
    assert_eq!(
        limit(KINDS[0]).unpack(Part { bytes: &resized(8), ..part }, now),
        Some(Err("cannot be read".to_owned()))
    );
}

#[test]
fn what_is_borrowed_or_owed_is_with_one_process_only_and_comes_back_to_one_that_goes_on() {
    let (old, new, now) = (Cells::<Owed>::default(), Cells::<Owed>::default(), Instant::now());
    old.add(7, old.ticks(now), 1 << 40, 100, 3);
    let mut bytes = Vec::new();
    old.pack(&mut bytes, now);
    assert_eq!(old.len(), 0, "the predecessor owes nothing any more");
    assert_eq!(new.unpack(&bytes, 100, now), Some(0));
    assert_eq!(new.settle(7, new.ticks(now)), 3);
    old.add(7, old.ticks(now), 1 << 40, 100, 2);
    old.unpack(&bytes, 100, now).unwrap();
    assert_eq!(old.settle(7, old.ticks(now)), 5, "what came meanwhile counts too");

    let slices = Cells::<Slice>::default();
    slices.change(
        7,
        0,
        100,
        |_| false,
        |slice, _| *slice = Slice::read(&[[9, 0, 0, 0].as_slice(), &[1; 32]].concat(), u64::MAX).unwrap(),
    );
    let (mut bytes, other) = (Vec::new(), Cells::<Slice>::default());
    slices.pack(&mut bytes, now);
    assert_eq!((slices.len(), other.unpack(&bytes, 100, now), other.len()), (0, Some(0), 1));
}

#[test]
fn a_quota_that_was_handed_over_is_written_by_the_successor_alone() {
    use crate::policy::limit::ledger::Ledger;
    use crate::policy::limit::quota::Book;
    let dir = tempfile::tempdir().unwrap();
    let (file, limit) = (dir.path().join("quotas/limits.a.year"), limit("quota: 5/year"));
    let metrics = Metrics::new().unwrap();
    let book = std::sync::Arc::new(Book::default());
    let ledger = Ledger::new("limits.a", file.clone(), std::sync::Arc::clone(&book), metrics.quota("a"));
    book.touch();
    book.closed.store(true, Relaxed);
    ledger.save();
    assert!(!file.exists());
    let Gauge::Quota(quota) = &limit.gauge else { panic!("{limit:?}") };
    let parcel = packed(&limit, Instant::now());
    assert!(quota.book().closed.load(Relaxed));
    unpacked(&limit, &parcel, Instant::now());
    assert!(!quota.book().closed.load(Relaxed) && quota.book().changed.load(Relaxed));
    book.closed.store(false, Relaxed);
    ledger.save();
    assert!(file.exists());
}

/// `KEYS=1000000 cargo test --release --lib of_many_keys_none_is_lost -- --nocapture` tells how long it takes.
#[test]
fn of_many_keys_none_is_lost() {
    let keys: u64 = std::env::var("KEYS").map_or(20_000, |keys| keys.parse().unwrap());
    for kind in ["rate: 100/min", "rate: 100/min, algorithm: sliding_window", "quota: 100/month"] {
        let kind = format!("{kind}, keys: 1100000").replace(", key: client.ip, keys: 128", "");
        let limit = |kind: &str| {
            let config = serde_yaml::from_str(&format!("{{ {kind}, key: client.ip }}")).unwrap();
            let (shelves, metrics, named, stores) =
                (Shelves::default(), Metrics::new().unwrap(), Named::new(), Stores::new());
            let room = Room { shelves: &shelves, metrics: &metrics, named: &named, stores: &stores };
            let (place, auth) = (|_: &Path| "y:1:1".to_owned(), std::collections::BTreeMap::new());
            let tools = Tools { limits: Some(room), ..Tools::alone(&place, &auth) };
            Limit::compile("a", &config, &Path::of(["limits", "a"]), room, &tools, &mut Problems::default()).unwrap()
        };
        let (old, new, now) = (limit(&kind), limit(&kind), Instant::now());
        for key in 1..=keys {
            let _ = old.gauge.take(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), now);
        }
        let begun = Instant::now();
        let parcel = packed(&old, now);
        let pack = begun.elapsed();
        let begun = Instant::now();
        assert_eq!(unpacked(&new, &parcel, now), [Ok(())]);
        println!(
            "{kind}: {} keys, {} MB, pack {pack:?}, unpack {:?}",
            new.gauge.len(),
            parcel.len() >> 20,
            begun.elapsed()
        );
        assert_eq!(new.gauge.len(), old.gauge.len());
        assert!(!new.gauge.is_empty());
    }
}
