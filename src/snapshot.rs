//! The whole configuration, compiled; swapped as one.

pub mod carry;
mod compile;
mod live;
pub mod openapi;
mod stores;
mod written;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

pub use compile::{Compiled, Deciding, compile, deciding, files};
pub use live::{Leaving, Live, Tools};
pub use written::Written;

use crate::answer::Answers;
use crate::chore::Chore;
use crate::client::mqtt::{self, Broker};
use crate::client::otlp::Otlp;
use crate::client::store::{self, Store};
use crate::config::diff::{Effective, Nonce};
pub use crate::config::runtime::{ClientIp, Drain, Forwarded, Memory, MemoryLimit};
use crate::config::{Loaded, Seals, Texts};
use crate::forward::Courier;
use crate::listener::Listener;
use crate::policy::auth::Follow;
use crate::policy::cache;
use crate::policy::limit::{Ledger, Limit};
use crate::pool::{self, Pool};
use crate::route::{Route, Table};
use crate::telemetry::access::AccessLog;
use crate::telemetry::counted::Counted;
use crate::telemetry::metrics::Figure;
use crate::telemetry::program::Level;
use crate::units::Name;

/// Everything that a request needs to know, and everything that runs beside requests.
pub struct Snapshot {
    pub generation: u64,
    /// Of the document and of every file that it names.
    pub hash: String,
    /// What was read: a change of any of them is a reason to reload.
    pub files: Vec<PathBuf>,
    /// What was in them.
    pub seals: Seals,
    /// The document as it was read.
    pub texts: Texts,
    /// The files that decide what it means, besides its own.
    pub means: Vec<PathBuf>,
    pub listeners: Vec<Arc<Listener>>,
    /// The admin listener, and the one for the user of the gateway alone.
    pub admin: Vec<Arc<Listener>>,
    pub admin_hosts: Vec<String>,
    pub client_ip: ClientIp,
    pub answers: Arc<Answers>,
    pub access: Arc<AccessLog>,
    /// Whom requests are told of, if anyone.
    pub traces: Option<Arc<Otlp>>,
    /// Who was told before, where nobody is to be told any more: it gets what waits.
    told_before: Option<Arc<Otlp>>,
    pub log: Level,
    /// Settings that only a new process can take up.
    pub process: Process,
    /// How much memory there is.
    pub memory: Memory,
    pub drain: Drain,
    pub table: Table,
    pub routes: Vec<Arc<Route>>,
    pub pools: BTreeMap<Name, Arc<Pool>>,
    pub stores: BTreeMap<Name, Arc<Store>>,
    pub brokers: BTreeMap<Name, Arc<Broker>>,
    /// Who brings messages of brokers to pools.
    pub couriers: Vec<Arc<Courier>>,
    /// Where routes keep answers; nothing where none does.
    pub caches: Option<Arc<[Arc<cache::store::Store>]>>,
    /// What requests count that find no route.
    pub nowhere: Counted,
    /// Where settings stand, for `why`.
    pub written: Written,
    /// On the metrics page for as long as this snapshot lives.
    certificates: Vec<Figure>,
}

/// What a document means that was read with the files that it names.
pub fn effective(loaded: &Loaded, seals: &Seals, nonce: &Nonce) -> Effective {
    let base = loaded.texts.main().and_then(Path::parent).unwrap_or(Path::new(""));
    Effective::of(&loaded.document, base, seals, nonce)
}

/// What is decided when the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub workers: usize,
    pub upstream_connections: usize,
}

impl Snapshot {
    /// What its document means, marked for one comparison.
    pub fn effective(&self, nonce: &Nonce) -> Effective {
        effective(&Loaded::again(&self.texts), &self.seals, nonce)
    }

    /// Everything that has to run beside requests.
    pub fn chores(&self) -> Vec<Chore> {
        let mut followed: Vec<Follow> = Vec::new();
        for one in self.routes.iter().filter_map(|route| route.guards.as_ref()).flat_map(|guards| guards.fetched()) {
            if !followed.iter().any(|other| one.is(other)) {
                followed.push(one);
            }
        }
        let stores = self.stores.values().cloned().map(Store::chore);
        self.pools
            .values()
            .flat_map(Pool::chores)
            .chain(followed.into_iter().map(Follow::chore))
            .chain(stores)
            .chain(self.brokers.values().cloned().map(Broker::chore))
            .chain(self.couriers.iter().cloned().map(Courier::chore))
            .chain(self.ledgers().map(Ledger::chore))
            .chain(self.traces.clone().map(Otlp::chore))
            .chain(self.told_before.clone().map(Otlp::last_chore))
            .collect()
    }

    /// The limits of all routes, each once.
    pub fn limits(&self) -> Vec<Arc<Limit>> {
        let guards = self.routes.iter().filter_map(|route| route.guards.as_ref());
        let mut seen = HashSet::new();
        guards.flat_map(|guards| guards.limits()).filter(|limit| seen.insert(Arc::as_ptr(limit))).cloned().collect()
    }

    /// The counts that are kept for a restart.
    pub fn ledgers(&self) -> impl Iterator<Item = Arc<Ledger>> {
        self.limits().into_iter().filter_map(|limit| limit.ledger().cloned())
    }

    /// The state of each pool.
    pub fn pool_states(&self) -> Vec<pool::Status> {
        self.pools.values().map(|pool| pool.status()).collect()
    }

    /// The state of each store.
    pub fn store_states(&self) -> Vec<store::Status> {
        self.stores.values().map(|store| store.status()).collect()
    }

    /// The state of each broker.
    pub fn broker_states(&self) -> Vec<mqtt::Status> {
        self.brokers.values().map(|broker| broker.status()).collect()
    }

    /// From now on another process takes the messages for pools.
    pub fn let_go(&self) {
        self.couriers.iter().for_each(|courier| courier.let_go());
    }

    /// Until it can.
    pub async fn gone(&self) {
        for courier in &self.couriers {
            courier.gone().await;
        }
    }

    /// The routes with their places, matches and pools.
    pub fn describe_routes(&self) -> Value {
        let row = |route: &Arc<Route>| {
            let pools: Vec<_> = route.pools().iter().map(|pool| pool.name().as_str()).collect();
            let takes: Vec<_> = route.matches.iter().map(ToString::to_string).collect();
            let rules = route.guards.iter().flat_map(|guards| guards.rules());
            let rules: Vec<_> = rules.map(|rule| rule.name.split(" (").next().unwrap_or_default()).collect();
            let mut row = json!({ "place": route.place, "match": route.matches, "takes": takes, "pools": pools, "guards": rules });
            let more = [
                ("copy_to", route.copy_to.as_ref().map(|copies| json!(copies.pool().name()))),
                ("cache", route.cache.as_ref().map(|cache| json!(cache.to_string()))),
                ("does", route.does().map(Value::String)),
                ("trace", route.trace.map(|trace| json!(trace.share.to_string()))),
            ];
            if let Some(row) = row.as_object_mut() {
                row.extend(more.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
            }
            (route.name.to_string(), row)
        };
        Value::Object(self.routes.iter().map(row).collect::<Map<_, _>>())
    }

    /// How many certificates are served.
    pub fn certificates(&self) -> usize {
        self.certificates.len()
    }
}
