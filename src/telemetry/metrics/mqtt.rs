//! What is counted of a broker, of who listens, and of messages that go on to a pool.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use super::family::Lease;
use super::list::Families;

/// One broker.
pub struct BrokerMetrics {
    up: IntGauge,
    went_up: IntCounter,
    went_down: IntCounter,
    acknowledged: IntCounter,
    failed: IntCounter,
    _lease: Lease,
}

impl BrokerMetrics {
    pub(super) fn new(families: &Families, lease: Lease, store: &str) -> Self {
        let switches = |to| lease.child(&families.store_switches, &[store, to]);
        let published = |result| lease.child(&families.mqtt_published, &[store, result]);
        Self {
            up: lease.child(&families.store_up, &[store]),
            went_up: switches("up"),
            went_down: switches("down"),
            acknowledged: published("acknowledged"),
            failed: published("failed"),
            _lease: lease,
        }
    }

    /// It has changed from one to the other.
    pub fn up(&self, up: bool) {
        self.up.set(up.into());
        if up { self.went_up.inc() } else { self.went_down.inc() }
    }

    /// A message of a request was published, or not.
    pub fn published(&self, well: bool) {
        if well { self.acknowledged.inc() } else { self.failed.inc() }
    }
}

/// Those who listen through one route.
pub struct StreamMetrics {
    open: IntGauge,
    sent: IntCounter,
    missed: IntCounter,
    _lease: Lease,
}

impl StreamMetrics {
    pub(super) fn new(families: &Families, lease: Lease, route: &str) -> Arc<Self> {
        let events = |result| lease.child(&families.stream_events, &[route, result]);
        Arc::new(Self {
            open: lease.child(&families.streams, &[route]),
            sent: events("sent"),
            missed: events("missed"),
            _lease: lease,
        })
    }

    /// One more listens, until the answer is dropped.
    pub fn begin(self: &Arc<Self>) -> OpenStream {
        self.open.inc();
        OpenStream(Arc::clone(self))
    }
}

/// Somebody who listens.
pub struct OpenStream(Arc<StreamMetrics>);

impl OpenStream {
    pub fn sent(&self, events: u64) {
        self.0.sent.inc_by(events);
    }

    pub fn missed(&self, events: u64) {
        self.0.missed.inc_by(events);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// What became of messages that go on to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// On disk, and acknowledged.
    Received,
    /// It was there already: the broker had not heard of it.
    Again,
    /// The pool has it.
    Delivered,
    /// The pool did not take it; it will be sent again.
    Failed,
    /// The pool will never take it, and it was set aside.
    Dead,
    /// Too long to be kept.
    TooLong,
}

impl Fate {
    const WORDS: [&str; 6] = ["received", "again", "delivered", "failed", "dead", "too_long"];
}

/// Messages that go on to a pool.
pub struct ForwardMetrics {
    fates: [IntCounter; Fate::WORDS.len()],
    messages: IntGauge,
    bytes: IntGauge,
    oldest: IntGauge,
    full: IntGauge,
    up: IntGauge,
    _lease: Lease,
}

impl ForwardMetrics {
    pub(super) fn new(families: &Families, lease: Lease, store: &str, forward: &str) -> Self {
        Self {
            fates: Fate::WORDS.map(|word| lease.child(&families.mqtt_forwarded, &[store, forward, word])),
            messages: lease.child(&families.mqtt_queue_messages, &[store, forward]),
            bytes: lease.child(&families.mqtt_queue_bytes, &[store, forward]),
            oldest: lease.child(&families.mqtt_queue_oldest, &[store, forward]),
            full: lease.child(&families.mqtt_queue_full, &[store, forward]),
            up: lease.child(&families.mqtt_forward_up, &[store, forward]),
            _lease: lease,
        }
    }

    pub fn count(&self, fate: Fate, messages: u64) {
        if let Some(counter) = self.fates.get(fate as usize) {
            counter.inc_by(messages);
        }
    }

    /// What waits on disk, and since when.
    pub fn waits(&self, messages: u64, bytes: u64, oldest_seconds: u64) {
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.messages.set(number(messages));
        self.bytes.set(number(bytes));
        self.oldest.set(number(oldest_seconds));
    }

    pub fn full(&self, full: bool) {
        self.full.set(full.into());
    }

    pub fn up(&self, up: bool) {
        self.up.set(up.into());
    }

    pub fn is_up(&self) -> bool {
        self.up.get() > 0
    }
}
