//! A pool's breakers held open or closed by hand: always for a while, whatever they learn meanwhile.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::state::parcel::{Said, nanos};

/// How they are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// No request goes through.
    Open,
    /// All of them do.
    Closed,
}

/// The longest time that a hand may rest on them.
pub const LONGEST: Duration = Duration::from_hours(24);

/// What was said by hand, for all workers and through all reloads.
#[derive(Debug)]
pub struct Hand {
    start: Instant,
    /// The millisecond after the start at which it ends, and in the lowest bit whether they are open; 0 is nothing said.
    said: AtomicU64,
}

impl Hand {
    pub fn new(now: Instant) -> Self {
        Self { start: now, said: AtomicU64::new(0) }
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX >> 1)
    }

    /// Holds them from now on, or lets go.
    pub fn hold(&self, held: Option<(Held, Duration)>, now: Instant) {
        let said = held.map_or(0, |(held, length)| {
            let until = self.age(now + length.min(LONGEST)).max(1);
            until << 1 | u64::from(held == Held::Open)
        });
        self.said.store(said, Relaxed);
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        let held = self.held_at(self.said.load(Relaxed), now);
        json!(held.map(|(held, left)| json!({ "open": held == Held::Open, "left": nanos(left) })))
    }

    /// As a predecessor had it; nothing said changes nothing.
    pub(in crate::pool) fn unpack(&self, said: Said<'_>) -> Option<()> {
        if !said.value.is_null() {
            let held = if said.flag("open")? { Held::Open } else { Held::Closed };
            self.hold(Some((held, said.time("left")?)), said.now);
        }
        Some(())
    }

    /// How they are held, and for how long still. Nobody looks at a clock where nothing was said.
    pub fn held(&self) -> Option<(Held, Duration)> {
        let said = self.said.load(Relaxed);
        if said == 0 { None } else { self.held_at(said, Instant::now()) }
    }

    fn held_at(&self, said: u64, now: Instant) -> Option<(Held, Duration)> {
        let left = (said >> 1).checked_sub(self.age(now)).filter(|left| *left > 0)?;
        let held = if said & 1 == 1 { Held::Open } else { Held::Closed };
        Some((held, Duration::from_millis(left)))
    }

    pub fn is(&self, how: Held) -> bool {
        self.held().is_some_and(|(held, _)| held == how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_always_ends() {
        let start = Instant::now();
        let hand = Hand::new(start);
        let at = |seconds: u64| hand.held_at(hand.said.load(Relaxed), start + Duration::from_secs(seconds));
        hand.hold(Some((Held::Open, Duration::from_secs(10))), start);
        assert_eq!(at(4), Some((Held::Open, Duration::from_secs(6))));
        assert_eq!(at(10), None);
        hand.hold(Some((Held::Closed, Duration::MAX)), start);
        assert_eq!(at(1).map(|(held, _)| held), Some(Held::Closed));
        assert_eq!(at(86_400), None, "after a day at the latest");
        hand.hold(None, start);
        assert_eq!((at(1), hand.held()), (None, None));
    }
}
