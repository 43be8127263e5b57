//! What a pool tells of itself, on the admin listener and the command line.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Pool;
use super::breaker::{self, Breaker, Held};
use super::budget::Budget;
use super::by_hand::Weighed;
use super::discover::SourceStatus;
use super::eject;
use super::endpoint::Endpoint;
use super::health::State;
use super::live::Live;
use super::max_in_flight;
use super::rotation::Out;
use super::target::Target;
use crate::units::Name;

/// One pool.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub name: Name,
    pub state: PoolState,
    /// Targets with weight that are up and not ejected, with their breakers closed.
    pub healthy: usize,
    /// Targets with weight.
    pub total: usize,
    pub targets: Vec<TargetStatus>,
    /// Where its targets come from, beside the document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discover: Vec<SourceStatus>,
    #[serde(flatten)]
    pub whole: Whole,
}

impl Pool {
    /// The one breaker of all targets.
    pub(super) fn shared(&self) -> Option<&Breaker> {
        self.rules.breaker.as_ref()?.shared()
    }

    /// The first few targets that have or had weight, and why each of them takes no requests.
    pub fn outs(&self, few: usize) -> Vec<TargetStatus> {
        let (now, live) = (Instant::now(), self.live.load());
        let told = live.all().iter().map(|target| self.target(&live, target, now));
        told.filter(|target| target.weight > 0 || target.by_hand.is_some()).take(few).collect()
    }

    fn target(&self, live: &Live, target: &Target, now: Instant) -> TargetStatus {
        let own = target.breaker().filter(|_| self.shared().is_none()).and_then(|breaker| self.told(breaker));
        let by_hand = self.standing.by_hand.of(target.name(), now);
        let status = TargetStatus::new(target, self.check.is_some(), own, live.why_not(target), now);
        let drained = by_hand.filter(|(weight, _)| *weight == 0).map(|_| "drained");
        let held = drained.is_none() && target.weight() > 0 && self.standing.hand.is(Held::Open);
        let (out, reason) = match drained.or(status.out) {
            None | Some("breaker") if held => (Some("breaker"), Some("held open by hand".to_owned())),
            out => (out, status.reason),
        };
        TargetStatus { by_hand: by_hand.map(Weighed::from), out, reason, ..status }
    }

    /// What is said of a breaker under this pool's rule.
    fn told(&self, breaker: &Breaker) -> Option<breaker::Status> {
        Some(breaker.status(self.rules.breaker.as_ref()?))
    }

    /// The stage of a breaker for those who are told of it; nothing where it only watches.
    pub(super) fn stage(&self, breaker: Option<&Breaker>) -> Option<breaker::Stage> {
        let enforces = self.rules.breaker.as_ref().is_some_and(|rule| rule.enforces());
        breaker.filter(|_| enforces).map(Breaker::stage)
    }

    pub fn status(&self) -> Status {
        let now = Instant::now();
        let live = self.live.load();
        let targets = live.all().iter().map(|target| self.target(&live, target, now));
        let asks = || self.endpoints.iter().filter_map(Endpoint::asks);
        let pending = asks().any(|(.., lookup)| !lookup.is_tried());
        let whole = Whole {
            breaker: self.shared().and_then(|breaker| self.told(breaker)),
            panic: live.panics(),
            queue: self.queue(),
            by_hand: self.standing.hand.held().map(ByHand::from),
            retries: (self.retry.attempts > 0).then(|| Retries::new(self.budget(), now)),
        };
        Status::new(&self.name, targets.collect(), self.sources(now), pending, whole)
    }
}

/// What is known of a pool beyond its targets.
#[derive(Debug, Clone, Serialize)]
pub struct Whole {
    /// The one breaker of all targets, where they have no own ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<breaker::Status>,
    /// All targets are used because too few are well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub panic: bool,
    /// Who waits while every target has as many requests as it may; nothing where that is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<max_in_flight::Status>,
    /// How its breakers are held by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
    /// Further tries of requests that failed; nothing where the pool makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
}

impl Whole {
    /// Whether requests go through at all.
    fn admits(&self) -> bool {
        match &self.by_hand {
            Some(hand) => hand.held == Held::Closed,
            None => self.breaker.as_ref().is_none_or(breaker::Status::is_passable),
        }
    }
}

/// What somebody has said of a pool's breakers.
#[derive(Debug, Clone, Serialize)]
pub struct ByHand {
    pub held: Held,
    pub ends_in_seconds: u64,
}

impl From<(Held, Duration)> for ByHand {
    fn from((held, left): (Held, Duration)) -> Self {
        Self { held, ends_in_seconds: left.as_secs() + u64::from(left.subsec_nanos() > 0) }
    }
}

/// Further tries of a pool's requests since the start.
#[derive(Debug, Clone, Serialize)]
pub struct Retries {
    pub made: u64,
    /// Those that there was no budget for.
    pub over_budget: u64,
    /// How many could be made now.
    pub budget_left: u64,
}

impl Retries {
    pub(super) fn new(budget: &Budget, now: Instant) -> Self {
        let (made, over_budget) = budget.counts();
        Self { made, over_budget, budget_left: budget.left(now) }
    }
}

/// How a pool as a whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolState {
    /// Every target is up.
    Up,
    /// Some are.
    Degraded,
    /// None is.
    Down,
    /// None is known to be up, and not all were asked yet.
    Unknown,
}

/// One target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetStatus {
    pub address: String,
    pub weight: u16,
    /// The group that it belongs to, unless that is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    pub state: &'static str,
    pub since_seconds: u64,
    /// Why the last probe failed, or that its breaker is held open by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub in_flight: u32,
    pub picks: u64,
    pub failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<breaker::Status>,
    /// That it was ejected, as long as that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection: Option<eject::Status>,
    /// What was said of its weight by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<Weighed>,
    /// Why it takes no requests now: `down`, `ejected`, `breaker`, `full`, `drained`, or `standby` while others before it do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<&'static str>,
}

impl TargetStatus {
    /// Whether its breaker, if it has one, lets requests through, and it is not ejected.
    fn admits(&self) -> bool {
        let is_out = self.ejection.as_ref().is_some_and(|ejection| ejection.out && !ejection.shadow);
        !is_out && self.breaker.as_ref().is_none_or(breaker::Status::is_passable)
    }
}

impl Status {
    /// `pending` tells whether addresses are still being looked up for the first time.
    pub(super) fn new(
        name: &Name,
        targets: Vec<TargetStatus>,
        discover: Vec<SourceStatus>,
        pending: bool,
        whole: Whole,
    ) -> Self {
        let weighted = || targets.iter().filter(|target| target.weight > 0);
        let count = |state: State| weighted().filter(|target| target.state == state.word()).count();
        let up = weighted().filter(|target| target.state == State::Up.word() && target.admits() && whole.admits());
        let (healthy, total) = (up.count(), weighted().count());
        let state = match (healthy, total) {
            (0, 0) if pending => PoolState::Unknown,
            (0, _) if count(State::Unknown) > 0 => PoolState::Unknown,
            (0, _) => PoolState::Down,
            (healthy, total) if healthy == total => PoolState::Up,
            _ => PoolState::Degraded,
        };
        Self { name: name.clone(), state, healthy, total, targets, discover, whole }
    }
}

impl TargetStatus {
    /// Without health checks (`watched`) a target counts as up.
    pub(super) fn new(
        target: &Target,
        watched: bool,
        breaker: Option<breaker::Status>,
        out: Option<Out>,
        now: Instant,
    ) -> Self {
        let cell = target.cell();
        let (state, since, reason) =
            cell.record(|record| (record.state(), record.since(), record.reason().map(str::to_owned)));
        Self {
            address: target.name().into(),
            weight: target.weight(),
            priority: Some(target.priority()).filter(|priority| *priority > 0),
            state: if watched { state.word() } else { State::Up.word() },
            since_seconds: now.saturating_duration_since(since).as_secs(),
            reason: reason.filter(|_| watched),
            in_flight: target.in_flight(),
            picks: cell.picks(),
            failures: cell.failures(),
            breaker,
            ejection: target.ejection(now),
            by_hand: None,
            out: out.filter(|_| target.weight() > 0).map(Out::word),
        }
    }
}
