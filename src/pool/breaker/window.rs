//! Outcomes of the last while: ten slots of a tenth each, counted without a lock.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::state::parcel::Said;
use crate::state::since::Since;

const SLOTS: usize = 10;

/// A slot is one word: the number of its tenth (24 bits), all outcomes, and bad ones (20 bits each, which stay full).
#[derive(Debug)]
pub(in crate::pool) struct Window {
    start: Since,
    slots: [AtomicU64; SLOTS],
}

const FULL: u64 = (1 << 20) - 1;
const TENTHS: u64 = (1 << 24) - 1;

fn pack(tenth: u64, total: u64, bad: u64) -> u64 {
    (tenth & TENTHS) << 40 | total.min(FULL) << 20 | bad.min(FULL)
}

fn unpack(slot: u64) -> (u64, u64, u64) {
    (slot >> 40, slot >> 20 & FULL, slot & FULL)
}

impl Window {
    pub(in crate::pool) fn new(now: Instant) -> Self {
        Self { start: Since::new(now), slots: array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Which tenth of the windows so far it is; never 0, which is what an empty slot says.
    fn tenth(&self, length: Duration, now: Instant) -> u64 {
        let tenth = (length.as_millis() / 10).max(1);
        u64::try_from(self.start.age(now).as_millis() / tenth).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(in crate::pool) fn count(&self, failed: bool, length: Duration, now: Instant) {
        let tenth = self.tenth(length, now);
        let Some(slot) = usize::try_from(tenth).ok().and_then(|at| self.slots.get(at % SLOTS)) else { return };
        let add = |old: u64| {
            let (known, total, bad) = unpack(old);
            let (total, bad) = if known == tenth & TENTHS { (total, bad) } else { (0, 0) };
            Some(pack(tenth, total + 1, bad + u64::from(failed)))
        };
        // It always changes something, so it always ends well.
        let _ = slot.fetch_update(Relaxed, Relaxed, add);
    }

    /// All outcomes and bad ones; the oldest tenth is the one that is just ending.
    pub(in crate::pool) fn sum(&self, length: Duration, now: Instant) -> (u64, u64) {
        let tenth = self.tenth(length, now);
        let recent = |known: u64| (tenth & TENTHS).wrapping_sub(known) & TENTHS < SLOTS as u64 && known != 0;
        let slots = self.slots.iter().map(|slot| unpack(slot.load(Relaxed)));
        slots.filter(|(known, ..)| recent(*known)).fold((0, 0), |sum, slot| (sum.0 + slot.1, sum.1 + slot.2))
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        let slots = self.slots.each_ref().map(|slot| slot.load(Relaxed));
        json!({ "age": self.start.nanos(now), "slots": slots })
    }

    /// As a predecessor had it.
    pub(in crate::pool) fn unpack(&self, said: Said<'_>) -> Option<()> {
        let slots = said.numbers::<SLOTS>("slots")?;
        self.start.adopt(said.number("age")?, said.now)?;
        self.slots.iter().zip(slots).for_each(|(place, slot)| place.store(slot, Relaxed));
        Some(())
    }

    pub(in crate::pool) fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (start, length) = (Instant::now(), Duration::from_secs(10));
        let window = Window::new(start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for second in 0..30 {
            window.count(second % 2 == 0, length, at(second));
        }
        assert_eq!(window.sum(length, at(29)), (10, 5));
        assert_eq!(window.sum(length, at(34)), (5, 2));
        assert_eq!(window.sum(length, at(39)), (0, 0));
        window.count(true, length, at(1000));
        assert_eq!(window.sum(length, at(1000)), (1, 1));
        window.clear();
        assert_eq!(window.sum(length, at(1000)), (0, 0));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (start, length) = (Instant::now(), Duration::from_secs(100));
        let window = Window::new(start);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|n| window.count(n % 4 == 0, length, start)));
            }
        });
        assert_eq!(window.sum(length, start), (40_000, 10_000));
    }
}
