//! What was found out and may be found again: bounded, by a keyed hash, each entry with its end.
//!
//! What is asked for is never kept, only its HMAC under a key that this process drew at its start: 256 bits, so that
//! two different questions never share an answer, and nobody who sees the memory can guess his way back.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::hmac;

use crate::telemetry::random;

static KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    let mut bytes = [0; 32];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = std::array::from_fn(|_| random::next().to_le_bytes()[7]);
    }
    hmac::Key::new(hmac::HMAC_SHA256, &bytes)
});

/// The keyed hash of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark([u8; 32]);

impl Mark {
    /// Of these parts in their order, each with its length, so that no two lists of parts look alike.
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hash = hmac::Context::with_key(&KEY);
        for part in parts {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        }
        let mut mark = [0; 32];
        mark.copy_from_slice(hash.sign().as_ref());
        Self(mark)
    }

    /// A number of at least nought and less than `below`, always the same one.
    pub fn draw(&self, below: usize) -> usize {
        let number = self.0.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        usize::try_from(number % below.max(1) as u64).unwrap_or_default()
    }
}

/// A mark is a hash already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().rev().take(8).fold(self.0, |hash, byte| hash << 8 | u64::from(*byte));
    }
    fn write_usize(&mut self, _: usize) {}
}

const SHARDS: usize = 16;

/// What one entry takes besides what it was said to weigh.
const OVERHEAD: usize = 128;

/// Answers by the marks of their questions; `V` is cheap to clone.
#[derive(Debug)]
pub struct Memory<V> {
    shards: [Mutex<Shard<V>>; SHARDS],
    /// Bytes of one half of a shard.
    most: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    ends: Option<Instant>,
    weight: usize,
}

type Entries<V> = HashMap<Mark, Entry<V>, BuildHasherDefault<Same>>;

/// Two halves: when the young one is full it becomes the old one, and what nobody asked for meanwhile is gone.
#[derive(Debug)]
struct Shard<V> {
    young: Entries<V>,
    old: Entries<V>,
    bytes: usize,
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), bytes: 0 }
    }
}

impl<V: Clone> Memory<V> {
    /// Holds about `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), most: bytes / SHARDS / 2 }
    }

    fn shard(&self, mark: &Mark) -> Option<std::sync::MutexGuard<'_, Shard<V>>> {
        let shard = self.shards.get(mark.draw(SHARDS))?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known, if it has not ended.
    pub fn get(&self, mark: &Mark, now: Instant) -> Option<V> {
        let mut shard = self.shard(mark)?;
        if !shard.young.contains_key(mark) {
            let entry = shard.old.remove(mark)?;
            shard.put(*mark, entry, self.most);
        }
        let entry = shard.young.get(mark)?;
        entry.ends.is_none_or(|ends| now < ends).then(|| entry.value.clone())
    }

    /// From now on it is known, until `ends`; `weight` is what it takes in bytes.
    pub fn put(&self, mark: Mark, value: V, ends: Option<Instant>, weight: usize) {
        let entry = Entry { value, ends, weight: weight + OVERHEAD };
        if let Some(mut shard) = self.shard(&mark).filter(|_| weight + OVERHEAD <= self.most) {
            shard.put(mark, entry, self.most);
        }
    }
}

impl<V> Shard<V> {
    fn put(&mut self, mark: Mark, entry: Entry<V>, most: usize) {
        if self.bytes + entry.weight > most {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += entry.weight;
        if let Some(before) = self.young.insert(mark, entry) {
            self.bytes = self.bytes.saturating_sub(before.weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mark(text: &str) -> Mark {
        Mark::of([text.as_bytes()])
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_eq!(Mark::of([&b"ab"[..], b"c"]), Mark::of([&b"ab"[..], b"c"]));
        assert_ne!(Mark::of([&b"ab"[..], b"c"]), Mark::of([&b"a"[..], b"bc"]));
        assert_ne!(Mark::of([&b"abc"[..]]), Mark::of([&b"abc"[..], b""]));
    }

    #[test]
    fn an_entry_ends_at_its_time() {
        let (memory, now) = (Memory::new(1 << 20), Instant::now());
        memory.put(mark("a"), 1, Some(now + Duration::from_secs(5)), 10);
        memory.put(mark("b"), 2, None, 10);
        let later = now + Duration::from_secs(5);
        assert_eq!((memory.get(&mark("a"), now), memory.get(&mark("a"), later)), (Some(1), None));
        assert_eq!((memory.get(&mark("b"), later), memory.get(&mark("c"), now)), (Some(2), None));
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let (memory, now) = (Memory::new(1 << 20), Instant::now());
        memory.put(mark("often"), 0, None, 100);
        for at in 0..50_000 {
            memory.put(mark(&at.to_string()), at, None, 100);
            assert!(memory.get(&mark("often"), now).is_some());
        }
        memory.put(mark("too large"), 0, None, 1 << 20);
        assert!(memory.get(&mark("too large"), now).is_none());
        let held = |shard: &Mutex<Shard<i32>>| {
            let shard = shard.lock().unwrap();
            shard.young.values().chain(shard.old.values()).map(|entry| entry.weight).sum::<usize>()
        };
        assert!(memory.shards.iter().map(held).sum::<usize>() <= 1 << 20);
    }
}
