//! Runs the chores of the live snapshot; beside the accept loop the only place that spawns.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::chore::Chore;

/// Background work on one runtime; all of it belongs to the live snapshot and is replaced with it.
pub struct Keeper {
    on: Handle,
    /// A worker, for what requests wait for.
    near: Handle,
    running: Mutex<JoinSet<()>>,
}

impl Keeper {
    pub fn new(on: Handle, near: Handle) -> Self {
        Self { on, near, running: Mutex::default() }
    }

    /// Drops what runs and starts these instead.
    pub fn replace(&self, chores: Vec<Chore>) {
        let mut next = JoinSet::new();
        for chore in chores {
            log::debug!("chore {} starts", chore.name);
            next.spawn_on(chore.work, if chore.near { &self.near } else { &self.on });
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = next;
    }

    /// Runs a piece of work that no reload takes back.
    pub fn once(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.on.spawn(work);
    }

    /// How many chores have not ended.
    pub fn len(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
