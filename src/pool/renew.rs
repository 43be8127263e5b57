//! The live set of a pool, made anew when its addresses or the health of its targets change.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::Pool;
use super::endpoint::Found;
use super::live::Terms;
use super::target::{Cell, Target};

impl Pool {
    /// Makes the live set anew from the addresses known now, and says what that changes.
    pub(super) fn renew(&self) {
        self.remake();
        self.tell_panic();
    }

    /// Makes the live set anew from the addresses known now.
    pub(super) fn remake(&self) {
        let _alone = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.live.load_full();
        let mut all: Vec<Arc<Target>> = Vec::new();
        let mut fresh = Vec::new();
        let before: HashMap<&str, &Arc<Target>> = old.all().iter().map(|target| (target.name(), target)).collect();
        let mut seen = HashSet::new();
        let is_same =
            |target: &Target, found: &Found| (target.weight(), target.priority()) == (found.weight, found.priority);
        let now = Instant::now();
        for mut found in self.endpoints.iter().flat_map(|endpoint| endpoint.found(&self.terms)) {
            if let Some((weight, _)) = self.standing.by_hand.of(&found.name, now) {
                found.weight = weight;
            }
            // Two sources may name one address.
            if !seen.insert(found.name.clone()) {
                continue;
            }
            if let Some(same) = before.get(&*found.name).filter(|target| is_same(target, &found)) {
                all.push(Arc::clone(same));
                continue;
            }
            let (cell, is_fresh) = self.cell(&found.name);
            if is_fresh {
                fresh.push(Arc::clone(&cell));
            }
            let rested = before.get(&*found.name).is_some_and(|old| old.weight() == 0) && found.weight > 0;
            let target = Arc::new(Target::new(found, cell, &self.settings, &self.rules));
            if rested {
                target.begin();
            }
            all.push(target);
        }
        // Who comes to a pool that serves has to prove itself first; who finds nobody serves at once.
        if !all.iter().any(|target| target.weight() > 0 && target.cell().serves()) {
            for cell in &fresh {
                cell.found();
            }
        }
        self.begin_slowly(&all, &fresh);
        let same = all.len() == old.all().len() && all.iter().zip(old.all()).all(|(new, old)| Arc::ptr_eq(new, old));
        if !same {
            self.publish(all);
            self.renewed.send_replace(());
        }
    }

    /// Who is not asked first, and comes to others that serve, has its whole weight only after a while.
    fn begin_slowly(&self, all: &[Arc<Target>], fresh: &[Arc<Cell>]) {
        let is_fresh = |target: &&Arc<Target>| fresh.iter().any(|cell| Arc::ptr_eq(cell, target.cell()));
        if self.check.is_none() && self.rules.slow_start.is_some() && fresh.len() < all.len() {
            all.iter().filter(is_fresh).for_each(|target| target.begin());
        }
    }

    /// Makes the live set anew if the health of a target has changed since.
    pub(super) fn settle(&self) {
        if self.live.load().changes() != self.standing.changes() {
            let alone = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
            self.publish(self.live.load().all().to_vec());
            drop(alone);
            self.tell_panic();
        }
    }

    fn publish(&self, all: Vec<Arc<Target>>) {
        let changes = self.standing.changes();
        if let Some(rule) = &self.rules.eject {
            rule.among(&all);
        }
        let terms = Terms {
            balance: &self.balance,
            turn: &self.standing.turn,
            watched: self.check.is_some(),
            panic_below: self.panic_below,
            slow_start: self.rules.slow_start.is_some(),
        };
        let next = self.live.load().next(all, &terms, changes);
        self.live.store(Arc::new(next));
        self.standing.line.look();
    }

    /// Says that all targets are used because too few are well, or that this is over.
    pub(super) fn tell_panic(&self) {
        let Some(below) = self.panic_below else { return };
        let live = self.live.load();
        let (well, of, panics) = (live.well(), live.known(), live.panics());
        self.observer.panics(self.name.as_str(), Some(panics));
        let name = &self.name;
        match (self.standing.panics.swap(panics, Relaxed), panics) {
            (false, true) => {
                log::warn!("pool {name}: only {well} of {of} targets are well, which is below {below}: all are used");
            }
            (true, false) => log::info!("pool {name}: {well} of {of} targets are well: no longer are all used"),
            _ => {}
        }
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
