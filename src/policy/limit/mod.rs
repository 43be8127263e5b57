//! How often: limits on the requests of one key, be it an address, a consumer or anything else that a request says.
//!
//! All limits of a route must admit. They are asked one after the other, and each takes what it admits; where a later one
//! refuses, the earlier ones give theirs back. In the short time between the two, another request of the same key can
//! find less than there is: a limit errs on the side of refusing. The client is told of the strictest: of those that
//! refuse the one with the longest wait, of those that admit the one with the smallest share left.

pub mod answer;
pub mod calendar;
pub mod carry;
pub mod config;
pub mod disk;
pub mod fixed_window;
pub mod gauge;
pub mod in_flight;
pub mod leaky_bucket;
mod lease;
pub mod ledger;
pub mod left;
mod owed;
pub mod quota;
pub mod seen;
mod shard;
pub mod share;
mod shared;
pub mod sliding_window;
pub mod store;
pub mod together;
pub mod token_bucket;
mod watch;
mod wide;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub use config::{Config, Uses};
pub use gauge::Shelves;
pub use ledger::Ledger;
pub use together::Limits;

use self::answer::{Fields, Window};
use self::gauge::{Gauge, Given};
use self::left::Left;
use self::shared::{Names, Refused, Shared};
use self::store::number;
use self::watch::Watch;
use self::wide::Wide;
use super::expression::Expression;
use super::guard::{Mode, Rule, Tools};
use crate::client::store::Store;
use crate::exchange::{Exchange, Refusal};
use crate::fault::Fault;
use crate::policy::key::Key;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::{LimitMetrics, Metrics};
use crate::units::Name;

/// The limits of the section `limits`; nothing under the name of one that is wrong.
pub type Named = BTreeMap<Name, Option<Arc<Limit>>>;

/// The stores of the section `stores`; nothing under the name of one that is wrong.
pub type Stores = BTreeMap<Name, Option<Arc<Store>>>;

/// What limits are compiled with.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    pub shelves: &'a Shelves,
    pub metrics: &'a Metrics,
    pub named: &'a Named,
    pub stores: &'a Stores,
}

/// One limit, decided once.
#[derive(Debug)]
pub struct Limit {
    /// Where it stands in the document.
    at: Box<str>,
    name: Box<str>,
    rule: Rule,
    config: Config,
    when: Option<Expression>,
    gauge: Gauge,
    shared: Option<Arc<Shared>>,
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
        let gauge = Gauge::compile(name, config, at, room, tools.state, problems)?;
        let fields = Fields::new(name, gauge.quota(config), Window::of(config), config.headers);
        if fields.is_none() {
            problems.error(at.clone(), format!("`{name}` cannot stand in a header field"));
        }
        let fields = fields?;
        let shared = match &config.share {
            Some(_) => Some(Arc::new(Shared::new(name, config, at, room, problems)?)),
            None => None,
        };
        let when = config.when.as_deref().map(Expression::compile).transpose();
        let when = when.map_err(|why| problems.error(at.key("when"), why)).ok()?;
        (problems.errors() == before).then(|| {
            Arc::new(Self {
                at: at.to_string().into(),
                name: name.into(),
                rule: Rule::new(at, config.mode, tools),
                config: config.clone(),
                when,
                gauge,
                shared,
                watch: Watch::default(),
                fields,
                counted: room.metrics.limit(name),
            })
        })
    }

    /// Whether this request is counted. Where that has no answer, it is: nobody goes free by a claim that he leaves out.
    fn applies(&self, exchange: &Exchange<'_>) -> bool {
        let holds = |when: &Expression| when.holds(exchange.request, &exchange.found.identity).unwrap_or(true);
        self.when.as_ref().is_none_or(holds)
    }

    /// Whether it looks at what only `auth` can tell.
    fn asks_who(&self) -> bool {
        self.config.key.asks_who() || self.when.as_ref().is_some_and(Expression::asks_who)
    }

    /// Where its counts are kept for a restart.
    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        match &self.gauge {
            Gauge::Quota(quota) => quota.ledger(),
            _ => None,
        }
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
        write(&self.config.key).or_else(|| self.config.otherwise.as_ref().and_then(write)).unwrap_or(1)
    }

    fn notice(&self, number: u64, now: Instant) {
        if self.config.key.is_personal() && self.watch.sees(number, self.gauge.ticks(now) / 16) {
            log::warn!("nearly all requests under {} share one key: they are one client to it", self.rule.name);
        }
    }

    fn take(&self, number: u64, now: Instant) -> Result<Given, Left> {
        self.notice(number, now);
        self.gauge.take(number, now)
    }

    /// Who is counted by a limit that hosts share.
    fn names(&self, shared: &Shared, exchange: &Exchange<'_>, route: &str) -> Names {
        let write = |key: &Key| {
            let mut wide = Wide::new();
            key.write(exchange, route, &mut wide).map(|()| wide)
        };
        let wide = write(&self.config.key)
            .or_else(|| self.config.otherwise.as_ref().and_then(write))
            .unwrap_or_else(Wide::new);
        Names { number: self.number(exchange, route), key: shared.name(wide) }
    }

    /// Takes the place of a request where nothing has to be waited for.
    fn ask(&self, exchange: &Exchange<'_>, route: &str, now: Instant) -> Result<Given, Refused> {
        self.take(self.number(exchange, route), now).map_err(Refused::Spent)
    }

    fn refuse(&self, refused: &Refused) -> Refusal {
        match refused {
            Refused::Spent(left) => {
                let why = match &self.gauge {
                    Gauge::InFlight(_) => "as many requests as may be are under way".to_owned(),
                    _ => format!("nothing left for {} s", left.seconds()),
                };
                Refusal { fields: self.fields.refused(left), ..self.rule.refuse(self.gauge.fault(), why) }
            }
            Refused::StoreDown => self.rule.refuse(Fault::LimitStoreDown, "the store is down"),
        }
    }
}

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

#[cfg(test)]
mod tests;
