//! Who waits for whom: requests for the same answer, unless the last one could not be kept. What is kept serves all of
//! them, whatever came of another request.

use std::sync::LazyLock;
use std::time::Duration;

use http::Extensions;
use pingora_cache::NoCacheReason;
use pingora_cache::key::{CacheHashKey, CacheKey};
use pingora_cache::lock::{CacheKeyLock, CacheKeyLockImpl, CacheLock, LockStatus, Locked, WritePermit};
use pingora_cache::predictor::{CacheablePredictor, Predictor};

use super::shim::Spot;

/// A fetch that has taken so long gives its place to another one.
const HUNG: Duration = Duration::from_secs(10);

/// Answers that could not be kept: the next ones are not waited for.
pub struct Predict(LazyLock<Predictor<16>>);

pub static PREDICTOR: Predict = Predict(LazyLock::new(|| Predictor::new(1024, None)));

/// One variant, asked for by one kind of client: what is not kept of an answer for these may be for others.
fn one(key: &CacheKey) -> CacheKey {
    let mut id = key.combined_bin();
    if let Some(first) = id.first_mut() {
        *first ^= Spot::kind(key);
    }
    let mut one = CacheKey::new("", "");
    one.set_primary_bin_override(id);
    one
}

impl Predict {
    /// Whether the answer is none to wait for.
    pub fn is_lost(&self, key: &CacheKey) -> bool {
        !self.0.cacheable_prediction(&one(key))
    }
}

impl CacheablePredictor for Predict {
    /// Nothing is passed by without a look into the store.
    fn cacheable_prediction(&self, _: &CacheKey) -> bool {
        true
    }

    fn predicted_uncacheable_reason(&self, key: &CacheKey) -> Option<NoCacheReason> {
        self.0.predicted_uncacheable_reason(&one(key))
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        self.0.mark_cacheable(&one(key))
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        self.0.mark_uncacheable(&one(key), reason)
    }
}

/// One fetch at a time for each key whose answer can be kept.
struct Lock(LazyLock<CacheLock>);

static LOCK: Lock = Lock(LazyLock::new(|| CacheLock::new(HUNG)));

/// Nobody waits for it.
#[derive(Debug, Clone)]
struct Alone;

impl CacheKeyLock for Lock {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        if !PREDICTOR.is_lost(key) {
            return self.0.lock(key, stale_writer);
        }
        let mut marked = Extensions::new();
        marked.insert(Alone);
        Locked::Write(WritePermit::new(HUNG, stale_writer, marked).0)
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        if permit.extensions().get::<Alone>().is_some() {
            permit.unlock(reason);
        } else {
            self.0.release(key, permit, reason);
        }
    }
}

pub fn lock() -> &'static CacheKeyLockImpl {
    &LOCK
}
