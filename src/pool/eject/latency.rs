//! How late answers began in the last while: ten slots of a tenth each, counted without a lock.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::state::parcel::Said;
use crate::state::since::Since;

const SLOTS: usize = 10;

/// A slot is one word: the number of its tenth (12 bits), answers (16 bits), and the sum of their times in units of ten
/// microseconds (36 bits). A full slot counts no more, so that its mean stays right.
#[derive(Debug)]
pub(super) struct Latency {
    start: Since,
    slots: [AtomicU64; SLOTS],
}

const TENTHS: u64 = (1 << 12) - 1;
const COUNT: u64 = (1 << 16) - 1;
const SUM: u64 = (1 << 36) - 1;
const UNIT: u128 = 10;

fn unpack(slot: u64) -> (u64, u64, u64) {
    (slot >> 52, slot >> 36 & COUNT, slot & SUM)
}

impl Latency {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: Since::new(now), slots: array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn tenth(&self, length: Duration, now: Instant) -> u64 {
        let tenth = (length.as_millis() / 10).max(1);
        u64::try_from(self.start.age(now).as_millis() / tenth).unwrap_or(u64::MAX)
    }

    pub(super) fn count(&self, took: Duration, length: Duration, now: Instant) {
        let tenth = self.tenth(length, now);
        let Some(slot) = usize::try_from(tenth).ok().and_then(|at| self.slots.get(at % SLOTS)) else { return };
        let units = u64::try_from(took.as_micros() / UNIT).unwrap_or(SUM);
        let add = |old: u64| {
            let (known, count, sum) = unpack(old);
            let (count, sum) = if known == tenth & TENTHS { (count, sum) } else { (0, 0) };
            let room = count < COUNT && sum.saturating_add(units) <= SUM;
            room.then(|| (tenth & TENTHS) << 52 | (count + 1) << 36 | (sum + units))
        };
        // A full slot stays as it is.
        let _ = slot.fetch_update(Relaxed, Relaxed, add);
    }

    /// How many answers there were, and their mean.
    pub(super) fn mean(&self, length: Duration, now: Instant) -> (u64, Duration) {
        let tenth = self.tenth(length, now);
        let recent = |known: u64| (tenth & TENTHS).wrapping_sub(known) & TENTHS < SLOTS as u64;
        let slots = self.slots.iter().map(|slot| unpack(slot.load(Relaxed)));
        let (count, sum) =
            slots.filter(|(known, ..)| recent(*known)).fold((0, 0), |all, slot| (all.0 + slot.1, all.1 + slot.2));
        (count, Duration::from_micros(sum.saturating_mul(10) / count.max(1)))
    }

    /// For a successor, as of this moment.
    pub(super) fn pack(&self, now: Instant) -> Value {
        let slots = self.slots.each_ref().map(|slot| slot.load(Relaxed));
        json!({ "age": self.start.nanos(now), "slots": slots })
    }

    /// As a predecessor had it.
    pub(super) fn unpack(&self, said: Said<'_>) -> Option<()> {
        let slots = said.numbers::<SLOTS>("slots")?;
        self.start.adopt(said.number("age")?, said.now)?;
        self.slots.iter().zip(slots).for_each(|(place, slot)| place.store(slot, Relaxed));
        Some(())
    }

    pub(super) fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_the_last_while() {
        let (start, length) = (Instant::now(), Duration::from_secs(10));
        let latency = Latency::new(start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for second in 0..20 {
            latency.count(Duration::from_millis(if second < 15 { 10 } else { 30 }), length, at(second));
        }
        assert_eq!(latency.mean(length, at(19)), (10, Duration::from_millis(20)));
        assert_eq!(latency.mean(length, at(24)), (5, Duration::from_millis(30)));
        assert_eq!(latency.mean(length, at(60)), (0, Duration::ZERO));
        latency.clear();
        assert_eq!(latency.mean(length, at(19)).0, 0);
    }

    #[test]
    fn a_full_slot_keeps_its_mean() {
        let (start, length) = (Instant::now(), Duration::from_secs(100));
        let latency = Latency::new(start);
        (0..100_000).for_each(|_| latency.count(Duration::from_millis(2), length, start));
        assert_eq!(latency.mean(length, start), (COUNT, Duration::from_millis(2)));
    }
}
