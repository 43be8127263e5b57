//! Reads, checks, compiles and swaps: one order at a time, one outcome, and everyone is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::admin::{self, Admin};
use super::keeper::Keeper;
use super::listen::Listeners;
use super::source::Source;
use super::watch::{Watch, content};
use crate::config::diff::{Candidate, Diff, Nonce};
use crate::config::{Loaded, Seals, Texts, report};
use crate::proxy::App;
use crate::snapshot::{self, Live, Snapshot};
use crate::telemetry::program;

/// Readings of a document that is being written again and again.
const MOST_READINGS: u32 = 5;

/// What became of one order to reload.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub result: Verdict,
    /// The generation that serves now.
    pub generation: u64,
    /// The hash of the document that serves now.
    pub hash: String,
    /// What `check` prints of the document on disk, or why it could not be applied.
    pub report: String,
    /// What it changes.
    pub changes: Diff,
}

/// Whether the document on disk serves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does, from now on.
    Applied,
    /// It already did.
    Unchanged,
    /// It does not: the generation before serves on.
    Refused,
}

impl Outcome {
    /// Whether the document on disk is the one that serves.
    pub fn applied(&self) -> bool {
        self.result != Verdict::Refused
    }
}

/// Who reloads: the document's source and everything that a new snapshot replaces.
pub struct Reloader {
    source: Source,
    live: Arc<Live>,
    listeners: Listeners<App>,
    admin: OnceLock<Listeners<Admin>>,
    keeper: Keeper,
    watch: Watch,
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Option<(SystemTime, Outcome)>>,
}

impl Reloader {
    /// Binds what the first snapshot listens on, and watches its files. The error names the address.
    pub fn start(
        source: Source,
        live: Arc<Live>,
        listeners: Listeners<App>,
        keeper: Keeper,
    ) -> Result<Arc<Self>, String> {
        let this = Arc::new(Self {
            source,
            live,
            listeners,
            admin: OnceLock::new(),
            keeper,
            watch: Watch::default(),
            turn: tokio::sync::Mutex::new(()),
            last: Mutex::default(),
        });
        let admin = admin::listeners(&this.live, &this);
        let first = this.live.load_full();
        this.listeners.apply(first.listeners.clone()).map_err(|why| why.to_string())?;
        admin::listen(&admin, &first.admin)?;
        let _ = this.admin.set(admin);
        this.watch.follow(first.files.clone(), content(&first.files));
        Ok(this)
    }

    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Names and bound addresses, the admin listener last.
    pub fn bound(&self) -> Vec<(String, String)> {
        let admin = self.admin.get().map(Listeners::places).unwrap_or_default();
        let all = self.listeners.places().into_iter().chain(admin);
        all.map(|place| (place.listener.to_string(), place.bound.to_string())).collect()
    }

    /// Connections of clients that are open, those of the admin listener apart.
    pub fn connections(&self) -> usize {
        self.listeners.connections()
    }

    /// Reads the document again and swaps it in if nothing is wrong with it; else nothing has changed.
    pub async fn reload(self: &Arc<Self>, why: &str) -> Outcome {
        let _turn = self.turn.lock().await;
        let this = self.clone();
        let attempt = tokio::task::spawn_blocking(move || this.attempt()).await;
        let outcome = attempt.unwrap_or_else(|panic| self.refused(format!("reading the document failed: {panic}")));
        match outcome.result {
            Verdict::Applied => {
                self.live.tools.metrics.applied(outcome.generation, &outcome.hash);
                let changes = told(&outcome.changes);
                log::info!("reload ({why}): generation {} serves, hash {}{changes}", outcome.generation, outcome.hash);
            }
            Verdict::Unchanged => {
                self.live.tools.metrics.unchanged();
                log::info!("reload ({why}): nothing has changed, generation {} serves on", outcome.generation);
            }
            Verdict::Refused => {
                self.live.tools.metrics.refused();
                let report = outcome.report.trim_end();
                log::error!("reload ({why}) refused, generation {} serves on:\n{report}", outcome.generation);
            }
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((SystemTime::now(), outcome.clone()));
        outcome
    }

    /// Reloads whenever the content of a file has changed, for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            self.watch.changed().await;
            self.reload("file").await;
        }
    }

    fn attempt(&self) -> Outcome {
        let now = self.live.load_full();
        let (next, loaded, report) = self.read(&now);
        let Some(next) = next else { return self.refused(report) };
        let read = content(&next.files);
        if next.hash == now.hash {
            return outcome(Verdict::Unchanged, &now, report);
        }
        if let Err(why) = self.rebind(&next) {
            return self.refused(why);
        }
        if next.process != now.process {
            log::warn!("runtime.workers and runtime.upstream_connections take effect when the process starts anew");
        }
        let changes = Nonce::new().map_or_else(
            |_| Diff::default(),
            |nonce| Diff::between(&now.effective(&nonce), &snapshot::effective(&loaded, &next.seals, &nonce)),
        );
        program::set_level(next.log);
        let next = Arc::new(next);
        self.live.store(next.clone());
        self.keeper.replace(next.chores());
        self.watch.follow(next.files.clone(), read);
        Outcome { changes, ..outcome(Verdict::Applied, &next, report) }
    }

    /// What another document would change.
    pub fn differences(&self, candidate: &Candidate) -> Diff {
        Diff::between(&self.live.load_full().effective(&candidate.nonce), &candidate.effective)
    }

    /// Reads and compiles; once more where a file was written in between, for a snapshot is of one moment.
    fn read(&self, now: &Snapshot) -> (Option<Snapshot>, Loaded, String) {
        let mut tries = 0;
        loop {
            let before = self.watch.look();
            let mut loaded = self.source.load();
            let compiled = snapshot::compile(&mut loaded, &self.live.tools, Some(now));
            tries += 1;
            if self.watch.look() == before || tries == MOST_READINGS {
                let report = report::human(&compiled.problems, &loaded.places);
                return (compiled.snapshot, loaded, report);
            }
        }
    }

    /// Listens on what the next snapshot wants, or on what it was before.
    fn rebind(&self, next: &Snapshot) -> Result<(), String> {
        let admin = self.admin.get().ok_or("the admin listener has not started")?;
        let before = self.live.load_full();
        admin::listen(admin, &next.admin)?;
        self.listeners.apply(next.listeners.clone()).map_err(|why| {
            let _ = admin::listen(admin, &before.admin);
            why.to_string()
        })
    }

    fn refused(&self, report: String) -> Outcome {
        outcome(Verdict::Refused, &self.live.load_full(), report)
    }

    /// What runs, what lies on disk, and what became of the last order.
    pub fn status(&self) -> Value {
        let snapshot = self.live.load_full();
        let on_disk = Seals::of(&snapshot.files, &Texts::default()).hash();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut listeners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, address) in self.bound() {
            listeners.entry(name).or_default().push(address);
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.live.started.elapsed().as_secs(),
            "draining": self.live.is_draining(),
            "generation": snapshot.generation,
            "hash": snapshot.hash,
            "hash_on_disk": on_disk,
            "up_to_date": on_disk == snapshot.hash,
            "listeners": listeners,
            "connections": self.connections(),
            "certificates": snapshot.certificates(),
            "last_reload": last.map(|(when, outcome)| json!({
                "seconds_ago": when.elapsed().map_or(0, |since| since.as_secs()),
                "result": outcome.result,
                "report": outcome.report,
            })),
        })
    }
}

fn outcome(result: Verdict, serving: &Snapshot, report: String) -> Outcome {
    Outcome { result, generation: serving.generation, hash: serving.hash.clone(), report, changes: Diff::default() }
}

/// The first lines of what changed, for the log.
fn told(changes: &Diff) -> String {
    changes.brief().iter().flat_map(|line| ["\n  ", line.as_str()]).collect()
}
