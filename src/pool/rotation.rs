//! Whether a target takes a request now, and why not: the one place where health, ejection, breaker and panic meet.
//!
//! 1. A target is in rotation when its probes say that it serves, it is not ejected, and its breaker lets requests through.
//!    Each of the three takes it out alone, and none of them puts it back while another keeps it out.
//! 2. Ejection never leaves a pool without targets: where nobody else takes a request, who is only ejected does.
//! 3. In panic (fewer than `panic_below` of the targets serve and are not ejected) health and ejection count for nothing.
//! 4. An open breaker keeps requests away always: it has its own way back, by a few requests, and panic must not flood it.
//! 5. Only what happens in rotation counts for ejection: who is ejected is not ejected again, and neither is one whose
//!    breaker is not closed. So the two never lengthen each other: the longer of them decides, then one round of probes.
//! 6. Targets of a lower priority wait: they get requests where nobody before them takes any, or where `panic_below` says
//!    how many are enough, too few. Panic begins only where no group has enough.
//! 7. Probes and breaker learn always, also from who is ejected.
//! 8. Who was ejected gets one request at a time until it has answered one; who fails that is ejected again at once.
//! 9. Who only has no room for a moment is waited for: nobody who is ejected serves in its place.

use crate::units::Share;

/// Why a target takes no requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// Its probes fail, or it has to pass its first one.
    Down,
    Ejected,
    /// Others of a lower priority number take them.
    Standby,
    /// Its breaker is open, or as many requests as may try the target do.
    Broken,
    /// It has as many requests as it may have at once.
    Full,
}

impl Out {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Standby => "standby",
            Self::Broken => "breaker",
            Self::Full => "full",
        }
    }
}

/// What a pool takes into account when it picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Everything.
    Usual,
    /// Those too who are only ejected: nobody else is there.
    Ejected,
    /// Panic: everyone but open breakers.
    All,
}

/// Why the target takes no request, or nothing: then it does. What is not needed is not asked.
pub(super) fn out(
    trust: Trust,
    serves: impl FnOnce() -> bool,
    is_ejected: impl FnOnce() -> bool,
    admits: impl FnOnce() -> bool,
) -> Option<Out> {
    if trust != Trust::All && !serves() {
        Some(Out::Down)
    } else if trust == Trust::Usual && is_ejected() {
        Some(Out::Ejected)
    } else {
        (!admits()).then_some(Out::Broken)
    }
}

/// Whether an outcome counts for ejection.
pub(super) fn counts(is_ejected: bool, is_closed: bool) -> bool {
    !is_ejected && is_closed
}

/// How many of so many targets may be ejected at once: at least one unless nobody is to be, never the last one.
pub(super) fn most_ejected(targets: usize, at_most: Share) -> usize {
    let share = targets * usize::from(at_most.percent()) / 100;
    let least = usize::from(at_most.percent() > 0);
    share.max(least).min(targets.saturating_sub(1))
}

/// How many targets of one priority serve and are not ejected, and how many there are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strength {
    pub(super) well: usize,
    pub(super) of: usize,
}

impl Strength {
    /// Whether these are enough, so that nobody else is needed.
    pub(super) fn is_enough(self, panic_below: Option<Share>) -> bool {
        let share = panic_below.map_or(0, |below| usize::from(below.percent()));
        self.well > 0 && self.well * 100 >= self.of * share
    }
}

/// What counts where the groups of a pool are so strong.
pub(super) fn trust(groups: &[Strength], panic_below: Option<Share>) -> Trust {
    let (enough, there) = (|group: &Strength| group.is_enough(panic_below), |group: &Strength| group.of > 0);
    if groups.iter().any(enough) {
        Trust::Usual
    } else if panic_below.is_some_and(|below| below.percent() > 0) && groups.iter().any(there) {
        Trust::All
    } else {
        Trust::Ejected
    }
}

#[cfg(test)]
mod tests;
