//! What a Redis could not be told while it was down: that something is void. Until it knows, nothing of it is served.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::redis::mark;
use crate::client::store::{Down, Store};

/// How often it is tried while nobody asks.
const PAUSE: Duration = Duration::from_millis(100);
/// So many at a time.
const AT_ONCE: usize = 512;

/// What is owed to one Redis.
#[derive(Debug)]
pub(super) struct Owed {
    store: Arc<Store>,
    debts: Mutex<Debts>,
    /// There are some.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Debts {
    /// Slots, of which there are no more than labels fall into, and how often each came to be owed.
    slots: BTreeMap<u32, u64>,
    /// Someone tries beside the requests.
    trying: bool,
}

impl Owed {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, debts: Mutex::default(), any: AtomicBool::new(false) }
    }

    pub(super) fn remember(self: &Arc<Self>, slots: &[u32]) {
        let mut debts = self.debts();
        for slot in slots {
            *debts.slots.entry(*slot).or_default() += 1;
        }
        self.any.store(true, SeqCst);
        let is_tried = std::mem::replace(&mut debts.trying, true);
        drop(debts);
        if !is_tried {
            let trying = Trying(Arc::clone(self));
            self.store.later(async move { trying.0.keep_trying().await });
        }
    }

    async fn keep_trying(&self) {
        while self.tell().await.is_err() || !self.is_done() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Nothing came to be owed since all was told.
    fn is_done(&self) -> bool {
        let mut debts = self.debts();
        debts.trying = !debts.slots.is_empty();
        !debts.trying
    }

    /// Tells all of it; an error where some is still owed.
    pub(super) async fn tell(&self) -> Result<(), Down> {
        while self.any.load(SeqCst) {
            let some: Vec<_> = self.debts().slots.iter().take(AT_ONCE).map(|(slot, times)| (*slot, *times)).collect();
            let slots: Vec<_> = some.iter().map(|(slot, _)| *slot).collect();
            mark(&self.store, &slots).await?;
            let mut debts = self.debts();
            for (slot, times) in some {
                // What came to be owed once more while it was told stays.
                if debts.slots.get(&slot) == Some(&times) {
                    debts.slots.remove(&slot);
                }
            }
            self.any.store(!debts.slots.is_empty(), SeqCst);
        }
        Ok(())
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to try; over when it is dropped, also where the errand was never begun.
struct Trying(Arc<Owed>);

impl Drop for Trying {
    fn drop(&mut self) {
        self.0.debts().trying = false;
    }
}
