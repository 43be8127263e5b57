//! Whether a store is asked at all: a small state machine that is told the time.
//!
//! Where several commands in a row fail, nobody waits for the next one to fail too: the store counts as down, and only
//! one probe at a time is sent, less and less often up to a longest pause. One probe that is answered in time makes it
//! count as up again.

use std::time::{Duration, Instant};

/// So many failures in a row are no accident.
const FAILURES: u32 = 5;
/// Pauses between probes.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaker {
    /// It is asked; so many commands in a row have failed.
    Up { failures: u32 },
    /// It is not asked, but for a probe at that time.
    Down { probe: Instant, pause: Duration },
}

impl Breaker {
    /// Nothing has been heard of it yet.
    pub(super) fn new(now: Instant) -> Self {
        Self::Down { probe: now, pause: FIRST_PAUSE }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }

    /// A command has ended; whether this made the store count as down. What was sent before it did says nothing new.
    pub(super) fn record(&mut self, now: Instant, well: bool) -> bool {
        let Self::Up { failures } = self else { return false };
        *failures = if well { 0 } else { *failures + 1 };
        *failures >= FAILURES && self.trip(now)
    }

    /// It is certainly gone, for its connection has ended; whether this is news.
    pub(super) fn trip(&mut self, now: Instant) -> bool {
        let was_up = self.is_up();
        if was_up {
            *self = Self::Down { probe: now + FIRST_PAUSE, pause: FIRST_PAUSE };
        }
        was_up
    }

    /// When the next probe is due; none while it is up.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self {
            Self::Up { .. } => None,
            Self::Down { probe, .. } => Some(*probe),
        }
    }

    /// A probe has ended; whether this made the store count as up.
    pub(super) fn probed(&mut self, now: Instant, well: bool) -> bool {
        let Self::Down { pause, .. } = self else { return false };
        let pause = (*pause * 2).min(LAST_PAUSE);
        *self = if well { Self::Up { failures: 0 } } else { Self::Down { probe: now + pause, pause } };
        well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_in_a_row_open_it_and_one_good_probe_closes_it() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        assert!(!breaker.is_up() && breaker.probe_at() == Some(start));
        assert!(breaker.probed(start, true) && breaker.is_up() && breaker.probe_at().is_none());
        for _ in 0..3 {
            (1..FAILURES).for_each(|_| assert!(!breaker.record(start, false)));
            assert!(!breaker.record(start, true), "a good one in between begins anew");
        }
        (1..FAILURES).for_each(|_| assert!(!breaker.record(start, false)));
        assert!(breaker.record(start, false), "the last one is told");
        assert!(!breaker.record(start, false) && !breaker.record(start, true) && !breaker.is_up());
        assert!(breaker.probed(start, true) && breaker.is_up());
    }

    #[test]
    fn probes_come_less_and_less_often_up_to_a_longest_pause() {
        let mut now = Instant::now();
        let mut breaker = Breaker::Up { failures: 0 };
        assert!(breaker.trip(now) && !breaker.trip(now));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let due = breaker.probe_at().unwrap();
            pauses.push((due - now).as_millis());
            now = due;
            assert!(!breaker.probed(now, false));
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    }
}
