//! The counts of a limit, one cell a key: in memory, bounded, spread over many locks.
//!
//! A key is known by its hash of 64 bits under a seed that nobody outside can know, so a cell is a few words. When there
//! are as many cells as the document allows, a new key takes the place of one whose forgetting changes nothing; where
//! none is found near its place, of the one that would be forgotten soonest, but never of one that is being refused: a flood of
//! new keys sets nobody free. If only such ones are found, the new key counts in a cell that it shares with others in
//! the same need.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::shard::Shard;
use crate::state::since::Since;
use crate::telemetry::random;

/// What a limit remembers of one key.
pub trait State: Copy + Default + Send + 'static {
    /// From when on it says no more than a new one would, in ticks.
    fn idle_at(&self) -> u64;
}

/// Ticks in a nanosecond: an interval between requests may be short, and its rounding must not matter.
const TICKS: u64 = 16;

/// A length of time in ticks.
pub fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).saturating_mul(TICKS)
}

/// A length of time from ticks, rounded up.
pub fn time(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.div_ceil(TICKS))
}

/// Each has a lock of its own.
const SHARDS: u64 = 64;

/// Cells by key.
pub struct Cells<S> {
    /// Under which keys are hashed; another one only before the first key, or with all of them.
    seed: [AtomicU64; 2],
    pub(super) born: Since,
    first: Mutex<Shard<S>>,
    rest: Box<[Mutex<Shard<S>>]>,
}

impl<S: State> Default for Cells<S> {
    fn default() -> Self {
        let rest = (1..SHARDS).map(|_| Mutex::default()).collect();
        let cells = Self { seed: Default::default(), born: Since::new(Instant::now()), first: Mutex::default(), rest };
        let mut seed = [0; 16];
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            let halves = [random::next(), random::next()].map(u128::from);
            seed = halves.iter().fold(0, |whole, half| whole << 64 | half).to_le_bytes();
        }
        cells.set_seed(seed);
        cells
    }
}

fn halves(seed: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(seed);
    [whole, whole >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default())
}

impl<S: State> Cells<S> {
    /// Ticks since these cells began: time that nobody can set.
    pub fn ticks(&self, now: Instant) -> u64 {
        self.born.nanos(now).saturating_mul(TICKS)
    }

    /// What the parts of a key are written to. No other version of the library may hash in another way: the seed lies on
    /// disk, and goes over to a successor.
    pub fn hasher(&self) -> SipHasher13 {
        let [low, high] = &self.seed;
        SipHasher13::new_with_keys(low.load(Relaxed), high.load(Relaxed))
    }

    pub fn seed(&self) -> [u8; 16] {
        let [low, high] = &self.seed;
        (u128::from(high.load(Relaxed)) << 64 | u128::from(low.load(Relaxed))).to_le_bytes()
    }

    /// The keys are known under this seed. Those that were known under another one are forgotten.
    pub fn set_seed(&self, seed: [u8; 16]) {
        if self.seed() == seed {
            return;
        }
        self.shards().for_each(|shard| *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default());
        self.seed.iter().zip(halves(seed)).for_each(|(place, half)| place.store(half, Relaxed));
    }

    fn shards(&self) -> impl Iterator<Item = &Mutex<Shard<S>>> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Looks at each part with its lock held.
    pub(super) fn each_shard(&self, mut deed: impl FnMut(&mut Shard<S>)) {
        self.shards().for_each(|shard| deed(&mut shard.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Changes the cell of a key, which begins empty. There may be `most` keys; `spent` says of a cell that its key is
    /// being refused. The deed is told whether the cell is the key's own.
    pub fn change<R>(
        &self,
        key: u64,
        now: u64,
        most: usize,
        spent: impl Fn(&S) -> bool,
        deed: impl FnOnce(&mut S, bool) -> R,
    ) -> R {
        let mut shard = self.shard(key);
        let most = most.div_ceil(self.rest.len() + 1);
        let own = shard.knows(key) || shard.make_room(key, now, most, spent);
        deed(shard.cell(key, own, most), own)
    }

    /// Changes the cell of a key that has one of its own.
    pub fn change_known<R>(&self, key: u64, deed: impl FnOnce(&mut S) -> R) -> Option<R> {
        let mut shard = self.shard(key);
        shard.known(key).map(deed)
    }

    /// Changes the cell that keys without one of their own share with this one.
    pub fn change_shared<R>(&self, key: u64, deed: impl FnOnce(&mut S) -> R) -> R {
        deed(self.shard(key).cell(key, false, 0))
    }

    /// Looks at all of them, part by part.
    pub fn each(&self, mut deed: impl FnMut(u64, &S)) {
        self.each_shard(|shard| shard.each(&mut deed));
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.shards().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard<S>> {
        // The high bits choose the place within the shard.
        let index = usize::try_from(key % SHARDS).unwrap_or(0);
        self.rest.get(index).unwrap_or(&self.first).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number for the parts that were written.
pub fn number(hasher: &impl Hasher) -> u64 {
    // Nought marks an empty slot.
    hasher.finish().max(1)
}

impl<S> std::fmt::Debug for Cells<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cells")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Idle at `.0`, with a count.
    #[derive(Clone, Copy, Default)]
    struct Count(u64, u64);
    impl State for Count {
        fn idle_at(&self) -> u64 {
            self.0
        }
    }

    fn spread(key: u64) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write_u64(key);
        number(&hasher)
    }

    proptest! {
        #[test]
        fn cells_are_a_map(keys in prop::collection::vec(0_u64..200, 0..2000)) {
            let (cells, mut model) = (Cells::<Count>::default(), HashMap::<u64, u64>::new());
            for key in keys {
                let expected = model.entry(key).or_default();
                *expected += 1;
                let got = cells.change(spread(key), 0, 100_000, |_| false, |cell, own| {
                    assert!(own);
                    *cell = Count(u64::MAX, cell.1 + 1);
                    cell.1
                });
                prop_assert_eq!(got, *expected);
            }
            prop_assert_eq!(cells.len(), model.len());
        }

        #[test]
        fn idle_ones_go_and_all_others_stay(keys in prop::collection::vec((0_u64..100_000, any::<bool>()), 0..3000)) {
            const MOST: usize = 64 * 8;
            let (cells, mut active) = (Cells::<Count>::default(), HashMap::<u64, u64>::new());
            for (key, busy) in keys {
                let deed = |cell: &mut Count, own: bool| {
                    let until = if busy || cell.0 == 10 { 10 } else { 0 };
                    *cell = Count(until, cell.1 + 1);
                    (cell.1, own)
                };
                let (count, own) = cells.change(spread(key), 5, MOST, |cell| cell.0 > 5, deed);
                if let Some(before) = active.get(&key) {
                    prop_assert_eq!(count, before + 1, "an active one was forgotten");
                }
                if own && (busy || active.contains_key(&key)) {
                    active.insert(key, count);
                }
            }
            prop_assert!(cells.len() <= MOST);
        }
    }

    #[test]
    fn a_flood_of_keys_takes_the_room_of_the_most_there_may_be_and_the_active_stay() {
        let (cells, most) = (Cells::<Count>::default(), 10_000);
        let touch = |key: u64, until: u64| {
            cells.change(
                spread(key),
                5,
                most,
                |cell| cell.0 > 5,
                |cell, own| {
                    *cell = Count(until, cell.1 + 1);
                    (cell.1, own)
                },
            )
        };
        let offenders: Vec<u64> = (0..100).collect();
        for key in &offenders {
            touch(*key, u64::MAX);
        }
        for key in 1000..1_000_000 {
            touch(key, 4);
        }
        assert!(cells.len() <= most + 64, "{}", cells.len());
        assert!(offenders.iter().all(|key| touch(*key, u64::MAX) == (2, true)), "an offender was forgotten");
    }

    #[test]
    fn of_those_that_are_not_refused_the_least_goes_and_where_all_are_refused_one_is_shared() {
        let (cells, most) = (Cells::<Count>::default(), 64);
        let touch = |key: u64, until: u64| {
            cells.change(
                key,
                5,
                most,
                |cell| cell.0 == u64::MAX,
                |cell, own| {
                    *cell = Count(until, cell.1 + 1);
                    (cell.1, own)
                },
            )
        };
        // One cell a shard; these keys fall into the same one.
        let key = |n: u64| n * 64 + 7;
        assert_eq!(touch(key(1), 100), (1, true));
        assert_eq!(touch(key(2), 200), (1, true), "takes the place of one that goes on");
        assert_eq!(touch(key(3), u64::MAX), (1, true));
        assert_eq!(touch(key(4), 200), (1, false), "does not take the place of one that is refused");
        assert_eq!(touch(key(5), 200), (2, false), "counts with the other");
        assert_eq!(touch(key(3), u64::MAX), (2, true));
    }

    #[test]
    fn ticks_are_monotonic_and_time_is_rounded_up() {
        let (cells, now) = (Cells::<Count>::default(), Instant::now());
        assert_eq!(cells.ticks(now.checked_sub(Duration::from_secs(100)).unwrap()), 0);
        let second = Duration::from_secs(1);
        assert_eq!(cells.ticks(now + second) - cells.ticks(now), ticks(second));
        assert_eq!(time(ticks(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(time(1), Duration::from_nanos(1));
    }
}
