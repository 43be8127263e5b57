//! A number of requests in a period of the calendar, counted on this host and kept on disk for a restart.
//!
//! What is kept of a key is when its period ends and how many came in it. A wall clock may be set back: within an hour
//! the period that has begun goes on, so that none is opened twice; further back, what was counted in the time that
//! never was counts in the present.

use std::path::Path as File;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::calendar::{self, Span, span};
use super::carry::Row;
use super::disk::{self, Page};
use super::ledger::Ledger;
use super::left::{Left, share};
use super::store::{Cells, State};
use crate::units::{self, Period};

/// What is kept of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// The hour, since 1970, in which its period is over.
    pub ends: u32,
    /// How many requests came in it, and in the one before.
    pub count: u32,
    pub before: u32,
}

/// A clock is set back by seconds; further back it was wrong before.
const STEP: Duration = Duration::from_hours(1);

impl State for Used {
    /// Of those whose period is not over, the one that was used least may be forgotten first.
    fn idle_at(&self) -> u64 {
        u64::from(self.ends) << 32 | u64::from(self.count)
    }
}

/// The moment to which [`State::idle_at`] of [`Used`] compares.
fn moment(now: Duration) -> u64 {
    u64::from(calendar::hours(now)) << 32 | u64::from(u32::MAX)
}

impl Used {
    /// What counts at this moment.
    fn at(self, per: Period, now: Duration) -> Self {
        let span = span(per, now);
        if self.ends == span.ends || (self.ends > span.ends && self.has_just_begun(per, span, now)) {
            self
        } else if self.ends > span.ends {
            Self { ends: span.ends, count: self.count.saturating_add(self.before), before: 0 }
        } else {
            Self { ends: span.ends, count: 0, before: self.count }
        }
    }

    /// Whether its period is the next one, and that is near.
    fn has_just_begun(self, per: Period, span: Span, now: Duration) -> bool {
        let next = || calendar::span(per, Duration::from_secs(u64::from(span.ends) * 3600));
        calendar::until(span.ends, now) <= STEP && self.ends == next().ends
    }
}

impl Row for Used {
    const NAME: &'static str = "quota";
    const WIDTH: usize = 12;

    fn write(&self, to: &mut Vec<u8>) {
        for one in [self.ends, self.count, self.before] {
            to.extend_from_slice(&one.to_le_bytes());
        }
    }

    fn read(bytes: &[u8], _: u64) -> Option<Self> {
        let (ends, rest) = bytes.split_first_chunk::<4>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (before, _) = rest.split_first_chunk::<4>()?;
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        Some(Self { ends: number(ends), count: number(count), before: number(before) })
    }
}

/// The counts of all keys of one quota, through all reloads, and the seed under which keys are known.
#[derive(Default)]
pub struct Book {
    pub(super) cells: Cells<Used>,
    /// Whether there is something that does not lie on disk.
    pub(super) changed: AtomicBool,
    /// Whether another process keeps the file.
    pub(super) closed: AtomicBool,
    pub(super) writing: Mutex<()>,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Book")
    }
}

impl Book {
    /// Begins with what lies on disk; what cannot be read there is told, and begins anew.
    pub fn open(file: Option<&File>, most: usize) -> Self {
        let page = file.map_or(Ok(None), disk::read);
        let page = page.unwrap_or_else(|why| {
            let file = file.unwrap_or(File::new("-")).display();
            log::error!("the counts of a quota are lost, they begin anew: {file}: {why}");
            None
        });
        page.map_or_else(Self::default, |page| Self::of(page, most))
    }

    fn of(mut page: Page, most: usize) -> Self {
        // In the order in which they lay in their table, they would crowd at the beginning of one that still grows.
        page.rows.sort_unstable_by_key(|(key, _)| key.rotate_left(32));
        let book = Self::default();
        book.cells.set_seed(page.seed);
        for (key, used) in page.rows {
            // Nothing is over here: who knows what the clock says at the start.
            book.cells.change(key, 0, most, |_| false, |cell, _| *cell = used);
        }
        book
    }

    pub(super) fn touch(&self) {
        if !self.changed.load(Relaxed) {
            self.changed.store(true, Relaxed);
        }
    }
}

/// The number, and the counts of all keys.
#[derive(Debug)]
pub struct Quota {
    number: u64,
    per: Period,
    most: usize,
    book: Arc<Book>,
    /// Nothing where nothing is kept on disk.
    ledger: Option<Arc<Ledger>>,
}

impl Quota {
    pub fn new(quota: units::Quota, most: usize, book: Arc<Book>, ledger: Option<Arc<Ledger>>) -> Self {
        Self { number: quota.number(), per: quota.per(), most, book, ledger }
    }

    pub fn cells(&self) -> &Cells<Used> {
        &self.book.cells
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.ledger.as_ref()
    }

    /// What the parts of a key are written to; the same after a restart.
    pub fn hasher(&self) -> SipHasher13 {
        self.book.cells.hasher()
    }

    /// Counts a request, if there is room for it. `now` is since 1970.
    pub fn take(&self, key: u64, now: Duration) -> Result<Left, Left> {
        let left = self.change(key, now, |used| {
            let left = self.left(used, now)?;
            used.count += 1;
            Ok(Left { requests: left.requests - 1, ..left })
        });
        if left.is_ok() {
            self.book.touch();
        }
        left
    }

    /// Who refuses, without counting.
    pub fn peek(&self, key: u64, now: Duration) -> Result<(), Left> {
        self.known(key, now).map_or(Ok(()), |used| self.left(&used, now).map(drop))
    }

    /// Takes a request out of the count again.
    pub fn give_back(&self, key: u64) {
        self.book.cells.change_known(key, |used| used.count = used.count.saturating_sub(1));
        self.book.touch();
    }

    /// The part of one of so many hosts, but at least one.
    #[must_use]
    pub fn divided(&self, hosts: u64) -> Self {
        let (book, ledger) = (Arc::clone(&self.book), self.ledger.clone());
        Self { number: (self.number / hosts.max(1)).max(1), book, ledger, ..*self }
    }

    /// How many were counted.
    pub fn used(&self, key: u64, now: Duration) -> u64 {
        self.known(key, now).map_or(0, |used| used.count.into())
    }

    /// So many of a number are left, as someone knows who counts for all hosts.
    pub fn learn(&self, key: u64, now: Duration, left: &Left, of: u64) {
        let count = self.number - share(left.requests, self.number, of);
        self.change(key, now, |used| used.count = u32::try_from(count).unwrap_or(u32::MAX));
        self.book.touch();
    }

    /// When the period ends, as far as nobody knows better.
    pub fn ends(&self, now: Duration) -> Duration {
        Duration::from_secs(u64::from(span(self.per, now).ends) * 3600)
    }

    /// The keys that have used most, at most `number` of them, the first one first.
    pub fn top(&self, number: usize, now: Duration) -> Vec<(u64, u64)> {
        let mut top: Vec<(u64, u64)> = Vec::with_capacity(number + 1);
        self.book.cells.each(|key, used| {
            let count = u64::from(used.at(self.per, now).count);
            if count > 0 && (top.len() < number || top.last().is_some_and(|(_, least)| count > *least)) {
                let at = top.partition_point(|(_, more)| *more >= count);
                top.insert(at, (key, count));
                top.truncate(number);
            }
        });
        top
    }

    fn change<R>(&self, key: u64, now: Duration, deed: impl FnOnce(&mut Used) -> R) -> R {
        let spent = |used: &Used| u64::from(used.count) >= self.number;
        self.book.cells.change(key, moment(now), self.most, spent, |used, _| {
            *used = used.at(self.per, now);
            deed(used)
        })
    }

    fn known(&self, key: u64, now: Duration) -> Option<Used> {
        self.book.cells.change_known(key, |used| used.at(self.per, now))
    }

    fn left(&self, used: &Used, now: Duration) -> Result<Left, Left> {
        let requests = self.number.saturating_sub(used.count.into());
        let left = Left { requests, reset: calendar::until(used.ends, now) };
        if requests > 0 { Ok(left) } else { Err(left) }
    }
}

#[cfg(test)]
mod tests;
