//! One SUBSCRIBE and the listeners for whom it is sent: they alone get what the broker had kept.
//!
//! A broker says of a message that it was kept only to a new subscription (MQTT 3.1.1, section 3.3.1.3), and says it anew to
//! each SUBSCRIBE (section 3.8.4), though not to which. What comes for overlapping subscriptions at the same time is the
//! same: a round takes one message of each topic, and none that is older than what its listeners have heard since.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::hub::Item;

/// Messages that a round keeps, at most; of more it is told how many there were.
const MOST: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// Topics that it knows again.
const MOST_TOPICS: usize = 16 << 10;
/// Nobody waits longer for what a broker had kept.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Asked,
    /// The broker has agreed: from this number of the ring on there is news.
    Granted(u64),
    /// And has sent what it had kept.
    Ready(u64),
    Refused,
    /// The connection has ended before.
    Lost,
}

/// One SUBSCRIBE for those who have just come.
#[derive(Debug)]
pub(super) struct Round {
    phase: watch::Sender<Phase>,
    kept: Mutex<Kept>,
    /// Something has come since it was looked last.
    fresh: AtomicBool,
    begun: Instant,
    /// How often the broker had been away when it was sent.
    pub(super) era: AtomicU32,
}

#[derive(Debug, Default)]
struct Kept {
    items: Vec<Arc<Item>>,
    bytes: usize,
    missed: u64,
    topics: HashSet<Box<str>>,
}

impl Round {
    pub(super) fn new() -> Arc<Self> {
        let (phase, begun) = (watch::Sender::new(Phase::Asked), Instant::now());
        Arc::new(Self { phase, kept: Mutex::default(), fresh: AtomicBool::new(false), begun, era: AtomicU32::new(0) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether it still waits for the broker, so that others can wait with it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase(), Phase::Asked | Phase::Granted(_))
    }

    pub(super) fn becomes(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Where news begins, once all is there that the broker had kept.
    pub(super) async fn ended(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        let ended = phase.wait_for(|phase| !matches!(phase, Phase::Asked | Phase::Granted(_))).await;
        ended.map_or(Phase::Lost, |phase| *phase)
    }

    /// The broker has answered all that was asked before: that was it, unless something came meanwhile.
    pub(super) fn settles(&self) -> bool {
        let quiet = !self.fresh.swap(false, Relaxed) || self.begun.elapsed() >= PATIENCE;
        if quiet && let Phase::Granted(next) = self.phase() {
            self.becomes(Phase::Ready(next));
        }
        quiet
    }

    /// Takes a message that the broker had kept; whether its topic is new here.
    pub(super) fn take(&self, item: &Arc<Item>) -> bool {
        self.fresh.store(true, Relaxed);
        let mut kept = self.kept();
        if kept.topics.len() >= MOST_TOPICS || !kept.topics.insert(item.topic.clone()) {
            return false;
        }
        let bytes = item.topic.len() + item.payload.len();
        if kept.items.len() < MOST && kept.bytes + bytes <= MOST_BYTES.max(bytes) {
            kept.bytes += bytes;
            kept.items.push(Arc::clone(item));
        } else {
            kept.missed += 1;
        }
        true
    }

    /// A message has come that was not kept: what the broker had kept of its topic is older.
    pub(super) fn heard(&self, topic: &str) {
        if matches!(self.phase(), Phase::Granted(_) | Phase::Ready(_)) {
            let mut kept = self.kept();
            if kept.topics.len() < MOST_TOPICS && !kept.topics.contains(topic) {
                kept.topics.insert(topic.into());
            }
        }
    }

    pub(super) fn knows(&self, topic: &str) -> bool {
        self.kept().topics.contains(topic)
    }

    /// How much there is: messages, and how many more there were.
    pub(super) fn count(&self) -> (usize, u64) {
        let kept = self.kept();
        (kept.items.len(), kept.missed)
    }

    /// What there is behind the first so many.
    pub(super) fn after(&self, seen: usize) -> Vec<Arc<Item>> {
        self.kept().items.iter().skip(seen).cloned().collect()
    }
}
