//! Slow start: who comes to a pool in which others serve gets a small share at first, which grows to its whole weight.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::state::parcel::Said;
use crate::state::since::Since;

/// The share of its weight that a target begins with.
const FIRST: f64 = 0.1;

/// Since when a target has been growing, through all reloads.
#[derive(Debug)]
pub(super) struct SlowStart {
    made: Since,
    /// Milliseconds since it was made, and one; 0: it has its whole weight.
    begun: AtomicU64,
}

impl SlowStart {
    pub(super) fn new(now: Instant) -> Self {
        Self { made: Since::new(now), begun: AtomicU64::new(0) }
    }

    fn at(&self, now: Instant) -> u64 {
        u64::try_from(self.made.age(now).as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// For a successor, as of this moment.
    pub(super) fn pack(&self, now: Instant) -> Value {
        json!({ "age": self.made.nanos(now), "begun": self.begun.load(Relaxed) })
    }

    /// As a predecessor had it.
    pub(super) fn unpack(&self, said: Said<'_>) -> Option<()> {
        let begun = said.number("begun")?;
        self.made.adopt(said.number("age")?, said.now)?;
        let begun = Some(begun).filter(|begun| *begun <= self.at(said.now) + 1)?;
        self.begun.store(begun, Relaxed);
        Some(())
    }

    pub(super) fn begin(&self, now: Instant) {
        self.begun.store(self.at(now) + 1, Relaxed);
    }

    /// The share of its weight, while it grows. Nobody looks at a clock for a target that is grown.
    pub(super) fn share(&self, length: Duration) -> Option<f64> {
        if self.begun.load(Relaxed) == 0 { None } else { self.share_at(length, Instant::now()) }
    }

    fn share_at(&self, length: Duration, now: Instant) -> Option<f64> {
        let begun = self.begun.load(Relaxed).checked_sub(1)?;
        let age = Duration::from_millis(self.at(now).saturating_sub(begun));
        if age < length {
            return Some(age.div_duration_f64(length).max(FIRST));
        }
        // Unless it has just begun anew.
        let _ = self.begun.compare_exchange(begun + 1, 0, Relaxed, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_evenly_from_a_tenth_to_the_whole() {
        let (now, length) = (Instant::now(), Duration::from_secs(100));
        let start = SlowStart::new(now);
        let at = |seconds| start.share_at(length, now + Duration::from_secs(seconds));
        assert_eq!(at(0), None, "who was there from the start has its whole weight");
        start.begin(now + Duration::from_secs(1000));
        assert_eq!(
            [1000, 1005, 1010, 1050, 1099, 1100].map(at),
            [Some(0.1), Some(0.1), Some(0.1), Some(0.5), Some(0.99), None]
        );
        assert_eq!(start.begun.load(Relaxed), 0, "nobody asks again");
    }
}
