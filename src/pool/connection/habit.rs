//! How long a target keeps a connection that nobody uses: what it says, and what it was seen to do.
//!
//! A request on a connection that its target closes at the same moment is lost, and one that may not be repeated must not
//! be. So a connection is given up at four fifths of what its target keeps it for.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::state::parcel::{Said, ago, nanos};

/// A target may change its mind: what was seen is forgotten after so long.
const FORGET: Duration = Duration::from_mins(10);
/// Two ages that differ by less are one habit; the look at resting connections is a second apart.
const CLOSE: Duration = Duration::from_millis(1500);
/// No habit is shorter: who restarts closes connections of any age.
const SHORTEST: Duration = Duration::from_secs(1);

/// What was seen of one target.
#[derive(Debug, Clone, Default)]
pub(super) struct Habit {
    /// The age at which it closed a connection, the shortest that it can have been.
    last: Option<(Duration, Instant)>,
    /// What two of them agree on, and since when.
    known: Option<(Duration, Instant)>,
}

impl Habit {
    /// It closed a connection that had rested at least this long.
    pub(super) fn closed(&mut self, rested: Duration, now: Instant) {
        let agreed = self.last.filter(|(last, _)| last.abs_diff(rested) < CLOSE).map(|(last, _)| last.min(rested));
        self.last = Some((rested, now));
        if let Some(agreed) = agreed.filter(|age| *age >= SHORTEST) {
            self.known = Some((agreed, now));
        }
    }

    /// For a successor, as of this moment.
    pub(super) fn pack(&self, now: Instant) -> Value {
        let told = |seen: Option<(Duration, Instant)>| {
            let (age, since) = seen?;
            Some(json!({ "age": nanos(age), "since": ago(now.into_std(), since.into_std()) }))
        };
        json!({ "last": told(self.last), "known": told(self.known) })
    }

    /// As a predecessor had it.
    pub(super) fn unpack(said: Said<'_>) -> Option<Self> {
        let read = |key: &str| {
            let said = said.get(key)?;
            if said.value.is_null() {
                return Some(None);
            }
            Some(Some((said.time("age")?, Instant::from_std(said.ago("since")?))))
        };
        Some(Self { last: read("last")?, known: read("known")? })
    }

    /// What both have seen.
    pub(super) fn and(&mut self, other: &Self) {
        let later = |one: Option<(Duration, Instant)>, two: Option<(Duration, Instant)>| {
            one.into_iter().chain(two).max_by_key(|(_, since)| *since)
        };
        *self = Self { last: later(self.last, other.last), known: later(self.known, other.known) };
    }

    /// Whether anything is still known.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.last.is_some_and(|(_, seen)| now.duration_since(seen) < FORGET) || self.limit(now).is_some()
    }

    /// How long a connection may rest, if that is known.
    pub(super) fn limit(&self, now: Instant) -> Option<Duration> {
        let fresh = self.known.filter(|(_, since)| now.duration_since(*since) < FORGET);
        fresh.map(|(age, _)| safe(age))
    }
}

/// The part of a target's limit in which a connection is safe.
pub(super) fn safe(limit: Duration) -> Duration {
    limit * 4 / 5
}

/// `timeout` of a `Keep-Alive` field (RFC 2068 section 19.7.1.1), in seconds.
pub fn told(field: &str) -> Option<Duration> {
    let parameter = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u32>().ok()?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| Duration::from_secs(seconds.into()))
    };
    field.split(',').find_map(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_closings_at_one_age_are_a_habit() {
        let (now, secs) = (Instant::now(), Duration::from_secs);
        let mut habit = Habit::default();
        habit.closed(secs(5), now);
        assert_eq!(habit.limit(now), None, "once is chance");
        habit.closed(secs(31), now);
        assert_eq!(habit.limit(now), None, "a restart closes all, of any age");
        habit.closed(secs(30), now);
        assert_eq!(habit.limit(now), Some(secs(24)));
        assert_eq!(habit.limit(now + FORGET), None, "it may have changed");
        habit.closed(secs(0), now);
        habit.closed(secs(0), now);
        assert_eq!(habit.limit(now), Some(secs(24)), "no habit is that short");
    }

    #[test]
    fn a_target_may_say_how_long_it_waits() {
        let story = [("timeout=5, max=1000", Some(5)), ("max=3,Timeout = 75", Some(75)), ("timeout=\"9\"", Some(9))];
        for (field, wanted) in story {
            assert_eq!(told(field), wanted.map(Duration::from_secs), "{field}");
        }
        for field in ["", "max=5", "timeout", "timeout=x", "timeout=-1"] {
            assert_eq!(told(field), None, "{field}");
        }
    }
}
