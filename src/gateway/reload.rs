//! Reads, checks, compiles and swaps: one order at a time, one outcome, and everyone is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::build::{self, Built};
use super::keeper::Keeper;
use super::listen::Listeners;
use super::source::Source;
use super::watch::Watch;
use crate::proxy::Proxy;
use crate::snapshot::{Live, Snapshot};

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
    listeners: Listeners<Proxy>,
    keeper: Keeper,
    watch: Watch,
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Option<(SystemTime, Outcome)>>,
}

impl Reloader {
    /// Takes over what was built at the start; from now on the files are watched.
    pub fn new(source: Source, live: Arc<Live>, listeners: Listeners<Proxy>, keeper: Keeper) -> Self {
        let reloader = Self {
            source,
            live,
            listeners,
            keeper,
            watch: Watch::new(),
            turn: tokio::sync::Mutex::new(()),
            last: Mutex::default(),
        };
        reloader.settle();
        reloader
    }

    pub fn listeners(&self) -> &Listeners<Proxy> {
        &self.listeners
    }

    /// Reads the document again and swaps it in if nothing is wrong with it; else nothing has changed.
    pub async fn reload(self: &Arc<Self>, why: &str) -> Outcome {
        let _turn = self.turn.lock().await;
        let this = self.clone();
        let attempt = tokio::task::spawn_blocking(move || this.attempt()).await;
        let outcome = attempt.unwrap_or_else(|panic| self.refused(format!("reading the document failed: {panic}")));
        match outcome.result {
            Verdict::Applied => {
                self.live.metrics.applied(outcome.generation, &outcome.hash);
                log::info!("reload ({why}): generation {} serves, hash {}", outcome.generation, outcome.hash);
            }
            Verdict::Unchanged => {
                log::info!("reload ({why}): nothing has changed, generation {} serves on", outcome.generation);
            }
            Verdict::Refused => {
                self.live.metrics.refused();
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
        let loaded = match self.source.load() {
            Ok(loaded) => loaded,
            Err(why) => return self.refused(why.to_string()),
        };
        let Built { snapshot, report } = build::snapshot(&loaded, &self.live.tools, Some(&now));
        let Some(snapshot) = snapshot else { return self.refused(report) };
        if snapshot.hash == now.hash {
            return self.outcome(Verdict::Unchanged, &now, report);
        }
        if let Err(why) = self.listeners.apply(snapshot.listeners.clone()) {
            return self.refused(why.to_string());
        }
        let next = Arc::new(snapshot);
        self.live.store(next.clone());
        self.settle();
        self.outcome(Verdict::Applied, &next, report)
    }

    /// What follows from a new snapshot: its chores run, its files are watched.
    fn settle(&self) {
        let snapshot = self.live.load_full();
        self.keeper.replace(snapshot.chores());
        self.watch.follow(snapshot.files.clone());
    }

    fn refused(&self, report: String) -> Outcome {
        self.outcome(Verdict::Refused, &self.live.load_full(), report)
    }

    fn outcome(&self, result: Verdict, serving: &Snapshot, report: String) -> Outcome {
        Outcome { result, generation: serving.generation, hash: serving.hash.clone(), report }
    }

    /// What runs, what lies on disk, and what became of the last order.
    pub async fn status(self: &Arc<Self>) -> Value {
        let this = self.clone();
        let on_disk = tokio::task::spawn_blocking(move || this.source.load().map(|loaded| loaded.hash));
        let on_disk = on_disk.await.ok().and_then(Result::ok);
        let snapshot = self.live.load_full();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let listeners = self.listeners.bound();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.live.started.elapsed().as_secs(),
            "draining": self.live.is_draining(),
            "generation": snapshot.generation,
            "hash": snapshot.hash,
            "hash_on_disk": on_disk,
            "up_to_date": on_disk.as_deref() == Some(snapshot.hash.as_str()),
            "listeners": listeners,
            "connections": self.listeners.connections(),
            "last_reload": last.map(|(when, outcome)| json!({
                "time": crate::telemetry::access::rfc3339(when),
                "result": outcome.result,
                "report": outcome.report,
            })),
        })
    }
}
