//! Requests leave one by one at a steady rate; those that come faster wait in a queue, and where that is full they are
//! refused.

use std::sync::Arc;
use std::time::Duration;

use super::left::Left;
use super::store::{Cells, ticks, time};
use super::token_bucket::{Bucket, TokenBucket};
use crate::units::Rate;

/// A bucket with room for the one that leaves and those that wait: who takes a token waits until all before it have left.
#[derive(Debug)]
pub struct LeakyBucket {
    bucket: TokenBucket,
    /// Ticks from one to the next.
    interval: u64,
}

/// Nobody waits longer for an answer.
const LONGEST: Duration = Duration::from_mins(1);

impl LeakyBucket {
    /// The error is a sentence.
    pub fn new(rate: Rate, queue: u64, most: usize, cells: Arc<Cells<Bucket>>) -> Result<Self, String> {
        let bucket = TokenBucket::new(rate, queue + 1, most, cells)?;
        let interval = bucket.interval();
        let wait = time(interval.saturating_mul(queue));
        if wait > LONGEST {
            return Err(format!(
                "the last of {queue} would wait {} s at {rate}; at most 60 s make sense",
                wait.as_secs()
            ));
        }
        Ok(Self { bucket, interval })
    }

    pub fn cells(&self) -> &Cells<Bucket> {
        self.bucket.cells()
    }

    /// How many places are left in the queue, and how long this one waits.
    pub fn take(&self, key: u64, now: u64) -> Result<(Left, Duration), Left> {
        let left = self.bucket.take(key, now)?;
        Ok((left, time(ticks(left.reset).saturating_sub(self.interval))))
    }

    /// Who refuses, without taking a place.
    pub fn peek(&self, key: u64, now: u64) -> Result<(), Left> {
        self.bucket.peek(key, now)
    }

    /// How many have not left yet.
    pub fn used(&self, key: u64, now: u64) -> u64 {
        self.bucket.used(key, now)
    }

    /// Leaves the queue.
    pub fn give_back(&self, key: u64) {
        self.bucket.give_back(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 16_000_000_000;

    proptest! {
        #[test]
        fn it_is_the_plain_queue(
            number in prop::sample::select(vec![1_u64, 5, 10, 100]),
            queue in 1_u64..20,
            steps in prop::collection::vec(0_u64..SECOND, 1..300),
        ) {
            let rate = format!("{number}/s").parse().unwrap();
            let bucket = LeakyBucket::new(rate, queue, 1000, Arc::default()).unwrap();
            let interval = SECOND / number;
            // The plain model: the moments at which those that were admitted leave.
            let (mut now, mut leaving) = (0_u64, Vec::<u64>::new());
            for step in steps {
                now += step / number / 4 / 16 * 16;
                let at = leaving.last().map_or(now, |last| now.max(last + interval));
                let waiting = (at - now).div_ceil(interval);
                match bucket.take(1, now) {
                    Ok((_, wait)) => {
                        prop_assert!(waiting <= queue);
                        prop_assert_eq!(now + ticks(wait), at);
                        leaving.push(at);
                    }
                    Err(_) => prop_assert!(waiting > queue),
                }
            }
            prop_assert!(leaving.windows(2).all(|pair| pair[1] - pair[0] >= interval), "they leave one by one");
        }
    }

    #[test]
    fn a_queue_in_which_one_waits_for_minutes_is_refused() {
        assert!(LeakyBucket::new("1/min".parse().unwrap(), 2, 1, Arc::default()).is_err());
        assert!(LeakyBucket::new("1/s".parse().unwrap(), 60, 1, Arc::default()).is_ok());
    }
}
