//! Connections to targets that speak plain HTTP/1: opened, lent for one try, kept for the next one.
//!
//! Pingora keeps idle connections too, with a task, a timer and several allocations for each request that passes; here
//! one sweep a second looks after all that rest, and a connection's own timers move without cost. Pingora knows of none of
//! it: it opens what it takes for a new connection ([`L4Connect`](pingora::connectors::L4Connect)) and lets it go.

mod carry;
mod errand;
pub mod habit;
mod lease;
mod line;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pingora::protocols::l4::socket::SocketAddr;
use tokio::time::Instant;

pub use errand::{Errand, Limits};
use habit::Habit;
use line::Line;

/// As long as a target is not known to close connections later, one that rested longer is not for a request that may not be
/// sent twice.
const YOUNG: Duration = Duration::from_secs(1);

/// What one worker keeps between requests.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Those that rest, the one that rests longest first.
    resting: HashMap<Place, VecDeque<Line>>,
    count: usize,
    habits: HashMap<Place, Habit>,
}

/// Where a connection leads; only addresses that can be compared are kept.
#[derive(Debug, Clone, PartialEq, Hash)]
struct Place(SocketAddr);

impl Eq for Place {}

impl Connections {
    /// Keeps at most `most` while they rest.
    pub fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// How many are kept at most.
    pub fn most(&self) -> usize {
        self.most
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that rested for the shortest time, if that is less than `most` and the target has not closed it; for
    /// a request that may not be sent twice, one that the target does not close just now.
    fn take(&self, place: &Place, most: Duration, once: bool, now: Instant) -> Option<Line> {
        let mut kept = self.kept();
        let Kept { resting, count, .. } = &mut *kept;
        let there = resting.get_mut(place)?;
        while let Some(line) = there.pop_back() {
            *count -= 1;
            let rested = now.duration_since(line.rests_since());
            if rested < most && (!once || line.is_sure() || rested < YOUNG) && line.serves(now) {
                return Some(line);
            }
        }
        None
    }

    /// Keeps it until somebody takes it; where there is no room, one that rested longer leaves.
    fn put(&self, mut line: Line) {
        let mut kept = self.kept();
        let Kept { resting, count, habits } = &mut *kept;
        if let Some(limit) = habits.get(line.place()).and_then(|habit| habit.limit(line.rests_since())) {
            line.rest_safely(limit);
        }
        let there = match resting.get_mut(line.place()) {
            Some(there) => there,
            None => resting.entry(line.place().clone()).or_default(),
        };
        if *count >= self.most {
            if there.pop_front().is_none() {
                return;
            }
            *count -= 1;
        }
        there.push_back(line);
        *count += 1;
    }

    /// Closes those that rested long enough, and those that their targets have closed; learns when those do. It is run
    /// every `pause`.
    pub fn sweep(&self, pause: Duration, now: Instant) {
        let mut kept = self.kept();
        let Kept { resting, count, habits } = &mut *kept;
        resting.retain(|place, there| {
            let before = there.len();
            let mut closed = None;
            there.retain(|line| {
                if !line.is_quiet() {
                    closed = closed.max(Some(now.duration_since(line.rests_since()).saturating_sub(pause)));
                }
                line.serves(now)
            });
            if let Some(rested) = closed {
                habits.entry(place.clone()).or_default().closed(rested, now);
            }
            *count -= before - there.len();
            !there.is_empty()
        });
        habits.retain(|_, habit| habit.is_fresh(now));
    }

    /// How many rest, by where they lead.
    pub fn resting_by_target(&self) -> Vec<(String, usize)> {
        self.kept().resting.iter().map(|(place, there)| (place.0.to_string(), there.len())).collect()
    }

    /// How many rest.
    pub fn resting(&self) -> usize {
        self.kept().count
    }
}

#[cfg(test)]
mod tests;
