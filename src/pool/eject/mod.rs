//! Ejection, passive health: a target whose requests go worse than those of the others takes none for a while.
//!
//! A request only counts. Failures in a row are acted on at once; who stands out against the others is looked for by a
//! chore, which also lets those in again whose time is over. Who comes back has to answer one request before it gets more,
//! so that a target that is frozen for an hour costs one client a wait now and then, and no more.
//!
//! Where the document says nothing, only requests without an answer count, three in a row.

mod config;
mod ejection;
mod latency;
mod machine;
mod outlier;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

pub use config::{Above, Config, Slower};
pub(super) use ejection::Ejection;
#[cfg(test)]
pub(super) use machine::Machine;

use self::outlier::Figures;
use super::standing::Standing;
use super::target::{Cell, Target};
use super::{Tools, cause, rotation};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::PoolMetrics;
use crate::units::{Mode, Name};

pub(super) fn complain(config: &Config, at: &Path, problems: &mut Problems) {
    config.complain(at, problems);
}

/// A pool's settings, its targets to compare by, and whom ejections are told to.
pub(super) struct Rule {
    config: Config,
    /// The document says so.
    is_said: bool,
    pool: Name,
    /// The targets with weight.
    members: ArcSwap<Vec<Member>>,
    standing: Arc<Standing>,
    observer: Arc<dyn super::Observer>,
    counted: Option<Arc<PoolMetrics>>,
}

struct Member {
    name: Box<str>,
    cell: Arc<Cell>,
}

/// Why a target is ejected: a word for metrics, and a sentence with numbers.
struct Cause {
    word: &'static str,
    why: String,
}

impl Rule {
    pub(super) fn new(config: Option<&Config>, pool: &Name, tools: &Tools<'_>, standing: &Arc<Standing>) -> Self {
        Self {
            config: config.cloned().unwrap_or_else(Config::built_in),
            is_said: config.is_some(),
            pool: pool.clone(),
            members: ArcSwap::default(),
            standing: Arc::clone(standing),
            observer: Arc::clone(tools.observer),
            counted: tools.counted.clone(),
        }
    }

    /// The targets among which it ejects from now on.
    pub(super) fn among(&self, targets: &[Arc<Target>]) {
        let weighted = targets.iter().filter(|target| target.weight() > 0);
        let member = |target: &Arc<Target>| Member { name: target.name().into(), cell: Arc::clone(target.cell()) };
        self.members.store(Arc::new(weighted.map(member).collect()));
    }

    fn enforces(&self) -> bool {
        self.config.mode == Mode::Enforce
    }

    /// Whether requests are kept from the target.
    pub(super) fn keeps_from(&self, ejection: &Ejection) -> bool {
        self.enforces() && ejection.is_out()
    }

    /// Whether it gets no other request until it has answered the one that it has: it was out, and nobody knows yet how it
    /// is. What was there before it was taken out does not count: a tunnel may stay for hours.
    pub(super) fn tries(&self, ejection: &Ejection) -> bool {
        ejection.is_mute() && ejection.tried.load(Relaxed) && self.enforces()
    }

    /// Whether a client that waited in vain until it left tells something of the target.
    pub(super) fn counts_silence(&self) -> bool {
        self.config.on.contains(&cause::Cause::Timeout)
    }

    /// Whether the target failed; nothing where it is not the target's doing.
    pub(super) fn judge(&self, fault: Option<Fault>, status: u16) -> Option<bool> {
        cause::judge(&self.config.on, fault, status)
    }

    /// A request of the target has ended; `is_closed`: its breaker lets all requests through.
    pub(super) fn count(&self, target: &Target, failed: bool, is_closed: bool) {
        let ejection = &target.cell().ejection;
        if target.weight() == 0 || self.config.at_most.percent() == 0 || !rotation::counts(ejection.is_out(), is_closed)
        {
            return;
        }
        if let Some(share) = self.config.share {
            ejection.outcomes.count(failed, share.sample.within.get(), Instant::now());
        }
        if !failed {
            // Most of the time it is 0, and stays in everyone's cache.
            if ejection.in_row.load(Relaxed) != 0 {
                ejection.in_row.store(0, Relaxed);
            }
            return;
        }
        let count = ejection.in_row.fetch_add(1, Relaxed).saturating_add(1);
        if ejection.is_mute() {
            let why = "the first request after its rest failed".to_owned();
            self.eject(target.name(), ejection, Cause { word: self.word(), why }, Instant::now());
        } else if count.is_multiple_of(self.config.errors) {
            self.eject(target.name(), ejection, self.in_row(count), Instant::now());
        }
    }

    fn word(&self) -> &'static str {
        if self.is_said { "errors" } else { "unanswered" }
    }

    fn in_row(&self, count: u32) -> Cause {
        let plural = if count == 1 { "" } else { "s" };
        let what = if self.is_said { "failure" } else { "request" };
        let how = if self.is_said { "" } else { " without an answer" };
        Cause { word: self.word(), why: format!("{count} {what}{plural} in a row{how}") }
    }

    /// Whether anyone wants to know how late answers begin.
    pub(super) fn times(&self) -> bool {
        self.config.slow.is_some()
    }
    /// An answer of the target began after so long.
    pub(super) fn time(&self, ejection: &Ejection, took: Duration) {
        if let Some(slow) = self.config.slow.filter(|_| !ejection.is_out()) {
            ejection.latency.count(took, slow.sample.within.get(), Instant::now());
        }
    }

    /// Takes the target out if there is room for one more, and says so.
    fn eject(&self, target: &str, ejection: &Ejection, cause: Cause, now: Instant) {
        let alone = self.standing.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let members = self.members.load();
        let out = members.iter().filter(|member| member.cell.ejection.is_out()).count();
        let most = rotation::most_ejected(members.len(), self.config.at_most);
        let Cause { word, why } = cause;
        if out >= most {
            self.counted(word, "spared");
            return;
        }
        let (first, why_again) = (self.config.length.get(), why.clone());
        let (changed, length, times) = ejection.machine(|machine| {
            // Its time may be over, and nobody was told yet.
            machine.let_in(false, now);
            let changed = machine.eject(why_again, first, now);
            (changed, machine.length(), machine.times())
        });
        drop(alone);
        if !changed {
            return;
        }
        ejection.forget();
        ejection.mute.store(true, Relaxed);
        let pool = &self.pool;
        if self.enforces() {
            log::warn!("pool {pool}: target {target} is ejected for {length:?}, time {times} in a row: {why}");
            self.counted(word, "ejected");
            self.observer.ejected(pool.as_str(), target, Some(true));
        } else {
            log::warn!("pool {pool}: target {target} would be ejected for {length:?}, time {times} in a row: {why}");
            self.counted(word, "shadow");
        }
        self.stir();
    }

    fn counted(&self, cause: &'static str, result: &'static str) {
        if let Some(counted) = &self.counted {
            counted.ejected(cause, result);
        }
    }

    /// The live set is to be made anew.
    fn stir(&self) {
        self.standing.change();
        self.standing.stirred.notify_one();
    }

    /// Lets in whose time is over and whom the pool cannot do without, ejects who stands out. How long until that is to
    /// be done again.
    pub(super) fn tend(&self, now: Instant) -> Duration {
        let members = self.members.load_full();
        let left = |member: &Member| member.cell.ejection.machine(|machine| machine.left(now));
        let mut out: Vec<_> = members.iter().filter_map(|member| Some((left(member)?, member))).collect();
        out.sort_by_key(|(left, _)| *left);
        let most = rotation::most_ejected(members.len(), self.config.at_most);
        for (place, (_, member)) in out.iter().enumerate() {
            self.let_in(member, out.len() - place > most, now);
        }
        for (place, cause) in self.outliers(&members, now) {
            if let Some(member) = members.get(place) {
                self.eject(&member.name, &member.cell.ejection, cause, now);
            }
        }
        let next = members.iter().filter_map(left).min();
        next.into_iter().chain(self.looks_every()).min().unwrap_or(Duration::from_hours(1))
    }

    fn let_in(&self, member: &Member, at_once: bool, now: Instant) {
        if !member.cell.ejection.machine(|machine| machine.let_in(at_once, now)) {
            return;
        }
        member.cell.ejection.forget();
        if at_once {
            member.cell.ejection.heard();
        }
        let (pool, target) = (&self.pool, &member.name);
        if self.enforces() {
            member.cell.start.begin(now);
            log::info!("pool {pool}: target {target} is no longer ejected");
            self.observer.ejected(pool.as_str(), target, Some(false));
        }
        self.stir();
    }

    /// How often outliers are looked for: ten times in the shortest time that is compared.
    fn looks_every(&self) -> Option<Duration> {
        let share = self.config.share.map(|share| share.sample.within);
        let slow = self.config.slow.map(|slow| slow.sample.within);
        share.into_iter().chain(slow).min().map(|within| within.get() / 10)
    }

    fn outliers(&self, members: &[Member], now: Instant) -> Vec<(usize, Cause)> {
        let Config { share, slow, .. } = &self.config;
        let figures: Vec<_> = members
            .iter()
            .map(|Member { cell, .. }| {
                let within = share.map(|share| share.sample.within.get());
                let (total, bad) = within.map_or((0, 0), |within| cell.ejection.outcomes.sum(within, now));
                let within = slow.map(|slow| slow.sample.within.get());
                let (answers, mean) =
                    within.map_or_else(Default::default, |within| cell.ejection.latency.mean(within, now));
                Figures { total, bad, answers, mean }
            })
            .collect();
        let named = |word| move |(place, why)| (place, Cause { word, why });
        let erring = share.iter().flat_map(|share| outlier::erring(&figures, *share)).map(named("share"));
        let late = slow.iter().flat_map(|slow| outlier::late(&figures, *slow)).map(named("slow"));
        erring.chain(late).collect()
    }

    /// Tells the observer how everyone is, when a generation begins to serve.
    pub(super) fn tell(&self, target: &Target) {
        let is_out = self.keeps_from(&target.cell().ejection);
        self.observer.ejected(self.pool.as_str(), target.name(), Some(is_out));
    }

    /// Waits until something is to be looked at.
    pub(super) async fn stirred(&self, most: Duration) {
        // Both mean the same.
        let _ = tokio::time::timeout(most, self.standing.stirred.notified()).await;
    }

    pub(super) fn status(&self, ejection: &Ejection, now: Instant) -> Option<Status> {
        let shadow = !self.enforces();
        ejection.machine(|machine| {
            (machine.times() > 0).then(|| Status {
                out: machine.is_out(now),
                since_seconds: now.saturating_duration_since(machine.since()).as_secs(),
                cause: machine.why().to_owned(),
                times: machine.times(),
                ends_in_seconds: machine.left(now).map(|left| left.as_secs_f64().ceil()),
                shadow,
            })
        })
    }
}

/// An ejection as the admin listener shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    /// Whether it is out now.
    pub out: bool,
    pub since_seconds: u64,
    /// Why it was ejected last.
    pub cause: String,
    /// How many times in a row.
    pub times: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_in_seconds: Option<f64>,
    /// It gets requests all the same: `mode: shadow`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

#[cfg(test)]
mod tests;
