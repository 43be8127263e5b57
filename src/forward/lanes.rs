//! Which message goes next: those of one topic one after the other, those of others beside them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::queue::Entry;
use crate::client::mqtt::access::Pauses;

/// The messages of one topic.
#[derive(Debug)]
struct Lane {
    entries: VecDeque<Arc<Entry>>,
    pauses: Pauses,
}

/// Messages in memory that were not delivered.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_topic: HashMap<Arc<str>, Lane>,
    ready: VecDeque<Arc<str>>,
    resting: BTreeSet<(Instant, Arc<str>)>,
    /// Their numbers and times.
    times: BTreeSet<(u64, u64)>,
    bytes: usize,
}

/// The longest pause before a message is sent again.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(30);

impl Lanes {
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest of them came, in milliseconds since 1970.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.times.first().map(|(_, received)| *received)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.times.insert((entry.number, entry.received));
        self.bytes += entry.payload.len();
        let topic = Arc::clone(&entry.topic);
        let new = || Lane { entries: VecDeque::new(), pauses: Pauses::up_to(LONGEST) };
        let lane = self.by_topic.entry(Arc::clone(&topic)).or_insert_with(new);
        if lane.entries.is_empty() {
            self.ready.push_back(topic);
        }
        lane.entries.push_back(Arc::new(entry));
    }

    /// A message whose turn it is; it is under way until its lane hears of it.
    pub(super) fn take(&mut self, now: Instant) -> Option<Arc<Entry>> {
        while self.resting.first().is_some_and(|(until, _)| *until <= now) {
            self.ready.extend(self.resting.pop_first().map(|(_, topic)| topic));
        }
        let topic = self.ready.pop_front()?;
        self.by_topic.get(&topic)?.entries.front().cloned()
    }

    /// When the next one comes back from its pause.
    pub(super) fn wakes(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// It needs to be sent no more.
    pub(super) fn ended(&mut self, entry: &Entry) {
        self.times.remove(&(entry.number, entry.received));
        self.bytes = self.bytes.saturating_sub(entry.payload.len());
        let Some(lane) = self.by_topic.get_mut(&entry.topic) else { return };
        lane.entries.pop_front();
        lane.pauses.reset();
        if lane.entries.is_empty() {
            self.by_topic.remove(&entry.topic);
        } else {
            self.ready.push_back(Arc::clone(&entry.topic));
        }
    }

    /// It has to be sent again, not before its pause, or what the pool said, is over.
    pub(super) fn failed(&mut self, entry: &Entry, now: Instant, told: Option<std::time::Duration>) {
        if let Some(lane) = self.by_topic.get_mut(&entry.topic) {
            let pause = lane.pauses.again().max(told.unwrap_or_default().min(LONGEST));
            self.resting.insert((now + pause, Arc::clone(&entry.topic)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn entry(number: u64, topic: &str) -> Entry {
        Entry { number, id: format!("x-{number}").into(), topic: topic.into(), received: number, payload: Bytes::new() }
    }

    #[test]
    fn a_topic_keeps_its_order_and_holds_up_no_other() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        for entry in [entry(1, "a"), entry(2, "a"), entry(3, "b")] {
            lanes.push(entry);
        }
        let (first, other) = (lanes.take(now).unwrap(), lanes.take(now).unwrap());
        assert_eq!((first.number, other.number), (1, 3));
        assert!(lanes.take(now).is_none(), "the second of a topic waits for the first");
        lanes.failed(&first, now, None);
        lanes.ended(&other);
        assert!(lanes.take(now).is_none() && lanes.wakes().is_some());
        let later = now + Duration::from_secs(1);
        assert_eq!(lanes.take(later).unwrap().number, 1);
        lanes.ended(&first);
        assert_eq!((lanes.take(later).unwrap().number, lanes.oldest()), (2, Some(2)));
        lanes.ended(&entry(2, "a"));
        assert!(lanes.len() == 0 && lanes.take(later).is_none());
    }

    #[test]
    fn pauses_grow_and_what_the_pool_asks_for_is_kept() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.push(entry(1, "a"));
        let first = lanes.take(now).unwrap();
        lanes.failed(&first, now, Some(Duration::from_secs(5)));
        assert_eq!(lanes.wakes().unwrap(), now + Duration::from_secs(5));
        let mut last = now + Duration::from_secs(5);
        for _ in 0..12 {
            let entry = lanes.take(last).unwrap();
            lanes.failed(&entry, last, None);
            let next = lanes.wakes().unwrap();
            assert!(next > last && next <= last + LONGEST.mul_f64(1.2));
            last = next;
        }
        assert!(last > now + Duration::from_mins(1));
    }
}
