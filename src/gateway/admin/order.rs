//! The orders to reload and to hand over.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::page::{Answer, page, wrong};
use crate::canonical;
use crate::gateway::reload::{Outcome, Reloader};

/// Orders a reload without waiting for what becomes of it.
pub(super) fn reload(reloader: &Arc<Reloader>) -> Answer {
    let ordered = reloader.clone();
    reloader.keeper().once(async move { drop(ordered.reload("admin").await) });
    page(StatusCode::ACCEPTED, &json!({ "result": "ordered" }))
}

pub(super) async fn reload_and_wait(reloader: &Arc<Reloader>) -> Answer {
    told(&reloader.reload("admin").await)
}

/// Hands over to another process, of the program in `program` if that is said: for who may run programs as this user.
pub(super) async fn upgrade(reloader: &Arc<Reloader>, by_user: bool, query: &str) -> Answer {
    if !by_user {
        return wrong(StatusCode::FORBIDDEN, "only through the socket of admin.control");
    }
    let program = match query.strip_prefix("program=").map(canonical::unescape) {
        Some(Some(file)) if file.starts_with('/') => Some(file.into()),
        None if query.is_empty() => None,
        _ => return wrong(StatusCode::BAD_REQUEST, "program=/path/to/program, or nothing"),
    };
    told(&reloader.upgrade("admin", program).await)
}

fn told(outcome: &Outcome) -> Answer {
    let status = if outcome.applied() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    page(status, &json!(outcome))
}
