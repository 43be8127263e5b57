//! The less busy of two targets drawn by weight: nearly as good as asking all, and no herd runs to the idlest.

use super::random::Random;

pub(in crate::pool) struct LeastRequests {
    random: Random,
    weights: Box<[u16]>,
}

impl LeastRequests {
    pub(super) fn new(weights: &[u16]) -> Self {
        Self { random: Random::new(weights), weights: weights.into() }
    }

    /// `load` is the number of requests in flight.
    pub(super) fn choose(&self, fits: impl Fn(usize) -> bool, load: impl Fn(usize) -> u32) -> Option<usize> {
        let first = self.random.choose(&fits)?;
        let Some(second) = self.random.choose(|index| index != first && fits(index)) else { return Some(first) };
        let weight = |index: usize| self.weights.get(index).copied().map_or(1, u64::from);
        // Load per weight, without the division; at a tie the first keeps it, so that idle targets follow the weights.
        let busier = u64::from(load(first)) * weight(second) > u64::from(load(second)) * weight(first);
        Some(if busier { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_is_never_chosen_and_weights_count_when_idle() {
        let least = LeastRequests::new(&[1, 1, 1]);
        assert!((0..1000).all(|_| least.choose(|_| true, |index| [5, 0, 1][index]) != Some(0)));
        let least = LeastRequests::new(&[3, 1]);
        let heavy = (0..8000).filter(|_| least.choose(|_| true, |_| 0) == Some(0)).count();
        assert!((5700..6300).contains(&heavy), "{heavy}");
        assert!((0..100).all(|_| least.choose(|_| true, |index| [3, 2][index]) == Some(0)), "three of three is less");
    }

    #[test]
    fn the_only_one_that_fits_is_chosen() {
        let least = LeastRequests::new(&[1, 1]);
        assert_eq!(least.choose(|index| index == 1, |_| 9), Some(1));
        assert_eq!(least.choose(|_| false, |_| 0), None);
    }
}
