//! A slice of the shared count, borrowed by one host and spent without asking: how much is in hand of each key.
//!
//! What is in hand was counted when it was borrowed and may be spent up to a period later, so in any span the hosts
//! together admit at most as many more than the limit says as they can have in hand: one slice each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::carry::{Row, word};
use super::left::Left;
use super::store::{Cells, State, ticks, time};
use crate::telemetry::metrics::Figure;

/// Who was told that nothing is left believes it that long; and so long one borrower waits for the other.
const BELIEVED: Duration = Duration::from_secs(1);

/// What is in hand of one key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slice {
    left: u32,
    /// What the store had left when it was last asked, and when all will be as at first.
    rest: u64,
    resets: u64,
    /// What is in hand lapses then.
    until: u64,
    spent_until: u64,
    /// Somebody is borrowing; nobody else does until then.
    borrowing_until: u64,
}

impl State for Slice {
    fn idle_at(&self) -> u64 {
        self.until.max(self.spent_until)
    }
}

impl Row for Slice {
    const NAME: &'static str = "slice";
    const WIDTH: usize = 36;
    const MOVES: bool = true;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.left.to_le_bytes());
        for one in [self.rest, self.resets, self.until, self.spent_until] {
            to.extend_from_slice(&one.to_le_bytes());
        }
    }

    fn read(bytes: &[u8], now: u64) -> Option<Self> {
        let (left, rest) = bytes.split_first_chunk::<4>()?;
        let [more, resets, until, spent_until] = [word(rest, 0)?, word(rest, 8)?, word(rest, 16)?, word(rest, 24)?];
        let near = |at: u64| at.saturating_sub(now) < u64::MAX / 4;
        let fits = near(resets) && near(until) && near(spent_until) && more < u64::MAX / 4;
        let left = u32::from_le_bytes(*left);
        fits.then_some(Self { left, rest: more, resets, until, spent_until, borrowing_until: 0 })
    }

    fn and(self, other: Self) -> Self {
        let later = if self.until > other.until { self } else { other };
        Self { left: self.left.saturating_add(other.left), ..later }
    }
}

impl Slice {
    /// When there will be more, where nothing is left.
    fn spent(&self, now: u64) -> Option<Left> {
        (now < self.spent_until).then(|| Left { requests: 0, reset: time(self.resets.saturating_sub(now)) })
    }
}

/// What one request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// One of the slice; so many should be borrowed in time.
    Given(Left, u32),
    Spent(Left),
    /// The store has to be asked for so many, one of them for this request.
    Ask(u32),
}

/// How much is borrowed at a time, and the slices of all keys.
pub(super) struct Lease {
    size: u32,
    /// Ticks of a period.
    span: u64,
    keys: usize,
    cells: Arc<Cells<Slice>>,
    /// Nothing where each request asks.
    bound: Option<Figure>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn new(size: u32, period: Duration, keys: usize, cells: Arc<Cells<Slice>>, bound: Figure) -> Self {
        bound.set(size.into());
        Self { size, span: ticks(period), keys, cells, bound: Some(bound) }
    }

    /// Nothing is borrowed; who was told that nothing is left believes it, so that a flood does not reach the store.
    pub(super) fn none(keys: usize, cells: Arc<Cells<Slice>>) -> Self {
        Self { size: 0, span: 0, keys, cells, bound: None }
    }

    /// By how many requests all of these hosts may be ahead together.
    pub(super) fn tell_bound(&self, hosts: u64) {
        if let Some(bound) = &self.bound {
            bound.set(i64::try_from(hosts.saturating_mul(self.size.into())).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn ticks(&self, now: Instant) -> u64 {
        self.cells.ticks(now)
    }

    pub(super) fn cells(&self) -> &Cells<Slice> {
        &self.cells
    }

    /// Spends one, if one is in hand.
    pub(super) fn spend(&self, key: u64, now: u64) -> Turn {
        let (size, pause) = (self.size, ticks(BELIEVED));
        if size == 0 {
            let spent = self.cells.change_known(key, |slice| slice.spent(now)).flatten();
            return spent.map_or(Turn::Ask(1), Turn::Spent);
        }
        self.cells.change(
            key,
            now,
            self.keys,
            |slice| slice.spent_until > now,
            |slice, own| {
                if !own {
                    return Turn::Ask(1);
                }
                if now >= slice.until {
                    slice.left = 0;
                }
                let alone = now >= slice.borrowing_until;
                if slice.left > 0 {
                    slice.left -= 1;
                    let wanted = alone && now >= slice.spent_until && slice.left <= size / 4;
                    slice.borrowing_until = if wanted { now + pause } else { slice.borrowing_until };
                    let requests = slice.rest + u64::from(slice.left);
                    let left = Left { requests, reset: time(slice.resets.saturating_sub(now)) };
                    return Turn::Given(left, if wanted { size - slice.left } else { 0 });
                }
                if let Some(left) = slice.spent(now) {
                    return Turn::Spent(left);
                }
                slice.borrowing_until = if alone { now + pause } else { slice.borrowing_until };
                Turn::Ask(if alone { size } else { 1 })
            },
        )
    }

    /// So many more are in hand, and the store has that left.
    pub(super) fn fill(&self, key: u64, now: u64, more: u32, spent: bool, left: &Left) {
        let deed = |slice: &mut Slice| {
            let before = if now < slice.until { slice.left } else { 0 };
            slice.left = before.saturating_add(more).min(self.size);
            slice.until = now + self.span;
            slice.rest = left.requests;
            slice.resets = now + ticks(left.reset);
            slice.borrowing_until = 0;
            slice.spent_until = if spent { now + ticks(left.reset.min(BELIEVED)) } else { 0 };
        };
        if self.size > 0 {
            self.cells.change_known(key, deed);
        } else if spent {
            let refused = |slice: &Slice| slice.spent_until > now;
            self.cells.change(key, now, self.keys, refused, |slice, own| {
                if own {
                    deed(slice);
                }
            });
        }
    }

    /// One was not needed after all.
    pub(super) fn give_back(&self, key: u64, now: u64) {
        self.cells.change_known(key, |slice| {
            if now < slice.until {
                slice.left = slice.left.saturating_add(1).min(self.size);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    const SECOND: u64 = 16_000_000_000;
    const LEFT: Left = Left { requests: 90, reset: Duration::from_secs(30) };

    fn lease(size: u32) -> Lease {
        let bound = Metrics::new().unwrap().overshoot("a");
        Lease::new(size, Duration::from_mins(1), 100, Arc::default(), bound)
    }

    #[test]
    fn a_slice_is_spent_without_asking_and_refilled_before_it_is_empty() {
        let lease = lease(8);
        assert_eq!(lease.spend(7, 1), Turn::Ask(8));
        assert_eq!(lease.spend(7, 1), Turn::Ask(1), "only one borrows a slice");
        lease.fill(7, 1, 7, false, &LEFT);
        let turns: Vec<Turn> = (0..8).map(|_| lease.spend(7, 2)).collect();
        let wanted: Vec<u32> =
            turns.iter().map(|turn| if let Turn::Given(_, wanted) = turn { *wanted } else { 99 }).collect();
        assert_eq!(wanted, [0, 0, 0, 0, 6, 0, 0, 99], "{turns:?}");
        assert!(matches!(turns[0], Turn::Given(Left { requests: 96, .. }, _)));
        lease.fill(7, 3, 6, false, &LEFT);
        assert!(matches!(lease.spend(7, 3), Turn::Given(..)));
        assert_eq!(lease.spend(7, 61 * SECOND), Turn::Ask(8), "what is not spent in a period lapses");
    }

    #[test]
    fn where_nothing_is_borrowed_only_refusals_are_kept() {
        let lease = Lease::none(100, Arc::default());
        let none = Left { requests: 0, reset: Duration::from_millis(300) };
        assert_eq!([lease.spend(7, 1), lease.spend(7, 1)], [Turn::Ask(1); 2]);
        lease.fill(7, 1, 0, false, &LEFT);
        assert_eq!((lease.spend(7, 1), lease.cells.len()), (Turn::Ask(1), 0));
        lease.fill(7, 1, 0, true, &none);
        assert_eq!(lease.spend(7, 2), Turn::Spent(Left { requests: 0, reset: time(3 * SECOND / 10 - 1) }));
        assert_eq!(lease.spend(7, 1 + 3 * SECOND / 10), Turn::Ask(1));
    }

    #[test]
    fn never_more_than_one_slice_is_in_hand() {
        let lease = lease(4);
        assert_eq!(lease.spend(7, 1), Turn::Ask(4));
        lease.fill(7, 1, 3, false, &LEFT);
        lease.fill(7, 1, 4, false, &LEFT);
        lease.give_back(7, 1);
        let given = (0..9).filter(|_| matches!(lease.spend(7, 1), Turn::Given(..))).count();
        assert_eq!(given, 4);
    }

    #[test]
    fn who_was_told_that_nothing_is_left_believes_it_for_a_while() {
        let lease = lease(4);
        let none = Left { requests: 0, reset: Duration::from_secs(30) };
        assert_eq!(lease.spend(7, 1), Turn::Ask(4));
        lease.fill(7, 1, 0, true, &none);
        assert!(matches!(lease.spend(7, 1 + SECOND / 2), Turn::Spent(left) if left.seconds() == 30));
        assert_eq!(lease.spend(7, 1 + SECOND), Turn::Ask(4));
    }
}
