//! Pingora's `Storage`: one for all stores, which asks the store that the key of a request names.
//!
//! Pingora wants a storage that lives forever; stores come and go with the document. So what it gets is nothing but a way
//! to the [`Spot`] in its key.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora_cache::key::{CacheHashKey, CacheKey};
use pingora_cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget, PurgeType,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheMeta, Storage};
use pingora_error::{Error, ErrorType, Result};

use super::super::fresh::Asker;
use super::{Id, Kept, Object, Store};

/// The way to all stores.
pub struct Shim;

pub static SHIM: Shim = Shim;

/// Where the answer to one request belongs, and what was found there.
#[derive(Debug)]
pub struct Spot {
    store: Arc<Store>,
    /// What its answer can be purged by, whatever that says.
    labels: Vec<u32>,
    most: u64,
    /// 0 where the store was down.
    since: AtomicU64,
    /// Whose answer it is.
    asker: Asker,
    /// A body of a known length is on its way into the store, which has room for it.
    is_sure: AtomicBool,
    found: Mutex<Option<Arc<Object>>>,
    filling: Mutex<Filling>,
}

/// What becomes of an answer that is to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filling {
    /// None is.
    #[default]
    Not,
    /// It comes.
    Begun,
    /// All of it has come.
    Ended,
    /// It has become more than is kept.
    TooLarge,
    /// Its store takes no more just now.
    NoRoom,
}

/// What else an answer can be purged by.
#[derive(Debug, Clone, Default)]
pub struct Tags(pub Vec<u32>);

impl Spot {
    pub fn new(store: Arc<Store>, labels: Vec<u32>, most: u64, asker: Asker) -> Self {
        let (since, is_sure) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { store, labels, most, since, asker, is_sure, found: Mutex::default(), filling: Mutex::default() }
    }

    /// Clients of different kinds may be given answers of which one can be kept and the other one cannot.
    pub(super) fn kind(key: &CacheKey) -> u8 {
        let Asker { authorized, identified, keyed } = Self::of(key).map(|spot| spot.asker).unwrap_or_default();
        u8::from(authorized) | u8::from(identified) << 1 | u8::from(keyed) << 2
    }

    /// Whether the answer is certain to be kept, if all of it comes.
    pub fn is_sure(key: &CacheKey) -> bool {
        Self::of(key).is_ok_and(|spot| spot.is_sure.load(Relaxed))
    }

    /// What becomes of the answer to the request that has this key.
    pub fn filling(key: &CacheKey) -> Filling {
        let filling = |spot: &Arc<Self>| *spot.filling.lock().unwrap_or_else(PoisonError::into_inner);
        key.extensions.get().map(filling).unwrap_or_default()
    }

    fn is_now(&self, filling: Filling) {
        *self.filling.lock().unwrap_or_else(PoisonError::into_inner) = filling;
    }

    fn of(key: &CacheKey) -> Result<&Arc<Self>> {
        let spot = key.extensions.get();
        spot.ok_or_else(|| Error::explain(ErrorType::InternalError, "a key of the cache without its place"))
    }

    fn labels(&self, meta: &CacheMeta) -> Box<[u32]> {
        let tags = meta.extensions().get::<Tags>().map_or(&[][..], |tags| &tags.0);
        self.labels.iter().chain(tags).copied().collect()
    }
}

fn object(meta: &CacheMeta, body: Bytes, labels: Box<[u32]>, since: u64) -> Object {
    let times = Kept {
        fresh_until: meta.fresh_until(),
        born: meta.epoch(),
        while_fetched: meta.stale_while_revalidate_sec(),
        if_error: meta.stale_if_error_sec(),
    };
    let head = meta.response_header_copy();
    Object { head, body, times, first: meta.provenance(), variance: meta.variance(), labels, since }
}

fn meta(object: &Object) -> CacheMeta {
    let times = &object.times;
    let head = object.head.clone();
    let mut meta = CacheMeta::new(times.fresh_until, object.first, times.while_fetched, times.if_error, head);
    meta.set_epoch_override(times.born);
    if let Some(variance) = object.variance {
        meta.set_variance(variance);
    }
    meta
}

#[async_trait]
impl Storage for Shim {
    async fn lookup(&'static self, key: &CacheKey, _: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        let spot = Spot::of(key)?;
        let looked = spot.store.look(&key.combined_bin()).await;
        spot.since.store(looked.at.unwrap_or(0), Relaxed);
        let Some(object) = looked.object else { return Ok(None) };
        let hit = Hit { body: Some(object.body.clone()), whole: object.body.clone() };
        let meta = meta(&object);
        *spot.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(object);
        Ok(Some((meta, Box::new(hit))))
    }

    async fn get_miss_handler(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<MissHandler> {
        let spot = Spot::of(key)?;
        let since = spot.since.load(Relaxed);
        let object = object(meta, Bytes::new(), spot.labels(meta), since);
        let mut fill = Fill { spot: spot.clone(), id: key.combined_bin(), taken: 0, object, body: Some(Vec::new()) };
        let told = meta.headers().get(header::CONTENT_LENGTH).and_then(|told| told.to_str().ok()?.parse().ok());
        // Room for all that is told of, and for the head.
        let room = fill.object.weight().saturating_add(told.unwrap_or(0));
        spot.is_now(Filling::Begun);
        if told.unwrap_or(0) > spot.most {
            fill.give_up(Filling::TooLarge);
        } else if since == 0 || !fill.take(room) {
            fill.give_up(Filling::NoRoom);
        } else if let (Some(body), Some(told)) = (&mut fill.body, told.and_then(|told| usize::try_from(told).ok())) {
            body.reserve_exact(told);
            spot.is_sure.store(spot.store.is_sure(), Relaxed);
        }
        Ok(Box::new(fill))
    }

    async fn purge(&'static self, _: PurgeTarget<'_>, _: PurgeType, _: &SpanHandle) -> Result<PurgeOutcome> {
        // Nothing of Pingora purges here: stores evict by themselves, and are purged by label.
        Ok(PurgeOutcome::NotFound)
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<bool> {
        let spot = Spot::of(key)?;
        let found = spot.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(found), since @ 1..) = (found, spot.since.load(Relaxed)) else { return Ok(false) };
        let labels = if meta.extensions().get::<Tags>().is_some() { spot.labels(meta) } else { found.labels.clone() };
        let object = object(meta, found.body.clone(), labels, since);
        spot.store.put(key.combined_bin(), object).await;
        Ok(true)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// A body that is read from a store: shared, not copied.
struct Hit {
    body: Option<Bytes>,
    whole: Bytes,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(self.body.take().filter(|body| !body.is_empty()))
    }

    async fn finish(self: Box<Self>, _: &'static (dyn Storage + Sync), _: &CacheKey, _: &SpanHandle) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let end = end.unwrap_or(self.whole.len()).min(self.whole.len());
        if start > end {
            return Error::e_explain(ErrorType::InternalError, "a range behind the end of a kept body");
        }
        self.body = Some(self.whole.slice(start..end));
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// A body on its way into a store, which has nothing of it before all of it is there.
struct Fill {
    spot: Arc<Spot>,
    id: Id,
    /// Bytes of room in the store.
    taken: u64,
    object: Object,
    /// Nothing where it will not be kept.
    body: Option<Vec<u8>>,
}

impl Fill {
    fn take(&mut self, bytes: u64) -> bool {
        let took = self.spot.store.take_room(bytes);
        self.taken += if took { bytes } else { 0 };
        took
    }

    fn give_up(&mut self, why: Filling) {
        self.spot.is_now(why);
        self.free();
    }

    fn free(&mut self) {
        self.body = None;
        self.spot.store.give_room(std::mem::take(&mut self.taken));
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.free();
    }
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _: bool) -> Result<()> {
        let Some(body) = &self.body else { return Ok(()) };
        let (length, free) = (body.len() + data.len(), body.capacity());
        // It doubles what it has, as its buffer does.
        let more = if length > free { length.max(2 * free) - free } else { 0 };
        if length as u64 > self.spot.most {
            self.give_up(Filling::TooLarge);
        } else if !self.take(more as u64) {
            self.give_up(Filling::NoRoom);
        } else if let Some(body) = &mut self.body {
            body.reserve_exact(free + more - body.len());
            body.extend_from_slice(&data);
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        let Some(mut body) = self.body.take() else { return Ok(MissFinishType::Created(0)) };
        self.spot.is_now(Filling::Ended);
        let (mut object, size) = (self.object.clone(), body.len());
        // No larger than it is: the room behind its end would be counted by nobody.
        body.shrink_to_fit();
        object.body = body.into();
        let fields = &mut object.head;
        if fields.status != StatusCode::NO_CONTENT && !fields.headers.contains_key(header::CONTENT_LENGTH) {
            fields.insert_header(header::CONTENT_LENGTH, HeaderValue::from(size))?;
        }
        if object.is_whole() {
            self.spot.store.put(self.id, object).await;
        }
        Ok(MissFinishType::Created(size))
    }
}
