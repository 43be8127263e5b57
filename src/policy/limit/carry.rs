//! What a limit hands over to a successor: the seed of its keys, how old its clock is, and a row for each key.
//!
//! Rows have the length that their process knows of: one that knows of more ignores what it does not find, one that knows
//! of less reads the beginning. In-flight requests stay where they are. What one process has and no other may have, as
//! slices of a shared count and what is owed to a store, goes over and is here no longer.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Limit;
use super::gauge::Gauge;
use super::lease::Slice;
use super::owed::Owed;
use super::store::{Cells, State};
use crate::state::parcel::{Parcel, Part};

/// A state that goes over as a row.
pub trait Row: State {
    /// What a part of a parcel with such rows is called.
    const NAME: &'static str;
    /// Bytes of a row, its key not counted.
    const WIDTH: usize;
    /// Whether only one process may have it.
    const MOVES: bool = false;

    fn write(&self, to: &mut Vec<u8>);

    /// Nothing where nobody can have written this. `now` is the tick at which it was packed.
    fn read(bytes: &[u8], now: u64) -> Option<Self>;

    /// What holds where both were counted: the one that says something for longer.
    #[must_use]
    fn and(self, other: Self) -> Self {
        if other.idle_at() > self.idle_at() { other } else { self }
    }
}

/// The number that lies there.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
}

/// Seed, age, width of rows, number of shared states.
const HEAD: usize = 16 + 8 + 4 + 4;
const KEY: usize = 8;

impl<S: Row> Cells<S> {
    /// How many bytes `pack` takes at most, for as many keys as there are now.
    fn size(&self) -> usize {
        HEAD + self.len() * (KEY + S::WIDTH) + 64 * S::WIDTH
    }

    fn pack(&self, to: &mut Vec<u8>, now: Instant) {
        to.extend_from_slice(&self.seed());
        to.extend_from_slice(&self.born.nanos(now).to_le_bytes());
        to.extend_from_slice(&u32::try_from(S::WIDTH).unwrap_or_default().to_le_bytes());
        let (at, mut shared) = (to.len(), 0_u32);
        to.extend_from_slice(&[0; 4]);
        self.each_shard(|shard| {
            shared += 1;
            shard.shared().write(to);
        });
        if let Some(place) = to.get_mut(at..at + 4) {
            place.copy_from_slice(&shared.to_le_bytes());
        }
        self.each_shard(|shard| {
            shard.each(&mut |key, state: &S| {
                to.extend_from_slice(&key.to_le_bytes());
                state.write(to);
            });
            if S::MOVES {
                shard.clear();
            }
        });
    }

    /// Takes up what was packed at `now`, at most `most` keys of it; how many rows could not be read.
    fn unpack(&self, bytes: &[u8], most: usize, now: Instant) -> Option<usize> {
        let (seed, rest) = bytes.split_first_chunk::<16>()?;
        let (age, rest) = rest.split_first_chunk::<8>()?;
        let (width, rest) = rest.split_first_chunk::<4>()?;
        let (shared, rest) = rest.split_first_chunk::<4>()?;
        let width = usize::try_from(u32::from_le_bytes(*width)).ok().filter(|width| *width >= S::WIDTH)?;
        let shared = usize::try_from(u32::from_le_bytes(*shared)).ok()?;
        let (shared, rows) = rest.split_at_checked(shared.checked_mul(width)?)?;
        self.born.adopt(u64::from_le_bytes(*age), now)?;
        self.set_seed(*seed);
        let tick = self.ticks(now);
        let mut shared = shared.chunks_exact(width);
        let more = rows.len() / (KEY + width) / 64;
        self.each_shard(|shard| {
            let mine = shared.next().and_then(|bytes| S::read(bytes, tick)).unwrap_or_default();
            *shard.shared() = shard.shared().and(mine);
            shard.expect((more + more / 8).min(most / 64 + 1));
        });
        Some(self.take_up(rows, width, most, tick))
    }

    fn take_up(&self, rows: &[u8], width: usize, most: usize, tick: u64) -> usize {
        let mut unread = usize::from(!rows.len().is_multiple_of(KEY + width));
        for row in rows.chunks_exact(KEY + width) {
            let key = word(row, 0).filter(|key| *key > 0);
            let Some((key, state)) = key.zip(row.get(KEY..).and_then(|bytes| S::read(bytes, tick))) else {
                unread += 1;
                continue;
            };
            self.change(key, 0, most, |_| false, |cell, _| *cell = cell.and(state));
        }
        unread
    }
}

/// Whether a part is one that only one process may have.
pub fn moves(part: &str) -> bool {
    [Slice::NAME, Owed::NAME].iter().any(|name| part.strip_suffix(name).is_some_and(|at| at.ends_with('/')))
}

impl Limit {
    /// About how many bytes `pack` takes.
    pub fn packed_size(&self) -> usize {
        let counts = match &self.gauge {
            Gauge::TokenBucket(gauge) => gauge.cells().size(),
            Gauge::SlidingWindow(gauge) => gauge.cells().size(),
            Gauge::FixedWindow(gauge) => gauge.cells().size(),
            Gauge::LeakyBucket(gauge) => gauge.cells().size(),
            Gauge::Quota(gauge) => gauge.cells().size(),
            Gauge::InFlight(_) => 0,
        };
        let held = self.shared.as_ref().map(|shared| shared.held());
        counts + held.map_or(0, |(slices, owed)| slices.size() + owed.size()) + self.at.len() * 3 + 64
    }

    /// Adds what it has counted. From now on a successor writes the counts of quotas to disk.
    pub fn pack(&self, parcel: &mut Parcel) {
        match &self.gauge {
            Gauge::TokenBucket(gauge) => self.put(parcel, gauge.cells()),
            Gauge::SlidingWindow(gauge) => self.put(parcel, gauge.cells()),
            Gauge::FixedWindow(gauge) => self.put(parcel, gauge.cells()),
            Gauge::LeakyBucket(gauge) => self.put(parcel, gauge.cells()),
            Gauge::Quota(gauge) => {
                // Not while its file is being written: the successor's comes later.
                let _alone = gauge.book().writing.lock();
                gauge.book().closed.store(true, Relaxed);
                self.put(parcel, gauge.cells());
            }
            Gauge::InFlight(_) => {}
        }
        if let Some((slices, owed)) = self.shared.as_ref().map(|shared| shared.held()) {
            self.put(parcel, slices);
            self.put(parcel, owed);
        }
    }

    fn put<S: Row>(&self, parcel: &mut Parcel, cells: &Cells<S>) {
        let now = parcel.now;
        parcel.put(&self.part::<S>(), |bytes| cells.pack(bytes, now));
    }

    /// What the part with such rows is called; another period of a quota is another count.
    fn part<S: Row>(&self) -> String {
        let period = self.config.quota.filter(|_| S::NAME == "quota").map(|quota| quota.per().word());
        format!("limit/{}/{}{}", self.at, S::NAME, period.unwrap_or_default())
    }

    /// Takes up a part that was packed at `now`, if it is one of its own; the error is the end of a sentence.
    pub fn unpack(&self, part: Part<'_>, now: Instant) -> Option<Result<(), String>> {
        let counts = match &self.gauge {
            Gauge::TokenBucket(gauge) => self.take_part(part, gauge.cells(), now),
            Gauge::SlidingWindow(gauge) => self.take_part(part, gauge.cells(), now),
            Gauge::FixedWindow(gauge) => self.take_part(part, gauge.cells(), now),
            Gauge::LeakyBucket(gauge) => self.take_part(part, gauge.cells(), now),
            Gauge::Quota(gauge) => self.take_part(part, gauge.cells(), now).inspect(|_| {
                gauge.book().closed.store(false, Relaxed);
                gauge.book().touch();
            }),
            Gauge::InFlight(_) => None,
        };
        let held = || self.shared.as_ref().map(|shared| shared.held());
        counts
            .or_else(|| held().and_then(|(slices, _)| self.take_part(part, slices, now)))
            .or_else(|| held().and_then(|(_, owed)| self.take_part(part, owed, now)))
    }

    fn take_part<S: Row>(&self, part: Part<'_>, cells: &Cells<S>, now: Instant) -> Option<Result<(), String>> {
        if part.name != self.part::<S>() {
            return None;
        }
        let most = usize::try_from(self.config.keys.get()).unwrap_or(usize::MAX);
        Some(match cells.unpack(part.bytes, most, now) {
            Some(0) => Ok(()),
            Some(rows) => Err(format!("has {rows} rows that cannot be read")),
            None => Err("cannot be read".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests;
