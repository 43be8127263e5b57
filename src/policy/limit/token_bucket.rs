//! A bucket of tokens, one taken by each request and filled again at a steady rate (GCRA: only the moment at which the
//! bucket will be full again is kept).
//!
//! In any span of time at most `rate * span + burst` requests are admitted.

use std::sync::Arc;

use super::carry::{Row, word};
use super::left::{Left, share};
use super::store::{Cells, State, ticks, time};
use crate::units::Rate;

/// What is kept of a key: when its bucket will be full, and by which interval that was reckoned.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    full_at: u64,
    interval: u64,
}

impl State for Bucket {
    fn idle_at(&self) -> u64 {
        self.full_at
    }
}

impl Row for Bucket {
    const NAME: &'static str = "bucket";
    const WIDTH: usize = 16;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.full_at.to_le_bytes());
        to.extend_from_slice(&self.interval.to_le_bytes());
    }

    fn read(bytes: &[u8], now: u64) -> Option<Self> {
        let read = Self { full_at: word(bytes, 0)?, interval: word(bytes, 8)? };
        (read.full_at <= now.saturating_add(LONGEST) && read.interval <= LONGEST).then_some(read)
    }
}

impl Bucket {
    /// How far from full it is. Where the rate has changed, as many tokens are gone as before, but never more than all.
    fn debt(&self, now: u64, interval: u64, whole: u64) -> u64 {
        let debt = self.full_at.saturating_sub(now);
        if self.interval == interval || self.interval == 0 {
            return debt;
        }
        let converted = (u128::from(debt) * u128::from(interval)).div_ceil(u128::from(self.interval));
        u64::try_from(converted).unwrap_or(u64::MAX).min(whole)
    }
}

/// The numbers, and the buckets of all keys.
#[derive(Debug)]
pub struct TokenBucket {
    /// Ticks from one token to the next.
    interval: u64,
    /// Ticks in which an empty bucket fills.
    whole: u64,
    most: usize,
    cells: Arc<Cells<Bucket>>,
}

/// A bucket fills within a year: what takes longer is a quota.
const LONGEST: u64 = 366 * 86_400 * 1_000_000_000 * 16;

impl TokenBucket {
    /// The error is a sentence.
    pub fn new(rate: Rate, burst: u64, most: usize, cells: Arc<Cells<Bucket>>) -> Result<Self, String> {
        let length = rate.per().length();
        // Rounded up: never faster than stated.
        let interval = ticks(length).div_ceil(rate.number());
        let whole = interval.checked_mul(burst).filter(|whole| *whole <= LONGEST);
        let whole = whole.ok_or_else(|| format!("a bucket of {burst} takes more than a year to fill at {rate}"))?;
        Ok(Self { interval, whole, most, cells })
    }

    pub fn cells(&self) -> &Cells<Bucket> {
        &self.cells
    }

    /// Takes a token, if there is one.
    pub fn take(&self, key: u64, now: u64) -> Result<Left, Left> {
        let spent = |bucket: &Bucket| bucket.debt(now, self.interval, self.whole) + self.interval > self.whole;
        self.cells.change(key, now, self.most, spent, |bucket, _| {
            let debt = bucket.debt(now, self.interval, self.whole);
            let after = debt + self.interval;
            if after > self.whole {
                return Err(Left { requests: 0, reset: time(after - self.whole) });
            }
            *bucket = Bucket { full_at: now + after, interval: self.interval };
            Ok(self.left(after))
        })
    }

    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// Who refuses, without taking.
    pub fn peek(&self, key: u64, now: u64) -> Result<(), Left> {
        let debt = self.cells.change_known(key, |bucket| bucket.debt(now, self.interval, self.whole)).unwrap_or(0);
        match debt + self.interval {
            after if after > self.whole => Err(Left { requests: 0, reset: time(after - self.whole) }),
            _ => Ok(()),
        }
    }

    /// Puts a token back.
    pub fn give_back(&self, key: u64) {
        self.cells.change_known(key, |bucket| bucket.full_at = bucket.full_at.saturating_sub(self.interval));
    }

    /// The part of one of so many hosts: it fills as much slower and holds as much less, but at least one.
    #[must_use]
    pub fn divided(&self, hosts: u64) -> Self {
        let interval = self.interval.saturating_mul(hosts).min(LONGEST);
        let whole = interval.saturating_mul((self.tokens() / hosts).max(1)).min(LONGEST);
        Self { interval, whole, most: self.most, cells: Arc::clone(&self.cells) }
    }

    /// How many tokens it holds.
    fn tokens(&self) -> u64 {
        self.whole / self.interval
    }

    /// How many tokens are gone.
    pub fn used(&self, key: u64, now: u64) -> u64 {
        let debt = self.cells.change_known(key, |bucket| bucket.debt(now, self.interval, self.whole)).unwrap_or(0);
        debt.div_ceil(self.interval)
    }

    /// So many of a number are left, as someone knows who counts for all hosts: as large a share is left here.
    pub fn learn(&self, key: u64, now: u64, left: u64, of: u64) {
        let debt = (self.tokens() - share(left, self.tokens(), of)) * self.interval;
        let spent = |bucket: &Bucket| bucket.debt(now, self.interval, self.whole) + self.interval > self.whole;
        self.cells.change(key, now, self.most, spent, |bucket, _| {
            *bucket = Bucket { full_at: now + debt, interval: self.interval };
        });
    }

    fn left(&self, debt: u64) -> Left {
        Left { requests: self.whole.saturating_sub(debt) / self.interval, reset: time(debt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SECOND: u64 = 16_000_000_000;

    fn bucket(rate: &str, burst: u64, cells: &Arc<Cells<Bucket>>) -> TokenBucket {
        TokenBucket::new(rate.parse().unwrap(), burst, 1000, Arc::clone(cells)).unwrap()
    }

    /// The plainest bucket there is: tokens as a fraction with the period as its denominator.
    struct Model {
        number: u128,
        period: u128,
        most: u128,
        tokens: u128,
        at: u64,
    }

    impl Model {
        fn take(&mut self, now: u64) -> bool {
            self.tokens = (self.tokens + u128::from(now - self.at) * self.number).min(self.most);
            self.at = now;
            let may = self.tokens >= self.period;
            if may {
                self.tokens -= self.period;
            }
            may
        }
    }

    proptest! {
        #[test]
        fn it_is_the_plain_bucket(
            number in prop::sample::select(vec![1_u64, 2, 5, 10, 40, 100, 1000]),
            burst in 1_u64..50,
            steps in prop::collection::vec(0_u64..SECOND, 1..400),
        ) {
            // These numbers divide a second, so that nothing is rounded.
            let bucket = bucket(&format!("{number}/s"), burst, &Arc::default());
            let (number, period) = (u128::from(number), u128::from(SECOND));
            let most = u128::from(burst) * period;
            let mut model = Model { number, period, most, tokens: most, at: 0 };
            let mut now = 0;
            for step in steps {
                now += step / 7;
                let got = bucket.take(1, now);
                prop_assert_eq!(got.is_ok(), model.take(now));
                if let Ok(left) = got {
                    prop_assert_eq!(u128::from(left.requests), model.tokens / period);
                }
            }
        }

        #[test]
        fn no_window_admits_more_than_rate_times_window_and_burst(
            number in 1_u64..5000,
            burst in 1_u64..50,
            steps in prop::collection::vec(0_u64..SECOND, 1..300),
            slower in 1_u64..2000,
        ) {
            let bucket = bucket(&format!("{number}/s"), burst, &Arc::default());
            let (mut now, mut admitted) = (0_u64, Vec::new());
            for step in steps {
                now += step / slower;
                if bucket.take(1, now).is_ok() {
                    admitted.push(now);
                }
            }
            for (at, start) in admitted.iter().enumerate() {
                for (further, end) in admitted[at..].iter().enumerate() {
                    let most = u128::from(end - start) * u128::from(number) / u128::from(SECOND) + u128::from(burst);
                    prop_assert!((further as u128) < most, "{} in {} ticks", further + 1, end - start);
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_is_admitted_and_not_before(number in 1_u64..100, burst in 1_u64..9, at in 0_u64..SECOND) {
            let bucket = bucket(&format!("{number}/min"), burst, &Arc::default());
            let mut now = at;
            for _ in 0..burst + 3 {
                match bucket.take(1, now) {
                    Ok(_) => {}
                    Err(left) => {
                        let wait = ticks(left.reset);
                        prop_assert!(bucket.peek(1, now + wait - 17).is_err());
                        now += wait;
                        prop_assert!(bucket.take(1, now).is_ok());
                    }
                }
            }
        }
    }

    #[test]
    fn changed_numbers_keep_the_count() {
        let cells = Arc::default();
        let (slow, fast) = (bucket("10/min", 10, &cells), bucket("20/min", 20, &cells));
        (0..10).for_each(|_| assert!(slow.take(1, 0).is_ok()));
        assert!(slow.take(1, 0).is_err());
        let admitted = (0..20).filter(|_| fast.take(1, 0).is_ok()).count();
        assert_eq!(admitted, 10, "10 of 20 were used already");
        let slower = bucket("1/h", 1, &cells);
        assert_eq!(slower.take(1, 0).unwrap_err().reset, Duration::from_hours(1), "no more than an empty bucket");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let bucket = bucket("2/min", 2, &Arc::default());
        assert_eq!([0; 3].map(|now| bucket.take(1, now).is_ok()), [true, true, false]);
        bucket.give_back(1);
        assert_eq!([0; 2].map(|now| bucket.take(1, now).is_ok()), [true, false]);
        bucket.give_back(2);
        assert!(bucket.peek(2, 0).is_ok());
    }

    #[test]
    fn a_bucket_that_never_fills_is_refused() {
        let cells: Arc<Cells<Bucket>> = Arc::default();
        assert!(TokenBucket::new("1/day".parse().unwrap(), 1000, 1, cells).is_err());
    }
}
