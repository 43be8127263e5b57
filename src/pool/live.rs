//! The targets as a pick sees them: made anew when addresses or health change, read without a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::balance::{self, Choice};
use super::chance;
use super::health::State;
use super::rotation::{self, Out, Strength, Trust};
use super::target::Target;
use crate::exchange::Request;
use crate::units::Share;

/// One set of targets and the balance among them.
pub(super) struct Live {
    /// Every target, those without weight too: what is watched and shown.
    all: Vec<Arc<Target>>,
    /// Those who may be chosen, the group that is used first before the others.
    groups: Vec<Group>,
    /// Who is named by which cookie; nobody where the pool has none.
    named: HashMap<Box<str>, Arc<Target>>,
    trust: Trust,
    /// Whether some may have less than their weight for a while.
    grows: bool,
    /// Whether health counts.
    watched: bool,
    /// Whether nobody is known to serve, so that those who were not asked yet may.
    unproven: bool,
    /// How many targets with weight there are, how many of them are more than newcomers, and how many serve and are not
    /// ejected.
    weighted: usize,
    known: usize,
    well: usize,
    /// How many changes of health this set knows of.
    changes: usize,
}

/// Targets of one priority, and the balance among them.
struct Group {
    priority: u8,
    /// The targets that the choice knows, by their places.
    candidates: Vec<Arc<Target>>,
    choice: Arc<Choice>,
}

impl Group {
    /// With the choice of `old` if that knows the same targets.
    fn new(priority: u8, candidates: Vec<Arc<Target>>, old: &[Self], terms: &Terms<'_>) -> Self {
        let same = |(new, old): (&Arc<Target>, &Arc<Target>)| Arc::ptr_eq(new, old);
        let knows_them =
            |old: &&Self| old.candidates.len() == candidates.len() && candidates.iter().zip(&old.candidates).all(same);
        let make = || {
            let weights: Vec<_> = candidates.iter().map(|target| (target.name(), target.weight())).collect();
            Arc::new(Choice::new(terms.balance, &weights, terms.turn))
        };
        let choice = old.iter().find(knows_them).map_or_else(make, |old| Arc::clone(&old.choice));
        Self { priority, candidates, choice }
    }

    fn choose(&self, request: &dyn Request, fits: &dyn Fn(&Target) -> bool) -> Option<&Arc<Target>> {
        let at = |place: usize| self.candidates.get(place);
        let load = |place| at(place).map_or(0, |target| target.in_flight());
        let latency = |place| at(place).map_or(0.0, |target| target.latency());
        let place = self.choice.choose(request, |place| at(place).is_some_and(|target| fits(target)), load, latency);
        place.and_then(at)
    }
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
            groups: Vec::new(),
            named: HashMap::new(),
            trust: Trust::Usual,
            grows: false,
            watched: false,
            unproven: false,
            weighted: 0,
            known: 0,
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
        let mut priorities: Vec<_> = weighted.iter().map(|target| target.priority()).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let of = |priority: u8| weighted.iter().filter(move |target| target.priority() == priority);
        let well = |target: &&Arc<Target>| live.out(target, Trust::Usual, false).is_none();
        // Who has to pass its first probe is none of those who could be well.
        let known = |target: &&Arc<Target>| live.serves(target) || target.cell().state() != State::Unknown;
        let count = |priority, of_kind: &dyn Fn(&&Arc<Target>) -> bool| of(priority).filter(of_kind).count();
        let strength = |priority| Strength { well: count(priority, &well), of: count(priority, &known) };
        let strengths: Vec<_> = priorities.iter().map(|&priority| strength(priority)).collect();
        let (well, known) = strengths.iter().fold((0, 0), |sum, group| (sum.0 + group.well, sum.1 + group.of));
        let trust = rotation::trust(&strengths, terms.panic_below);
        // Those who are enough come first; in panic all of them stand together.
        let mut order: Vec<_> = priorities.into_iter().zip(strengths).collect();
        order.sort_by_key(|(_, strength)| !strength.is_enough(terms.panic_below));
        // A ring keeps its place for who is down, so that keys come back; the others share among those who serve.
        let is_hash = terms.balance.is_hash();
        let candidates = |targets: &mut dyn Iterator<Item = &Arc<Target>>| -> Vec<_> {
            targets.filter(|target| is_hash || live.out(target, trust, false).is_none()).cloned().collect()
        };
        let group = |(priority, _)| Group::new(priority, candidates(&mut of(priority)), &self.groups, terms);
        live.groups = match trust {
            Trust::All => vec![Group::new(0, candidates(&mut weighted.iter()), &self.groups, terms)],
            _ => order.into_iter().map(group).collect(),
        };
        let cookie = |target: &Arc<Target>| Some((target.cookie()?.into(), Arc::clone(target)));
        live.named = weighted.iter().filter_map(cookie).collect();
        (live.well, live.known, live.trust, live.grows) = (well, known, trust, terms.slow_start && !is_hash);
        live
    }

    /// The target for this request: not one that was tried if another serves.
    pub(super) fn pick(&self, request: &dyn Request, tried: &[Arc<Target>]) -> Option<&Arc<Target>> {
        let serves = |target: &Target| self.out(target, self.trust, true).is_none();
        let is_new = |target: &Target| !tried.iter().any(|other| other.is(target));
        // Drawn once, however often the choice looks at a target.
        let drawn = if self.grows { chance::share() } else { 0.0 };
        let is_due = |target: &Target| target.share().is_none_or(|share| drawn < share);
        if let Some(target) = self.named(request).filter(|target| serves(target) && is_new(target)) {
            return Some(target);
        }
        let found = self.groups.iter().find_map(|group| {
            let due = |target: &Target| serves(target) && is_new(target) && is_due(target);
            let due = self.grows.then(|| group.choose(request, &due)).flatten();
            due.or_else(|| group.choose(request, &|target| serves(target) && is_new(target)))
        });
        let again = || self.groups.iter().find_map(|group| group.choose(request, &serves));
        found.or_else(|| if tried.is_empty() { None } else { again() }).or_else(|| self.anyone())
    }

    /// Who has answered the client before, by its cookie.
    fn named(&self, request: &dyn Request) -> Option<&Arc<Target>> {
        if self.named.is_empty() {
            return None;
        }
        self.named.get(request.cookie(self.all.first()?.sticky()?.name())?)
    }

    /// Nobody fits as this set knows it: a change that it does not know of yet, or all but those who are ejected rest.
    fn anyone(&self) -> Option<&Arc<Target>> {
        let start = usize::try_from(chance::below(self.all.len() as u64)).unwrap_or_default();
        let around = || self.all.iter().cycle().skip(start).take(self.all.len()).filter(|target| target.weight() > 0);
        let serving = |trust| {
            around().filter(|target| self.out(target, trust, true).is_none()).min_by_key(|target| target.priority())
        };
        let last = || serving(Trust::Ejected).filter(|_| self.trust == Trust::Usual && !self.is_full());
        serving(self.trust).or_else(last)
    }

    /// Those that would serve if their breakers let them.
    pub(super) fn broken(&self) -> impl Iterator<Item = &Arc<Target>> {
        let trust = if self.trust == Trust::All { Trust::All } else { Trust::Ejected };
        self.all.iter().filter(move |target| target.weight() > 0 && self.out(target, trust, true) == Some(Out::Broken))
    }

    /// Whether someone would serve who has as many requests as it may have.
    pub(super) fn is_full(&self) -> bool {
        let full = |target: &Arc<Target>| target.weight() > 0 && self.out(target, self.trust, true) == Some(Out::Full);
        self.all.iter().any(full)
    }

    /// Why a target takes no request; for the one that is `asked` now its breaker and its room count too.
    fn out(&self, target: &Target, trust: Trust, asked: bool) -> Option<Out> {
        let out = rotation::out(
            trust,
            || self.serves(target),
            || target.is_ejected() || (asked && target.is_tried()),
            || !asked || target.admits(),
        );
        out.or_else(|| (asked && !target.has_room()).then_some(Out::Full))
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
    /// How many targets with weight there are, beside newcomers.
    pub(super) fn known(&self) -> usize {
        self.known
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
        let waits = || {
            let before = self.groups.iter().take_while(|group| group.priority != target.priority());
            let takes = |other: &Arc<Target>| self.out(other, self.trust, true).is_none();
            self.trust != Trust::All && before.flat_map(|group| &group.candidates).any(takes)
        };
        self.out(target, self.trust, true).or_else(|| waits().then_some(Out::Standby))
    }
}
