//! Answers in a Redis that several hosts share: asked within its time, and as good as empty while it is down.
//!
//! An object is one key; its end is the Redis' business. A purge marks its label in one hash that all hosts look into, so
//! that it reaches answers that another host is still fetching. All times are those of the Redis.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use super::marks::{Address, Label};
use super::owed::Owed;
use super::{Id, Looked, Object, codec};
use crate::client::store::{Argument, Down, Script, Store};
use crate::telemetry::metrics::CacheMetrics;

static GET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("get.lua")));
static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("put.lua")));
static MARK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("mark.lua")));
static MARKED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("marked.lua")));

const MARKS: &str = "yumen:cache:purged";

/// Marks are kept for so long.
const LONGEST: Duration = Duration::from_hours(720);

/// The objects in one Redis.
#[derive(Debug)]
pub struct Redis {
    store: Arc<Store>,
    /// What it could not be told.
    owed: Arc<Owed>,
    metrics: CacheMetrics,
}

impl Redis {
    pub(super) fn new(store: Arc<Store>, metrics: CacheMetrics) -> Self {
        let owed = Arc::new(Owed::new(Arc::clone(&store)));
        Self { store, owed, metrics }
    }

    pub(super) async fn look(&self, id: &Id) -> Looked {
        self.find(id).await.unwrap_or_default()
    }

    async fn find(&self, id: &Id) -> Result<Looked, Down> {
        self.owed.tell().await?;
        let (at, bytes): (u64, Option<Vec<u8>>) = self.store.run(&GET, &name(id), &[]).await?;
        let Some(object) = bytes.and_then(codec::read).filter(Object::is_whole) else {
            return Ok(Looked { object: None, at: Some(at) });
        };
        let labels: Vec<_> = object.labels.iter().map(|label| Argument::Number((*label).into())).collect();
        let marked: u64 = self.store.run(&MARKED, MARKS, &labels).await?;
        let object = Some(Arc::new(object)).filter(|object| marked <= object.since);
        Ok(Looked { object, at: Some(at) })
    }

    pub(super) async fn put(&self, id: Id, object: &Object) {
        let life = object.lives(SystemTime::now()).min(LONGEST);
        let Some(life) = i64::try_from(life.as_millis()).ok().filter(|life| *life > 0) else { return };
        let bytes = codec::write(object);
        let arguments = [Argument::Bytes(&bytes), Argument::Number(life)];
        let _ = self.store.run::<i64>(&PUT, &name(&id), &arguments).await;
    }

    pub(super) async fn purge(&self, labels: &[Label]) -> bool {
        self.metrics.purged();
        let slots: Vec<_> = labels.iter().map(|label| label.slot()).collect();
        mark(&self.store, &slots).await.is_ok()
    }

    pub(super) async fn forget(&self, addresses: &[Address]) {
        let slots: Vec<_> = addresses.iter().flatten().map(|(_, label)| label.slot()).collect();
        if mark(&self.store, &slots).await.is_err() {
            self.owed.remember(&slots);
        }
    }
}

/// Marks these slots, whatever is there, as purged now.
pub(super) async fn mark(store: &Store, slots: &[u32]) -> Result<(), Down> {
    let slots: Vec<_> = slots.iter().map(|slot| Argument::Number((*slot).into())).collect();
    store.run::<i64>(&MARK, MARKS, &slots).await.map(|_| ())
}

fn name(id: &Id) -> String {
    id.iter().fold(String::from("yumen:cache:"), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}
