//! The last refusals and failures, or those with one id.

use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};

use super::page::{Answer, page};
use super::said::Said;
use crate::snapshot::Live;
use crate::telemetry::recent::Reach;
use crate::units::Duration;

/// How many are told of without a word, and with one at most.
const SOME: usize = 50;
const MANY: usize = 1000;

/// `id=REQUEST-ID`, or `last=N`; the newest first.
pub(super) fn why(live: &Live, query: &str) -> Answer {
    let (status, told) = told(live, query);
    page(status, &told)
}

/// The last few of them.
pub(super) fn last(live: &Live, few: usize) -> Vec<Value> {
    live.recent.last(few).into_iter().map(aged).collect()
}

/// What is told of them, or what is wrong with the question.
pub(super) fn told(live: &Live, query: &str) -> (StatusCode, Value) {
    let wrong = |status, why: &str| (status, json!({ "error": why }));
    let said = Said(query);
    let (reach, id) = (live.recent.reach(), said.get("id"));
    let requests = if let Some(id) = &id {
        live.recent.of(id)
    } else {
        let Ok(last) = said.get("last").map_or(Ok(SOME), |number| number.parse()) else {
            return wrong(StatusCode::BAD_REQUEST, "`last` is a number");
        };
        live.recent.last(last.min(MANY))
    };
    if let (Some(id), true) = (&id, requests.is_empty()) {
        return wrong(StatusCode::NOT_FOUND, &unknown(id, reach, live));
    }
    let requests: Vec<Value> = requests.into_iter().map(aged).collect();
    let told = json!({ "kept": reach.kept, "complete_for_seconds": complete(reach, live), "requests": requests });
    (StatusCode::OK, told)
}

/// The page of a request with its age.
fn aged((time, mut page): (SystemTime, Value)) -> Value {
    if let Some(page) = page.as_object_mut() {
        page.insert("seconds_ago".to_owned(), time.elapsed().unwrap_or_default().as_secs().into());
    }
    page
}

/// For how long back nothing is missing.
fn complete(reach: Reach, live: &Live) -> u64 {
    let since = reach.since.map(|since| since.elapsed().unwrap_or_default());
    since.unwrap_or_else(|| live.started.elapsed()).as_secs()
}

fn unknown(id: &str, reach: Reach, live: &Live) -> String {
    let age = Duration::from_secs(complete(reach, live));
    let back = if reach.since.is_some() { "the last" } else { "its whole life," };
    format!(
        "`{id}` is none of the {} requests that this gateway refused or failed in {back} {age}: it was answered well, \
         came earlier, or went elsewhere",
        reach.kept
    )
}
