//! What is counted of the calls that a route is answered by.

use std::sync::Arc;

use super::family::Lease;
use super::list::Families;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatherResult {
    Ok,
    Failed,
    /// It could not be made of the request and of what other calls had brought.
    Unmade,
}

/// The calls of one route.
pub struct GatherMetrics {
    families: Arc<Families>,
    lease: Lease,
    route: Box<str>,
}

impl std::fmt::Debug for GatherMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GatherMetrics").field(&self.route).finish()
    }
}

impl GatherMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, route: &str) -> Self {
        Self { families: Arc::clone(families), lease, route: route.into() }
    }

    /// One has ended; `call` is a name of the document.
    pub fn count(&self, call: &str, result: GatherResult) {
        let word = match result {
            GatherResult::Ok => "ok",
            GatherResult::Failed => "failed",
            GatherResult::Unmade => "unmade",
        };
        self.lease.child(&self.families.gather_calls, &[&self.route, call, word]).inc();
    }
}
