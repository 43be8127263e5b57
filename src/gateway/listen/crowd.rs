//! Who is connected to a listener: by protocol, by age, by client; counted as connections come and go, never on a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What is counted beside the addresses.
#[derive(Debug)]
pub(super) struct Crowd {
    start: Instant,
    /// How many came in which second after the start, of those that are there.
    born: Mutex<BTreeMap<u64, usize>>,
    speaking: [AtomicUsize; 2],
}

impl Default for Crowd {
    fn default() -> Self {
        Self { start: Instant::now(), born: Mutex::default(), speaking: Default::default() }
    }
}

/// What a connection speaks, once that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    H1 = 0,
    H2 = 1,
}

/// One listener's connections.
#[derive(Debug, Clone, Serialize)]
pub struct Crowded {
    pub listener: String,
    pub open: usize,
    pub h1: usize,
    pub h2: usize,
    /// Those that have not said yet what they speak.
    pub handshaking: usize,
    /// How long they have been there, the upper bound with their number.
    pub ages: Vec<(&'static str, usize)>,
    /// The clients with the most of them.
    pub clients: Vec<(String, usize)>,
}

const AGES: [(&str, Duration); 5] = [
    ("10s", Duration::from_secs(10)),
    ("1m", Duration::from_mins(1)),
    ("10m", Duration::from_mins(10)),
    ("1h", Duration::from_hours(1)),
    ("older", Duration::MAX),
];

impl Crowd {
    /// A connection came; what it gives back when it leaves.
    pub(super) fn came(&self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.start).as_secs();
        *self.born.lock().unwrap_or_else(PoisonError::into_inner).entry(second).or_default() += 1;
        second
    }

    pub(super) fn left(&self, second: u64) {
        let mut born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = born.get_mut(&second) {
            *count -= 1;
            if *count == 0 {
                born.remove(&second);
            }
        }
    }

    pub(super) fn speaks(&self, before: Option<Speaks>, now: Option<Speaks>) {
        let count = |speaks: Speaks| self.speaking.get(speaks as usize);
        if let Some(count) = before.and_then(count) {
            count.fetch_sub(1, Relaxed);
        }
        if let Some(count) = now.and_then(count) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn speaking(&self, what: Speaks) -> usize {
        self.speaking.get(what as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// How many have been there for how long.
    pub(super) fn ages(&self, now: Instant) -> Vec<(&'static str, usize)> {
        let mut ages: Vec<_> = AGES.iter().map(|(word, _)| (*word, 0)).collect();
        let second = now.saturating_duration_since(self.start).as_secs();
        for (born, count) in &*self.born.lock().unwrap_or_else(PoisonError::into_inner) {
            let age = Duration::from_secs(second.saturating_sub(*born));
            let place = AGES.iter().position(|(_, most)| age < *most);
            if let Some((_, sum)) = place.and_then(|place| ages.get_mut(place)) {
                *sum += count;
            }
        }
        ages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_age_and_protocol() {
        let crowd = Crowd::default();
        let at = |seconds| crowd.start + Duration::from_secs(seconds);
        let first = crowd.came(at(0));
        crowd.came(at(95));
        let counts = |now| crowd.ages(now).into_iter().map(|(_, count)| count).collect::<Vec<_>>();
        assert_eq!(counts(at(100)), [1, 0, 1, 0, 0]);
        assert_eq!(counts(at(4000)), [0, 0, 0, 0, 2]);
        crowd.left(first);
        assert_eq!(counts(at(100)), [1, 0, 0, 0, 0]);
        crowd.speaks(None, Some(Speaks::H1));
        crowd.speaks(Some(Speaks::H1), Some(Speaks::H2));
        assert_eq!((crowd.speaking(Speaks::H1), crowd.speaking(Speaks::H2)), (0, 1));
    }
}
