//! How long something has been there: by a clock that nobody sets, and through the processes that hand it over.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The moment at which something began, perhaps in a process before this one.
#[derive(Debug)]
pub struct Since {
    made: Instant,
    /// Nanoseconds that it was there before.
    before: AtomicU64,
}

/// What is older was never handed over by anyone.
const OLDEST: Duration = Duration::from_hours(10 * 366 * 24);

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Since {
    pub fn new(now: Instant) -> Self {
        Self { made: now, before: AtomicU64::new(0) }
    }

    /// Nanoseconds since it began.
    pub fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.made)).saturating_add(self.before.load(Relaxed))
    }

    /// How long ago it began.
    pub fn age(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.nanos(now))
    }

    /// It was that old at this moment; nothing where nothing can be.
    pub fn adopt(&self, age: u64, now: Instant) -> Option<()> {
        let age = Some(Duration::from_nanos(age)).filter(|age| *age <= OLDEST)?;
        let (here, missed) = (now.saturating_duration_since(self.made), self.made.saturating_duration_since(now));
        self.before.store(nanos((age + missed).saturating_sub(here)), Relaxed);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_is_as_old_as_before() {
        let now = Instant::now();
        let (later, late) = (now + Duration::from_secs(3), now + Duration::from_secs(10));
        let old = Since::new(now);
        // The new one is made before what it takes up is packed, or after.
        for made in [now + Duration::from_secs(1), now + Duration::from_secs(5)] {
            let new = Since::new(made);
            new.adopt(old.nanos(later), later).unwrap();
            assert_eq!(new.age(late), old.age(late));
        }
        assert!(Since::new(now).adopt(u64::MAX, now).is_none());
    }
}
