//! Who stands out against the others of its pool: pure, from what was counted.

use std::time::Duration;

use super::config::{Above, Slower};

/// What one target did in the last while.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Outcomes that were its own doing, and bad ones.
    pub(super) total: u64,
    pub(super) bad: u64,
    /// Answers, and how late they began.
    pub(super) answers: u64,
    pub(super) mean: Duration,
}

/// What no factor can make an outlier: differences that nobody would notice.
const UNNOTICED: Duration = Duration::from_millis(10);

/// Whose error share is too far above that of the others together, the worst first: its place and why.
pub(super) fn erring(all: &[Figures], rule: Above) -> Vec<(usize, String)> {
    let (total, bad) = all.iter().fold((0, 0), |sum, one| (sum.0 + one.total, sum.1 + one.bad));
    let of = u64::from(rule.sample.of);
    let percent = |bad: u64, total: u64| bad * 100 / total.max(1);
    let mut found: Vec<_> =
        all.iter().enumerate().filter(|(_, one)| one.total >= of && total - one.total >= of).collect();
    found.retain(|(_, one)| {
        let (others_total, others_bad) = (total - one.total, bad - one.bad);
        // own/total - others/total >= points/100, without the division.
        let excess = (one.bad * others_total).saturating_sub(others_bad * one.total);
        excess > 0 && excess * 100 >= u64::from(rule.points) * one.total * others_total
    });
    found.sort_by_key(|(_, one)| std::cmp::Reverse(percent(one.bad, one.total)));
    let why = |one: &Figures| {
        let others = percent(bad - one.bad, total - one.total);
        format!("{} of {} failed in {}, {others}% of the others'", one.bad, one.total, rule.sample.within)
    };
    found.into_iter().map(|(place, one)| (place, why(one))).collect()
}

/// Whose answers are too late against the median of the others, the slowest first: its place and why.
pub(super) fn late(all: &[Figures], rule: Slower) -> Vec<(usize, String)> {
    let known = |one: &Figures| one.answers >= u64::from(rule.sample.of);
    let median = |place: usize| {
        let others = all.iter().enumerate().filter(|(other, one)| *other != place && known(one));
        let mut means: Vec<_> = others.map(|(_, one)| one.mean).collect();
        means.sort_unstable();
        means.get(means.len().saturating_sub(1) / 2).copied()
    };
    let slow = |(place, one): (usize, &Figures)| {
        let usual = median(place).filter(|_| known(one))?;
        let late = one.mean >= usual.mul_f64(rule.factor()) && one.mean.saturating_sub(usual) >= UNNOTICED;
        late.then_some((place, one.mean, usual))
    };
    let mut found: Vec<_> = all.iter().enumerate().filter_map(slow).collect();
    found.sort_by_key(|(_, mean, _)| std::cmp::Reverse(*mean));
    let why = |mean: Duration, usual: Duration| {
        format!("answers begin after {mean:.0?}, those of the others after {usual:.0?}")
    };
    found.into_iter().map(|(place, mean, usual)| (place, why(mean, usual))).collect()
}
