//! What a pool counts with.

use std::sync::{Arc, OnceLock};

use prometheus::{Histogram, IntCounter};

use super::discover::DiscoverMetrics;
use super::family::Lease;
use super::handles::{NO_STATUS, Slots, code, known};
use super::list::Families;

/// One pool.
pub struct PoolMetrics {
    families: Arc<Families>,
    pool: Box<str>,
    lease: Lease,
    codes: Slots,
    duration: Histogram,
    reused: IntCounter,
    opened: IntCounter,
    over_budget: OnceLock<IntCounter>,
    fallbacks: OnceLock<IntCounter>,
}

impl PoolMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, pool: &str) -> Self {
        Self {
            codes: Slots::default(),
            duration: lease.child(&families.pool_duration, &[pool]),
            reused: lease.child(&families.pool_connects, &[pool, "true"]),
            opened: lease.child(&families.pool_connects, &[pool, "false"]),
            over_budget: OnceLock::new(),
            fallbacks: OnceLock::new(),
            families: Arc::clone(families),
            pool: pool.into(),
            lease,
        }
    }

    /// A source of its targets.
    pub fn discover(&self, source: &str) -> DiscoverMetrics {
        let lease = self.lease.other(format!("discover\0{}\0{source}", self.pool));
        DiscoverMetrics::new(&self.families, lease, &self.pool, source)
    }

    /// One try has ended: with the status of its answer, or with none.
    pub fn count(&self, status: Option<u16>, seconds: f64) {
        let status = status.map_or(NO_STATUS, known);
        self.codes
            .count(u32::from(status), || self.lease.child(&self.families.pool_requests, &[&self.pool, &code(status)]));
        self.duration.observe(seconds);
    }

    /// A connection was taken for a request.
    pub fn connected(&self, reused: bool) {
        if reused { self.reused.inc() } else { self.opened.inc() }
    }

    /// A further try has ended: what had failed before it, a word from a closed list, and whether it was answered well.
    pub fn retried(&self, cause: &'static str, well: bool) {
        let result = if well { "answered" } else { "failed" };
        self.lease.child(&self.families.pool_retries, &[&self.pool, cause, result]).inc();
    }

    /// A request found no target, and the pool's fallback takes it.
    pub fn fell_back(&self) {
        self.fallbacks.get_or_init(|| self.lease.child(&self.families.pool_fallbacks, &[&self.pool])).inc();
    }

    /// A target was found bad by its requests; both words come from closed lists.
    pub fn ejected(&self, cause: &'static str, result: &'static str) {
        self.lease.child(&self.families.ejections, &[&self.pool, cause, result]).inc();
    }

    /// A further try was not made for want of budget.
    pub fn over_budget(&self) {
        self.over_budget.get_or_init(|| self.lease.child(&self.families.pool_retry_budget, &[&self.pool])).inc();
    }
}
