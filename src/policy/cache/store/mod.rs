//! Where answers are kept: in the memory of this process, or in a Redis that several hosts share.

mod codec;
mod marks;
mod memory;
mod owed;
mod predict;
mod redis;
mod shim;
mod turn;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use pingora_http::ResponseHeader;
use siphasher::sip128::{Hasher128, SipHasher13};

pub use marks::{Address, Label, Place};
pub use predict::{PREDICTOR, lock};
pub use shim::{Filling, SHIM, Spot, Tags};
pub use turn::Turn;

use self::memory::Memory;
use self::redis::Redis;
use super::fresh::Kept;
use crate::client::store;
use crate::telemetry::metrics::CacheMetrics;

/// The name of an object: a hash of all that tells answers apart, variants too.
pub type Id = [u8; 16];

/// An answer that is kept.
#[derive(Debug, Clone)]
pub struct Object {
    pub head: ResponseHeader,
    pub body: Bytes,
    pub times: Kept,
    /// When the first of its line came: an answer that began a new line makes older variants void.
    pub first: SystemTime,
    /// Which variant it is, where there are several.
    pub variance: Option<Id>,
    /// What it can be purged by.
    pub labels: Box<[u32]>,
    /// The moment before it was asked for, by the clock of its store: what was purged after that is purged.
    pub since: u64,
}

/// After its last use, an answer that can be validated is worth keeping for so long.
const WORTH: Duration = Duration::from_hours(24);

impl Object {
    /// What it takes, its fields and the place that it has among the others included.
    pub(super) fn weight(&self) -> u64 {
        const OBJECT: usize = 512;
        const FIELD: usize = 120;
        let fields = self.head.headers.iter().map(|(name, value)| FIELD + name.as_str().len() + value.len());
        let all = OBJECT + self.body.len() + 4 * self.labels.len() + fields.sum::<usize>();
        all as u64
    }

    /// For how long it can be of use from now on.
    pub(super) fn lives(&self, now: SystemTime) -> Duration {
        let stale = self.times.while_fetched.max(self.times.if_error);
        let fields = &self.head.headers;
        let validates = fields.contains_key(http::header::ETAG) || fields.contains_key(http::header::LAST_MODIFIED);
        let after = Duration::from_secs(stale.into()).max(if validates { WORTH } else { Duration::ZERO });
        self.times.fresh_until.duration_since(now).unwrap_or_default().saturating_add(after)
    }

    /// Whether its body has the length that its head tells.
    fn is_whole(&self) -> bool {
        let told = self.head.headers.get(http::header::CONTENT_LENGTH);
        let told = told.map(|told| told.to_str().ok().and_then(|told| told.parse::<usize>().ok()));
        let is_bare = self.head.status == StatusCode::NO_CONTENT;
        told.is_none_or(|told| told == Some(self.body.len())) && (!is_bare || self.body.is_empty())
    }
}

/// What a look into a store gave.
#[derive(Debug, Default)]
pub struct Looked {
    pub object: Option<Arc<Object>>,
    /// The moment of the look, by the store's clock; nothing where the store is down.
    pub at: Option<u64>,
}

/// A store of answers.
#[derive(Debug)]
pub enum Store {
    Memory(Box<Memory>),
    Redis(Redis),
}

impl Store {
    pub fn in_memory(bytes: u64, metrics: CacheMetrics) -> Self {
        Self::Memory(Box::new(Memory::new(bytes, metrics)))
    }

    pub fn in_redis(store: Arc<store::Store>, metrics: CacheMetrics) -> Self {
        Self::Redis(Redis::new(store, metrics))
    }

    /// The longest object that it can keep; none where it has no such bound.
    pub fn longest(&self) -> Option<u64> {
        match self {
            Self::Memory(memory) => Some(memory.for_fills()),
            Self::Redis(_) => None,
        }
    }

    /// The name of what a text stands for, where the store is in memory: nobody else knows the secret of it. Hosts that
    /// share a store agree on Pingora's name.
    pub(super) fn name_in_memory(&self, text: &[u8]) -> Option<Id> {
        static SECRET: LazyLock<[u64; 2]> = LazyLock::new(|| [1, 2].map(|half| RandomState::new().hash_one(half)));
        match self {
            Self::Memory(_) => {
                let [first, second] = *SECRET;
                let mut hasher = SipHasher13::new_with_keys(first, second);
                hasher.write(text);
                Some(hasher.finish128().as_bytes())
            }
            Self::Redis(_) => None,
        }
    }

    /// What is kept under this name, where the store is in memory.
    pub(super) fn in_memory_under(&self, id: &Id) -> Option<Arc<Object>> {
        match self {
            Self::Memory(memory) => memory.look(id).object,
            Self::Redis(_) => None,
        }
    }

    pub(super) async fn look(&self, id: &Id) -> Looked {
        match self {
            Self::Memory(memory) => memory.look(id),
            Self::Redis(redis) => redis.look(id).await,
        }
    }

    pub(super) async fn put(&self, id: Id, object: Object) {
        match self {
            Self::Memory(memory) => memory.put(id, object),
            Self::Redis(redis) => redis.put(id, &object).await,
        }
    }

    /// Takes room for so many bytes more that are on their way; whether there was any.
    pub(super) fn take_room(&self, bytes: u64) -> bool {
        match self {
            Self::Memory(memory) => memory.take_room(bytes),
            Self::Redis(_) => true,
        }
    }

    pub(super) fn give_room(&self, bytes: u64) {
        if let Self::Memory(memory) = self {
            memory.give_room(bytes);
        }
    }

    /// Nothing with these labels is served again, nor kept if it was asked for before. At once, and for all hosts of a
    /// Redis; whether that is so.
    pub async fn purge(&self, labels: &[Label]) -> bool {
        match self {
            Self::Memory(memory) => {
                memory.purge(labels);
                true
            }
            Self::Redis(redis) => redis.purge(labels).await,
        }
    }

    /// The same for what a request has changed: what is void goes when it is next looked for. A store that cannot be
    /// told of it serves nothing until it is.
    pub async fn forget(&self, addresses: &[Address]) {
        match self {
            Self::Memory(memory) => memory.forget(addresses),
            Self::Redis(redis) => redis.forget(addresses).await,
        }
    }

    /// Answers are kept here by so much of their address.
    pub(super) fn keeps(&self, place: Place) {
        if let Self::Memory(memory) = self {
            memory.keeps(place);
        }
    }

    /// Whether what was taken in is certain to be there once its body is.
    pub(super) fn is_sure(&self) -> bool {
        matches!(self, Self::Memory(_))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn times(seconds: u64) -> Kept {
        let now = SystemTime::now();
        Kept { fresh_until: now + Duration::from_secs(seconds), born: now, while_fetched: 0, if_error: 0 }
    }

    /// A body of so many bytes that is fresh for so many seconds.
    pub(super) fn object(bytes: usize, seconds: u64) -> Object {
        let mut head = ResponseHeader::build_no_case(StatusCode::OK, None).unwrap();
        head.append_header("content-length", bytes.to_string()).unwrap();
        let body = Bytes::from(vec![b'x'; bytes]);
        Object {
            head,
            body,
            times: times(seconds),
            first: SystemTime::now(),
            variance: None,
            labels: [].into(),
            since: 1,
        }
    }
}
