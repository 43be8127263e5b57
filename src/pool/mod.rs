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
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::sync::watch;

use crate::chore::Chore;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::PoolMetrics;
use crate::units::{Duration, Name, Share, Use};

pub mod balance;
pub mod breaker;
mod budget;
pub mod by_hand;
pub mod call;
mod carry;
mod cause;
mod chance;
mod chores;
pub mod connection;
pub mod discover;
pub mod eject;
mod endpoint;
pub mod fallback;
pub mod health;
mod live;
pub mod lost;
pub mod max_in_flight;
mod observer;
mod peer;
mod pick;
mod renew;
mod rest;
mod resume;
pub mod retry;
mod rotation;
mod rules;
mod standing;
mod start;
pub mod status;
pub mod sticky;
pub mod target;
pub mod timeout;
pub mod tls;

pub use budget::Budget;
use discover::Terms;
use discover::file::Targets;
use endpoint::Endpoint;
use fallback::Fallback;
use health::Check;
use live::Live;
pub use observer::Observer;
pub use pick::Unserved;
pub use retry::Retry;
use rules::Rules;
pub use standing::Shelves;
use standing::Standing;
pub use status::{PoolState, Status};
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
    /// Where requests go: addresses, each with an optional weight, or `file:/path` of a list of them.
    #[serde(skip_serializing_if = "discover::file::Targets::is_empty")]
    pub targets: discover::file::Targets,
    /// Where targets come from when they are not named here, and which of them are believed.
    #[serde(skip_serializing_if = "discover::Config::is_default")]
    pub discover: discover::Config,
    /// What is spoken with the targets.
    pub protocol: Protocol,
    /// TLS towards the targets; plain when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Config>,
    /// How requests are spread over the targets.
    pub balance: balance::Config,
    /// How later requests of a client come back to the target of its first one; by `balance` alone, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<sticky::Config>,
    /// How long the share of a target grows that comes (back) to a pool in which others serve; at once, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// How targets are asked whether they can serve; never asked, and always taken for up, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<health::Config>,
    /// When a target that fails requests is left alone for a while; never, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<breaker::Config>,
    /// When a target is taken out for a while because its requests go worse than those of the others; when left out, after
    /// three requests in a row without an answer, for 10s. `off`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eject: Option<eject::Config>,
    /// Below which share of targets that are healthy and not ejected all of them are used; never, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_below: Option<Share>,
    /// When a request that failed is tried again, at another target where there is one.
    pub retry: retry::Config,
    /// Who serves, or what is answered, while no target takes requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<fallback::Config>,
    /// How many requests each target bears at once, and how many wait; as many as come, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<max_in_flight::Config>,
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
    let items = serde_json::json!({ "$ref": "#/$defs/PoolTarget" });
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
                let targets = Targets::Here(Vec::deserialize(SeqAccessDeserializer::new(list))?);
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
        let secret = self.sticky.as_ref().and_then(|sticky| sticky.secret.file());
        let tls = self.tls.iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten();
        tls.chain(self.targets.file()).cloned().chain(self.discover.files()).chain(secret).collect()
    }
}

/// What a pool needs from outside.
pub struct Tools<'a> {
    pub shelves: &'a Shelves,
    pub observer: &'a Arc<dyn Observer>,
    /// Where this gateway listens; who is found there would be a loop.
    pub listeners: &'a [SocketAddr],
    /// What its requests count.
    pub counted: Option<Arc<PoolMetrics>>,
}

/// A set of targets, watched and balanced.
pub struct Pool {
    name: Name,
    endpoints: Vec<Endpoint>,
    terms: Terms,
    settings: Arc<peer::Settings>,
    check: Option<Arc<Check>>,
    rules: Arc<Rules>,
    panic_below: Option<Share>,
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
        let said = endpoint::said(config, at, problems);
        endpoint::complain(config, &said, at, problems);
        discover::complain(&config.discover, !config.targets.is_empty(), &at.key("discover"), problems);
        endpoint::complain_of_protocol(config, at, problems);
        health::complain_of_protocol(config, at, problems);
        timeout::complain(&config.timeout, &at.key("timeout"), problems);
        config.retry.complain(&at.key("retry"), problems);
        let tls = config.tls.as_ref().map(|tls| Tls::compile(tls, &at.key("tls"), problems));
        let keep = config.keep_alive.idle.get();
        let settings = Arc::new(peer::Settings::new(tls, config.protocol, config.timeout.clone(), keep));
        let check = config.health.as_ref();
        let check = check.map(|health| Check::compile(health, settings.group(), &at.key("health"), problems));
        let rules = Rules::compile(config, name, tools, at, problems);
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
        let pool = Self {
            name: name.clone(),
            endpoints: Endpoint::all(name, &said, config, &shelves),
            terms: Terms::new(config, tools.listeners, shelves.resolver(&config.discover.dns)),
            settings,
            check: check.map(Arc::new),
            rules: rules(&standing),
            panic_below: config.panic_below,
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
        pool.remake();
        Some(Arc::new(pool))
    }

    /// Probes and lookups, for the generation that serves; the observer learns how everyone is.
    pub fn chores(self: &Arc<Self>) -> Vec<Chore> {
        self.show();
        chores::of(self)
    }

    /// Tells the observer how everyone is.
    fn show(&self) {
        for target in self.live.load().all() {
            let up = self.check.is_none() || target.cell().serves();
            self.observer.target_up(self.name.as_str(), target.name(), up);
            let own = target.breaker().filter(|_| self.shared().is_none());
            self.observer.breaker(self.name.as_str(), target.name(), self.stage(own));
            match &self.rules.eject {
                Some(rule) => rule.tell(target),
                None => self.observer.ejected(self.name.as_str(), target.name(), None),
            }
        }
        if self.standing.tells(self.shared().is_some() || self.panic_below.is_some()) {
            self.observer.breaker(self.name.as_str(), breaker::ALL, self.stage(self.shared()));
            self.observer.panics(self.name.as_str(), None);
        }
        self.tell_panic();
    }

    /// Returns once every source was asked, well or not: without that a new pool has no targets.
    pub async fn ready(&self) {
        for (_, _, lookup) in self.endpoints.iter().filter_map(Endpoint::asks) {
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
}

#[cfg(test)]
mod tests;
