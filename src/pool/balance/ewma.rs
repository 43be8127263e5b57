//! The quicker of two targets drawn by weight: how late answers begin (peak EWMA), times the requests that wait for one.
//!
//! As in Finagle and Linkerd. A slow or failing target gets few requests before anything is sure of it, and is tried again
//! as its estimate fades.

use super::random::Random;

pub(in crate::pool) struct Ewma {
    random: Random,
    weights: Box<[u16]>,
}

/// What a target of which nothing is known counts as while a request is on its way there: one is enough to find out.
const UNKNOWN: f64 = 1.0;

impl Ewma {
    pub(super) fn new(weights: &[u16]) -> Self {
        Self { random: Random::new(weights), weights: weights.into() }
    }

    /// `load` is the number of requests in flight, `latency` the estimate in seconds.
    pub(super) fn choose(
        &self,
        fits: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> u32,
        latency: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let first = self.random.choose(&fits)?;
        let Some(second) = self.random.choose(|index| index != first && fits(index)) else { return Some(first) };
        let cost = |index: usize| {
            let (load, latency) = (f64::from(load(index)), latency(index));
            let weight = self.weights.get(index).copied().map_or(1.0, f64::from);
            let known = if latency < 1e-6 && load > 0.0 { UNKNOWN } else { latency };
            known * (load + 1.0) / weight
        };
        Some(if cost(first) > cost(second) { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_is_left_out_until_the_quicker_has_a_queue() {
        let ewma = Ewma::new(&[1, 1]);
        let chosen = |load: [u32; 2], latency: [f64; 2]| {
            let mut seen = [false; 2];
            (0..100).filter_map(|_| ewma.choose(|_| true, |index| load[index], |index| latency[index])).for_each(
                |place| {
                    seen[place] = true;
                },
            );
            seen
        };
        assert_eq!(chosen([0, 0], [0.1, 0.01]), [false, true]);
        assert_eq!(chosen([0, 8], [0.1, 0.01]), [false, true]);
        assert_eq!(chosen([0, 10], [0.1, 0.01]), [true, false]);
        assert_eq!(chosen([0, 0], [0.0, 0.01]), [true, false], "who is new is asked");
        assert_eq!(chosen([1, 0], [0.0, 0.01]), [false, true], "once, until it has answered");
        assert_eq!(chosen([0, 0], [0.1, 0.1]), [true, true]);
    }

    #[test]
    fn twice_the_weight_bears_twice_the_load() {
        let ewma = Ewma::new(&[2, 1]);
        let all = |load: [u32; 2], place| {
            (0..100).all(|_| ewma.choose(|_| true, |index| load[index], |_| 0.1) == Some(place))
        };
        assert!(all([0, 0], 0) && all([2, 0], 1) && all([4, 2], 0));
    }
}
