//! What is counted of the copies of a route's requests.

use std::sync::{Arc, OnceLock};

use prometheus::IntCounter;

use super::family::Lease;
use super::list::Families;

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyResult {
    /// Its target answered, whatever.
    Answered,
    /// Its target did not answer.
    Failed,
    /// No target of the pool took it.
    NoTarget,
    /// The body is larger than may be copied: none was sent.
    TooLarge,
    /// Too many were under way: none was sent.
    Dropped,
    /// The request broke off before its end: none was sent.
    Incomplete,
}

impl CopyResult {
    const WORDS: [&str; 6] = ["answered", "failed", "no_target", "too_large", "dropped", "incomplete"];
}

/// The copies of one route.
pub struct CopyMetrics {
    families: Arc<Families>,
    lease: Lease,
    route: Box<str>,
    results: [OnceLock<IntCounter>; CopyResult::WORDS.len()],
}

impl CopyMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, route: &str) -> Self {
        let results = [const { OnceLock::new() }; CopyResult::WORDS.len()];
        Self { families: Arc::clone(families), lease, route: route.into(), results }
    }

    pub fn count(&self, result: CopyResult) {
        let at = result as usize;
        if let (Some(counter), Some(word)) = (self.results.get(at), CopyResult::WORDS.get(at)) {
            counter.get_or_init(|| self.lease.child(&self.families.copies, &[&self.route, word])).inc();
        }
    }
}
