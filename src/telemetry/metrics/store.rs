//! What is counted of a store.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::family::Lease;
use super::list::Families;

/// One store.
pub struct StoreMetrics {
    up: IntGauge,
    hosts: IntGauge,
    ok: IntCounter,
    error: IntCounter,
    timeout: IntCounter,
    skipped: IntCounter,
    duration: Histogram,
    went_up: IntCounter,
    went_down: IntCounter,
    _lease: Lease,
}

impl StoreMetrics {
    pub(super) fn new(families: &Families, lease: Lease, store: &str) -> Self {
        let commands = |result| lease.child(&families.store_commands, &[store, result]);
        let switches = |to| lease.child(&families.store_switches, &[store, to]);
        Self {
            up: lease.child(&families.store_up, &[store]),
            hosts: lease.child(&families.store_hosts, &[store]),
            ok: commands("ok"),
            error: commands("error"),
            timeout: commands("timeout"),
            skipped: commands("skipped"),
            duration: lease.child(&families.store_duration, &[store]),
            went_up: switches("up"),
            went_down: switches("down"),
            _lease: lease,
        }
    }

    /// It has changed from one to the other.
    pub fn up(&self, up: bool) {
        self.up.set(up.into());
        if up { self.went_up.inc() } else { self.went_down.inc() }
    }

    pub fn hosts(&self, hosts: u32) {
        self.hosts.set(hosts.into());
    }

    /// A request has waited that long.
    pub fn answered(&self, after: Duration) {
        self.duration.observe(after.as_secs_f64());
    }

    pub fn well(&self) {
        self.ok.inc();
    }

    pub fn failed(&self) {
        self.error.inc();
    }

    pub fn late(&self) {
        self.timeout.inc();
    }

    pub fn skipped(&self) {
        self.skipped.inc();
    }
}
