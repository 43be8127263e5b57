//! Drawn by weight.

use super::super::chance;

/// The sums of the weights up to each target: a number below the last one falls to exactly one target.
pub(in crate::pool) struct Random(Box<[u64]>);

impl Random {
    pub(super) fn new(weights: &[u16]) -> Self {
        let mut sum = 0;
        let add = |&weight: &u16| {
            sum += u64::from(weight);
            sum
        };
        Self(weights.iter().map(add).collect())
    }

    pub(super) fn choose(&self, fits: impl Fn(usize) -> bool) -> Option<usize> {
        // Drawing again keeps the weights among those that fit; a few draws are enough unless nearly nobody does.
        let draws = (0..4).map(|_| self.draw());
        draws.filter(|&index| fits(index)).find(|&index| index < self.0.len()).or_else(|| {
            let start = self.draw();
            (start..self.0.len()).chain(0..start).find(|&index| fits(index))
        })
    }

    fn draw(&self) -> usize {
        let drawn = chance::below(self.0.last().copied().unwrap_or_default());
        self.0.partition_point(|&sum| sum <= drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let random = Random::new(&[1, 3]);
        let second = (0..8000).filter(|_| random.choose(|_| true) == Some(1)).count();
        assert!((5700..6300).contains(&second), "{second}");
    }

    #[test]
    fn only_who_fits_is_drawn() {
        let random = Random::new(&[1; 500]);
        assert!((0..100).all(|_| random.choose(|index| index == 77) == Some(77)));
        assert_eq!(random.choose(|_| false), None);
        assert_eq!(Random::new(&[]).choose(|_| true), None);
    }
}
