//! What compression makes of a route's answers.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntCounter;

use super::family::Lease;
use super::list::Families;

/// The compressed answers of one route.
pub struct CompressMetrics {
    families: Arc<Families>,
    lease: Lease,
    route: Box<str>,
    /// By coding, of which there are few.
    known: Mutex<Vec<(&'static str, [IntCounter; 2])>>,
}

impl CompressMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, route: &str) -> Self {
        Self { families: Arc::clone(families), lease, route: route.into(), known: Mutex::default() }
    }

    /// So many bytes became so many.
    pub fn coded(&self, coding: &'static str, before: usize, after: usize) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(name, _)| *name == coding).unwrap_or_else(|| {
            let families = [&self.families.compress_in, &self.families.compress_out];
            known.push((coding, families.map(|family| self.lease.child(family, &[&self.route, coding]))));
            known.len() - 1
        });
        if let Some((_, [taken, given])) = known.get(at) {
            taken.inc_by(before as u64);
            given.inc_by(after as u64);
        }
    }
}

impl std::fmt::Debug for CompressMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CompressMetrics")
    }
}
