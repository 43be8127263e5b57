//! What the process holds through all reloads: the snapshot that serves, the figures, the shelves of live state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use super::Snapshot;
use crate::pool::Shelves;
use crate::telemetry::metrics::Metrics;

/// What a snapshot is compiled with.
pub struct Tools {
    pub metrics: Arc<Metrics>,
    pub shelves: Shelves,
}

impl Tools {
    /// The error says which metric is a mistake.
    pub fn new() -> Result<Self, String> {
        let metrics = Metrics::new().map_err(|why| why.to_string())?;
        Ok(Self { metrics, shelves: Shelves::default() })
    }
}

/// The snapshot that serves, and what outlives it.
pub struct Live {
    pub tools: Tools,
    pub started: Instant,
    current: ArcSwap<Snapshot>,
    draining: AtomicBool,
}

impl Live {
    pub fn new(first: Snapshot, tools: Tools) -> Self {
        tools.metrics.applied(first.generation, &first.hash);
        Self { tools, started: Instant::now(), current: ArcSwap::from_pointee(first), draining: AtomicBool::new(false) }
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

    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}
