//! Names become things: a document that was read becomes a snapshot, or every problem that keeps it from being one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use super::live::Tools;
use super::stores::{brokers, caches, couriers, stores};
use super::{ClientIp, Process, Snapshot, Written};
use crate::answer::Answers;
use crate::client::otlp::{self, Otlp};
use crate::client::store::{self, Store};
use crate::config::{Document, Loaded, Seals};
use crate::forward::Courier;
use crate::listener::{self, Listener};
use crate::messages::Messages;
use crate::policy::{auth, cache, guard, limit};
use crate::pool::{self, Pool};
use crate::problem::{Path, Problems};
use crate::route::{Route, Table};
use crate::telemetry::access::AccessLog;
use crate::telemetry::counted::Counted;
use crate::units::{Address, Name};

/// What came of it, and what there is to say about it.
pub struct Compiled {
    pub snapshot: Option<Snapshot>,
    pub problems: Problems,
}

/// Compiles what was read. Reads files (certificates, secrets, messages); opens the access log if it is another one
/// than `before` has; asks nobody. All problems are gathered, those of the reading too.
pub fn compile(loaded: &mut Loaded, tools: &Tools, before: Option<&Snapshot>) -> Compiled {
    let mut problems = std::mem::take(&mut loaded.problems);
    let parts = Parts::compile(loaded, tools, &mut problems);
    let whole = parts.filter(|_| problems.errors() == 0);
    let snapshot = whole.and_then(|parts| parts.assemble(loaded, tools, before, &mut problems));
    Compiled { snapshot, problems }
}

/// What decides about a request before a target is chosen, for questions about it.
pub struct Deciding {
    pub listeners: Vec<Arc<Listener>>,
    pub client_ip: ClientIp,
    pub table: Table,
    pub routes: Vec<Arc<Route>>,
}

/// The same of a document that is right, and everything that [`compile`] complains of, without opening anything.
pub fn deciding(loaded: &Loaded, tools: &Tools) -> (Option<Deciding>, Problems) {
    let mut problems = Problems::default();
    let parts = Parts::compile(loaded, tools, &mut problems).filter(|_| problems.errors() == 0);
    let client_ip = loaded.document.runtime.client_ip.clone();
    (
        parts.map(|parts| Deciding { listeners: parts.listeners, client_ip, table: parts.table, routes: parts.routes }),
        problems,
    )
}

/// Every file whose change is a reason to read the document again.
pub fn files(loaded: &Loaded, tools: &Tools) -> Vec<PathBuf> {
    match Parts::compile(loaded, tools, &mut Problems::default()) {
        Some(parts) => parts.files(loaded),
        None => loaded.files.clone(),
    }
}

/// What is compiled section by section; each gathers its problems, so nothing stops at the first.
struct Parts {
    listeners: Vec<Arc<Listener>>,
    admin: Vec<Arc<Listener>>,
    pools: BTreeMap<Name, Option<Arc<Pool>>>,
    stores: BTreeMap<Name, Option<Arc<Store>>>,
    brokers: guard::Brokers,
    couriers: Vec<Arc<Courier>>,
    caches: Option<Arc<[Arc<cache::store::Store>]>>,
    routes: Vec<Arc<Route>>,
    table: Table,
    answers: Arc<Answers>,
    nowhere: Counted,
    traces: Option<Arc<Otlp>>,
}

impl Parts {
    fn compile(loaded: &Loaded, tools: &Tools, problems: &mut Problems) -> Option<Self> {
        let (document, places) = (&loaded.document, &loaded.places);
        let listeners = listeners(document, problems);
        let names: Vec<Name> = document.listeners.keys().cloned().collect();
        let pools = pools(document, tools, problems);
        let place = |at: &Path| places.at(at).to_string();
        let stores = stores(document, tools, problems);
        let brokers = brokers(document, tools, problems);
        let limits = limits(document, tools, &stores, &place, problems);
        let room = limit::Room { shelves: &tools.limits, metrics: &tools.metrics, named: &limits, stores: &stores };
        let mut caches = caches(document, tools, &stores);
        caches.used =
            caches.all(document.routes.values().filter_map(|route| Some(route.cache.as_ref()?.store.as_ref())));
        let mut guards = guard::Tools {
            caches: Some(&caches),
            place: &place,
            auth: &auth::Schemes::new(),
            limits: Some(room),
            state: document.runtime.state(),
            metrics: Some(&tools.metrics),
            brokers: Some(&brokers),
        };
        if document.runtime.state.as_ref().is_some_and(|state| !state.is_dir()) {
            problems.error(Path::of(["runtime", "state"]), "is no directory");
        }
        let schemes = auth::named::compile(&document.auth, &guards, problems);
        guards.auth = &schemes;
        let routes: Vec<_> = document
            .routes
            .iter()
            .filter_map(|(name, config)| {
                let at = Path::of(["routes", name.as_str()]);
                let counted = Counted::new(&tools.metrics, name.as_str(), &names);
                Route::compile(name, config, &at, &pools, counted, &guards, problems)
            })
            .collect();
        let couriers = couriers(document, tools, &brokers, &pools, problems);
        let used = caches.touched();
        let table = Table::compile(&routes, problems);
        let messages = Messages::compile(&document.errors, FilePath::new(""), &Path::of(["errors"]), problems);
        let admin = admin(document, problems);
        let traces = traces(document, tools, problems);
        let nowhere = Counted::new(&tools.metrics, "-", &names);
        Some(Self {
            listeners,
            admin: admin?,
            pools,
            stores,
            brokers,
            couriers,
            caches: used,
            routes,
            table,
            answers: Answers::new(messages, document.errors.detail),
            nowhere,
            traces,
        })
    }

    /// Counts go on where a route stays.
    fn carry_on(&self, before: &Snapshot) {
        let old: HashMap<_, _> = before.routes.iter().map(|route| (&route.name, route)).collect();
        for route in &self.routes {
            if let Some(old) = old.get(&route.name) {
                route.counted.carry_on(&old.counted);
            }
        }
        self.nowhere.carry_on(&before.nowhere);
    }

    /// Everything whose change is a reason to read the document again.
    fn files(&self, loaded: &Loaded) -> Vec<PathBuf> {
        let mut files = loaded.files.clone();
        files.extend(loaded.directories.iter().cloned());
        files.extend(self.listeners.iter().flat_map(|listener| listener.files()).cloned());
        files.extend(self.pools.values().flatten().flat_map(|pool| pool.files()).cloned());
        let guards = self.routes.iter().filter_map(|route| route.guards.as_ref());
        files.extend(guards.flat_map(|guards| guards.files()));
        files.extend(self.routes.iter().flat_map(|route| route.bodies.files()).cloned());
        files.extend(loaded.document.stores.values().flat_map(store::Config::files));
        files.extend(loaded.document.observe.traces.iter().flat_map(otlp::Config::files));
        files.extend(self.answers.messages().files().iter().cloned());
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.clone()));
        files
    }

    /// Those of them that decide what the document means; the others are keys, certificates and lists of targets.
    fn means(&self) -> Vec<PathBuf> {
        let guards = self.routes.iter().filter_map(|route| route.guards.as_ref());
        let bodies = self.routes.iter().flat_map(|route| route.bodies.files());
        let rules: BTreeSet<_> = guards.flat_map(|guards| guards.rule_files()).chain(bodies).collect();
        rules.into_iter().chain(self.answers.messages().files()).cloned().collect()
    }

    fn assemble(
        self,
        loaded: &Loaded,
        tools: &Tools,
        before: Option<&Snapshot>,
        problems: &mut Problems,
    ) -> Option<Snapshot> {
        let document = &loaded.document;
        let before = before.inspect(|before| self.carry_on(before));
        let wanted = &document.observe.access_log;
        let access = match before.map(|before| &before.access).filter(|log| log.config() == wanted) {
            Some(same) => same.clone(),
            None => AccessLog::open(wanted, tools.metrics.access_log_dropped())
                .map_err(|why| {
                    problems.error(Path::of(["observe", "access_log", "to"]), format!("cannot be opened: {why}"));
                })
                .ok()?,
        };
        let (files, means) = (self.files(loaded), self.means());
        let seals = Seals::of(&files, &loaded.texts);
        let certificates = self.listeners.iter().flat_map(|listener| listener.expiries());
        let certificates = certificates.map(|expiry| {
            let figure = tools.metrics.certificate(&expiry.file.to_string_lossy());
            figure.set(expiry.ends);
            figure
        });
        Some(Snapshot {
            generation: before.map_or(1, |before| before.generation + 1),
            hash: seals.hash(),
            certificates: certificates.collect(),
            files,
            seals,
            texts: loaded.texts.clone(),
            means,
            listeners: self.listeners,
            admin: self.admin,
            admin_hosts: document.admin.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            client_ip: document.runtime.client_ip.clone(),
            answers: self.answers,
            access,
            told_before: told_before(before, self.traces.as_ref()),
            traces: self.traces,
            log: document.observe.log.level,
            process: Process {
                workers: document.runtime.workers.here(),
                upstream_connections: document.runtime.upstream_connections.get().into(),
            },
            memory: document.runtime.memory,
            drain: document.runtime.drain.clone(),
            table: self.table,
            routes: self.routes,
            pools: there(self.pools),
            stores: there(self.stores),
            brokers: there(self.brokers),
            couriers: self.couriers,
            caches: self.caches,
            nowhere: self.nowhere,
            written: Written::of(document, &loaded.places),
        })
    }
}

/// Those that are right.
fn there<T>(all: BTreeMap<Name, Option<T>>) -> BTreeMap<Name, T> {
    all.into_iter().filter_map(|(name, one)| Some((name, one?))).collect()
}

fn pools(document: &Document, tools: &Tools, problems: &mut Problems) -> BTreeMap<Name, Option<Arc<Pool>>> {
    let listeners = addresses(document);
    let compile = |(name, config)| {
        let at = Path::of(["pools", Name::as_str(name)]);
        (name.clone(), Pool::compile(name, config, &at, &tools.for_pool(name, &listeners), problems))
    };
    let mut pools: BTreeMap<_, _> = document.pools.iter().map(compile).collect();
    for (name, config) in &document.pools {
        let Some(other) = falls_back_on(config).filter(|_| !leads_back(name, document)) else { continue };
        if let (Some(Some(pool)), Some(Some(other))) = (pools.get(name), pools.get(other)) {
            pool.fall_back_on(other);
        }
    }
    // A name that means nothing was reported by the reader, at its place.
    for route in document.routes.values() {
        let copies = route.copy_to.iter().map(|copies| &copies.pool);
        for name in route.to.iter().flat_map(|to| to.0.keys()).chain(copies) {
            pools.entry(name.clone()).or_insert(None);
        }
    }
    pools
}

/// Where the gateway listens, as far as the document says it.
fn addresses(document: &Document) -> Vec<SocketAddr> {
    let listeners = document.listeners.values().flat_map(|listener| &listener.bind.0);
    let all = listeners.chain([&document.admin.bind]);
    all.filter_map(|address| if let Address::Ip(ip) = address { Some(*ip) } else { None }).collect()
}

fn falls_back_on(config: &pool::Config) -> Option<&Name> {
    config.fallback.as_ref()?.named()
}

/// Whether the pools that this one falls back on never end; the reader has said so.
fn leads_back(name: &Name, document: &Document) -> bool {
    let next = |name: &&Name| document.pools.get(*name).and_then(falls_back_on);
    std::iter::successors(Some(name), next).nth(document.pools.len()).is_some()
}

/// The named limits; a route that names one finds it here.
fn limits(
    document: &Document,
    tools: &Tools,
    stores: &limit::Stores,
    place: &dyn Fn(&Path) -> String,
    problems: &mut Problems,
) -> limit::Named {
    let none = limit::Named::new();
    let room = limit::Room { shelves: &tools.limits, metrics: &tools.metrics, named: &none, stores };
    let schemes = auth::Schemes::new();
    let guards = guard::Tools { state: document.runtime.state(), ..guard::Tools::alone(place, &schemes) };
    let compile = |(name, config)| {
        let (name, at) = (Name::clone(name), Path::of(["limits", Name::as_str(name)]));
        let limit = limit::Limit::compile(name.as_str(), config, &at, room, &guards, problems);
        (name, limit)
    };
    document.limits.iter().map(compile).collect()
}

/// Whom requests are told of, if anyone.
fn traces(document: &Document, tools: &Tools, problems: &mut Problems) -> Option<Arc<Otlp>> {
    let Some(config) = &document.observe.traces else {
        for (name, _) in document.routes.iter().filter(|(_, route)| route.trace.is_some()) {
            let sentence = "says how many traces are kept, and `observe.traces` says nobody who gets them";
            problems.warn(Path::of(["routes", name.as_str(), "trace"]), sentence);
        }
        return None;
    };
    Otlp::compile(config, &Path::of(["observe", "traces"]), &tools.spans, problems)
}

/// Who was told of requests, where nobody is from now on.
fn told_before(before: Option<&Snapshot>, now: Option<&Arc<Otlp>>) -> Option<Arc<Otlp>> {
    if now.is_some() { None } else { before?.traces.clone() }
}

/// The admin listeners are listeners like others, with an address and nothing else of their own.
fn admin(document: &Document, problems: &mut Problems) -> Option<Vec<Arc<Listener>>> {
    let control = document.admin.control();
    if let Some(control) = control.as_ref().filter(|control| control.socket_file().is_none()) {
        let sentence =
            format!("`{control}` can be reached by others than this user; e.g. unix:/run/yumen/control.sock");
        problems.error(Path::of(["admin", "control"]), sentence);
    }
    let both = [("admin", Some(document.admin.bind.clone())), (listener::CONTROL, control)];
    let wanted = both.into_iter().filter_map(|(name, bind)| Some((name, bind?)));
    let compile = |(name, bind): (&str, _)| {
        let config = listener::Config::plain(bind);
        Listener::compile(&name.parse().ok()?, &config, &Path::of(["admin"]), problems)
    };
    wanted.map(compile).collect()
}

fn listeners(document: &Document, problems: &mut Problems) -> Vec<Arc<Listener>> {
    let at = |name: &Name| Path::of(["listeners", name.as_str()]);
    let all = document.listeners.iter();
    all.filter_map(|(name, config)| Listener::compile(name, config, &at(name), problems)).collect()
}
