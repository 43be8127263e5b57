//! What is counted of stored answers: how many there are, how large, and what requests got of them.

use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntGauge};

use super::family::Lease;
use super::list::Families;

/// A store of answers.
pub struct CacheMetrics {
    objects: IntGauge,
    bytes: IntGauge,
    purges: IntCounter,
    _lease: Lease,
}

impl CacheMetrics {
    pub(super) fn new(families: &Families, lease: Lease, store: &str) -> Self {
        Self {
            objects: lease.child(&families.cache_objects, &[store]),
            bytes: lease.child(&families.cache_bytes, &[store]),
            purges: lease.child(&families.cache_purges, &[store]),
            _lease: lease,
        }
    }

    /// So much is in the memory of this process now.
    pub fn show(&self, objects: u64, bytes: u64) {
        let number = |of: u64| i64::try_from(of).unwrap_or(i64::MAX);
        self.objects.set(number(objects));
        self.bytes.set(number(bytes));
    }

    /// Something was purged by hand.
    pub fn purged(&self) {
        self.purges.inc();
    }
}

impl std::fmt::Debug for CacheMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CacheMetrics")
    }
}

/// What a request for a route with a cache got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// Fresh from the store.
    Hit,
    /// From the store after its time, while it is fetched anew or because that failed.
    Stale,
    /// From the store, after the service had said that it still holds.
    Revalidated,
    /// Anew in place of one that no longer held.
    Expired,
    /// Anew.
    Miss,
    /// Not looked for: the method, the request or what came before does not allow it.
    Bypass,
}

impl CacheResult {
    const WORDS: [&str; 6] = ["hit", "stale", "revalidated", "expired", "miss", "bypass"];

    pub fn word(self) -> &'static str {
        Self::WORDS.get(self as usize).copied().unwrap_or_default()
    }
}

/// The counters of one route by result, each made when it is first needed.
pub(super) struct ByResult([OnceLock<IntCounter>; CacheResult::WORDS.len()]);

impl Default for ByResult {
    fn default() -> Self {
        Self([const { OnceLock::new() }; CacheResult::WORDS.len()])
    }
}

impl ByResult {
    pub(super) fn count(&self, result: CacheResult, families: &Arc<Families>, lease: &Lease, route: &str) {
        if let Some(counter) = self.0.get(result as usize) {
            counter.get_or_init(|| lease.child(&families.cache_requests, &[route, result.word()])).inc();
        }
    }
}
