//! What served before, and the order to bring it back.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::page::{Answer, page, wrong};
use crate::gateway::reload::Reloader;
use crate::gateway::rollback::Wish;

pub(super) fn history(reloader: &Reloader) -> Answer {
    let serves = reloader.live.load().generation;
    page(StatusCode::OK, &reloader.history.describe(serves))
}

/// `to=7`, or nothing for the generation before; with `files=now` whatever the files say that it names.
pub(super) async fn roll_back(reloader: &Arc<Reloader>, query: &str) -> Answer {
    let mut wish = Wish { to: None, files_as_they_are: false };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').map(|(key, value)| (key, value, value.parse())) {
            Some(("to", _, Ok(number))) => wish.to = Some(number),
            Some(("files", "now", _)) => wish.files_as_they_are = true,
            _ => return wrong(StatusCode::BAD_REQUEST, "to=GENERATION and files=now, or nothing"),
        }
    }
    let outcome = reloader.roll_back(wish).await;
    let status = if outcome.applied() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    page(status, &json!(outcome))
}
