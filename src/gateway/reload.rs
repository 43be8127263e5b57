//! Reads, checks, compiles and swaps: one order at a time, one outcome, and everyone is told.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::watch as channel;

use super::admin::{self, Admin};
use super::boot;
use super::held_back::{self, HeldBack, Read};
use super::history::History;
use super::keeper::Keeper;
use super::listen::Listeners;
use super::notify::Notify;
use super::source::Source;
use super::upgrade::Succession;
use super::watch::{Watch, content};
use crate::config::diff::{Candidate, Diff, Nonce};
use crate::config::{Loaded, Texts};
use crate::proxy::App;
use crate::snapshot::{self, Live, Snapshot};
use crate::telemetry::program;

/// Readings of a document that is being written again and again.
const MOST_READINGS: u32 = 5;

/// What became of one order to reload.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub result: Verdict,
    /// The exit code that a command ends with by it.
    pub exit: u8,
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
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does, from now on.
    Applied,
    /// It already did.
    Unchanged,
    /// It does, in a process that has taken over from this one.
    HandedOver,
    /// It does not: the generation before serves on.
    Refused,
    /// Nobody knows here: a successor serves in place of this process.
    Gone,
}

impl Outcome {
    /// Whether the document on disk is the one that serves.
    pub fn applied(&self) -> bool {
        !matches!(self.result, Verdict::Refused | Verdict::Gone)
    }
}

/// Who reloads: the document's source and everything that a new snapshot replaces.
pub struct Reloader {
    pub(super) source: Source,
    pub(super) live: Arc<Live>,
    pub(super) listeners: Listeners<App>,
    pub(super) admin: OnceLock<Listeners<Admin>>,
    keeper: Keeper,
    watch: Watch,
    pub(super) succession: Succession,
    /// True once a successor serves.
    pub(super) over: channel::Sender<bool>,
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) last: Mutex<Option<(SystemTime, Outcome)>>,
    /// Who is told what became of each order.
    pub(super) notify: OnceLock<Notify>,
    pub(super) history: History,
    /// The document on disk was wrong at the start, and the last good one serves.
    pub(super) last_good: AtomicBool,
    pub(super) held_back: Mutex<HeldBack>,
}

/// What came of reading a document.
pub(super) enum Attempt {
    Done(Outcome),
    /// It says what only a new process can take up.
    NeedsProcess(Diff),
}

impl Reloader {
    /// Binds what the first snapshot listens on, and watches its files. The error names the address.
    pub fn start(
        source: Source,
        live: Arc<Live>,
        listeners: Listeners<App>,
        keeper: Keeper,
        succession: Succession,
        history: History,
        accepting: bool,
    ) -> Result<Arc<Self>, String> {
        let this = Arc::new(Self {
            source,
            live,
            listeners,
            admin: OnceLock::new(),
            keeper,
            watch: Watch::default(),
            succession,
            over: channel::Sender::new(false),
            turn: tokio::sync::Mutex::new(()),
            last: Mutex::default(),
            notify: OnceLock::new(),
            history,
            last_good: AtomicBool::new(false),
            held_back: Mutex::default(),
        });
        let admin = admin::listeners(&this.live, &this).inheriting(this.listeners.inherited().clone());
        this.listeners.accept_now(accepting);
        admin.accept_now(accepting);
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

    /// Reads the document again and swaps it in if nothing is wrong with it; else nothing has changed.
    pub async fn reload(self: &Arc<Self>, why: &str) -> Outcome {
        let _turn = self.turn.lock().await;
        if *self.over.borrow() {
            let report = "a successor serves in place of this process; ask that one\n".to_owned();
            return Outcome { result: Verdict::Gone, ..self.refused(75, report) };
        }
        let (this, before, by_itself) = (self.clone(), self.history.held(), why == "file");
        let attempt = tokio::task::spawn_blocking(move || this.attempt(by_itself)).await;
        let outcome = match attempt {
            Ok(attempt) => self.settle(attempt).await,
            Err(panic) => self.refused(70, format!("reading the document failed: {panic}\n")),
        };
        if !outcome.applied() {
            self.history.hold(before);
        }
        self.count(&outcome);
        self.remember(why, &outcome);
        self.tell(&format!("reload ({why})"), &outcome);
        outcome
    }

    pub(super) async fn settle(self: &Arc<Self>, attempt: Attempt) -> Outcome {
        match attempt {
            Attempt::Done(outcome) => outcome,
            Attempt::NeedsProcess(changes) => match self.succession.program() {
                Ok(program) => self.hand_over(program, changes).await,
                Err(refusal) => self.refused(refusal.code, refusal.report),
            },
        }
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        if outcome.applied() {
            self.last_good.store(false, Relaxed);
        }
        self.show_whether_on_disk();
        let metrics = &self.live.tools.metrics;
        match outcome.result {
            Verdict::Applied => metrics.applied(outcome.generation, &outcome.hash),
            Verdict::Unchanged => metrics.unchanged(),
            Verdict::Refused => metrics.refused(),
            // The successor counts it.
            Verdict::HandedOver | Verdict::Gone => {}
        }
    }

    /// Everyone is told: the log now, `/status` whenever it is asked.
    pub(super) fn tell(&self, what: &str, outcome: &Outcome) {
        let generation = outcome.generation;
        let report = outcome.report.trim_end();
        match outcome.result {
            Verdict::Applied => {
                log::info!("{what}: generation {generation} serves, hash {}{}", outcome.hash, told(&outcome.changes));
            }
            Verdict::Unchanged => log::info!("{what}: nothing has changed, generation {generation} serves on"),
            Verdict::HandedOver => {
                log::info!("{what}: handed over, {report} generation {generation}{}", told(&outcome.changes));
            }
            Verdict::Refused | Verdict::Gone => {
                log::error!("{what} refused, generation {generation} serves on:\n{report}");
            }
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((SystemTime::now(), outcome.clone()));
        self.tell_service_manager();
    }

    /// Reloads whenever the content of a file has changed, for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            self.watch.changed().await;
            self.reload("file").await;
        }
    }

    /// Nobody has ordered it where it is done by itself.
    fn attempt(&self, by_itself: bool) -> Attempt {
        let now = self.live.load_full();
        let (next, loaded, report) = self.read(&now, by_itself);
        let Some(next) = next else { return Attempt::Done(self.refused(78, report)) };
        self.take_up(&now, next, &loaded, report)
    }

    /// Swaps in what was read and compiled, if it is another than what serves.
    pub(super) fn take_up(&self, now: &Snapshot, next: Snapshot, loaded: &Loaded, report: String) -> Attempt {
        let read = content(&next.files);
        if next.hash == now.hash {
            return Attempt::Done(outcome(Verdict::Unchanged, now, report));
        }
        let changes = Nonce::new().map_or_else(
            |_| Diff::default(),
            |nonce| Diff::between(&now.effective(&nonce), &snapshot::effective(loaded, &next.seals, &nonce)),
        );
        if next.process != now.process {
            return Attempt::NeedsProcess(changes);
        }
        if let Err(why) = self.rebind(&next) {
            return Attempt::Done(self.refused(78, why));
        }
        program::set_level(next.log);
        let next = Arc::new(next);
        self.live.store(next.clone());
        self.keeper.replace(next.chores());
        self.watch.follow(next.files.clone(), read);
        Attempt::Done(Outcome { changes, ..outcome(Verdict::Applied, &next, report) })
    }

    /// What another document would change.
    pub fn differences(&self, candidate: &Candidate) -> Diff {
        Diff::between(&self.live.load_full().effective(&candidate.nonce), &candidate.effective)
    }

    /// Reads and compiles; once more where a file was written in between, for a snapshot is of one moment.
    ///
    /// What was brought back stays, with the certificates of now, until the document changes or somebody orders it.
    fn read(&self, now: &Snapshot, by_itself: bool) -> (Option<Snapshot>, Loaded, String) {
        let mut tries = 0;
        loop {
            let before = self.watch.look();
            let disk = self.source.load();
            let held = self.history.held().filter(|held| by_itself && held.instead_of == disk.hash);
            let stays = held.and_then(|held| self.brought_back(held.to));
            let is_back = stays.is_some();
            let Read { loaded, mut compiled, report, held_back } = match stays {
                Some(texts) => Read::again(&texts, &self.live.tools, now),
                None => held_back::read(&self.source, &self.live.tools, Some(now), &|file| {
                    // What has never been good is left out.
                    Some(now.texts.get(file).unwrap_or_default())
                }),
            };
            tries += 1;
            if self.watch.look() == before || tries == MOST_READINGS {
                match &mut compiled.snapshot {
                    Some(next) if is_back => boot::follow(next, &disk),
                    Some(_) => self.history.hold(None),
                    None => return (None, loaded, report),
                }
                held_back::update(&mut self.held_back(), &held_back);
                return (compiled.snapshot, loaded, report);
            }
        }
    }

    fn brought_back(&self, generation: u64) -> Option<Texts> {
        let entry = self.history.find(Some(generation), generation).ok()?;
        self.history.texts(&entry).ok()
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

    pub(super) fn refused(&self, exit: u8, report: String) -> Outcome {
        Outcome { exit, ..outcome(Verdict::Refused, &self.live.load_full(), report) }
    }
}

fn outcome(result: Verdict, serving: &Snapshot, report: String) -> Outcome {
    Outcome {
        result,
        exit: 0,
        generation: serving.generation,
        hash: serving.hash.clone(),
        report,
        changes: Diff::default(),
    }
}

/// The first lines of what changed, for the log.
fn told(changes: &Diff) -> String {
    changes.brief().iter().flat_map(|line| ["\n  ", line.as_str()]).collect()
}
