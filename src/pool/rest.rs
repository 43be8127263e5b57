//! How long a target that failed is left alone: longer each time that it fails again soon.

use std::time::Duration;

/// Who fails again within this many times of its last rest rests longer.
const SOON: u32 = 2;
/// How many times longer at most.
pub(super) const LONGEST: u32 = 10;

/// The length of the last rest, as long as that matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rest(Duration);

impl Rest {
    pub(super) fn of(length: Duration) -> Self {
        Self(length)
    }

    pub(super) fn length(self) -> Duration {
        self.0
    }

    /// It has served for so long since: after a while nobody remembers.
    pub(super) fn served(&mut self, long: Duration) -> bool {
        let forgotten = long > self.0.saturating_mul(SOON);
        if forgotten {
            self.0 = Duration::ZERO;
        }
        forgotten
    }

    /// The next rest: `first`, or twice the last one.
    pub(super) fn grow(&mut self, first: Duration) -> Duration {
        self.0 = self.0.saturating_mul(2).clamp(first, first.saturating_mul(LONGEST));
        self.0
    }
}
