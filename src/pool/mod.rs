//! Where requests go: a pool is a set of targets, watched and balanced.
//!
//! ```yaml
//! pools:
//!   catalog: [10.0.1.11:8080]
//!   orders:
//!     targets: [10.0.0.11:8080, { at: 10.0.0.12:8080, weight: 2 }]
//!     balance: least_requests
//!     health: { http: /healthz, every: 5s, down_after: 3, up_after: 2 }
//!     breaker: { open_after: 5, open_for: 30s, probes: 3 }
//!     retry: { attempts: 2, on: [connect, reset, 503] }
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::sync::watch;

use crate::chore::Chore;
use crate::exchange::Request;
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::PoolMetrics;
use crate::units::{Duration, Name, Use};

pub mod balance;
pub mod breaker;
mod budget;
mod chance;
mod chores;
pub mod connection;
mod discover;
mod endpoint;
pub mod fallback;
pub mod health;
mod live;
mod observer;
mod peer;
mod resume;
pub mod retry;
mod standing;
pub mod status;
pub mod target;
pub mod timeout;
pub mod tls;

use breaker::{Breaker, Held};
pub use budget::Budget;
use endpoint::Endpoint;
use fallback::Fallback;
use health::Check;
use live::Live;
pub use observer::Observer;
pub use retry::Retry;
pub use standing::Shelves;
use standing::Standing;
pub use status::{PoolState, Status};
use target::Cell;
pub use target::{Picked, Target};
pub use timeout::Timeout;
use tls::Tls;

/// A set of targets and how they are used; a list of addresses is a pool with every setting at its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
#[schemars(rename = "Pool", transform = also_a_list)]
pub struct Config {
    /// Another pool whose settings hold where this one says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<Name>,
    /// Where requests go: addresses, each with an optional weight.
    pub targets: Vec<target::Config>,
    /// What is spoken with the targets.
    pub protocol: Protocol,
    /// TLS towards the targets; plain when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Config>,
    /// How requests are spread over the targets.
    pub balance: balance::Config,
    /// How targets are asked whether they can serve; never asked, and always taken for up, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<health::Config>,
    /// When a target that fails requests is left alone for a while; never, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<breaker::Config>,
    /// When a request that failed is tried again, at another target where there is one.
    pub retry: retry::Config,
    /// Who serves, or what is answered, while no target takes requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<fallback::Config>,
    /// How long each step towards a target may take.
    pub timeout: timeout::Config,
    /// Connections kept open between requests.
    pub keep_alive: KeepAlive,
}

/// What is spoken with the targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "PoolProtocol")]
pub enum Protocol {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    H1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// Connections kept open between requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolKeepAlive")]
pub struct KeepAlive {
    /// How long an unused connection is kept; shorter than the target's own limit avoids requests on dying connections.
    pub idle: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60) }
    }
}

fn also_a_list(long: &mut schemars::Schema) {
    let description = "A list of addresses, or a map with targets and how they are used.";
    let items = long.pointer("/properties/targets/items").cloned().unwrap_or_else(|| true.into());
    let short = serde_json::json!({ "type": "array", "items": items, "minItems": 1 });
    *long = schemars::json_schema!({ "description": description, "anyOf": [short, long.clone()] });
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses, e.g. [10.0.0.5:8080], or a map with `targets`")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Config, A::Error> {
                let targets = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(Config { targets, ..Config::default() })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                Config::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl Config {
    /// The files that the pool is made of, to be watched for changes.
    pub fn files(&self) -> Vec<PathBuf> {
        self.tls.iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten().cloned().collect()
    }
}

/// What a pool needs from outside.
pub struct Tools<'a> {
    pub shelves: &'a Shelves,
    pub observer: &'a Arc<dyn Observer>,
    /// What its requests count.
    pub counted: Option<Arc<PoolMetrics>>,
}

/// Why no target takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unserved {
    pub fault: Fault,
    /// How long until the first breaker lets requests through again.
    pub wait: Option<std::time::Duration>,
}

impl From<Fault> for Unserved {
    fn from(fault: Fault) -> Self {
        Self { fault, wait: None }
    }
}

/// A set of targets, watched and balanced.
pub struct Pool {
    name: Name,
    endpoints: Vec<Endpoint>,
    settings: Arc<peer::Settings>,
    check: Option<Arc<Check>>,
    breaker: Option<Arc<breaker::Rule>>,
    retry: retry::Config,
    fallback: OnceLock<Fallback>,
    balance: balance::Config,
    shelves: Shelves,
    standing: Arc<Standing>,
    observer: Arc<dyn Observer>,
    counted: Option<Arc<PoolMetrics>>,
    files: Vec<PathBuf>,
    live: ArcSwap<Live>,
    /// Held while `live` is made anew; tells that the targets are others now.
    renewed: watch::Sender<()>,
    renewing: Mutex<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.name).finish()
    }
}

impl Pool {
    /// Makes the pool, or complains. Reads files; asks nobody.
    pub fn compile(
        name: &Name,
        config: &Config,
        at: &Path,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Arc<Self>> {
        let errors = problems.errors();
        endpoint::complain(config, at, problems);
        endpoint::complain_of_protocol(config, at, problems);
        timeout::complain(&config.timeout, &at.key("timeout"), problems);
        config.retry.complain(&at.key("retry"), problems);
        let tls = config.tls.as_ref().map(|tls| Tls::compile(tls, &at.key("tls"), problems));
        let keep = config.keep_alive.idle.get();
        let settings = Arc::new(peer::Settings::new(tls, config.protocol, config.timeout.clone(), keep));
        let check = config.health.as_ref();
        let check = check.map(|health| Check::compile(health, settings.group(), &at.key("health"), problems));
        let breaker = config
            .breaker
            .as_ref()
            .map(|config| breaker::Rule::compile(config, name, tools.observer, &at.key("breaker"), problems));
        let answer = config.fallback.as_ref().and_then(Use::here);
        let answer = answer.map(|said| fallback::Answer::compile(said, &at.key("fallback"), problems));
        if problems.errors() > errors {
            return None;
        }
        let shelves = tools.shelves.clone();
        let standing = shelves.standings.keep(name.clone(), || {
            let (observer, name) = (Arc::clone(tools.observer), name.clone());
            Standing::new(Instant::now(), move || observer.target_gone(name.as_str(), breaker::ALL))
        });
        let breaker = breaker.map(|rule| Arc::new(rule.within(&standing.breaker, &standing.hand)));
        let pool = Self {
            name: name.clone(),
            endpoints: config.targets.iter().filter_map(|target| Endpoint::new(name, target, &shelves)).collect(),
            settings,
            check: check.map(Arc::new),
            breaker,
            retry: config.retry.clone(),
            fallback: answer.map(|answer| Fallback::Answer(Arc::new(answer)).into()).unwrap_or_default(),
            balance: config.balance.clone(),
            shelves,
            standing,
            observer: Arc::clone(tools.observer),
            counted: tools.counted.clone(),
            files: config.files(),
            live: ArcSwap::from_pointee(Live::none()),
            renewed: watch::Sender::new(()),
            renewing: Mutex::new(()),
        };
        pool.renew();
        Some(Arc::new(pool))
    }

    /// The target for one try: not one of `tried`, if another serves.
    pub fn pick(&self, request: &dyn Request, tried: &[Arc<Target>]) -> Result<Picked, Unserved> {
        if let Some((Held::Open, wait)) = self.standing.hand.held() {
            return Err(Unserved { fault: Fault::BreakerOpen, wait: Some(wait) });
        }
        let live = self.live.load();
        // Once more where another request was quicker to try a target for its breaker: then that one does not fit.
        let picks = std::iter::repeat_with(|| live.pick(request, tried)).take(live.all().len() + 1);
        if let Some(picked) = picks.map_while(|target| target).find_map(|target| Picked::new(Arc::clone(target))) {
            return Ok(picked);
        }
        let wait = live.broken().filter_map(|target| target.breaker()).map(Breaker::wait).min();
        let fault = match wait {
            Some(_) => Fault::BreakerOpen,
            None if live.is_empty() => Fault::PoolEmpty,
            None => Fault::PoolNoHealthy,
        };
        Err(Unserved { fault, wait })
    }

    /// Probes and lookups, for the generation that serves; the observer learns how everyone is.
    pub fn chores(self: &Arc<Self>) -> Vec<Chore> {
        for target in self.live.load().all() {
            let up = self.check.is_none() || target.cell().serves();
            self.observer.target_up(self.name.as_str(), target.name(), up);
            let own = target.breaker().filter(|_| self.shared().is_none());
            self.observer.breaker(self.name.as_str(), target.name(), own.map(Breaker::stage));
        }
        if self.standing.tells(self.shared().is_some()) {
            self.observer.breaker(self.name.as_str(), breaker::ALL, self.shared().map(Breaker::stage));
        }
        chores::of(self)
    }

    /// Returns once every host name was looked up, well or not: without that a new pool has no targets.
    pub async fn ready(&self) {
        for (_, lookup) in self.endpoints.iter().filter_map(Endpoint::lookup) {
            lookup.tried().await;
        }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What its requests count.
    pub fn counted(&self) -> Option<&PoolMetrics> {
        self.counted.as_deref()
    }

    /// When its requests are tried again, and how often all of them together.
    pub fn retry(&self) -> &retry::Config {
        &self.retry
    }
    pub fn budget(&self) -> &Budget {
        &self.standing.budget
    }

    /// The files that the pool is made of, to be watched for changes.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Makes the live set anew from the addresses known now.
    fn renew(&self) {
        let _alone = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.live.load_full();
        let mut all: Vec<Arc<Target>> = Vec::new();
        let mut fresh = Vec::new();
        for found in self.endpoints.iter().flat_map(Endpoint::found) {
            if let Some(same) = old.all().iter().find(|target| target.name() == &*found.name) {
                all.push(Arc::clone(same));
                continue;
            }
            let (cell, is_fresh) = self.cell(&found.name);
            if is_fresh {
                fresh.push(Arc::clone(&cell));
            }
            all.push(Arc::new(Target::new(found, cell, &self.settings, self.breaker.as_ref())));
        }
        // Who comes to a pool that serves has to prove itself first; who finds nobody serves at once.
        if !all.iter().any(|target| target.weight() > 0 && target.cell().serves()) {
            for cell in &fresh {
                cell.found();
            }
        }
        let same = all.len() == old.all().len() && all.iter().zip(old.all()).all(|(new, old)| Arc::ptr_eq(new, old));
        if !same {
            self.publish(all);
            self.renewed.send_replace(());
        }
    }

    /// Makes the live set anew if the health of a target has changed since.
    fn settle(&self) {
        if self.live.load().changes() != self.standing.changes() {
            let _alone = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
            self.publish(self.live.load().all().to_vec());
        }
    }

    fn publish(&self, all: Vec<Arc<Target>>) {
        let changes = self.standing.changes();
        let live = self.live.load();
        let next = live.next(all, &self.balance, &self.standing.turn, self.check.is_some(), changes);
        self.live.store(Arc::new(next));
    }

    /// The live cell of an address, and whether it is new.
    fn cell(&self, address: &str) -> (Arc<Cell>, bool) {
        let mut fresh = false;
        let cell = self.shelves.cells.keep((self.name.clone(), address.into()), || {
            fresh = true;
            let (observer, pool, target) = (Arc::clone(&self.observer), self.name.clone(), address.to_owned());
            Cell::new(Instant::now(), move || observer.target_gone(pool.as_str(), &target))
        });
        (cell, fresh)
    }
}

#[cfg(test)]
mod tests;
