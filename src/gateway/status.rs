//! How the process is: what serves, what lies on disk, who is connected, what became of the last order.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use super::held_back;
use super::listen::{Crowded, Listeners};
use super::reload::Reloader;
use crate::config::{Seals, Texts};
use crate::snapshot::Snapshot;

/// The stores that are shared, and the brokers with what waits for pools.
fn stores(snapshot: &Snapshot) -> Map<String, Value> {
    let redis = snapshot.store_states().into_iter().map(|store| (store.name.to_string(), json!(store)));
    let brokers = snapshot.broker_states().into_iter().map(|broker| (broker.name.to_string(), json!(broker)));
    let mut stores: Map<String, Value> = redis.chain(brokers).collect();
    for courier in &snapshot.couriers {
        if let Some(store) = stores.get_mut(courier.store()).and_then(Value::as_object_mut) {
            store.insert("forward".to_owned(), courier.status());
        }
    }
    stores
}

impl Reloader {
    /// Names and bound addresses, the admin listener last.
    pub fn bound(&self) -> Vec<(String, String)> {
        let admin = self.admin.get().map(Listeners::places).unwrap_or_default();
        let all = self.listeners.places().into_iter().chain(admin);
        all.map(|place| (place.listener.to_string(), place.bound.to_string())).collect()
    }

    /// Who is connected to each listener.
    pub fn crowds(&self) -> Vec<Crowded> {
        self.listeners.crowds()
    }

    /// Connections of clients that are open, those of the admin listener apart.
    pub fn connections(&self) -> usize {
        self.listeners.connections()
    }

    /// Connections at the admin listener: somebody may wait for an answer.
    pub fn visitors(&self) -> usize {
        self.admin.get().map_or(0, Listeners::connections)
    }

    /// What runs, what lies on disk, and what became of the last order.
    pub fn status(&self) -> Value {
        let snapshot = self.live.load_full();
        let on_disk = Seals::of(&snapshot.files, &Texts::default()).hash();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut listeners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, address) in self.bound() {
            listeners.entry(name).or_default().push(address);
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.live.started.elapsed().as_secs(),
            "draining": self.live.is_draining(),
            "draining_generations": self.succession.draining(),
            "generation": snapshot.generation,
            "hash": snapshot.hash,
            "hash_on_disk": on_disk,
            "up_to_date": on_disk == snapshot.hash,
            "rolled_back_to": self.history.held().map(|held| held.to),
            "held_back": held_back::describe(&self.held_back()),
            "last_good": self.last_good.load(Relaxed),
            "listeners": listeners,
            "stores": stores(&snapshot),
            "connections": self.connections(),
            "certificates": snapshot.certificates(),
            "last_reload": last.map(|(when, outcome)| json!({
                "seconds_ago": when.elapsed().map_or(0, |since| since.as_secs()),
                "result": outcome.result,
                "report": outcome.report,
            })),
        })
    }
}
