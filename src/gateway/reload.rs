//! Reads, checks, compiles and swaps: one order at a time, one outcome, and everyone is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::admin::{self, Admin};
use super::keeper::Keeper;
use super::listen::{Keep, Listeners};
use super::notify::Notify;
use super::source::Source;
use super::watch::{Watch, content};
use crate::config::report;
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
    /// Who is told what became of each order.
    notify: OnceLock<Notify>,
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
            notify: OnceLock::new(),
        });
        let admin = admin::listeners(&this.live, &this).inheriting(this.listeners.inherited().clone());
        let first = this.live.load_full();
        this.listeners.apply(first.listeners.clone()).map_err(|why| why.to_string())?;
        admin::listen(&admin, &first.admin)?;
        let _ = this.admin.set(admin);
        this.watch.follow(first.files.clone(), content(&first.files));
        Ok(this)
    }

    /// Tells the service manager that we serve: it keeps our sockets from now on, what nobody asked for is closed.
    pub fn announce(&self, notify: Notify) {
        for name in self.listeners.inherited().rest() {
            log::warn!("no listener asks for the inherited socket {name}: closed");
            notify.forget(&name);
        }
        if notify.is_heard() {
            let keep = Arc::new(notify.clone());
            self.listeners.kept_by(keep.clone());
            self.admin.get().into_iter().for_each(|admin| admin.kept_by(keep.clone()));
        }
        notify.ready(&self.sentence());
        let _ = self.notify.set(notify);
    }

    /// What serves, and what was wrong with the last order if it was refused, on one line.
    fn sentence(&self) -> String {
        let snapshot = self.live.load();
        let serves = format!("generation {} serves, hash {}", snapshot.generation, snapshot.hash);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref().filter(|(_, outcome)| !outcome.applied()) {
            Some((_, refused)) => {
                let why = refused.report.lines().next().unwrap_or_default();
                format!("{serves}; the last reload was refused: {why}")
            }
            None => serves,
        }
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
                log::info!("reload ({why}): generation {} serves, hash {}", outcome.generation, outcome.hash);
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
        if let Some(notify) = self.notify.get() {
            notify.status(&self.sentence());
        }
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
        let (next, report) = self.read(&now);
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
        program::set_level(next.log);
        let next = Arc::new(next);
        self.live.store(next.clone());
        self.keeper.replace(next.chores());
        self.watch.follow(next.files.clone(), read);
        outcome(Verdict::Applied, &next, report)
    }

    /// Reads and compiles; once more where a file was written in between, for a snapshot is of one moment.
    fn read(&self, now: &Snapshot) -> (Option<Snapshot>, String) {
        let mut tries = 0;
        loop {
            let before = self.watch.look();
            let mut loaded = self.source.load();
            let compiled = snapshot::compile(&mut loaded, &self.live.tools, Some(now));
            tries += 1;
            if self.watch.look() == before || tries == MOST_READINGS {
                return (compiled.snapshot, report::human(&compiled.problems, &loaded.places));
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
        let on_disk = snapshot::fingerprint(&snapshot.files);
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
    Outcome { result, generation: serving.generation, hash: serving.hash.clone(), report }
}
