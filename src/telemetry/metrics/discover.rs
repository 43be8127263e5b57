//! What is counted of a source of targets.

use prometheus::IntGauge;

use super::family::Lease;
use super::list::Families;

/// One source of one pool.
pub struct DiscoverMetrics {
    up: IntGauge,
    refused: IntGauge,
    _lease: Lease,
}

impl DiscoverMetrics {
    pub(super) fn new(families: &Families, lease: Lease, pool: &str, source: &str) -> Self {
        Self {
            up: lease.child(&families.discover_up, &[pool, source]),
            refused: lease.child(&families.discover_refused, &[pool, source]),
            _lease: lease,
        }
    }

    /// Whether its last answer was good, and how many addresses of it are not used.
    pub fn set(&self, up: bool, refused: usize) {
        self.up.set(up.into());
        self.refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
    }
}
