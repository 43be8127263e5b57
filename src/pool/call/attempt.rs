//! One try of a call: what its target and the pool's metrics are told at its end, however that comes.

use std::sync::Arc;
use std::time::Instant;

use super::Tried;
use crate::fault::Fault;
use crate::pool::retry::End;
use crate::pool::{Picked, Pool};

/// A try that is under way. One that is dropped was broken off by whoever waited for it.
pub(super) struct Attempt {
    pub(super) pool: Arc<Pool>,
    pub(super) picked: Picked,
    began: Instant,
    sent: Option<Instant>,
    answered: Option<Instant>,
    status: Option<u16>,
    /// Its connection was used before.
    pub(super) reused: bool,
    /// Others use its connection at the same time.
    pub(super) shared: bool,
    /// The pool has counted it.
    counted: bool,
    told: bool,
}

impl Attempt {
    pub(super) fn begin(pool: Arc<Pool>, picked: Picked) -> Self {
        let (began, sent, answered, status) = (Instant::now(), None, None, None);
        let (reused, shared, counted, told) = (false, false, false, false);
        Self { pool, picked, began, sent, answered, status, reused, shared, counted, told }
    }

    pub(super) fn connected(&mut self, reused: bool, shared: bool) {
        (self.reused, self.shared) = (reused, shared);
        if let Some(counted) = self.pool.counted() {
            counted.connected(reused);
        }
    }

    /// The whole request has gone out.
    pub(super) fn sent(&mut self) {
        self.sent = Some(Instant::now());
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent.is_some()
    }

    /// The head of an answer is here.
    pub(super) fn answered(&mut self, status: u16) {
        let now = Instant::now();
        (self.answered, self.status) = (Some(now), Some(status));
        let since = self.sent.unwrap_or(self.began);
        let waited = self.picked.is_timed().then(|| now.saturating_duration_since(since));
        self.picked.answered(status, waited);
    }

    /// Counts it; the target was told, or is told by others.
    pub(super) fn count(&mut self) {
        if !std::mem::replace(&mut self.counted, true)
            && let Some(counted) = self.pool.counted()
        {
            counted.count(self.status, self.began.elapsed().as_secs_f64());
        }
        self.told = true;
    }

    /// It has ended: tells everyone.
    pub(super) fn end(&mut self, blamed: Option<Fault>) {
        if !self.told {
            self.picked.record(blamed, self.status.unwrap_or_default());
            self.picked.leave();
        }
        self.count();
    }

    /// What became of it.
    pub(super) fn tried(&self, fault: Option<Fault>) -> Tried {
        let end = match (fault, self.status) {
            (Some(fault), _) => End::Lost(fault),
            (None, status) => End::Answered { status: status.unwrap_or_default(), grpc: None },
        };
        let (target, ended) = (Arc::clone(self.picked.target()), Instant::now());
        Tried { target, end, began: self.began, answered: self.answered, ended, reused: self.reused }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(Some(Fault::ClientGone));
    }
}
