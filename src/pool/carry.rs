//! What a pool hands over to a successor: how its targets are, what its sources have said, what was said by hand.
//!
//! The retry budget begins anew: it forgets within a second anyway.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::discover::Lookup;
use super::endpoint::Endpoint;
use super::{Pool, Target};
use crate::state::parcel::Said;

impl Pool {
    /// For a successor, as of this moment.
    pub fn pack(&self, now: Instant) -> Value {
        let target = |target: &Arc<Target>| (target.name().to_owned(), target.cell().pack(now));
        let targets: Map<_, _> = self.live.load().all().iter().map(target).collect();
        let source = |(_, label, lookup): (_, &str, &Arc<Lookup>)| (label.to_owned(), lookup.pack(now));
        let sources: Map<_, _> = self.endpoints.iter().filter_map(Endpoint::asks).map(source).collect();
        json!({
            "targets": targets,
            "sources": sources,
            "breaker": self.standing.breaker.pack(now),
            "hand": self.standing.hand.pack(now),
            "weights": self.standing.by_hand.pack(now),
            "panics": self.standing.panics.load(Relaxed),
        })
    }

    /// Takes up what a predecessor had; the sentences tell what of it is left cold.
    pub fn unpack(&self, said: Said<'_>) -> Vec<String> {
        let mut cold = Vec::new();
        let name = &self.name;
        let mut known = |what: &str, known: Option<()>| {
            if known.is_none() {
                cold.push(format!("pool {name}: {what} cannot be read"));
            }
        };
        known("its breaker", said.get("breaker").and_then(|said| self.standing.breaker.unpack(said)));
        known("its hold", said.get("hand").and_then(|said| self.standing.hand.unpack(said)));
        known("its weights", said.get("weights").map_or(Some(()), |said| self.standing.by_hand.unpack(said)));
        if let Some(panics) = said.flag("panics") {
            self.standing.panics.store(panics, Relaxed);
        }
        for (_, label, lookup) in self.endpoints.iter().filter_map(Endpoint::asks) {
            let found = said.get("sources").and_then(|all| all.get(label));
            known(label, found.map_or(Some(()), |said| lookup.unpack(said)));
        }
        // The targets that were found are there now.
        self.remake();
        cold.extend(self.unpack_targets(said));
        self.standing.change();
        self.settle();
        self.show();
        cold
    }

    fn unpack_targets(&self, said: Said<'_>) -> Vec<String> {
        let (live, name) = (self.live.load_full(), &self.name);
        let Some(all) = said.get("targets").and_then(|targets| targets.value.as_object()) else {
            return vec![format!("pool {name}: its targets cannot be read")];
        };
        let mut cold = Vec::new();
        for (address, value) in all {
            let Some(target) = live.all().iter().find(|target| target.name() == address) else {
                cold.push(format!("pool {name}: target {address} is gone"));
                continue;
            };
            let unknown = target.cell().unpack(Said { value, ..said });
            cold.extend(unknown.iter().map(|what| format!("pool {name}: {what} of target {address} cannot be read")));
        }
        cold
    }
}

#[cfg(test)]
mod tests;
