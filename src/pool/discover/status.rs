//! What a pool tells of the sources of its targets.

use std::time::Instant;

use serde::Serialize;

use super::lookup::{Lookup, Refused};
use crate::pool::Pool;
use crate::pool::endpoint::Endpoint;

/// One source of targets.
#[derive(Debug, Clone, Serialize)]
pub struct SourceStatus {
    pub source: String,
    /// `up` where its last answer was good, `down` where it was not, `unknown` before the first one.
    pub state: &'static str,
    /// How many addresses of it are in use.
    pub found: usize,
    /// Addresses that it names and that are not used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// Why its last answer was not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it last gave a good answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_seconds_ago: Option<u64>,
}

impl SourceStatus {
    fn of(label: &str, lookup: &Lookup, now: Instant) -> Self {
        let known = lookup.state();
        let state = match (&known.reason, lookup.is_tried()) {
            (_, false) => "unknown",
            (None, true) => "up",
            (Some(_), true) => "down",
        };
        Self {
            source: label.to_owned(),
            state,
            found: known.found,
            refused: known.refused,
            reason: known.reason,
            confirmed_seconds_ago: known.good.map(|good| now.saturating_duration_since(good).as_secs()),
        }
    }
}

impl Pool {
    /// Where its targets come from, beside the document.
    pub(in crate::pool) fn sources(&self, now: Instant) -> Vec<SourceStatus> {
        let asked = self.endpoints.iter().filter_map(Endpoint::asks);
        let asked = asked.map(|(_, label, lookup)| SourceStatus::of(label, lookup, now));
        let file = self.terms.file.iter().map(|file| {
            let refused: Vec<_> = self.endpoints.iter().filter_map(|one| one.refused(&self.terms)).collect();
            let fixed = self.endpoints.iter().filter(|one| one.asks().is_none()).count();
            let source = format!("file:{}", file.display());
            let found = fixed - refused.len();
            SourceStatus { source, state: "up", found, refused, reason: None, confirmed_seconds_ago: None }
        });
        file.chain(asked).collect()
    }
}
