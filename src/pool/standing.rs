//! What of pools outlives reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::Budget;
use super::discover::{Lookup, Resolver};
use super::health::Prober;
use super::target::Cell;
use crate::state::Shelf;
use crate::units::Name;

/// What lives longer than a generation: cells of targets, addresses of host names, and what asks for both.
#[derive(Clone, Default)]
pub struct Shelves {
    pub(super) cells: Arc<Shelf<(Name, Box<str>), Cell>>,
    pub(super) lookups: Arc<Shelf<(Name, Box<str>), Lookup>>,
    pub(super) standings: Arc<Shelf<Name, Standing>>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) prober: Arc<Prober>,
}

/// What of one pool does.
pub(super) struct Standing {
    /// How often the health of a target has changed.
    changes: AtomicUsize,
    pub(super) turn: Arc<AtomicUsize>,
    pub(super) budget: Budget,
}

impl Standing {
    pub(super) fn new() -> Self {
        Self { changes: AtomicUsize::default(), turn: Arc::default(), budget: Budget::new(Instant::now()) }
    }

    pub(super) fn change(&self) {
        self.changes.fetch_add(1, Relaxed);
    }
    pub(super) fn changes(&self) -> usize {
        self.changes.load(Relaxed)
    }
}
