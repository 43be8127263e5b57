//! How fast a request body must come: on average, after a grace, while we wait for it.

use std::time::Duration;

use tokio::time::Instant;

/// Counts what came and how long we waited; time in which nobody asked for the body does not count.
#[derive(Debug, Default)]
pub(super) struct Pace {
    got: u64,
    waited: Duration,
    since: Option<Instant>,
}

const GRACE: Duration = Duration::from_secs(10);

impl Pace {
    /// More of the body came.
    pub(super) fn got(&mut self, bytes: usize) {
        self.got += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// When the client will have been too slow, if nothing more comes: the time it may take for what it sent, and the grace.
    pub(super) fn limit(&mut self, bytes_per_second: u64, now: impl FnOnce() -> Instant) -> Instant {
        let since = *self.since.get_or_insert_with(now);
        let earned = Duration::from_millis(self.got.saturating_mul(1000) / bytes_per_second.max(1));
        since + (GRACE + earned.min(Duration::from_hours(24))).saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_extend_the_time_only_by_their_size() {
        let start = Instant::now();
        let mut pace = Pace { got: 2048, ..Pace::default() };
        assert_eq!(pace.limit(1024, || start), start + Duration::from_secs(12));
        let mut tired = Pace { got: 0, waited: Duration::from_secs(9), since: Some(start) };
        assert_eq!(tired.limit(1024, || start), start + Duration::from_secs(1));
    }
}
