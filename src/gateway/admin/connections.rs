//! Who is connected, on both sides, and which certificates are shown to them.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde_json::{Value, json};

use super::page::{Answer, page};
use crate::gateway::reload::Reloader;
use crate::snapshot::Live;
use crate::telemetry::clock::Moment;

/// Per listener, what is under way in all, and per target.
pub(super) fn connections(live: &Live, reloader: &Reloader) -> Answer {
    let metrics = &live.tools.metrics;
    let kept = live.kept_upstream();
    let pools = live.load().pool_states();
    let upstream = pools.iter().flat_map(|pool| pool.targets.iter().map(move |target| (pool, target)));
    let upstream = upstream.map(|(pool, target)| {
        let address = target.address.rsplit_once('/').map_or(&*target.address, |(_, address)| address);
        json!({
            "pool": pool.name, "target": target.address, "in_flight": target.in_flight,
            "kept": kept.get(address).copied().unwrap_or_default(),
        })
    });
    page(
        StatusCode::OK,
        &json!({
            "listeners": reloader.crowds(),
            "requests": metrics.sum("yumen_http_requests_in_flight"),
            "websockets": metrics.sum("yumen_websockets"),
            "upstream": upstream.collect::<Value>(),
        }),
    )
}

/// Each certificate of each listener, the one that ends first before the others.
pub(super) fn certs(live: &Live) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let snapshot = live.load();
    let mut all: Vec<_> =
        snapshot.listeners.iter().flat_map(|one| one.expiries().iter().map(move |end| (one, end))).collect();
    all.sort_by_key(|(_, end)| end.ends);
    let row = |(listener, end): (&std::sync::Arc<crate::listener::Listener>, &crate::listener::Expiry)| {
        let seconds = u64::try_from(end.ends).unwrap_or_default();
        let ends = Moment::of(UNIX_EPOCH + std::time::Duration::from_secs(seconds)).rfc3339();
        json!({
            "listener": listener.name, "names": end.names, "file": end.file,
            "ends": String::from_utf8_lossy(&ends), "days_left": (end.ends - now).div_euclid(86_400),
        })
    };
    all.into_iter().map(row).collect()
}
