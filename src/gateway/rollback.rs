//! Back to what served before, by the same way as any other document: checked, compiled, swapped, or nothing has changed.

use std::sync::Arc;

use super::boot;
use super::history::Held;
use super::reload::{Attempt, Outcome, Reloader};
use crate::config::Loaded;
use crate::config::report;
use crate::snapshot;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// The generation; the one before where none is named.
    pub to: Option<u64>,
    /// Take the files that the document names as they are, also those that decide what it means.
    pub files_as_they_are: bool,
}

impl Reloader {
    /// Brings a generation back. It serves until the files of the document change, or somebody orders a reload.
    pub async fn roll_back(self: &Arc<Self>, wish: Wish) -> Outcome {
        let _turn = self.turn.lock().await;
        if *self.over.borrow() {
            return self.refused(75, "a successor serves in place of this process; ask that one\n".to_owned());
        }
        let (this, before) = (self.clone(), self.history.held());
        let attempt = tokio::task::spawn_blocking(move || this.go_back(wish).map_err(|why| format!("{why}\n"))).await;
        let attempt = attempt.unwrap_or_else(|panic| Err(format!("rolling back failed: {panic}\n")));
        let outcome = self.settle(attempt.unwrap_or_else(|why| Attempt::Done(self.refused(78, why)))).await;
        if !outcome.applied() {
            // What serves and what lies on disk are as they were: no reload has failed.
            self.history.hold(before);
            log::warn!("rollback refused, generation {} serves on:\n{}", outcome.generation, outcome.report.trim_end());
            return outcome;
        }
        self.count(&outcome);
        self.remember("rollback", &outcome);
        self.tell("rollback", &outcome);
        outcome
    }

    /// The error is a sentence.
    fn go_back(&self, wish: Wish) -> Result<Attempt, String> {
        let now = self.live.load_full();
        let entry = self.history.find(wish.to, now.generation)?;
        if let Some(file) = entry.differs().filter(|_| !wish.files_as_they_are) {
            let file = file.display();
            let number = entry.generation;
            return Err(format!(
                "generation {number} was read with another {file} than there is now; put that back, or say --as-they-are"
            ));
        }
        let mut loaded = Loaded::again(&self.history.texts(&entry)?);
        let compiled = snapshot::compile(&mut loaded, &self.live.tools, Some(&now));
        let report = report::human(&compiled.problems, &loaded.places);
        let disk = self.source.load();
        let Some(mut next) = compiled.snapshot else { return Ok(Attempt::Done(self.refused(78, report))) };
        boot::follow(&mut next, &disk);
        let held = Held { to: entry.generation, instead_of: disk.hash.clone() };
        // A successor looks there for what it is to serve.
        self.history.hold((disk.texts != loaded.texts).then_some(held));
        Ok(self.take_up(&now, next, &loaded, report))
    }
}
