//! How late a target's answers begin, as of now: peaks count at once and fade with time, good news counts slowly.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::state::parcel::Said;
use crate::state::since::Since;

/// After so many milliseconds without news about two thirds are forgotten.
const FADE: f64 = 10_000.0;
/// What a failure is taken for at least: who fails fast is not quick.
const FAILURE: f64 = 1.0;
/// No estimate is longer, so that a target is tried again within minutes.
const LONGEST: f64 = 60.0;

/// Seconds as they were last told (32 bits), and the millisecond since the start at which that was (32 bits).
#[derive(Debug)]
pub(in crate::pool) struct Estimate {
    start: Since,
    state: AtomicU64,
}

fn pack(at: u32, seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are more than latency has")]
    let bits = (seconds.min(LONGEST) as f32).to_bits();
    u64::from(at) << 32 | u64::from(bits)
}

fn unpack(state: u64) -> (u32, f64) {
    let (at, bits) = (u32::try_from(state >> 32), u32::try_from(state & u64::from(u32::MAX)));
    (at.unwrap_or_default(), f32::from_bits(bits.unwrap_or_default()).into())
}

impl Estimate {
    pub(in crate::pool) fn new(now: Instant) -> Self {
        Self { start: Since::new(now), state: AtomicU64::new(0) }
    }

    /// Milliseconds, which begin anew after seven weeks.
    fn at(&self, now: Instant) -> u32 {
        let age = self.start.age(now).as_millis() & u128::from(u32::MAX);
        u32::try_from(age).unwrap_or_default()
    }

    fn change(&self, now: Instant, next: impl Fn(f64, f64) -> f64) {
        let at = self.at(now);
        let change = |state| {
            let (since, seconds) = unpack(state);
            let kept = (-f64::from(at.wrapping_sub(since)) / FADE).exp();
            Some(pack(at, next(seconds, kept)))
        };
        // It always changes something, so it always ends well.
        let _ = self.state.fetch_update(Relaxed, Relaxed, change);
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        json!({ "age": self.start.nanos(now), "state": self.state.load(Relaxed) })
    }

    /// As a predecessor had it.
    pub(in crate::pool) fn unpack(&self, said: Said<'_>) -> Option<()> {
        let state = said.number("state").filter(|state| (0.0..=LONGEST).contains(&unpack(*state).1))?;
        self.start.adopt(said.number("age")?, said.now)?;
        self.state.store(state, Relaxed);
        Some(())
    }

    /// An answer began after so long.
    pub(in crate::pool) fn learn(&self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        self.change(now, |seconds, kept| {
            let faded = seconds * kept;
            if took > faded { took } else { faded.mul_add(1.0 - WEIGHT, took * WEIGHT) }
        });
    }

    /// A request failed: that counts as slow, and more so each time.
    pub(in crate::pool) fn fail(&self, now: Instant) {
        self.change(now, |seconds, kept| (2.0 * seconds * kept).max(FAILURE));
    }

    /// Seconds, faded since they were told; nothing is known of who was never asked.
    pub(in crate::pool) fn seconds(&self, now: Instant) -> f64 {
        let (since, seconds) = unpack(self.state.load(Relaxed));
        seconds * (-f64::from(self.at(now).wrapping_sub(since)) / FADE).exp()
    }
}

/// What one answer that is better than the estimate counts.
const WEIGHT: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn near(estimate: &Estimate, now: Instant, seconds: f64) {
        let known = estimate.seconds(now);
        assert!((known - seconds).abs() < seconds / 100.0 + 1e-9, "{known} is not {seconds}");
    }

    #[test]
    fn peaks_count_at_once_and_good_news_slowly() {
        let now = Instant::now();
        let estimate = Estimate::new(now);
        near(&estimate, now, 0.0);
        estimate.learn(Duration::from_millis(100), now);
        near(&estimate, now, 0.1);
        estimate.learn(Duration::from_millis(500), now);
        near(&estimate, now, 0.5);
        estimate.learn(Duration::from_millis(100), now);
        near(&estimate, now, 0.48);
        (0..200).for_each(|_| estimate.learn(Duration::from_millis(100), now));
        near(&estimate, now, 0.1);
    }

    #[test]
    fn it_fades_with_time() {
        let now = Instant::now();
        let estimate = Estimate::new(now);
        estimate.learn(Duration::from_secs(1), now);
        near(&estimate, now + Duration::from_secs(10), (-1.0_f64).exp());
        assert!(estimate.seconds(now + Duration::from_mins(5)) < 1e-9);
    }

    #[test]
    fn who_fails_fast_is_slow_and_slower_each_time_and_bounded() {
        let now = Instant::now();
        let estimate = Estimate::new(now);
        let known = [1.0, 2.0, 4.0].map(|seconds| {
            estimate.fail(now);
            near(&estimate, now, seconds);
            seconds
        });
        assert_eq!(known.len(), 3);
        (0..100).for_each(|_| estimate.fail(now));
        near(&estimate, now, LONGEST);
        assert!(estimate.seconds(now + Duration::from_mins(2)) < 0.001, "tried again in two minutes");
    }
}
