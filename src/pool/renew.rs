//! The live set of a pool, made anew when its addresses or their health have changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::Pool;
use super::target::{Cell, Target};

impl Pool {
    /// Makes the live set anew from the addresses known now.
    pub(super) fn renew(&self) {
        let _alone = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.live.load_full();
        let mut all: Vec<Arc<Target>> = Vec::new();
        let mut fresh = Vec::new();
        let before: HashMap<&str, &Arc<Target>> = old.all().iter().map(|target| (target.name(), target)).collect();
        let mut seen = HashSet::new();
        for found in self.endpoints.iter().flat_map(|endpoint| endpoint.found(&self.terms)) {
            // Two sources may name one address.
            if !seen.insert(found.name.clone()) {
                continue;
            }
            if let Some(same) = before.get(&*found.name).filter(|target| target.weight() == found.weight) {
                all.push(Arc::clone(same));
                continue;
            }
            let (cell, is_fresh) = self.cell(&found.name);
            if is_fresh {
                fresh.push(Arc::clone(&cell));
            }
            all.push(Arc::new(Target::new(found, cell, &self.settings, self.breaker.as_ref())));
        }
        // Who comes to a pool that serves has to prove itself first; who finds nobody serves at once.
        if !all.iter().any(|target| target.weight() > 0 && target.cell().serves()) {
            for cell in &fresh {
                cell.found();
            }
        }
        let same = all.len() == old.all().len() && all.iter().zip(old.all()).all(|(new, old)| Arc::ptr_eq(new, old));
        if !same {
            self.publish(all);
            self.renewed.send_replace(());
        }
    }

    /// Makes the live set anew if the health of a target has changed since.
    pub(super) fn settle(&self) {
        if self.live.load().changes() != self.standing.changes() {
            let _alone = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
            self.publish(self.live.load().all().to_vec());
        }
    }

    fn publish(&self, all: Vec<Arc<Target>>) {
        let changes = self.standing.changes();
        let live = self.live.load();
        let next = live.next(all, &self.balance, &self.standing.turn, self.check.is_some(), changes);
        self.live.store(Arc::new(next));
    }

    /// The live cell of an address, and whether it is new.
    fn cell(&self, address: &str) -> (Arc<Cell>, bool) {
        let mut fresh = false;
        let cell = self.shelves.cells.keep((self.name.clone(), address.into()), || {
            fresh = true;
            let (observer, pool, target) = (Arc::clone(&self.observer), self.name.clone(), address.to_owned());
            Cell::new(Instant::now(), move || observer.target_gone(pool.as_str(), &target))
        });
        (cell, fresh)
    }
}
