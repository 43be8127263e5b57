//! A limit that several hosts count together: in the store while it is up, and by themselves while it is not.
//!
//! What the store says of a key is also learned by the count of this host, so that a key that is at its limit has no
//! fresh start when the store goes down. When the store is back and the key comes again, it is told what was admitted
//! here meanwhile, as far as that still counts: so many on each host, for a balanced load. Where the load is not, the key
//! has less for a while; it has no fresh start then either.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::Room;
use super::config::{Algorithm, Config};
use super::gauge::{Gauge, Given, kept};
use super::lease::{Lease, Slice, Turn};
use super::left::Left;
use super::owed::Owed;
use super::share::IfStoreDown;
use super::store::{Cells, ticks};
use super::wide::Wide;
use crate::client::store::{Argument, Down, Script, Store};
use crate::problem::{Path, Problems};

static RATES: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("shared.lua")));
static QUOTAS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("quota.lua")));

/// How a limit is counted in a store.
#[derive(Debug)]
pub(super) struct Shared {
    store: Arc<Store>,
    /// What all names of this limit's keys begin with.
    prefix: Box<str>,
    script: &'static Script,
    /// The algorithm of a rate, or the period of a quota.
    algorithm: &'static str,
    number: u64,
    period: Duration,
    burst: u64,
    keys: usize,
    otherwise: IfStoreDown,
    owed: Arc<Cells<Owed>>,
    lease: Lease,
}

/// Where a request was counted, so that it can be taken back there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Store,
    Slice,
    Here,
    Nowhere,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refused {
    Spent(Left),
    StoreDown,
}

impl Refused {
    /// How long it lasts.
    pub(super) fn reset(&self) -> Duration {
        match self {
            Self::Spent(left) => left.reset,
            Self::StoreDown => Duration::ZERO,
        }
    }
}

/// Who is counted: here, and in the store.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) number: u64,
    pub(super) key: String,
}

impl Shared {
    /// Nothing where there is no such store, which the reader has reported, or where nothing can be shared.
    pub(super) fn new(name: &str, config: &Config, at: &Path, room: Room<'_>, problems: &mut Problems) -> Option<Self> {
        let share = config.share.as_ref()?;
        let store = room.stores.get(&share.store)?.clone()?;
        let (script, algorithm, number, period) = counted(config)?;
        if config.if_store_down == IfStoreDown::Open {
            let sentence = "whoever can bring the store down, or slow it down, has no limit";
            problems.warn(at.key("if_store_down"), sentence);
        }
        let keys = usize::try_from(config.keys.get()).unwrap_or(usize::MAX);
        let slices = kept(&room.shelves.slices, at);
        let slice = share.slice(number, &at.key("share"), problems);
        let lease = match slice {
            Some(size) => Lease::new(size, period, keys, slices, room.metrics.overshoot(name)),
            None => Lease::none(keys, slices),
        };
        Some(Self {
            store,
            prefix: format!("yumen:{at}:{algorithm}:").into(),
            script,
            algorithm,
            number,
            period,
            burst: config.burst.map_or(number, |burst| burst.get().into()),
            keys,
            otherwise: config.if_store_down,
            owed: kept(&room.shelves.owed, at),
            lease,
        })
    }

    /// What a key is called in the store.
    pub(super) fn name(&self, key: Wide) -> String {
        let mut name = String::with_capacity(self.prefix.len() + 22);
        name.push_str(&self.prefix);
        key.name(&mut name);
        name
    }

    /// What was borrowed and what is owed, which one process has and no other.
    pub(super) fn held(&self) -> (&Cells<Slice>, &Cells<Owed>) {
        (self.lease.cells(), &self.owed)
    }

    pub(super) fn hosts(&self) -> u64 {
        self.store.hosts()
    }

    /// How many the store has counted, without counting.
    pub(super) async fn look(&self, names: &Names) -> Result<u64, Down> {
        let (_, left, _) = self.run(&names.key, 0, 0).await?;
        Ok(self.most().saturating_sub(positive(left)))
    }

    /// Takes the place of one request. `lost` are the stores for which it has waited in vain; it does not again.
    pub(super) async fn take(
        self: &Arc<Self>,
        gauge: &Gauge,
        names: &Names,
        lost: &mut Vec<Arc<Store>>,
    ) -> Result<(Given, Place), Refused> {
        let want = match self.lease.spend(names.number, self.lease.ticks(Instant::now())) {
            Turn::Given(left, more) => {
                self.borrow_more(names, more);
                return Ok((Given::now(left), Place::Slice));
            }
            Turn::Spent(left) => return Err(Refused::Spent(left)),
            Turn::Ask(want) => want,
        };
        if !lost.iter().any(|store| Arc::ptr_eq(store, &self.store)) {
            match self.ask(gauge, names, want).await {
                Ok(Ok(left)) => return Ok((Given::now(left), Place::Store)),
                Ok(Err(left)) => return Err(Refused::Spent(left)),
                Err(Down) => lost.push(Arc::clone(&self.store)),
            }
        }
        match self.otherwise {
            IfStoreDown::Local => self.take_here(gauge, names.number),
            IfStoreDown::Open => Ok((Given::uncounted(), Place::Nowhere)),
            IfStoreDown::Closed => Err(Refused::StoreDown),
        }
    }

    /// What the store says; this host learns of it.
    async fn ask(&self, gauge: &Gauge, names: &Names, want: u32) -> Result<Result<Left, Left>, Down> {
        let (began, here) = (Instant::now(), names.number);
        let mine = self.mine(gauge);
        let ticks = gauge.ticks(began);
        let owed = self.owed.settle(here, ticks);
        let used = mine.as_ref().filter(|_| owed > 0).map_or(0, |mine| mine.used(here, began));
        let answer = self.run(&names.key, want.into(), used.saturating_mul(self.store.hosts())).await;
        if answer.is_err() && owed > 0 {
            self.owe(gauge, here, began, owed);
        }
        let (given, left, reset) = answer?;
        let left = Left { requests: positive(left), reset: Duration::from_micros(positive(reset)) };
        if let Some(mine) = mine {
            mine.learn(here, Instant::now(), &left, self.most());
        }
        let borrowed = u32::try_from(given.saturating_sub(1)).unwrap_or(0);
        if want > 1 || given == 0 {
            self.lease.fill(here, self.lease.ticks(Instant::now()), borrowed, given == 0, &left);
            self.lease.tell_bound(self.store.hosts());
        }
        let left = Left { requests: left.requests + u64::from(borrowed), ..left };
        Ok(if given > 0 { Ok(left) } else { Err(left) })
    }

    /// Borrows so many in the background, before the slice is empty.
    fn borrow_more(self: &Arc<Self>, names: &Names, more: u32) {
        if more == 0 {
            return;
        }
        let (this, names) = (Arc::clone(self), names.clone());
        self.store.later(async move {
            let Ok((given, left, reset)) = this.run(&names.key, more.into(), 0).await else { return };
            let left = Left { requests: positive(left), reset: Duration::from_micros(positive(reset)) };
            let more = u32::try_from(given).unwrap_or(0);
            this.lease.fill(names.number, this.lease.ticks(Instant::now()), more, given == 0, &left);
        });
    }

    /// Given, left, and microseconds.
    async fn run(&self, key: &str, want: i64, owed: u64) -> Result<(i64, i64, i64), Down> {
        let number = |number: u64| Argument::Number(i64::try_from(number).unwrap_or(i64::MAX));
        let period = u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX);
        let arguments = [
            Argument::Text(self.algorithm),
            number(self.number),
            number(period),
            number(self.burst),
            Argument::Number(want),
            number(owed),
        ];
        self.store.run(self.script, key, &arguments).await
    }

    fn take_here(&self, gauge: &Gauge, number: u64) -> Result<(Given, Place), Refused> {
        let now = Instant::now();
        let mine = self.mine(gauge).ok_or(Refused::StoreDown)?;
        let given = mine.take(number, now).map_err(Refused::Spent)?;
        self.owe(gauge, number, now, 1);
        Ok((given, Place::Here))
    }

    /// The part of this host.
    fn mine(&self, gauge: &Gauge) -> Option<Gauge> {
        gauge.divided(self.store.hosts())
    }

    fn owe(&self, gauge: &Gauge, number: u64, now: Instant, count: u64) {
        // As long as all that a bucket holds takes to come back, and a part more for a window.
        let span = ticks(self.period).saturating_mul(self.burst.div_ceil(self.number.max(1)).max(2));
        self.owed.add(number, gauge.ticks(now), span, self.keys, count);
    }

    /// How many there are when nobody has come.
    fn most(&self) -> u64 {
        if self.algorithm == "token_bucket" { self.burst } else { self.number }
    }

    /// Gives back what `take` took, but does not wait for a store that is `lost`.
    pub(super) async fn give_back(&self, gauge: &Gauge, names: &Names, place: Place, lost: &[Arc<Store>]) {
        match place {
            Place::Store if lost.iter().any(|store| Arc::ptr_eq(store, &self.store)) => {}
            // One that stays away is a request counted that was none: the limit errs on the side of refusing.
            Place::Store => drop(self.run(&names.key, -1, 0).await),
            Place::Slice => self.lease.give_back(names.number, self.lease.ticks(Instant::now())),
            Place::Here => {
                if let Some(mine) = self.mine(gauge) {
                    mine.give_back(names.number);
                }
                self.owed.forgive(names.number);
            }
            Place::Nowhere => {}
        }
    }
}

/// By which script and under which word, how many, and in how long a time at most.
fn counted(config: &Config) -> Option<(&'static Script, &'static str, u64, Duration)> {
    if let Some(quota) = config.quota {
        let most = Duration::from_hours(quota.per().hours().into());
        return Some((&QUOTAS, quota.per().word(), quota.number(), most));
    }
    let word = match config.algorithm {
        Algorithm::TokenBucket => "token_bucket",
        Algorithm::SlidingWindow => "sliding_window",
        Algorithm::FixedWindow => "fixed_window",
        Algorithm::LeakyBucket => return None,
    };
    let rate = config.rate?;
    Some((&RATES, word, rate.number(), rate.per().length()))
}

fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
