//! What was purged, and when: a purge takes one step, whatever there is, and reaches answers that are still on their way.
//!
//! A label (an address, a tag, a route) falls into one of some thousand slots. A purge writes the time into the slot of its
//! label; an object is void if one of its slots bears a later time than the one at which it was asked for. Two labels
//! that share a slot are purged together: an answer is then fetched once more than was needed, and nothing else.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use siphasher::sip::SipHasher13;

const SLOTS: usize = 1 << 14;

/// What objects can be purged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(u32);

/// How much of its address tells a kept answer from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Address,
    /// The query is not in its key, or not all of it: one answer for all that begins with this path.
    Path,
    /// Nor is the path.
    Host,
}

/// The labels of one address.
pub type Address = [(Place, Label); 3];

impl Label {
    pub const ALL: Self = Self(0);

    fn of(kind: u8, parts: &[&[u8]]) -> Self {
        // The same on all hosts, and after a restart.
        let mut hasher = SipHasher13::new_with_keys(0x7975_6d65, 0x6e);
        hasher.write_u8(kind);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        Self(u32::try_from(1 + hasher.finish() % (SLOTS as u64 - 1)).unwrap_or(1))
    }

    /// That much of an address, without its scheme and port, with its query as it was sent.
    pub fn at(place: Place, host: &str, path: &str, query: Option<&str>) -> Self {
        match place {
            Place::Address => Self::of(1, &[host.as_bytes(), path.as_bytes(), query.unwrap_or_default().as_bytes()]),
            Place::Path => Self::of(4, &[host.as_bytes(), path.as_bytes()]),
            Place::Host => Self::of(5, &[host.as_bytes()]),
        }
    }

    /// All that an answer to this address can bear, whatever its key has of that.
    pub fn address(host: &str, path: &str, query: Option<&str>) -> Address {
        [Place::Address, Place::Path, Place::Host].map(|place| (place, Self::at(place, host, path, query)))
    }

    pub fn tag(tag: &[u8]) -> Self {
        Self::of(2, &[tag])
    }

    pub fn route(route: &str) -> Self {
        Self::of(3, &[route.as_bytes()])
    }

    pub fn slot(self) -> u32 {
        self.0
    }
}

/// The times of the last purges in this process.
pub(super) struct Marks {
    clock: AtomicU64,
    slots: Box<[AtomicU64]>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { clock: AtomicU64::new(1), slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Marks {
    pub(super) fn now(&self) -> u64 {
        self.clock.load(SeqCst)
    }

    pub(super) fn mark(&self, label: Label) {
        if let Some(slot) = self.slots.get(label.0 as usize) {
            slot.store(self.clock.fetch_add(1, SeqCst) + 1, SeqCst);
        }
    }

    /// Whether something with these labels that was asked for then was purged since.
    pub(super) fn are_later(&self, labels: &[u32], since: u64) -> bool {
        let is_later = |label: &u32| self.slots.get(*label as usize).is_some_and(|slot| slot.load(SeqCst) > since);
        labels.iter().any(is_later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_voids_what_was_asked_for_before_and_nothing_else() {
        let (marks, a, b) = (Marks::default(), Label::tag(b"a"), Label::tag(b"b"));
        let before = marks.now();
        assert!(!marks.are_later(&[a.slot(), b.slot()], before));
        marks.mark(a);
        assert!(marks.are_later(&[b.slot(), a.slot()], before) && !marks.are_later(&[b.slot()], before));
        assert!(!marks.are_later(&[a.slot()], marks.now()), "asked for after the purge");
    }

    #[test]
    fn labels_of_different_kinds_differ_and_mean_the_same_everywhere() {
        let mut all = vec![Label::tag(b"x"), Label::route("x"), Label::ALL];
        all.extend(Label::address("x", "", None).map(|(_, label)| label));
        let mut some = all.clone();
        some.sort();
        some.dedup();
        assert_eq!(some.len(), all.len());
        assert_eq!(Label::address("a", "/", None), Label::address("a", "/", Some("")));
        assert_ne!(Label::address("a", "/b", None), Label::address("a", "/", Some("b")));
    }
}
