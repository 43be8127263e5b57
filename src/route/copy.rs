//! Copies of requests for another pool: sent beside the live request, their answers thrown away.
//!
//! ```yaml
//! copy_to: orders-next
//! copy_to: { pool: orders-next, sample: 5%, body: 64KiB, in_flight: 64, timeout: 10s }
//! ```

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::split;
use crate::pool::Pool;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::{CopyMetrics, CopyResult};
use crate::telemetry::random;
use crate::units::{Duration, Name, Share, Size, or_short, short_form};

/// Copies of requests for another pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "RouteCopyTo", transform = or_short)]
pub struct Config {
    /// The pool that gets the copies.
    pub pool: Name,
    /// The share of the requests that are copied.
    #[serde(default = "all")]
    pub sample: Share,
    /// The largest body that is copied; a request with a larger one is not.
    #[serde(default = "body")]
    pub body: Size,
    /// Copies that may be under way at once; a request beyond them is not copied.
    #[serde(default = "in_flight")]
    pub in_flight: NonZeroU16,
    /// How long a copy may take, its answer included.
    #[serde(default = "timeout")]
    pub timeout: Duration,
}

fn all() -> Share {
    Share::from_percent(100)
}

fn body() -> Size {
    Size::from_bytes(64 << 10)
}

fn in_flight() -> NonZeroU16 {
    NonZeroU16::MIN.saturating_add(63)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

/// The most that one copy may hold in memory.
const MOST_BODY: Size = Size::from_bytes(16 << 20);

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pool = text.parse()?;
        Ok(Self { pool, sample: all(), body: body(), in_flight: in_flight(), timeout: timeout() })
    }
}

short_form!(Config, "the name of a pool, or a map with `pool`");

/// The copies of a route.
pub struct Copies {
    pool: Arc<Pool>,
    sample: Share,
    most: usize,
    room: usize,
    timeout: Duration,
    in_flight: AtomicUsize,
    counted: Option<CopyMetrics>,
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies").field("pool", self.pool.name()).field("sample", &self.sample).finish_non_exhaustive()
    }
}

impl Copies {
    pub(super) fn compile(
        config: &Config,
        pools: &split::Pools,
        at: &Path,
        counted: Option<CopyMetrics>,
        problems: &mut Problems,
    ) -> Option<Arc<Self>> {
        let before = problems.errors();
        if config.body > MOST_BODY {
            problems.error(at.key("body"), format!("`{}` is too large; at most {MOST_BODY}", config.body));
        }
        if config.timeout.get().is_zero() {
            problems.error(at.key("timeout"), "must be more than zero");
        }
        let pool = split::named(&config.pool, pools, at, problems);
        let (most, room) = (config.body.len(), usize::from(config.in_flight.get()));
        let (pool, timeout) = (pool.filter(|_| problems.errors() == before)?, config.timeout);
        let in_flight = AtomicUsize::new(0);
        Some(Arc::new(Self { pool, sample: config.sample, most, room, timeout, in_flight, counted }))
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
    pub fn sample(&self) -> Share {
        self.sample
    }
    /// Bytes of the largest body that is copied.
    pub fn most(&self) -> usize {
        self.most
    }
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the next request is copied: a place for its copy, if so.
    pub fn draw(self: &Arc<Self>) -> Option<Place> {
        if random::next() % 100 >= u64::from(self.sample.percent()) {
            return None;
        }
        let taken = self.in_flight.fetch_add(1, Relaxed);
        let mut place = Place { copies: Arc::clone(self), result: CopyResult::Incomplete };
        if taken < self.room {
            return Some(place);
        }
        place.ended(CopyResult::Dropped);
        None
    }
}

/// The place of one copy among those under way; dropped at its end, which is counted then.
pub struct Place {
    copies: Arc<Copies>,
    result: CopyResult,
}

impl Place {
    pub fn copies(&self) -> &Copies {
        &self.copies
    }
    /// How it ended; one of which nobody says so was broken off.
    pub fn ended(&mut self, result: CopyResult) {
        self.result = result;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.copies.in_flight.fetch_sub(1, Relaxed);
        if let Some(counted) = &self.copies.counted {
            counted.count(self.result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(config: &str) -> Arc<Copies> {
        let yaml = "pools: { next: [10.0.0.1:80] }\nroutes: {}";
        let config: Config = serde_yaml::from_str(config).unwrap();
        let pools: std::collections::BTreeMap<Name, crate::pool::Config> =
            serde_yaml::from_value(serde_yaml::from_str::<serde_yaml::Value>(yaml).unwrap()["pools"].clone()).unwrap();
        let (shelves, observer) = (crate::pool::Shelves::default(), Arc::new(()) as Arc<dyn crate::pool::Observer>);
        let tools = crate::pool::Tools { shelves: &shelves, observer: &observer, listeners: &[], counted: None };
        let mut problems = Problems::default();
        let at = Path::default();
        let pools = pools.iter().map(|(name, config)| {
            (name.clone(), crate::pool::Pool::compile(name, config, &at, &tools, &mut Problems::default()))
        });
        Copies::compile(&config, &pools.collect(), &at, None, &mut problems).unwrap()
    }

    #[test]
    fn short_and_long_forms_are_the_same() {
        let long = "{ pool: next, sample: 100%, body: 64KiB, in_flight: 64, timeout: 10s }";
        let [short, long] = ["next", long].map(|text| serde_yaml::from_str::<Config>(text).unwrap());
        assert_eq!(short, long);
        assert!(serde_yaml::from_str::<Config>("{ pool: next, smaple: 5% }").is_err());
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let copies = copies("{ pool: next, in_flight: 2 }");
        let first = copies.draw();
        let second = copies.draw();
        assert!(first.is_some() && second.is_some() && copies.draw().is_none() && copies.draw().is_none());
        drop(first);
        assert!(copies.draw().is_some());
    }

    #[test]
    fn a_share_of_the_requests_is_copied() {
        let drawn = |sample: &str| {
            let copies = copies(&format!("{{ pool: next, sample: {sample} }}"));
            (0..10_000).filter(|_| copies.draw().is_some()).count()
        };
        assert_eq!((drawn("0%"), drawn("100%")), (0, 10_000));
        assert!((800..1200).contains(&drawn("10%")));
    }
}
