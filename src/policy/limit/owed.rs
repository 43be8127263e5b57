//! What a host has admitted while the store was down: the store is told of it when the key comes again.

use super::carry::{Row, word};
use super::store::{Cells, State};

/// How many requests of a key, and until when that matters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Owed {
    until: u64,
    count: u64,
}

impl State for Owed {
    fn idle_at(&self) -> u64 {
        self.until
    }
}

impl Row for Owed {
    const NAME: &'static str = "owed";
    const WIDTH: usize = 16;
    const MOVES: bool = true;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.until.to_le_bytes());
        to.extend_from_slice(&self.count.to_le_bytes());
    }

    fn read(bytes: &[u8], now: u64) -> Option<Self> {
        let read = Self { until: word(bytes, 0)?, count: word(bytes, 8)? };
        (read.until.saturating_sub(now) < u64::MAX / 4 && read.count < u64::MAX / 4).then_some(read)
    }

    fn and(self, other: Self) -> Self {
        Self { until: self.until.max(other.until), count: self.count.saturating_add(other.count) }
    }
}

impl Cells<Owed> {
    /// So many more, which matter for `span`.
    pub fn add(&self, key: u64, now: u64, span: u64, most: usize, count: u64) {
        self.change(
            key,
            now,
            most,
            |_| false,
            |owed, _| {
                let before = if now < owed.until { owed.count } else { 0 };
                *owed = Owed { until: now + span, count: before + count };
            },
        );
    }

    /// One fewer.
    pub fn forgive(&self, key: u64) {
        self.change_known(key, |owed| owed.count = owed.count.saturating_sub(1));
    }

    /// All of them; from now on there are none.
    pub fn settle(&self, key: u64, now: u64) -> u64 {
        let all = self.change_known(key, |owed| if now < owed.until { std::mem::take(&mut owed.count) } else { 0 });
        all.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debts_add_up_are_paid_once_and_lapse() {
        let cells = Cells::<Owed>::default();
        for now in 0..3 {
            cells.add(7, now, 10, 100, 1);
        }
        cells.forgive(7);
        assert_eq!([cells.settle(7, 5), cells.settle(7, 5), cells.settle(8, 5)], [2, 0, 0]);
        cells.add(7, 6, 10, 100, 4);
        assert_eq!(cells.settle(7, 16), 0, "too long ago");
        cells.add(7, 20, 10, 100, 1);
        assert_eq!(cells.settle(7, 21), 1);
    }
}
