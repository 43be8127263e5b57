//! What is counted of the counts that lie on disk.

use prometheus::IntCounter;

use super::family::Lease;
use super::list::Families;

/// The counts of one quota on disk.
pub struct QuotaMetrics {
    ok: IntCounter,
    failed: IntCounter,
    _lease: Lease,
}

impl QuotaMetrics {
    pub(super) fn new(families: &Families, lease: Lease, limit: &str) -> Self {
        let child = |result| lease.child(&families.quota_writes, &[limit, result]);
        Self { ok: child("ok"), failed: child("failed"), _lease: lease }
    }

    pub fn written(&self, well: bool) {
        if well { self.ok.inc() } else { self.failed.inc() }
    }
}

impl std::fmt::Debug for QuotaMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QuotaMetrics")
    }
}
