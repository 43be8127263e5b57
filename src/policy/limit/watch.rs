//! Notices that nearly all requests share one key: then a limit by client is a limit on all of them together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Requests looked at before anything is said, and how many in a hundred are nearly all.
const ENOUGH: u64 = 256;
const NEARLY_ALL: u64 = 95;
/// One in so many requests is looked at.
const ONE_IN: u64 = 16;

/// What was seen of the keys of one limit.
#[derive(Debug, Default)]
pub(super) struct Watch {
    key: AtomicU64,
    same: AtomicU64,
    seen: AtomicU64,
    said: AtomicBool,
}

impl Watch {
    /// Looks at some requests, chosen by the clock; true once, when nearly all of them had the same key.
    pub(super) fn sees(&self, key: u64, nanoseconds: u64) -> bool {
        if !nanoseconds.is_multiple_of(ONE_IN) || self.said.load(Relaxed) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Relaxed) + 1;
        if self.key.load(Relaxed) == key {
            self.same.fetch_add(1, Relaxed);
        }
        if seen < ENOUGH {
            return false;
        }
        // Another round with the key that is here now: where one is nearly all, it is that one.
        let same = self.same.swap(0, Relaxed);
        self.seen.store(0, Relaxed);
        self.key.store(key, Relaxed);
        same * 100 >= seen * NEARLY_ALL && !self.said.swap(true, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_noticed_once_and_many_are_not() {
        let (one, many) = (Watch::default(), Watch::default());
        assert_eq!((0..100_000).filter(|at| one.sees(7, *at)).count(), 1);
        assert_eq!((0..100_000).filter(|at| many.sees(at / 16 % 10, *at)).count(), 0);
        let nearly = Watch::default();
        let key = |at: u64| if (at / 16).is_multiple_of(50) { at } else { 7 };
        assert_eq!((0..100_000).filter(|at| nearly.sees(key(*at), *at)).count(), 1);
    }
}
