//! A number of requests in a window that begins with the first of them.
//!
//! A window admits at most the number of `rate`; where two windows meet, a span of the same length can hold twice as
//! many.

use std::sync::Arc;

use super::carry::{Row, word};
use super::left::{Left, share};
use super::store::{Cells, State, ticks, time};
use crate::units::Rate;

/// What is kept of a key: when its window ends, and how many requests were in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    end: u64,
    count: u64,
}

impl State for Window {
    fn idle_at(&self) -> u64 {
        self.end
    }
}

/// No window is longer.
const LONGEST: u64 = 366 * 86_400 * 1_000_000_000 * 16;

impl Row for Window {
    const NAME: &'static str = "window";
    const WIDTH: usize = 16;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.end.to_le_bytes());
        to.extend_from_slice(&self.count.to_le_bytes());
    }

    fn read(bytes: &[u8], now: u64) -> Option<Self> {
        let read = Self { end: word(bytes, 0)?, count: word(bytes, 8)? };
        (read.end <= now.saturating_add(LONGEST)).then_some(read)
    }
}

impl Window {
    /// The window at this moment: the same, or a new one. Where its length has changed, it is no longer than the new.
    fn at(self, now: u64, length: u64) -> Self {
        if now < self.end {
            Self { end: self.end.min(now + length), ..self }
        } else {
            Self { end: now + length, count: 0 }
        }
    }
}

/// The numbers, and the windows of all keys.
#[derive(Debug)]
pub struct FixedWindow {
    number: u64,
    length: u64,
    most: usize,
    cells: Arc<Cells<Window>>,
}

impl FixedWindow {
    /// The error is a sentence.
    pub fn new(rate: Rate, most: usize, cells: Arc<Cells<Window>>) -> Result<Self, String> {
        let length = ticks(rate.per().length());
        Ok(Self { number: rate.number(), length, most, cells })
    }

    pub fn cells(&self) -> &Cells<Window> {
        &self.cells
    }

    /// Counts a request, if there is room for it.
    pub fn take(&self, key: u64, now: u64) -> Result<Left, Left> {
        let spent = |window: &Window| window.count >= self.number;
        self.cells.change(key, now, self.most, spent, |window, _| {
            *window = window.at(now, self.length);
            let left = self.left(window, now)?;
            window.count += 1;
            Ok(Left { requests: left.requests - 1, ..left })
        })
    }

    /// Who refuses, without counting.
    pub fn peek(&self, key: u64, now: u64) -> Result<(), Left> {
        let window = self.cells.change_known(key, |window| window.at(now, self.length));
        window.map_or(Ok(()), |window| self.left(&window, now).map(drop))
    }

    /// Takes a request out of the count again.
    pub fn give_back(&self, key: u64) {
        self.cells.change_known(key, |window| window.count = window.count.saturating_sub(1));
    }

    /// The part of one of so many hosts, but at least one.
    #[must_use]
    pub fn divided(&self, hosts: u64) -> Self {
        let cells = Arc::clone(&self.cells);
        Self { number: (self.number / hosts).max(1), length: self.length, most: self.most, cells }
    }

    /// How many were counted.
    pub fn used(&self, key: u64, now: u64) -> u64 {
        self.cells.change_known(key, |window| window.at(now, self.length).count).unwrap_or(0)
    }

    /// So many of a number are left, as someone knows who counts for all hosts, and the window ends after `left.reset`.
    pub fn learn(&self, key: u64, now: u64, left: &Left, of: u64) {
        let count = self.number - share(left.requests, self.number, of);
        let end = now + ticks(left.reset).min(self.length);
        let spent = |window: &Window| window.count >= self.number;
        self.cells.change(key, now, self.most, spent, |window, _| *window = Window { end, count });
    }

    fn left(&self, window: &Window, now: u64) -> Result<Left, Left> {
        let left = Left { requests: self.number.saturating_sub(window.count), reset: time(window.end - now) };
        if left.requests > 0 { Ok(left) } else { Err(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 16_000_000_000;

    fn window(rate: &str, cells: &Arc<Cells<Window>>) -> FixedWindow {
        FixedWindow::new(rate.parse().unwrap(), 1000, Arc::clone(cells)).unwrap()
    }

    proptest! {
        #[test]
        fn it_is_the_plain_window(number in 1_u64..20, steps in prop::collection::vec(0_u64..SECOND, 1..400)) {
            let window = window(&format!("{number}/s"), &Arc::default());
            let (mut now, mut start, mut count) = (0, None, 0);
            for step in steps {
                now += step / 9;
                if start.is_none_or(|start| now >= start + SECOND) {
                    (start, count) = (Some(now), 0);
                }
                let may = count < number;
                count += u64::from(may);
                prop_assert_eq!(window.peek(1, now).is_ok(), may);
                let got = window.take(1, now);
                prop_assert_eq!(got.is_ok(), may);
                let (Ok(left) | Err(left)) = got;
                prop_assert_eq!(left.requests, number - count);
                prop_assert_eq!(left.reset, time(start.unwrap_or(0) + SECOND - now));
            }
        }

        #[test]
        fn no_span_of_a_window_holds_more_than_twice_the_number(number in 1_u64..20, steps in prop::collection::vec(0_u64..SECOND, 1..300)) {
            let window = window(&format!("{number}/s"), &Arc::default());
            let (mut now, mut admitted) = (0, Vec::new());
            for step in steps {
                now += step / 20;
                if window.take(1, now).is_ok() {
                    admitted.push(now);
                }
            }
            for start in &admitted {
                let within = admitted.iter().filter(|at| (*start..start + SECOND).contains(at)).count();
                prop_assert!(within as u64 <= 2 * number);
            }
        }
    }

    #[test]
    fn changed_numbers_keep_the_count() {
        let cells = Arc::default();
        let (hour, more) = (window("2/h", &cells), window("3/min", &cells));
        assert_eq!([0; 3].map(|now| hour.take(1, now).is_ok()), [true, true, false]);
        assert_eq!([0; 2].map(|now| more.take(1, now).is_ok()), [true, false]);
        assert!(more.take(1, 60 * SECOND).is_ok(), "the window is no longer than the new one");
        hour.give_back(7);
    }
}
