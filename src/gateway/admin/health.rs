//! Whether it lives, whether it is ready, and how its pools and stores are.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::page::{Answer, page, text};
use crate::client::{mqtt, store};
use crate::pool::{self, PoolState};
use crate::snapshot::Live;

pub(super) fn ready(live: &Live) -> Answer {
    if live.is_draining() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    text(StatusCode::OK, "ready\n")
}

/// The state of each pool, and of the whole: `up`, `degraded` (some target or store is down) or `down` (some pool is).
pub(super) fn health(live: &Live) -> Answer {
    let pools = live.load().pool_states();
    let stores = live.load().store_states();
    let brokers = live.load().broker_states();
    let state = state(live, &pools, &stores, &brokers);
    let services: Map<String, Value> = pools.iter().map(|pool| (pool.name.to_string(), json!(pool))).collect();
    let mut whole = json!({ "status": state, "pools": services });
    if let (Some(whole), false) = (whole.as_object_mut(), stores.is_empty() && brokers.is_empty()) {
        let brokers = brokers.iter().map(|broker| (broker.name.to_string(), json!(broker)));
        let stores = stores.iter().map(|store| (store.name.to_string(), json!(store)));
        let stores: Map<String, Value> = stores.chain(brokers).collect();
        whole.insert("stores".to_owned(), stores.into());
    }
    page(StatusCode::OK, &whole)
}

/// The word for the whole.
pub(super) fn state(
    live: &Live,
    pools: &[pool::Status],
    stores: &[store::Status],
    brokers: &[mqtt::Status],
) -> &'static str {
    let any = |state: PoolState| pools.iter().any(|pool| pool.state == state);
    match (any(PoolState::Down), any(PoolState::Degraded)) {
        _ if live.is_draining() => "draining",
        (true, _) => "down",
        (_, true) => "degraded",
        _ if stores.iter().any(|store| store.state == "down") => "degraded",
        _ if brokers.iter().any(|broker| broker.state == "down") => "degraded",
        _ => "up",
    }
}
