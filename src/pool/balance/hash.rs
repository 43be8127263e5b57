//! A consistent ring: a key keeps its target while the target is up, and a leaving target takes only its own keys along.

use super::super::chance::mix;

/// Points on the ring for a weight of one.
const POINTS: u64 = 160;
/// No ring has many more points than this.
const MOST: u64 = 1 << 20;

/// Points in order, each with its target.
pub(in crate::pool) struct Hash(Box<[(u64, usize)]>);

impl Hash {
    /// Names and weights of the targets; the same ones give the same ring in every process.
    pub(super) fn new<'a>(targets: impl Iterator<Item = (&'a str, u16)> + Clone) -> Self {
        let wished: u64 = targets.clone().map(|(_, weight)| u64::from(weight) * POINTS).sum();
        let points = |weight: u16| match u64::from(weight) * POINTS {
            all if wished <= MOST => all,
            some => (some * MOST / wished).max(1),
        };
        let own = |(index, (name, weight)): (usize, (&'a str, u16))| {
            let name = of(name.as_bytes());
            (0..points(weight)).map(move |point| (mix(name ^ mix(point)), index))
        };
        let mut ring: Vec<_> = targets.enumerate().flat_map(own).collect();
        ring.sort_unstable();
        Self(ring.into())
    }

    /// The first target that fits, from the key's place on.
    pub(super) fn choose(&self, key: &[u8], fits: impl Fn(usize) -> bool) -> Option<usize> {
        let place = of(key);
        let start = self.0.partition_point(|&(point, _)| point < place);
        let (before, after) = self.0.split_at_checked(start)?;
        after.iter().chain(before).map(|&(_, index)| index).find(|&index| fits(index))
    }
}

/// The same number for the same bytes in every process and version (FNV-1a, spread).
fn of(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(targets: &[(String, u16)]) -> Hash {
        Hash::new(targets.iter().map(|(name, weight)| (name.as_str(), *weight)))
    }

    fn targets(count: usize) -> Vec<(String, u16)> {
        (0..count).map(|index| (format!("10.0.0.{index}:8080"), 1)).collect()
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let mut targets = targets(4);
        targets[0].1 = 3;
        let ring = ring(&targets);
        let first = (0..30_000).filter(|key: &i32| ring.choose(&key.to_le_bytes(), |_| true) == Some(0)).count();
        assert!((13_000..17_000).contains(&first), "{first} of 30000, half is due");
    }

    #[test]
    fn the_ring_is_the_same_in_every_version() {
        let ring = ring(&targets(3));
        let chosen: Vec<_> = (0..8).filter_map(|key: u8| ring.choose(&[b'k', key], |_| true)).collect();
        assert_eq!(chosen, [0, 2, 1, 2, 0, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn a_leaving_target_moves_only_its_own_keys(count in 2_usize..12, leaving in 0_usize..12) {
            let all = targets(count);
            let leaving = leaving % count;
            let mut rest = all.clone();
            rest.remove(leaving);
            let (before, after) = (ring(&all), ring(&rest));
            let mut moved = 0;
            for key in 0..2000_u32 {
                let key = key.to_le_bytes();
                let old = before.choose(&key, |_| true).map(|index| &all[index].0);
                let new = after.choose(&key, |_| true).map(|index| &rest[index].0);
                if old != new {
                    prop_assert_eq!(old, Some(&all[leaving].0));
                    moved += 1;
                }
                // Being down is the same as having left.
                let skipped = before.choose(&key, |index| index != leaving).map(|index| &all[index].0);
                prop_assert_eq!(skipped, new);
            }
            prop_assert!(f64::from(moved) < 2000.0 / count as f64 * 1.6, "{} of 2000 among {}", moved, count);
        }
    }
}
