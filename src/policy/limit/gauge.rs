//! The algorithms behind one door: each takes the place of a request, or says when there will be one.

use std::path::Path as File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::Room;
use super::calendar;
use super::config::{Algorithm, Config};
use super::fixed_window::{FixedWindow, Window};
use super::in_flight::{Count, InFlight};
use super::leaky_bucket::LeakyBucket;
use super::lease::Slice;
use super::ledger::Ledger;
use super::left::Left;
use super::owed::Owed;
use super::quota::{Book, Quota};
use super::share::Sharing;
use super::sliding_window::{Parts, SlidingWindow};
use super::store::{Cells, State};
use super::token_bucket::{Bucket, TokenBucket};
use crate::exchange::Hold;
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::units::{self, Rate};

/// What was counted, through all reloads: by the path of the limit in the document.
#[derive(Default)]
pub struct Shelves {
    buckets: Shelf<Box<str>, Cells<Bucket>>,
    queues: Shelf<Box<str>, Cells<Bucket>>,
    windows: Shelf<Box<str>, Cells<Window>>,
    parts: Shelf<Box<str>, Cells<Parts>>,
    counts: Shelf<Box<str>, Cells<Count>>,
    quotas: Shelf<Box<str>, Book>,
    pub(super) owed: Shelf<Box<str>, Cells<Owed>>,
    pub(super) slices: Shelf<Box<str>, Cells<Slice>>,
}

/// What a limit counts with.
#[derive(Debug)]
pub enum Gauge {
    TokenBucket(TokenBucket),
    SlidingWindow(SlidingWindow),
    FixedWindow(FixedWindow),
    LeakyBucket(LeakyBucket),
    InFlight(InFlight),
    Quota(Quota),
}

/// A request was admitted: what is left, how long it waits before it goes on, and what it holds until it ends.
#[derive(Debug)]
pub struct Given {
    /// Nothing where nobody has counted.
    pub left: Option<Left>,
    pub wait: Duration,
    pub hold: Option<Box<dyn Hold>>,
}

impl Given {
    pub fn now(left: Left) -> Self {
        Self { left: Some(left), wait: Duration::ZERO, hold: None }
    }

    /// Admitted without being counted.
    pub fn uncounted() -> Self {
        Self { left: None, wait: Duration::ZERO, hold: None }
    }
}

impl Gauge {
    /// `at` is the limit's place, `name` what metrics know it by; what has to outlive the process lies under `state`.
    pub fn compile(
        name: &str,
        config: &Config,
        at: &Path,
        room: Room<'_>,
        state: &File,
        problems: &mut Problems,
    ) -> Option<Self> {
        fits(config, at, problems)?;
        let most = usize::try_from(config.keys.get()).unwrap_or(usize::MAX);
        if let Some(number) = config.in_flight {
            return Some(Self::InFlight(InFlight::new(number.get().into(), most, kept(&room.shelves.counts, at))));
        }
        if let Some(quota) = config.quota {
            // Another period is another count.
            let whole = format!("{at}.{}", quota.per().word());
            let lies = config.share.is_none() && !state.as_os_str().is_empty();
            let file = lies.then(|| state.join("quotas").join(&whole));
            let book = room.shelves.quotas.keep(whole.into(), || Book::open(file.as_deref(), most));
            let ledger = |file| Ledger::new(&at.to_string(), file, Arc::clone(&book), room.metrics.quota(name));
            let ledger = file.map(ledger).map(Arc::new);
            return Some(Self::Quota(Quota::new(quota, most, book, ledger)));
        }
        let rate = config.rate?;
        Self::of(config, rate, most, at, room.shelves).map_err(|why| problems.error(at.key("rate"), why)).ok()
    }

    fn of(config: &Config, rate: Rate, most: usize, at: &Path, shelves: &Shelves) -> Result<Self, String> {
        match config.algorithm {
            Algorithm::TokenBucket => {
                let burst = config.burst.map_or(rate.number(), |burst| burst.get().into());
                TokenBucket::new(rate, burst, most, kept(&shelves.buckets, at)).map(Self::TokenBucket)
            }
            Algorithm::SlidingWindow => {
                SlidingWindow::new(rate, most, kept(&shelves.parts, at)).map(Self::SlidingWindow)
            }
            Algorithm::FixedWindow => FixedWindow::new(rate, most, kept(&shelves.windows, at)).map(Self::FixedWindow),
            Algorithm::LeakyBucket => {
                let queue = config.queue.map_or(0, |queue| queue.get().into());
                LeakyBucket::new(rate, queue, most, kept(&shelves.queues, at)).map(Self::LeakyBucket)
            }
        }
    }

    /// How many requests there may be.
    pub fn quota(&self, config: &Config) -> u64 {
        let number = config.in_flight.map(|number| u64::from(number.get()));
        config.rate.map(Rate::number).or(config.quota.map(units::Quota::number)).or(number).unwrap_or(0)
    }

    pub fn fault(&self) -> Fault {
        match self {
            Self::InFlight(_) => Fault::LimitInFlight,
            Self::Quota(_) => Fault::LimitQuota,
            _ => Fault::LimitRate,
        }
    }

    /// What the parts of a key are written to.
    pub fn hasher(&self) -> SipHasher13 {
        match self {
            Self::TokenBucket(gauge) => gauge.cells().hasher(),
            Self::SlidingWindow(gauge) => gauge.cells().hasher(),
            Self::FixedWindow(gauge) => gauge.cells().hasher(),
            Self::LeakyBucket(gauge) => gauge.cells().hasher(),
            Self::InFlight(gauge) => gauge.cells().hasher(),
            Self::Quota(gauge) => gauge.hasher(),
        }
    }

    pub fn ticks(&self, now: Instant) -> u64 {
        match self {
            Self::TokenBucket(gauge) => gauge.cells().ticks(now),
            Self::SlidingWindow(gauge) => gauge.cells().ticks(now),
            Self::FixedWindow(gauge) => gauge.cells().ticks(now),
            Self::LeakyBucket(gauge) => gauge.cells().ticks(now),
            Self::InFlight(gauge) => gauge.cells().ticks(now),
            Self::Quota(gauge) => gauge.cells().ticks(now),
        }
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        match self {
            Self::TokenBucket(gauge) => gauge.cells().len(),
            Self::SlidingWindow(gauge) => gauge.cells().len(),
            Self::FixedWindow(gauge) => gauge.cells().len(),
            Self::LeakyBucket(gauge) => gauge.cells().len(),
            Self::InFlight(gauge) => gauge.cells().len(),
            Self::Quota(gauge) => gauge.cells().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the place of one request.
    pub fn take(&self, key: u64, now: Instant) -> Result<Given, Left> {
        let now = self.ticks(now);
        match self {
            Self::TokenBucket(gauge) => gauge.take(key, now).map(Given::now),
            Self::SlidingWindow(gauge) => gauge.take(key, now).map(Given::now),
            Self::FixedWindow(gauge) => gauge.take(key, now).map(Given::now),
            Self::LeakyBucket(gauge) => gauge.take(key, now).map(|(left, wait)| Given { wait, ..Given::now(left) }),
            Self::InFlight(gauge) => {
                let (left, held) = gauge.take(key, now)?;
                Ok(Given { hold: Some(Box::new(held)), ..Given::now(left) })
            }
            Self::Quota(gauge) => gauge.take(key, calendar::now()).map(Given::now),
        }
    }

    /// Who would refuse, without taking.
    pub fn peek(&self, key: u64, now: Instant) -> Result<(), Left> {
        let now = self.ticks(now);
        match self {
            Self::TokenBucket(gauge) => gauge.peek(key, now),
            Self::SlidingWindow(gauge) => gauge.peek(key, now),
            Self::FixedWindow(gauge) => gauge.peek(key, now),
            Self::LeakyBucket(gauge) => gauge.peek(key, now),
            Self::InFlight(gauge) => gauge.peek(key),
            Self::Quota(gauge) => gauge.peek(key, calendar::now()),
        }
    }

    /// The part of one of so many hosts; nothing where it cannot be divided.
    pub fn divided(&self, hosts: u64) -> Option<Self> {
        match self {
            Self::TokenBucket(gauge) => Some(Self::TokenBucket(gauge.divided(hosts))),
            Self::SlidingWindow(gauge) => Some(Self::SlidingWindow(gauge.divided(hosts))),
            Self::FixedWindow(gauge) => Some(Self::FixedWindow(gauge.divided(hosts))),
            Self::Quota(gauge) => Some(Self::Quota(gauge.divided(hosts))),
            Self::LeakyBucket(_) | Self::InFlight(_) => None,
        }
    }

    /// How many requests of a key count at the moment.
    pub fn used(&self, key: u64, now: Instant) -> u64 {
        let now = self.ticks(now);
        match self {
            Self::TokenBucket(gauge) => gauge.used(key, now),
            Self::SlidingWindow(gauge) => gauge.used(key, now),
            Self::FixedWindow(gauge) => gauge.used(key, now),
            Self::Quota(gauge) => gauge.used(key, calendar::now()),
            Self::LeakyBucket(gauge) => gauge.used(key, now),
            Self::InFlight(gauge) => gauge.used(key),
        }
    }

    /// Someone who counts for all hosts says what is left of a number.
    pub fn learn(&self, key: u64, now: Instant, left: &Left, of: u64) {
        let now = self.ticks(now);
        match self {
            Self::TokenBucket(gauge) => gauge.learn(key, now, left.requests, of),
            Self::SlidingWindow(gauge) => gauge.learn(key, now, left.requests, of),
            Self::FixedWindow(gauge) => gauge.learn(key, now, left, of),
            Self::Quota(gauge) => gauge.learn(key, calendar::now(), left, of),
            Self::LeakyBucket(_) | Self::InFlight(_) => {}
        }
    }

    /// Gives back what `take` took; what is held goes back by itself.
    pub fn give_back(&self, key: u64) {
        match self {
            Self::TokenBucket(gauge) => gauge.give_back(key),
            Self::SlidingWindow(gauge) => gauge.give_back(key),
            Self::FixedWindow(gauge) => gauge.give_back(key),
            Self::LeakyBucket(gauge) => gauge.give_back(key),
            Self::Quota(gauge) => gauge.give_back(key),
            Self::InFlight(_) => {}
        }
    }
}

pub(super) fn kept<S: State>(shelf: &Shelf<Box<str>, Cells<S>>, at: &Path) -> Arc<Cells<S>> {
    shelf.keep(at.to_string().into(), Cells::default)
}

/// Whether the settings belong together.
fn fits(config: &Config, at: &Path, problems: &mut Problems) -> Option<()> {
    let before = problems.errors();
    let of = |algorithm| config.rate.is_some() && config.algorithm == algorithm;
    let numbers = [config.rate.is_some(), config.in_flight.is_some(), config.quota.is_some()];
    if numbers.iter().filter(|said| **said).count() == 1 {
        if config.rate.is_none() && !config.algorithm.is_default() {
            problems.error(at.key("algorithm"), "says how `rate` is understood, and there is none");
        }
        if config.burst.is_some() && !of(Algorithm::TokenBucket) {
            problems.error(at.key("burst"), "belongs to `rate` with the algorithm token_bucket");
        }
        if config.queue.is_some() && !of(Algorithm::LeakyBucket) {
            problems.error(at.key("queue"), "belongs to `rate` with the algorithm leaky_bucket");
        }
        if config.share.is_some() && (config.in_flight.is_some() || of(Algorithm::LeakyBucket)) {
            let sentence = "hosts share a `quota`, or a `rate` with token_bucket, sliding_window or fixed_window";
            problems.error(at.key("share"), sentence);
        }
        let leased = config.share.as_ref().is_some_and(|share| share.mode == Sharing::Leased);
        if leased && config.quota.is_some() {
            let sentence = "a quota is counted exactly: what a host has borrowed is lost when it restarts";
            problems.error(at.key("share").key("mode"), sentence);
        }
        if config.queue.is_none() && of(Algorithm::LeakyBucket) {
            problems.error(at.clone(), "a leaky_bucket needs a `queue`, e.g. queue: 50");
        }
    } else {
        problems.error(at.clone(), "takes exactly one of `rate`, `quota` and `in_flight`");
    }
    if config.share.is_none() && !config.if_store_down.is_default() {
        problems.error(at.key("if_store_down"), "belongs to `share`, and this limit does not share");
    }
    (problems.errors() == before).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::{Named, Stores};
    use crate::telemetry::metrics::Metrics;

    fn gauges() -> impl Iterator<Item = Gauge> {
        let rates = ["token_bucket", "sliding_window", "fixed_window"];
        let rates = rates.map(|algorithm| format!("{{ rate: 90/h, algorithm: {algorithm}, key: client.ip }}"));
        rates.into_iter().chain(["{ quota: 90/year, key: client.ip }".to_owned()]).map(|text| {
            let config = serde_yaml::from_str(&text).unwrap();
            let (shelves, metrics) = (Shelves::default(), Metrics::new().unwrap());
            let (named, stores) = (Named::new(), Stores::new());
            let room = Room { shelves: &shelves, metrics: &metrics, named: &named, stores: &stores };
            Gauge::compile("a", &config, &Path::of(["limits", "a"]), room, File::new(""), &mut Problems::default())
                .unwrap()
        })
    }

    #[test]
    fn a_host_has_its_part_and_as_large_a_share_of_it_as_is_left_of_all() {
        for gauge in gauges() {
            let (mine, now) = (gauge.divided(3).unwrap(), Instant::now());
            let room = |key: u64| (0..99).filter(|_| mine.take(key, now).is_ok()).count();
            let learn = |key: u64, requests: u64| {
                let left = Left { requests, reset: Duration::from_mins(30) };
                mine.learn(key, now, &left, 90);
            };
            assert_eq!(room(1), 30);
            assert_eq!(mine.used(1, now), 30);
            for (key, left, part) in [(2, 90, 30), (3, 45, 15), (4, 0, 0), (5, 2, 0)] {
                learn(key, left);
                assert_eq!(room(key), part, "{gauge:?}: {left} of 90");
            }
            let alone = gauge.divided(1000).unwrap();
            assert_eq!((alone.take(6, now).is_ok(), alone.take(6, now).is_ok()), (true, false), "at least one");
        }
    }
}
