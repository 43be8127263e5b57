//! What a limit says of a key: how much is left, and when that changes.

use std::time::Duration;

/// How many requests are left. To one that is refused: when it may come again; to one that is admitted: when all is as
/// at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub requests: u64,
    pub reset: Duration,
}

impl Left {
    /// Whole seconds until then, at least one: who comes back after them does not come too early.
    pub fn seconds(&self) -> u64 {
        self.reset.as_secs().saturating_add(u64::from(self.reset.subsec_nanos() > 0)).max(1)
    }
}

/// As large a part of `whole` as `left` is of `of`, and not more.
pub fn share(left: u64, whole: u64, of: u64) -> u64 {
    let part = u128::from(left) * u128::from(whole) / u128::from(of.max(1));
    u64::try_from(part).unwrap_or(whole).min(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (12_000, 12)] {
            assert_eq!(Left { requests: 0, reset: Duration::from_millis(millis) }.seconds(), seconds);
        }
    }
}
