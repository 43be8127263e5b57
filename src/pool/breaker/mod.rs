//! Circuit breaking: a target that fails again and again is left alone for a while, then tried with a few requests.
//!
//! Closed, open and half open as in Nygard, "Release It!". Closed costs an atomic or two; only what is tripped takes a lock.

mod config;
mod hand;
pub(super) mod machine;
pub(super) mod window;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use config::Config;
pub use hand::{Hand, Held, LONGEST};
pub use machine::Stage;

use serde_json::{Value, json};

use self::config::{OpenAfter, Scope};
use self::machine::Machine;
use self::window::Window;
use super::Observer;
use super::cause::{self, Cause};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::state::parcel::Said;
use crate::units::{Mode, Name};

/// A pool's settings, and whom transitions are told to.
pub(super) struct Rule {
    open_after: OpenAfter,
    open_for: Duration,
    probes: u32,
    on: Vec<Cause>,
    pool: Name,
    observer: Arc<dyn Observer>,
    /// The pool's one breaker, where it has one for all its targets.
    shared: Option<Arc<Breaker>>,
    per: Scope,
    mode: Mode,
    /// Its place in the document, for the log.
    name: Arc<str>,
    hand: Arc<Hand>,
}

/// What stands for all targets of a pool in logs and metrics.
pub const ALL: &str = "-";

impl Rule {
    pub(super) fn compile(
        config: &Config,
        pool: &Name,
        observer: &Arc<dyn Observer>,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        config.complain(at, problems);
        Self {
            open_after: config.open_after,
            open_for: config.open_for.get(),
            probes: config.probes.max(1),
            on: config.on.clone(),
            pool: pool.clone(),
            observer: Arc::clone(observer),
            shared: None,
            per: config.per,
            mode: config.mode,
            name: at.to_string().into(),
            hand: Arc::new(Hand::new(Instant::now())),
        }
    }

    /// The same with what its pool keeps through reloads.
    pub(super) fn within(self, breaker: &Arc<Breaker>, hand: &Arc<Hand>) -> Self {
        let shared = Some(Arc::clone(breaker)).filter(|_| self.per == Scope::Pool);
        Self { shared, hand: Arc::clone(hand), ..self }
    }

    /// The pool's one breaker, where it has one for all its targets.
    pub(super) fn shared(&self) -> Option<&Breaker> {
        self.shared.as_deref()
    }

    /// Whether the target failed; nothing where it is not the target's doing.
    pub(super) fn judge(&self, fault: Option<Fault>, status: u16) -> Option<bool> {
        cause::judge(&self.on, fault, status)
    }

    /// Whether it keeps requests from its target, and does not only watch.
    pub(super) fn enforces(&self) -> bool {
        self.mode == Mode::Enforce
    }

    /// Its place in the document.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Tells everyone of a transition.
    fn tell(&self, target: &str, breaker: &Breaker) {
        let (stage, why, length) = breaker.machine(|machine| (machine.stage(), machine.why(), machine.length()));
        let pool = &self.pool;
        let (whose, target) = if self.shared.is_some() { ("all targets", ALL) } else { (target, target) };
        if !self.enforces() {
            match stage {
                Stage::Open => log::warn!("pool {pool}: breaker of {whose} would be open for {length:?}: {why}"),
                Stage::HalfOpen => log::info!("pool {pool}: breaker of {whose} would be half open"),
                Stage::Closed => log::info!("pool {pool}: breaker of {whose} would be closed again"),
            }
            return;
        }
        match stage {
            Stage::Open => log::warn!("pool {pool}: breaker of {whose} is open for {length:?}: {why}"),
            Stage::HalfOpen => {
                log::info!("pool {pool}: breaker of {whose} is half open: {} requests try it", self.probes);
            }
            Stage::Closed => log::info!("pool {pool}: breaker of {whose} is closed"),
        }
        self.observer.breaker(pool.as_str(), target, Some(stage));
    }
}

/// What is known of a target, through all reloads.
pub(super) struct Breaker {
    /// The stage of the machine, to be read without its lock.
    stage: AtomicU8,
    in_row: AtomicU32,
    window: Window,
    machine: Mutex<Machine>,
    /// Requests that it would have kept from its target, if it did not only watch.
    would_keep: AtomicU64,
}

/// The right to send one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// One of many.
    Free,
    /// One of the few that a half open breaker lets through, in this round.
    Probe(u64),
    /// One that goes through because the breaker only watches.
    Watched,
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            stage: AtomicU8::new(Stage::Closed as u8),
            in_row: AtomicU32::new(0),
            window: Window::new(now),
            machine: Mutex::new(Machine::new(now)),
            would_keep: AtomicU64::new(0),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stage.load(Relaxed) == Stage::Closed as u8
    }

    fn machine<R>(&self, change: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut machine);
        self.stage.store(machine.stage() as u8, Relaxed);
        answer
    }

    /// Whether a request could be sent now.
    pub(super) fn admits(&self, rule: &Rule) -> bool {
        !rule.enforces() || self.would_admit(rule)
    }

    /// The same if it did not only watch.
    pub(super) fn would_admit(&self, rule: &Rule) -> bool {
        self.is_closed()
            || rule.hand.is(Held::Closed)
            || self.machine(|machine| machine.admits(rule.probes, Instant::now()))
    }

    /// How long until one could.
    pub(super) fn wait(&self) -> Duration {
        self.machine(|machine| machine.wait(Instant::now()))
    }

    /// Takes the right to send a request.
    pub(super) fn enter(&self, rule: &Rule, target: &str) -> Option<Pass> {
        if self.is_closed() || rule.hand.is(Held::Closed) {
            return Some(Pass::Free);
        }
        let (before, pass, after) = self.machine(|machine| {
            let before = machine.stage();
            (before, machine.enter(rule.probes, Instant::now()), machine.stage())
        });
        if before != after {
            rule.tell(target, self);
        }
        if pass.is_none() && !rule.enforces() {
            self.would_keep.fetch_add(1, Relaxed);
            return Some(Pass::Watched);
        }
        pass
    }

    /// What came of it: well, badly, or nothing that the target could help.
    pub(super) fn leave(&self, rule: &Rule, target: &str, pass: Pass, failed: Option<bool>) {
        let now = Instant::now();
        let changed = match (pass, failed) {
            (Pass::Probe(round), failed) => {
                self.machine(|machine| machine.leave(round, failed, rule.probes, rule.open_for, now))
            }
            // What was under way when it opened says nothing new.
            (Pass::Free, Some(failed)) if self.is_closed() && !rule.hand.is(Held::Closed) => {
                let why = self.count(rule.open_after, failed, now);
                why.is_some_and(|why| self.machine(|machine| machine.trip(why, rule.open_for, now)))
            }
            (Pass::Free | Pass::Watched, _) => false,
        };
        if changed {
            self.in_row.store(0, Relaxed);
            self.window.clear();
            rule.tell(target, self);
        }
    }

    /// Counts an outcome; says why that is one failure too many.
    fn count(&self, open_after: OpenAfter, failed: bool, now: Instant) -> Option<String> {
        match open_after {
            OpenAfter::InRow(_) if !failed => {
                // Most of the time it is 0, and stays in everyone's cache.
                if self.in_row.load(Relaxed) != 0 {
                    self.in_row.store(0, Relaxed);
                }
                None
            }
            OpenAfter::InRow(most) => {
                let count = self.in_row.fetch_add(1, Relaxed).saturating_add(1);
                (count >= most).then(|| format!("{count} failure{} in a row", if count == 1 { "" } else { "s" }))
            }
            OpenAfter::Share { percent, of, within } => {
                self.window.count(failed, within.get(), now);
                if !failed {
                    return None;
                }
                let (total, bad) = self.window.sum(within.get(), now);
                let many = total >= u64::from(of) && bad * 100 >= total * u64::from(percent);
                many.then(|| format!("{bad} of {total} failed in {within}"))
            }
        }
    }

    pub(super) fn status(&self, rule: &Rule) -> Status {
        let (now, shadow) = (Instant::now(), !rule.enforces());
        self.machine(|machine| Status {
            state: machine.stage(),
            since_seconds: now.saturating_duration_since(machine.since()).as_secs(),
            cause: Some(machine.why()).filter(|why| !why.is_empty()),
            next_try_seconds: Some(machine.wait(now).as_secs_f64().ceil()).filter(|_| machine.stage() == Stage::Open),
            would_keep: shadow.then(|| self.would_keep.load(Relaxed)),
            shadow,
        })
    }

    /// For a successor, as of this moment.
    pub(super) fn pack(&self, now: Instant) -> Value {
        let machine = self.machine(|machine| machine.pack(now));
        json!({ "machine": machine, "in_row": self.in_row.load(Relaxed), "window": self.window.pack(now) })
    }

    /// As a predecessor had it.
    pub(super) fn unpack(&self, said: Said<'_>) -> Option<()> {
        let (machine, in_row) = (Machine::unpack(said.get("machine")?)?, said.number("in_row")?);
        self.window.unpack(said.get("window")?)?;
        self.in_row.store(in_row, Relaxed);
        self.machine(|place| *place = machine);
        Some(())
    }

    pub(super) fn stage(&self) -> Stage {
        self.machine(|machine| machine.stage())
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Breaker").field(&self.stage()).finish()
    }
}

/// A breaker as the admin listener shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    pub state: Stage,
    pub since_seconds: u64,
    /// Why it opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// When it lets requests through again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_seconds: Option<f64>,
    /// How many requests it would have kept from its target; only where it watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_keep: Option<u64>,
    /// It keeps nothing away: `mode: shadow`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

impl Status {
    /// Whether all requests go through.
    pub fn is_passable(&self) -> bool {
        self.shadow || self.state == Stage::Closed
    }
}

#[cfg(test)]
mod tests;
