//! Tokens that were verified already: the same token costs its signature once.
//!
//! Bounded by bytes, in shards so that no two requests wait for each other for long. An entry is found by a hash and
//! believed only where the whole token is the same, the keys are those it was verified with, and it has not ended.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

/// What a token says, once its signature was found good.
#[derive(Debug)]
pub struct Verified {
    pub claims: Arc<Map<String, Value>>,
    pub consumer: Option<Arc<str>>,
    /// Seconds since 1970, with the leeway in it.
    pub ends: f64,
    /// Of the keys it was verified with.
    pub generation: u64,
}

const SHARDS: usize = 16;

/// Verified tokens of one issuer.
#[derive(Debug)]
pub struct Cache {
    hash: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// Bytes of one half of a shard.
    most: usize,
}

struct Entry {
    token: Box<str>,
    verified: Arc<Verified>,
}

/// The number is a hash already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash << 8 | u64::from(*byte));
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type Entries = HashMap<u64, Entry, BuildHasherDefault<Same>>;

/// Two halves: when the young one is full it becomes the old one, and what nobody asked for meanwhile is gone.
#[derive(Default)]
struct Shard {
    young: Entries,
    old: Entries,
    bytes: usize,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What an entry takes, estimated: the token, its claims as a tree, and the places in the tables.
fn weight(token: &str) -> usize {
    token.len() * 5 + 512
}

impl Cache {
    /// Holds about `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { hash: RandomState::new(), shards: Default::default(), most: bytes / SHARDS / 2 }
    }

    fn shard(&self, token: &str) -> (u64, Option<&Mutex<Shard>>) {
        let hash = self.hash.hash_one(token);
        (hash, self.shards.get((hash >> 60) as usize % SHARDS))
    }

    /// What this very token was found to say, if it was verified with these keys and has not ended.
    pub fn get(&self, token: &str, generation: u64, now: f64) -> Option<Arc<Verified>> {
        let (hash, shard) = self.shard(token);
        let mut shard = shard?.lock().unwrap_or_else(PoisonError::into_inner);
        if !shard.young.contains_key(&hash) {
            let entry = shard.old.remove(&hash)?;
            shard.put(hash, entry, self.most);
        }
        let entry = shard.young.get(&hash)?;
        let holds = entry.verified.generation == generation && now < entry.verified.ends;
        (holds && *entry.token == *token).then(|| Arc::clone(&entry.verified))
    }

    pub fn put(&self, token: &str, verified: &Arc<Verified>) {
        let (hash, shard) = self.shard(token);
        let entry = Entry { token: token.into(), verified: Arc::clone(verified) };
        if let Some(shard) = shard {
            shard.lock().unwrap_or_else(PoisonError::into_inner).put(hash, entry, self.most);
        }
    }
}

impl Shard {
    fn put(&mut self, hash: u64, entry: Entry, most: usize) {
        let added = weight(&entry.token);
        if self.bytes + added > most {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += added;
        if let Some(before) = self.young.insert(hash, entry) {
            self.bytes = self.bytes.saturating_sub(weight(&before.token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(ends: f64, generation: u64) -> Arc<Verified> {
        Arc::new(Verified { claims: Arc::default(), consumer: None, ends, generation })
    }

    #[test]
    fn an_entry_ends_with_its_token_and_with_its_keys() {
        let cache = Cache::new(1 << 20);
        cache.put("a.b.c", &verified(100.0, 1));
        assert!(cache.get("a.b.c", 1, 99.9).is_some());
        assert!(cache.get("a.b.c", 1, 100.0).is_none(), "ended");
        assert!(cache.get("a.b.c", 2, 1.0).is_none(), "other keys");
        assert!(cache.get("a.b.d", 1, 1.0).is_none(), "another token");
    }

    #[test]
    fn the_whole_token_decides_and_not_its_hash() {
        let cache = Cache::new(1 << 20);
        cache.put("a.b.c", &verified(100.0, 1));
        let (hash, shard) = cache.shard("a.b.c");
        let mut shard = shard.unwrap().lock().unwrap();
        shard.young.get_mut(&hash).unwrap().token = "a.b.x".into();
        drop(shard);
        assert!(cache.get("a.b.c", 1, 1.0).is_none());
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let cache = Cache::new(1 << 20);
        cache.put("often", &verified(100.0, 1));
        for at in 0..50_000 {
            cache.put(&format!("token-{at}"), &verified(100.0, 1));
            assert!(cache.get("often", 1, 1.0).is_some());
        }
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            shard.young.values().chain(shard.old.values()).map(|entry| weight(&entry.token)).sum::<usize>()
        };
        assert!(cache.shards.iter().map(held).sum::<usize>() <= 1 << 20);
    }
}
