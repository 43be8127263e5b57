//! Chance for draws and jitter: fast, spread evenly, not secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
}

/// Any number (splitmix64, seeded per thread).
pub(super) fn any() -> u64 {
    STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        mix(state.get())
    })
}

/// A number below `bound`; 0 if there is none.
pub(super) fn below(bound: u64) -> u64 {
    let wide = u128::from(any()) * u128::from(bound);
    u64::try_from(wide >> 64).unwrap_or_default()
}

/// A share between 0 and 1.
pub(super) fn share() -> f64 {
    f64::from(u32::try_from(any() >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// `length`, a tenth longer or shorter: `share` 0 is the shortest, 1 the longest.
pub(super) fn about(length: Duration, share: f64) -> Duration {
    length.mul_f64(0.9 + 0.2 * share)
}

/// Spreads the bits of a number over all of it (the finalizer of splitmix64).
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_below_their_bound_and_reach_every_number() {
        let mut seen = [0; 7];
        for _ in 0..7000 {
            seen[usize::try_from(below(7)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (700..1300).contains(count)), "{seen:?}");
        assert_eq!(below(0), 0);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&share())));
    }

    #[test]
    fn about_is_a_tenth_around() {
        let second = Duration::from_secs(1);
        assert_eq!(about(second, 0.0), Duration::from_millis(900));
        assert_eq!(about(second, 1.0), Duration::from_millis(1100));
    }
}
