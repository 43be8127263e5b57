//! How the limits are used.

use http::StatusCode;
use serde_json::{Map, json};

use super::page::{Answer, page};
use crate::canonical;
use crate::snapshot::Live;

/// Each limit, and with `key=PART` (once for each part of a key) how much that key has used.
pub(super) async fn limits(live: &Live, query: &str) -> Answer {
    let said = query.split('&').filter_map(|pair| canonical::unescape(pair.strip_prefix("key=")?));
    let (key, snapshot) = (said.collect::<Vec<_>>(), live.load_full());
    let mut limits = Map::new();
    for limit in snapshot.limits() {
        limits.insert(limit.name().to_owned(), json!(limit.seen(&key).await));
    }
    page(StatusCode::OK, &limits.into())
}
