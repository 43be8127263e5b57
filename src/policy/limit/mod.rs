//! How often: limits on the requests of one key, be it an address, a consumer or anything else that a request says.
//!
//! All limits of a route must admit. They are asked one after the other, and each takes what it admits; where a later one
//! refuses, the earlier ones give theirs back. In the short time between the two, another request of the same key can
//! find less than there is: a limit errs on the side of refusing. The client is told of the strictest: of those that
//! refuse the one with the longest wait, of those that admit the one with the smallest share left.

pub mod answer;
pub mod config;
pub mod fixed_window;
pub mod gauge;
pub mod in_flight;
pub mod key;
pub mod leaky_bucket;
pub mod left;
mod shard;
pub mod sliding_window;
pub mod store;
pub mod token_bucket;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use config::{Config, Uses};
pub use gauge::Shelves;

use self::answer::Fields;
use self::config::Use;
use self::gauge::{Gauge, Given};
use self::key::Key;
use self::left::Left;
use self::store::number;
use self::watch::Watch;
use super::guard::{Mode, Rule, Tools};
use crate::exchange::{Exchange, Refusal};
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::{LimitMetrics, Metrics};
use crate::units::Name;

/// The limits of the section `limits`; nothing under the name of one that is wrong.
pub type Named = BTreeMap<Name, Option<Arc<Limit>>>;

/// What limits are compiled with.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    pub shelves: &'a Shelves,
    pub metrics: &'a Metrics,
    pub named: &'a Named,
}

/// One limit, decided once.
#[derive(Debug)]
pub struct Limit {
    rule: Rule,
    key: Key,
    otherwise: Option<Key>,
    gauge: Gauge,
    watch: Watch,
    fields: Fields,
    counted: LimitMetrics,
}

impl Limit {
    /// `at` is `limits.NAME`, or where it stands in a route; `name` is what clients and metrics know it by.
    pub fn compile(
        name: &str,
        config: &Config,
        at: &Path,
        room: Room<'_>,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Arc<Self>> {
        let before = problems.errors();
        keys_are_there(config, at, problems);
        let gauge = Gauge::compile(config, at, room.shelves, problems)?;
        let window = config.rate.and_then(|rate| rate.per().length()).map(|length| length.as_secs());
        let fields = Fields::new(name, gauge.quota(config), window, config.headers);
        if fields.is_none() {
            problems.error(at.clone(), format!("`{name}` cannot stand in a header field"));
        }
        let fields = fields?;
        (problems.errors() == before).then(|| {
            Arc::new(Self {
                rule: Rule::new(at, config.mode, tools),
                key: config.key.clone(),
                otherwise: config.otherwise.clone(),
                gauge,
                watch: Watch::default(),
                fields,
                counted: room.metrics.limit(name),
            })
        })
    }

    fn is_shadow(&self) -> bool {
        self.rule.mode == Mode::Shadow
    }

    /// The number under which this request is counted.
    fn number(&self, exchange: &Exchange<'_>, route: &str) -> u64 {
        let write = |key: &Key| {
            let mut hasher = self.gauge.hasher();
            key.write(exchange, route, &mut hasher).map(|()| number(&hasher))
        };
        // `check` has seen to it that the other key is always there.
        write(&self.key).or_else(|| self.otherwise.as_ref().and_then(write)).unwrap_or(1)
    }

    fn take(&self, number: u64, now: Instant) -> Result<Given, Left> {
        if self.key.is_personal() && self.watch.sees(number, self.gauge.ticks(now) / 16) {
            log::warn!("nearly all requests under {} share one key: they are one client to it", self.rule.name);
        }
        self.gauge.take(number, now)
    }

    fn refuse(&self, left: &Left) -> Refusal {
        let why = format!("nothing left for {} s", left.seconds());
        Refusal { fields: self.fields.refused(left), ..self.rule.refuse(self.gauge.fault(), why) }
    }
}

/// How long a month is, is not known before it comes.
const NO_LENGTH: &str = "a month has no fixed length; take a shorter unit";

/// A request without a key would have no limit.
fn keys_are_there(config: &Config, at: &Path, problems: &mut Problems) {
    match &config.otherwise {
        None if config.key.can_be_empty() => {
            let sentence =
                "a request without it would have no limit; say by what those are counted, e.g. else: client.ip";
            problems.error(at.key("key"), sentence);
        }
        Some(otherwise) if otherwise.can_be_empty() => {
            problems.error(at.key("else"), "can be empty too; take client.ip, host, route, or several of them");
        }
        Some(_) if !config.key.can_be_empty() => {
            problems.error(at.key("else"), "has no meaning: every request has the key");
        }
        _ => {}
    }
}

/// The limits of one route.
#[derive(Debug)]
pub struct Limits {
    route: Box<str>,
    limits: Box<[Arc<Limit>]>,
}

/// More limits than this on one route are a mistake.
const MOST: usize = 16;

impl Limits {
    /// `route` is `routes.NAME`. A name that means nothing was reported by the reader, at its place.
    pub fn compile(uses: &Uses, route: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let at = route.key("limit");
        let Some(room) = tools.limits.filter(|_| !uses.is_empty()) else {
            if !uses.is_empty() {
                problems.error(at, "there is nothing to count with");
            }
            return None;
        };
        if uses.0.len() > MOST {
            problems.error(at.clone(), format!("more than {MOST} limits on one route"));
            return None;
        }
        let mut limits: Vec<Arc<Limit>> = Vec::with_capacity(uses.0.len());
        for (index, one) in uses.0.iter().enumerate() {
            let alone = uses.0.len() == 1;
            let limit = match one {
                Use::Named(name) => room.named.get(name)?.clone()?,
                Use::Here(config) if alone => Limit::compile(&route.to_string(), config, &at, room, tools, problems)?,
                Use::Here(config) => {
                    let name = format!("{route}.{}", index + 1);
                    Limit::compile(&name, config, &at.index(index), room, tools, problems)?
                }
            };
            if limits.iter().any(|other| Arc::ptr_eq(other, &limit)) {
                problems.error(at.index(index), "is in this list already");
            }
            limits.push(limit);
        }
        Some(Self { route: route.to_string().into(), limits: limits.into() })
    }

    /// What their keys ask of the route's match.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().flat_map(|limit| limit.key.params())
    }

    /// Whether one of them counts by what only `auth` can tell.
    pub fn ask_who(&self) -> bool {
        self.limits.iter().any(|limit| limit.key.asks_who())
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.limits.iter().map(|limit| &limit.rule)
    }

    /// Takes what the request needs from each limit, or from none and says which refuses. Whom all admit may still have
    /// to wait for that long.
    pub fn admit(&self, exchange: &mut Exchange<'_>, now: Instant) -> Result<Duration, Refusal> {
        // One bit for each limit that has given something.
        let mut taken = 0_u64;
        let (mut held, mut wait) = (Vec::new(), Duration::ZERO);
        let mut tightest: Option<(&Limit, Left)> = None;
        for (index, limit) in self.limits.iter().enumerate() {
            match (limit.take(limit.number(exchange, &self.route), now), limit.is_shadow()) {
                (Ok(given), shadow) => {
                    taken |= 1 << index;
                    held.extend(given.hold);
                    if shadow {
                        continue;
                    }
                    wait = wait.max(given.wait);
                    let tighter =
                        |(other, than): &(&Limit, Left)| limit.fields.is_tighter(&given.left, &other.fields, than);
                    if tightest.as_ref().is_none_or(tighter) {
                        tightest = Some((limit, given.left));
                    }
                }
                (Err(left), true) => {
                    limit.counted.would_refuse();
                    exchange.found.would_refuse.push(limit.refuse(&left));
                }
                (Err(left), false) => {
                    self.taken(taken).for_each(|limit| limit.gauge.give_back(limit.number(exchange, &self.route)));
                    let (limit, left) = self.strictest((limit, left), index, exchange, now);
                    limit.counted.refused();
                    return Err(limit.refuse(&left));
                }
            }
        }
        self.taken(taken).for_each(|limit| limit.counted.admitted());
        if let Some((limit, left)) = tightest {
            limit.fields.admitted(&left, &mut exchange.found.answer);
        }
        exchange.found.held.extend(held);
        Ok(wait)
    }

    fn taken(&self, bits: u64) -> impl Iterator<Item = &Limit> {
        self.limits.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1).map(|(_, limit)| &**limit)
    }

    /// Of the first limit that refuses, which is the one at `index`, and those behind it: which one refuses longest.
    fn strictest<'a>(
        &'a self,
        first: (&'a Limit, Left),
        index: usize,
        exchange: &Exchange<'_>,
        now: Instant,
    ) -> (&'a Limit, Left) {
        let behind = self.limits.iter().skip(index + 1).filter(|limit| !limit.is_shadow());
        let refusing = behind.filter_map(|limit| {
            let left = limit.gauge.peek(limit.number(exchange, &self.route), now).err()?;
            Some((&**limit, left))
        });
        refusing.fold(first, |longest, other| if other.1.reset > longest.1.reset { other } else { longest })
    }
}

#[cfg(test)]
mod tests;
