//! The page that is opened first: how it goes, what serves, what went wrong.

use std::time::Instant;

use http::StatusCode;
use serde_json::json;

use super::history::{History, totals};
use super::page;
use crate::gateway::admin::page::Answer;
use crate::gateway::admin::{connections, hand, health, why};
use crate::gateway::reload::Reloader;
use crate::snapshot::Live;

/// Refusals and certificates that the overview shows.
const SOME: usize = 8;
const FEW: usize = 4;

pub(in crate::gateway::admin) fn overview(live: &Live, reloader: &Reloader, history: &History) -> Answer {
    let metrics = &live.tools.metrics;
    let mut certs = connections::certs(live);
    if let Some(certs) = certs.as_array_mut() {
        certs.truncate(FEW);
    }
    let (pools, stores) = (live.load().pool_states(), live.load().store_states());
    page(
        StatusCode::OK,
        "overview.html",
        &json!({
            "refreshes": true,
            "state": health::state(live, &pools, &stores, &live.load().broker_states()),
            "status": reloader.status(),
            "by_hand": hand::held(live),
            "figures": history.figures(Instant::now(), totals(live)),
            "in_flight": metrics.sum("yumen_http_requests_in_flight"),
            "websockets": metrics.sum("yumen_websockets"),
            "pools": pools,
            "stores": stores,
            "certs": certs,
            "requests": why::last(live, SOME),
        }),
    )
}
