//! What the process holds through all reloads: the snapshot that serves, the figures, the shelves of live state.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use super::Snapshot;
use crate::client::mqtt::Brokers;
use crate::client::store::Stores;
use crate::forward::Desks;
use crate::policy::{cache, limit};
use crate::pool::breaker::{ALL, Stage};
use crate::pool::connection::Connections;
use crate::pool::{self, Observer, Shelves};
use crate::telemetry::metrics::{Figure, Metrics};
use crate::telemetry::recent::Recent;
use crate::telemetry::spans::Spans;
use crate::units::Name;

/// What a snapshot is compiled with.
pub struct Tools {
    pub metrics: Arc<Metrics>,
    shelves: Shelves,
    pub(super) limits: limit::Shelves,
    pub(super) stores: Stores,
    pub(super) brokers: Brokers,
    pub(super) desks: Desks,
    pub(super) caches: cache::Shelves,
    observer: Arc<dyn Observer>,
    /// The spans that wait for a receiver.
    pub spans: Arc<Spans>,
}

impl Tools {
    /// The error says which metric is a mistake.
    pub fn new() -> Result<Self, String> {
        let metrics = Metrics::new().map_err(|why| why.to_string())?;
        let observer = Arc::new(Health {
            metrics: metrics.clone(),
            figures: Mutex::default(),
            breakers: Mutex::default(),
            ejected: Mutex::default(),
            panics: Mutex::default(),
        });
        Ok(Self {
            spans: Spans::new(metrics.traces()),
            metrics,
            shelves: Shelves::default(),
            limits: limit::Shelves::default(),
            stores: Stores::default(),
            brokers: Brokers::default(),
            desks: Desks::default(),
            caches: cache::Shelves::default(),
            observer,
        })
    }

    /// What a pool is compiled with, in a gateway that listens there.
    pub fn for_pool<'a>(&'a self, name: &Name, listeners: &'a [SocketAddr]) -> pool::Tools<'a> {
        let counted = Some(self.metrics.pool(name.as_str()));
        pool::Tools { shelves: &self.shelves, observer: &self.observer, listeners, counted }
    }
}

/// By pool and target.
type Figures = HashMap<(Box<str>, Box<str>), Figure>;

/// Shows the health of targets on the metrics page, as long as someone uses them.
struct Health {
    metrics: Arc<Metrics>,
    figures: Mutex<Figures>,
    breakers: Mutex<Figures>,
    ejected: Mutex<Figures>,
    panics: Mutex<Figures>,
}

/// Shows a value, or takes it off the page.
fn show(figures: &Mutex<Figures>, pool: &str, target: &str, value: Option<i64>, new: impl FnOnce() -> Figure) {
    let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (pool.into(), target.into());
    match value {
        Some(value) => figures.entry(key).or_insert_with(new).set(value),
        None => drop(figures.remove(&key)),
    }
}

impl Observer for Health {
    fn target_up(&self, pool: &str, target: &str, up: bool) {
        show(&self.figures, pool, target, Some(up.into()), || self.metrics.target(pool, target));
    }

    fn breaker(&self, pool: &str, target: &str, stage: Option<Stage>) {
        let stage = stage.map(|stage| stage as i64);
        show(&self.breakers, pool, target, stage, || self.metrics.breaker(pool, target));
    }

    fn ejected(&self, pool: &str, target: &str, out: Option<bool>) {
        show(&self.ejected, pool, target, out.map(i64::from), || self.metrics.ejected(pool, target));
    }

    fn panics(&self, pool: &str, panics: Option<bool>) {
        show(&self.panics, pool, ALL, panics.map(i64::from), || self.metrics.panics(pool));
    }

    fn target_gone(&self, pool: &str, target: &str) {
        for figures in [&self.figures, &self.breakers, &self.ejected, &self.panics] {
            let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            figures.remove(&(Box::from(pool), Box::from(target)));
        }
    }
}

/// The snapshot that serves, and what outlives it.
pub struct Live {
    pub tools: Tools,
    pub started: Instant,
    /// What went wrong lately.
    pub recent: Recent,
    current: ArcSwap<Snapshot>,
    leaving: OnceLock<Leaving>,
    /// New requests are refused, because memory runs short.
    short: AtomicBool,
    /// What each worker keeps of connections to targets.
    connections: Mutex<Vec<Arc<Connections>>>,
}

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It was told to.
    Stop,
    /// A successor serves.
    Succeeded,
}

impl Live {
    pub fn new(first: Snapshot, tools: Tools) -> Self {
        tools.metrics.serves(first.generation, &first.hash);
        Self {
            tools,
            started: Instant::now(),
            recent: Recent::new(first.process.workers),
            current: ArcSwap::from_pointee(first),
            leaving: OnceLock::new(),
            short: AtomicBool::new(false),
            connections: Mutex::default(),
        }
    }

    /// Memory runs short, or no longer does; whether that is news.
    pub fn run_short(&self, short: bool) -> bool {
        self.short.swap(short, Relaxed) != short
    }

    /// Whether new requests are to be refused for want of memory.
    pub fn is_short(&self) -> bool {
        self.short.load(Relaxed)
    }

    /// A worker keeps these.
    pub fn connect(&self, connections: &Arc<Connections>) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(connections));
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connections>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections of our own rest, by the address that they lead to.
    pub fn kept_upstream(&self) -> HashMap<String, usize> {
        let mut kept = HashMap::new();
        for (target, count) in self.connections().iter().flat_map(|connections| connections.resting_by_target()) {
            *kept.entry(target).or_default() += count;
        }
        kept
    }

    /// The snapshot that serves, for the length of a phase.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// From now on `next` serves; requests that have begun keep what they hold.
    pub fn store(&self, next: Arc<Snapshot>) {
        self.current.store(next);
    }

    /// From now on the process drains; what was said first holds.
    pub fn leave(&self, why: Leaving) {
        let _ = self.leaving.set(why);
    }

    /// Why the process drains, if it does.
    pub fn leaving(&self) -> Option<Leaving> {
        self.leaving.get().copied()
    }

    pub fn is_draining(&self) -> bool {
        self.leaving.get().is_some()
    }

    /// How long what is in flight may still take.
    pub fn patience(&self) -> Duration {
        let drain = &self.load().drain;
        match self.leaving() {
            Some(Leaving::Succeeded) => drain.streams.get().max(drain.requests.get()),
            _ => drain.requests.get(),
        }
    }
}
