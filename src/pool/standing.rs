//! What of pools outlives reloads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use super::breaker::{Breaker, Hand, Held};
use super::by_hand::ByHand;
use super::discover::{Lookup, Resolver, Server};
use super::health::Prober;
use super::max_in_flight::Line;
use super::target::Cell;
use super::{Budget, Pool};
use crate::state::Shelf;
use crate::units::Name;

/// What lives longer than a generation: cells of targets, what sources have said, and what asks for both.
#[derive(Clone, Default)]
pub struct Shelves {
    pub(super) cells: Arc<Shelf<(Name, Box<str>), Cell>>,
    pub(super) lookups: Arc<Shelf<(Name, Box<str>), Lookup>>,
    pub(super) standings: Arc<Shelf<Name, Standing>>,
    resolvers: Arc<Shelf<Vec<Server>, Resolver>>,
    pub(super) prober: Arc<Prober>,
}

impl Shelves {
    /// What asks these name servers, or those of the system.
    pub(super) fn resolver(&self, servers: &[Server]) -> Arc<Resolver> {
        self.resolvers.keep(servers.to_vec(), || Resolver::new(servers))
    }
}

/// What of one pool does.
pub(super) struct Standing {
    /// How often the health of a target has changed.
    changes: AtomicUsize,
    pub(super) turn: Arc<AtomicUsize>,
    pub(super) budget: Budget,
    /// The one breaker of all targets, where the settings say so.
    pub(super) breaker: Arc<Breaker>,
    pub(super) hand: Arc<Hand>,
    /// The weights of single targets, by hand.
    pub(super) by_hand: ByHand,
    /// Who waits for a target.
    pub(super) line: Arc<Line>,
    /// Held while one more target is ejected, so that it is never one too many.
    pub(super) ejecting: Mutex<()>,
    /// Who was ejected, or is let in again, is to be looked at.
    pub(super) stirred: Notify,
    /// All targets are used, because too few are well.
    pub(super) panics: AtomicBool,
    /// Somebody was told of the pool as a whole, and has to hear of its end.
    told: AtomicBool,
    gone: Box<dyn Fn() + Send + Sync>,
}

impl Standing {
    /// `gone` is called when the last user lets go.
    pub(super) fn new(now: Instant, gone: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            changes: AtomicUsize::default(),
            turn: Arc::default(),
            budget: Budget::new(now),
            breaker: Arc::new(Breaker::new(now)),
            hand: Arc::new(Hand::new(now)),
            by_hand: ByHand::default(),
            line: Arc::default(),
            ejecting: Mutex::default(),
            stirred: Notify::new(),
            panics: AtomicBool::new(false),
            told: AtomicBool::new(false),
            gone: Box::new(gone),
        }
    }

    /// Whether there is something to tell of the pool as a whole: that it is there, or no longer.
    pub(super) fn tells(&self, there: bool) -> bool {
        self.told.swap(there, Relaxed) || there
    }

    pub(super) fn change(&self) {
        self.changes.fetch_add(1, Relaxed);
    }
    pub(super) fn changes(&self) -> usize {
        self.changes.load(Relaxed)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if *self.told.get_mut() {
            (self.gone)();
        }
    }
}

impl Pool {
    /// Holds its breakers by hand, or lets go of them.
    pub fn hold(&self, held: Option<(Held, std::time::Duration)>) {
        self.standing.hand.hold(held, Instant::now());
    }
}
