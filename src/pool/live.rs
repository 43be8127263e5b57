//! The targets as a pick sees them: made anew when addresses or health change, read without a lock.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::balance::{self, Choice};
use super::health::State;
use super::target::Target;
use crate::exchange::Request;

/// One set of targets and the balance among them.
pub(super) struct Live {
    /// Every target, those without weight too: what is watched and shown.
    all: Vec<Arc<Target>>,
    /// The targets that the choice knows, by their places.
    candidates: Vec<Arc<Target>>,
    choice: Arc<Choice>,
    /// Whether health counts.
    watched: bool,
    /// Whether nobody is known to serve, so that those who were not asked yet may.
    unproven: bool,
    /// How many changes of health this set knows of.
    changes: usize,
}

impl Live {
    /// Nobody yet.
    pub(super) fn none() -> Self {
        let (all, candidates, choice) = (Vec::new(), Vec::new(), Arc::new(Choice::none()));
        Self { all, candidates, choice, watched: false, unproven: false, changes: 0 }
    }

    /// The set after this one; `turn` is whose turn it is, kept for ever.
    pub(super) fn next(
        &self,
        all: Vec<Arc<Target>>,
        balance: &balance::Config,
        turn: &Arc<AtomicUsize>,
        watched: bool,
        changes: usize,
    ) -> Self {
        let weighted: Vec<_> = all.iter().filter(|target| target.weight() > 0).cloned().collect();
        let unproven = watched && !weighted.iter().any(|target| target.cell().serves());
        let choice = Arc::clone(&self.choice);
        let mut live = Self { all, candidates: weighted, choice, watched, unproven, changes };
        // A ring keeps its place for who is down, so that keys come back; the others share among those who serve.
        if !matches!(balance, balance::Config::Hash(_)) {
            let serving = live.candidates.iter().filter(|target| live.serves(target)).cloned().collect();
            live.candidates = serving;
        }
        let same = |(new, old): (&Arc<Target>, &Arc<Target>)| Arc::ptr_eq(new, old);
        let count = live.candidates.len();
        if count != self.candidates.len() || !live.candidates.iter().zip(&self.candidates).all(same) {
            let known: Vec<_> = live.candidates.iter().map(|target| (target.name(), target.weight())).collect();
            live.choice = Arc::new(Choice::new(balance, &known, turn));
        }
        live
    }

    /// The target for this request: not one that was tried if another serves.
    pub(super) fn pick(&self, request: &dyn Request, tried: &[Arc<Target>]) -> Option<&Arc<Target>> {
        let serves =
            |place: usize| self.candidates.get(place).is_some_and(|target| self.serves(target) && target.admits());
        let is_new =
            |place: usize| self.candidates.get(place).is_some_and(|target| !tried.iter().any(|other| other.is(target)));
        let load = |place: usize| self.candidates.get(place).map_or(0, |target| target.in_flight());
        let mut place = self.choice.choose(request, |place| serves(place) && is_new(place), load);
        if place.is_none() && !tried.is_empty() {
            place = self.choice.choose(request, serves, load);
        }
        // A change of health that this set does not know of yet.
        let late = || self.all.iter().find(|target| target.weight() > 0 && self.serves(target) && target.admits());
        place.and_then(|place| self.candidates.get(place)).or_else(late)
    }

    /// Those that would serve if their breakers let them.
    pub(super) fn broken(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.all.iter().filter(|target| target.weight() > 0 && self.serves(target) && !target.admits())
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
        !self.all.iter().any(|target| target.weight() > 0)
    }
}
