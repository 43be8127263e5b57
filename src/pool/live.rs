//! The targets as a pick sees them: made anew when addresses or health change, read without a lock.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::balance::{self, Choice};
use super::chance;
use super::health::State;
use super::rotation::{self, Out, Trust};
use super::target::Target;
use crate::exchange::Request;
use crate::units::Share;

/// One set of targets and the balance among them.
pub(super) struct Live {
    /// Every target, those without weight too: what is watched and shown.
    all: Vec<Arc<Target>>,
    /// The targets that the choice knows, by their places.
    candidates: Vec<Arc<Target>>,
    choice: Arc<Choice>,
    trust: Trust,
    /// Whether some may have less than their weight for a while.
    grows: bool,
    /// Whether health counts.
    watched: bool,
    /// Whether nobody is known to serve, so that those who were not asked yet may.
    unproven: bool,
    /// How many targets with weight there are, and how many of them serve and are not ejected.
    weighted: usize,
    well: usize,
    /// How many changes of health this set knows of.
    changes: usize,
}

/// What a pool's settings say of every set.
pub(super) struct Terms<'a> {
    pub(super) balance: &'a balance::Config,
    /// Whose turn it is, kept for ever.
    pub(super) turn: &'a Arc<AtomicUsize>,
    pub(super) watched: bool,
    pub(super) panic_below: Option<Share>,
    pub(super) slow_start: bool,
}

impl Live {
    /// Nobody yet.
    pub(super) fn none() -> Self {
        Self {
            all: Vec::new(),
            candidates: Vec::new(),
            choice: Arc::new(Choice::none()),
            trust: Trust::Usual,
            grows: false,
            watched: false,
            unproven: false,
            weighted: 0,
            well: 0,
            changes: 0,
        }
    }

    /// The set after this one.
    pub(super) fn next(&self, all: Vec<Arc<Target>>, terms: &Terms<'_>, changes: usize) -> Self {
        let weighted: Vec<_> = all.iter().filter(|target| target.weight() > 0).cloned().collect();
        let unproven = terms.watched && !weighted.iter().any(|target| target.cell().serves());
        let mut live =
            Self { all, unproven, watched: terms.watched, weighted: weighted.len(), changes, ..Self::none() };
        live.well = weighted.iter().filter(|target| live.out(target, Trust::Usual, false).is_none()).count();
        live.trust = rotation::trust(live.well, live.weighted, terms.panic_below);
        live.grows = terms.slow_start && !matches!(terms.balance, balance::Config::Hash(_));
        // A ring keeps its place for who is down, so that keys come back; the others share among those who serve.
        let keeps = matches!(terms.balance, balance::Config::Hash(_));
        let serves = |target: &Arc<Target>| keeps || live.out(target, live.trust, false).is_none();
        live.candidates = weighted.into_iter().filter(serves).collect();
        let same = |(new, old): (&Arc<Target>, &Arc<Target>)| Arc::ptr_eq(new, old);
        let count = live.candidates.len();
        let is_known = count == self.candidates.len() && live.candidates.iter().zip(&self.candidates).all(same);
        live.choice = if is_known {
            Arc::clone(&self.choice)
        } else {
            let known: Vec<_> = live.candidates.iter().map(|target| (target.name(), target.weight())).collect();
            Arc::new(Choice::new(terms.balance, &known, terms.turn))
        };
        live
    }

    /// The target for this request: not one that was tried if another serves.
    pub(super) fn pick(&self, request: &dyn Request, tried: &[Arc<Target>]) -> Option<&Arc<Target>> {
        let at = |place: usize| self.candidates.get(place);
        let serves = |place| at(place).is_some_and(|target| self.out(target, self.trust, true).is_none());
        let is_new = |place| at(place).is_some_and(|target| !tried.iter().any(|other| other.is(target)));
        let is_due = |place| at(place).and_then(|target| target.share()).is_none_or(|share| chance::share() < share);
        let load = |place| at(place).map_or(0, |target| target.in_flight());
        let latency = |place| at(place).map_or(0.0, |target| target.latency());
        let choose = |fits: &dyn Fn(usize) -> bool| self.choice.choose(request, fits, load, latency);
        let mut place = None;
        if self.grows {
            place = choose(&|place| serves(place) && is_new(place) && is_due(place));
        }
        place = place.or_else(|| choose(&|place| serves(place) && is_new(place)));
        if place.is_none() && !tried.is_empty() {
            place = choose(&serves);
        }
        place.and_then(at).or_else(|| self.anyone())
    }

    /// Nobody fits as this set knows it: a change that it does not know of yet, or all but those who are ejected rest.
    fn anyone(&self) -> Option<&Arc<Target>> {
        let start = usize::try_from(chance::below(self.all.len() as u64)).unwrap_or_default();
        let around = || self.all.iter().cycle().skip(start).take(self.all.len()).filter(|target| target.weight() > 0);
        let serving = |trust| around().find(|target| self.out(target, trust, true).is_none());
        serving(self.trust).or_else(|| serving(Trust::Ejected).filter(|_| self.trust == Trust::Usual))
    }

    /// Those that would serve if their breakers let them.
    pub(super) fn broken(&self) -> impl Iterator<Item = &Arc<Target>> {
        let trust = if self.trust == Trust::All { Trust::All } else { Trust::Ejected };
        self.all.iter().filter(move |target| target.weight() > 0 && self.out(target, trust, true) == Some(Out::Broken))
    }

    /// Why a target takes no request; with `admits` its breaker is asked too.
    fn out(&self, target: &Target, trust: Trust, admits: bool) -> Option<Out> {
        rotation::out(trust, || self.serves(target), || target.is_ejected(), || !admits || target.admits())
    }

    fn serves(&self, target: &Target) -> bool {
        !self.watched || target.cell().serves() || (self.unproven && target.cell().state() == State::Unknown)
    }

    pub(super) fn all(&self) -> &[Arc<Target>] {
        &self.all
    }
    pub(super) fn changes(&self) -> usize {
        self.changes
    }
    /// Whether there is a target with weight, in whatever health.
    pub(super) fn is_empty(&self) -> bool {
        self.weighted == 0
    }
    /// How many targets with weight there are.
    pub(super) fn weighted(&self) -> usize {
        self.weighted
    }
    /// How many of them serve and are not ejected.
    pub(super) fn well(&self) -> usize {
        self.well
    }
    /// Whether so few are well that all are used.
    pub(super) fn panics(&self) -> bool {
        self.trust == Trust::All
    }
    /// Why a target gets no requests now.
    pub(super) fn why_not(&self, target: &Target) -> Option<Out> {
        self.out(target, self.trust, true)
    }
}
