//! A number of requests in every span of a length: exact on the side of the target, with an error of a tenth on the
//! client's side.
//!
//! Requests are counted in parts of a tenth of the length. The last eleven parts cover every span that ends now, so no
//! span holds more than the number of `rate`. A request may be refused for others that are up to a tenth older.

use std::sync::Arc;

use super::carry::{Row, word};
use super::left::{Left, share};
use super::store::{Cells, State, ticks, time};
use crate::units::Rate;

/// Parts of a window.
const PARTS: usize = 10;

/// What is kept of a key: how many requests were in each of the last parts, the newest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// The number of the newest part since the cells began, and how long a part is.
    newest: u64,
    length: u64,
    counts: [u32; PARTS + 1],
}

impl State for Parts {
    fn idle_at(&self) -> u64 {
        (self.newest + 1 + PARTS as u64).saturating_mul(self.length)
    }
}

impl Row for Parts {
    const NAME: &'static str = "parts";
    const WIDTH: usize = 16 + 4 * (PARTS + 1);

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.newest.to_le_bytes());
        to.extend_from_slice(&self.length.to_le_bytes());
        self.counts.iter().for_each(|count| to.extend_from_slice(&count.to_le_bytes()));
    }

    fn read(bytes: &[u8], now: u64) -> Option<Self> {
        let (newest, length) = (word(bytes, 0)?, word(bytes, 8)?);
        let mut counts = [0; PARTS + 1];
        for (place, count) in counts.iter_mut().zip(bytes.get(16..)?.chunks_exact(4)) {
            *place = u32::from_le_bytes(count.try_into().ok()?);
        }
        // One that was never used has no length.
        let fits = newest <= now.checked_div(length).unwrap_or(0);
        fits.then_some(Self { newest, length, counts })
    }
}

impl Parts {
    /// The parts as they are now. Where their length has changed, all that was counted counts as new.
    fn at(mut self, now: u64, length: u64) -> Self {
        if self.length != length {
            let all = if now < self.idle_at() { self.sum() } else { 0 };
            let mut counts = [0; PARTS + 1];
            if let Some(first) = counts.first_mut() {
                *first = u32::try_from(all).unwrap_or(u32::MAX);
            }
            return Self { newest: now / length, length, counts };
        }
        let newest = now / length;
        let gone = usize::try_from(newest.saturating_sub(self.newest)).unwrap_or(usize::MAX).min(PARTS + 1);
        self.counts.rotate_right(gone % (PARTS + 1));
        self.counts.iter_mut().take(gone).for_each(|count| *count = 0);
        Self { newest: newest.max(self.newest), ..self }
    }

    fn sum(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// When so many of the oldest are forgotten that fewer than `number` stay.
    fn room_at(&self, number: u64) -> u64 {
        let mut stay = self.sum();
        for (age, count) in self.counts.iter().enumerate().rev() {
            stay -= u64::from(*count);
            if stay < number {
                return (self.newest + 1 + PARTS as u64).saturating_sub(age as u64).saturating_mul(self.length);
            }
        }
        self.idle_at()
    }
}

/// The numbers, and the parts of all keys.
#[derive(Debug)]
pub struct SlidingWindow {
    number: u64,
    /// Of one part.
    length: u64,
    most: usize,
    cells: Arc<Cells<Parts>>,
}

impl SlidingWindow {
    /// The error is a sentence.
    pub fn new(rate: Rate, most: usize, cells: Arc<Cells<Parts>>) -> Result<Self, String> {
        let length = ticks(rate.per().length()).div_ceil(PARTS as u64);
        Ok(Self { number: rate.number(), length, most, cells })
    }

    pub fn cells(&self) -> &Cells<Parts> {
        &self.cells
    }

    /// Counts a request, if there is room for it.
    pub fn take(&self, key: u64, now: u64) -> Result<Left, Left> {
        let spent = |parts: &Parts| parts.at(now, self.length).sum() >= self.number;
        self.cells.change(key, now, self.most, spent, |parts, _| {
            *parts = parts.at(now, self.length);
            let left = self.left(parts, now)?;
            if let Some(newest) = parts.counts.first_mut() {
                *newest += 1;
            }
            Ok(Left { requests: left.requests - 1, reset: time(parts.idle_at() - now) })
        })
    }

    /// Who refuses, without counting.
    pub fn peek(&self, key: u64, now: u64) -> Result<(), Left> {
        let parts = self.cells.change_known(key, |parts| parts.at(now, self.length));
        parts.map_or(Ok(()), |parts| self.left(&parts, now).map(drop))
    }

    /// Takes a request out of the count again.
    pub fn give_back(&self, key: u64) {
        self.cells.change_known(key, |parts| {
            if let Some(count) = parts.counts.iter_mut().find(|count| **count > 0) {
                *count -= 1;
            }
        });
    }

    /// The part of one of so many hosts, but at least one.
    #[must_use]
    pub fn divided(&self, hosts: u64) -> Self {
        let cells = Arc::clone(&self.cells);
        Self { number: (self.number / hosts).max(1), length: self.length, most: self.most, cells }
    }

    /// How many were counted.
    pub fn used(&self, key: u64, now: u64) -> u64 {
        self.cells.change_known(key, |parts| parts.at(now, self.length).sum()).unwrap_or(0)
    }

    /// So many of a number are left, as someone knows who counts for all hosts: what was not counted here is now.
    pub fn learn(&self, key: u64, now: u64, left: u64, of: u64) {
        let used = self.number - share(left, self.number, of);
        let spent = |parts: &Parts| parts.at(now, self.length).sum() >= self.number;
        self.cells.change(key, now, self.most, spent, |parts, _| {
            *parts = parts.at(now, self.length);
            let missing = u32::try_from(used.saturating_sub(parts.sum())).unwrap_or(u32::MAX);
            if let Some(newest) = parts.counts.first_mut() {
                *newest = newest.saturating_add(missing);
            }
        });
    }

    fn left(&self, parts: &Parts, now: u64) -> Result<Left, Left> {
        match self.number.saturating_sub(parts.sum()) {
            0 => Err(Left { requests: 0, reset: time(parts.room_at(self.number).saturating_sub(now)) }),
            requests => Ok(Left { requests, reset: time(parts.idle_at().saturating_sub(now)) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 16_000_000_000;

    fn window(rate: &str, cells: &Arc<Cells<Parts>>) -> SlidingWindow {
        SlidingWindow::new(rate.parse().unwrap(), 1000, Arc::clone(cells)).unwrap()
    }

    proptest! {
        #[test]
        fn no_span_holds_more_than_the_number_and_none_is_refused_for_what_is_older_than_stated(
            number in 1_usize..30,
            slower in 1_u64..60,
            steps in prop::collection::vec(0_u64..SECOND, 1..400),
        ) {
            let window = window(&format!("{number}/s"), &Arc::default());
            // The plain model: the moment of every request that was admitted.
            let (mut now, mut admitted) = (0_u64, Vec::<u64>::new());
            let since = |admitted: &[u64], start: u64| admitted.iter().filter(|at| **at > start || start == 0).count();
            for step in steps {
                now += step / slower;
                let peeked = window.peek(1, now);
                let got = window.take(1, now);
                prop_assert_eq!(got.is_ok(), peeked.is_ok());
                if got.is_ok() {
                    admitted.push(now);
                    prop_assert!(since(&admitted, now.saturating_sub(SECOND)) <= number);
                } else {
                    let stated = now.saturating_sub(SECOND + SECOND / 10 + 1);
                    prop_assert!(since(&admitted, stated) >= number, "refused without need");
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_is_admitted(number in 1_u64..9, steps in prop::collection::vec(0_u64..SECOND, 1..60)) {
            let window = window(&format!("{number}/s"), &Arc::default());
            let mut now = 0;
            for step in steps {
                now += step / 20;
                if let Err(left) = window.take(1, now) {
                    now += ticks(left.reset);
                    prop_assert!(window.take(1, now).is_ok());
                }
            }
        }
    }

    #[test]
    fn changed_numbers_keep_the_count() {
        let cells = Arc::default();
        let (slow, fast) = (window("2/min", &cells), window("3/s", &cells));
        assert_eq!([0; 3].map(|now| slow.take(1, now).is_ok()), [true, true, false]);
        assert_eq!([1; 2].map(|now| fast.take(1, now).is_ok()), [true, false]);
        assert!(fast.take(1, 2 * SECOND).is_ok());
        fast.give_back(1);
        assert_eq!(fast.take(1, 2 * SECOND).unwrap().requests, 2);
    }
}
