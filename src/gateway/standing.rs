//! Whether what serves is what the files say, and what is remembered of it.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{MutexGuard, PoisonError};

use super::held_back::{self, HeldBack};
use super::reload::{Outcome, Reloader, Verdict};
use crate::config::diff::Diff;

impl Reloader {
    /// What serves is known later, too.
    pub(super) fn remember(&self, by: &str, outcome: &Outcome) {
        if outcome.result == Verdict::Applied {
            self.history.add(&self.live.load_full(), by, &outcome.changes);
        }
    }

    /// The process begins; where the last good document serves in place of a `wrong` one, everyone is told.
    pub(super) fn begin(&self, wrong: Option<String>, held_back: &[PathBuf]) {
        held_back::update(&mut self.held_back(), held_back);
        self.history.add(&self.live.load_full(), "start", &Diff::default());
        self.last_good.store(wrong.is_some(), Relaxed);
        if let Some(report) = wrong {
            let outcome = self.refused(78, report);
            self.live.tools.metrics.refused();
            self.tell("start with the last good configuration: the document on disk was", &outcome);
        }
        self.show_whether_on_disk();
    }

    pub(super) fn held_back(&self) -> MutexGuard<'_, HeldBack> {
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn show_whether_on_disk(&self) {
        let metrics = &self.live.tools.metrics;
        metrics.not_on_disk("rollback", self.history.held().is_some().into());
        metrics.not_on_disk("boot", self.last_good.load(Relaxed).into());
        metrics.not_on_disk("include", self.held_back().len());
    }
}
