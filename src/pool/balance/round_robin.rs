//! In turn, smoothly by weight: with weights 5, 1 and 1 the turns are a a b a c a a.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// No sequence is longer than this, as long as there are fewer targets.
const LONGEST: u64 = 8192;
/// Work that one sequence may cost; above, a coarser but still smooth order is made.
const STEPS: usize = 1 << 22;

/// The turns are worked out once; a request costs one addition.
pub(in crate::pool) struct RoundRobin {
    turns: Box<[usize]>,
    /// Whose turn it is, kept over reloads: else the first target would get the first request after each.
    next: Arc<AtomicUsize>,
}

impl RoundRobin {
    pub(super) fn new(weights: &[u16], next: Arc<AtomicUsize>) -> Self {
        Self { turns: turns(&shares(weights)), next }
    }

    pub(super) fn choose(&self, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.next.fetch_add(1, Relaxed).checked_rem(self.turns.len())?;
        let (later, first) = self.turns.split_at_checked(start)?;
        first.iter().chain(later).copied().find(|&index| fits(index))
    }
}

/// The weights in lowest terms, made coarser if the sequence would be too long.
fn shares(weights: &[u16]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |divisor, &weight| gcd(divisor, u64::from(weight))).max(1);
    let total: u64 = weights.iter().map(|&weight| u64::from(weight) / divisor).sum();
    let longest = LONGEST.max(weights.len() as u64);
    let share = |&weight: &u16| match u64::from(weight) / divisor {
        exact if total <= longest => exact,
        exact => (exact * longest / total).max(1),
    };
    weights.iter().map(share).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn turns(shares: &[u64]) -> Box<[usize]> {
    let total: usize = shares.iter().map(|&share| usize::try_from(share).unwrap_or(usize::MAX)).sum();
    match shares.iter().min() == shares.iter().max() {
        true => (0..shares.len()).collect(),
        false if total.saturating_mul(shares.len()) <= STEPS => smooth(shares, total),
        false => spread(shares),
    }
}

/// nginx's smooth weighted round robin: each turn everyone gains its weight, the richest is chosen and pays the total.
fn smooth(shares: &[u64], total: usize) -> Box<[usize]> {
    let mut purses = vec![0_i64; shares.len()];
    let price = i64::try_from(total).unwrap_or(i64::MAX);
    let turn = |_| {
        let mut richest = (0, i64::MIN);
        for (index, (purse, &share)) in purses.iter_mut().zip(shares).enumerate() {
            *purse += i64::try_from(share).unwrap_or(i64::MAX);
            if *purse > richest.1 {
                richest = (index, *purse);
            }
        }
        if let Some(purse) = purses.get_mut(richest.0) {
            *purse -= price;
        }
        richest.0
    };
    (0..total).map(turn).collect()
}

/// Each target's turns at even distances, for many targets of different weights.
fn spread(shares: &[u64]) -> Box<[usize]> {
    let places = |(index, &share): (usize, &u64)| (0..share).map(move |k| (((2 * k + 1) << 32) / share, index));
    let mut turns: Vec<(u64, usize)> = shares.iter().enumerate().flat_map(places).collect();
    turns.sort_unstable();
    turns.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(weights: &[u16], times: usize, fits: impl Fn(usize) -> bool) -> Vec<usize> {
        let round_robin = RoundRobin::new(weights, Arc::default());
        (0..times).filter_map(|_| round_robin.choose(&fits)).collect()
    }

    #[test]
    fn the_turns_are_those_of_nginx() {
        assert_eq!(taken(&[5, 1, 1], 7, |_| true), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(taken(&[50, 10, 10], 7, |_| true), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(taken(&[3, 3, 3], 6, |_| true), [0, 1, 2, 0, 1, 2]);
        assert_eq!(taken(&[], 3, |_| true), [0; 0]);
    }

    #[test]
    fn who_does_not_fit_is_passed_over() {
        assert_eq!(taken(&[1, 1, 1], 4, |index| index == 2), [2; 4]);
        assert_eq!(taken(&[1, 1], 4, |_| false), [0; 0]);
    }

    #[test]
    fn forty_thousand_targets_are_ordered_at_once() {
        let weights: Vec<u16> = (0..40_000).map(|index| index % 1000 + 1).collect();
        let start = std::time::Instant::now();
        RoundRobin::new(&weights, Arc::default());
        assert!(start.elapsed().as_secs() < 2);
    }

    proptest! {
        #[test]
        fn a_round_gives_each_its_share_and_no_long_runs(weights in prop::collection::vec(1_u16..=20, 1..20)) {
            let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
            let turns = taken(&weights, total, |_| true);
            let divisor = weights.iter().fold(0, |divisor, &weight| gcd(divisor, u64::from(weight)));
            for (index, &weight) in weights.iter().enumerate() {
                prop_assert_eq!(turns.iter().filter(|&&turn| turn == index).count(), usize::from(weight));
                // Smooth: at no time is a target further than one turn away from its share, times the targets' number.
                let mut given = 0.0;
                for (at, &turn) in turns.iter().enumerate() {
                    given += f64::from(u8::from(turn == index));
                    let due = (at + 1) as f64 * f64::from(weight) / total as f64;
                    prop_assert!((given - due).abs() <= weights.len() as f64, "{divisor}");
                }
            }
        }

        #[test]
        fn a_coarse_order_keeps_the_shares(weights in prop::collection::vec(1_u16..=1000, 30..60)) {
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let turns = turns(&shares(&weights));
            for (index, &weight) in weights.iter().enumerate() {
                let count = turns.iter().filter(|&&turn| turn == index).count() as f64;
                let due = turns.len() as f64 * f64::from(weight) / total;
                prop_assert!((count - due).abs() <= 1.0 + due * 0.02, "{count} for {due}");
            }
        }
    }
}
