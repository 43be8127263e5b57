//! What is counted of the spans of requests.

use prometheus::IntCounter;

use super::list::Families;

/// Spans by what became of them.
pub struct TraceMetrics {
    exported: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

impl TraceMetrics {
    pub(super) fn new(families: &Families) -> Self {
        let result = |result| families.trace_spans.fixed(&[result]);
        Self { exported: result("exported"), dropped: result("dropped"), failed: result("failed") }
    }

    /// So many found no room.
    pub fn dropped(&self, number: usize) {
        self.dropped.inc_by(number as u64);
    }

    /// The receiver has taken so many, and so many are lost.
    pub fn settled(&self, taken: usize, lost: usize) {
        self.exported.inc_by(taken as u64);
        self.failed.inc_by(lost as u64);
    }
}
