//! The process: put together from the first snapshot, then reloaded, watched, and drained at its end.

pub mod admin;
pub mod ask;
pub mod boot;
mod conn;
mod door;
mod drain;
mod held_back;
pub mod history;
pub mod keeper;
pub mod listen;
mod memory;
pub mod notify;
pub mod rehearse;
pub mod reload;
pub mod rollback;
mod service;
pub mod signals;
pub mod source;
mod standing;
mod status;
pub mod takeover;
pub mod upgrade;
pub mod watch;
mod watchdog;
pub mod workers;

pub use self::conn::check_head;

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch as channel;

use self::boot::{Boot, First};
use self::keeper::Keeper;
use self::listen::{Inheritance, Listeners, Worker};
use self::notify::Notify;
use self::reload::Reloader;
use self::signals::{Order, Signals};
use self::source::Source;
use self::takeover::{Inherited, Predecessor, Terms};
use self::upgrade::Succession;
use self::workers::Workers;
use crate::pool::connection::Connections;
use crate::proxy;
use crate::snapshot::{Leaving, Live, Snapshot, carry};

/// How long a host name may keep the start waiting: without its first answer a pool has no targets.
const FIRST_LOOKUP: Duration = Duration::from_secs(2);
/// How long the last lines of the access log may take at the end.
const LAST_LINES: Duration = Duration::from_secs(2);
/// The same of the last spans.
const LAST_SPANS: Duration = Duration::from_secs(5);
/// How long messages on their way to pools may take at the end.
const LAST_MESSAGES: Duration = Duration::from_secs(4);
/// How long a worker may take to say that it works.
const ANSWER: Duration = Duration::from_secs(2);
/// How often resting connections to targets are looked after.
const SWEEP: Duration = Duration::from_secs(1);

/// Why the gateway could not start.
#[derive(Debug)]
pub enum Error {
    /// The document is wrong or cannot be read: what `check` prints, and the exit code.
    Document(String, u8),
    /// An address cannot be listened on.
    Bind(String),
    /// Threads, metrics, signals: the machine.
    Internal(String),
}

/// Serves until told to stop. `started` learns where the listeners are once all of them accept.
pub fn run(
    source: Source,
    boot: Boot,
    inherited: Option<Inherited>,
    started: impl FnOnce(&Gateway),
) -> Result<(), Error> {
    let (terms, predecessor) = inherited.map(Inherited::part).unzip();
    // Before there are threads: it takes what is said to us alone out of the environment.
    let terms = terms.unwrap_or_else(Terms::of_service_manager);
    raise_descriptors();
    // A successor that cannot read the document is none: its predecessor serves on.
    let boot = if predecessor.is_some() { Boot::Refuse } else { boot };
    let mut first = boot::first(&source, boot).inspect_err(|why| why.tell(predecessor.as_ref()))?;
    let (wrong, held_back) = (first.wrong.take(), std::mem::take(&mut first.held_back));
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| Error::Internal(format!("cannot start a runtime: {why}")))?;
    runtime.block_on(async {
        let gateway = Gateway::start(source, first, terms, predecessor.is_none()).await;
        let gateway = gateway.inspect_err(|why| why.tell(predecessor.as_ref()))?;
        if let Some(predecessor) = predecessor {
            gateway.take_over(predecessor).await?;
        }
        gateway.reloader.begin(wrong, &held_back);
        started(&gateway);
        gateway.reloader.announce(Notify::from_environment());
        gateway.serve().await;
        Ok(())
    })
}

/// As many descriptors as the process may have at all: each connection needs one, or two.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(why) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        log::warn!("there are no more than {:?} descriptors: {why}", limit.current);
    }
}

impl Error {
    /// What the process ends with.
    pub fn code(&self) -> u8 {
        match self {
            Self::Document(_, code) => *code,
            Self::Bind(_) => 71,
            Self::Internal(_) => 70,
        }
    }

    /// Says it to the process that serves on.
    fn tell(&self, predecessor: Option<&Predecessor>) {
        let (Self::Document(why, _) | Self::Bind(why) | Self::Internal(why)) = self;
        if let Some(predecessor) = predecessor {
            predecessor.refuse(self.code(), &format!("{}\n", why.trim_end()));
        }
    }
}

/// A gateway that serves.
pub struct Gateway {
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    stop: channel::Sender<bool>,
    signals: Signals,
    /// Their threads end with it.
    workers: Workers,
}

/// Closes what has rested long enough.
async fn sweep(connections: Arc<Connections>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        connections.sweep(SWEEP, tokio::time::Instant::now());
    }
}

impl Gateway {
    /// Binds, starts the workers and the chores; returns when every listener accepts.
    async fn start(source: Source, first: First, terms: Terms, accepting: bool) -> Result<Self, Error> {
        let First { snapshot: mut first, tools, history, .. } = first;
        let internal = |what: &str, why: std::io::Error| Error::Internal(format!("{what}: {why}"));
        let signals = Signals::listen().map_err(|why| internal("cannot listen to signals", why))?;
        let workers = Workers::start(first.process.workers).map_err(|why| internal("cannot start workers", why))?;
        first.generation = match terms.generation {
            0 => history.number(&first.hash),
            before => before + 1,
        };
        let kept = first.process.upstream_connections / workers.handles().len().max(1);
        let live = Arc::new(Live::new(first, tools));
        if terms.generation > 0 {
            let first = live.load();
            live.tools.metrics.applied(first.generation, &first.hash);
        }
        let keeper = Keeper::new(Handle::current(), workers.handles().first().cloned().unwrap_or_else(Handle::current));
        keeper.replace(live.load().chores());
        lookups(&live.load_full()).await;
        tokio::spawn(memory::watch(live.clone()));
        let (stop, stopped) = channel::channel(false);
        let crew = workers.handles().iter().map(|handle| {
            let connections = Arc::new(Connections::new(kept));
            live.connect(&connections);
            handle.spawn(sweep(connections.clone()));
            let runtime = handle.clone();
            let aside = Arc::new(move |work| drop(runtime.spawn(work)));
            Worker { runtime: handle.clone(), app: proxy::app(live.clone(), connections, aside) }
        });
        let inherited = Arc::new(Inheritance::of(terms.sockets));
        let listeners = Listeners::new(crew.collect(), door::door(live.clone()), stopped).inheriting(inherited);
        let succession = Succession::new(&source, terms.watchdog, terms.draining);
        let reloader = Reloader::start(source, live.clone(), listeners, keeper, succession, history, accepting);
        let reloader = reloader.map_err(Error::Bind)?;
        Ok(Self { live, reloader, stop, signals, workers })
    }

    /// Takes up the state of the process before this one, serves in its place, and waits until the service is ours.
    async fn take_over(&self, predecessor: Predecessor) -> Result<(), Error> {
        let failed = |why: String| Error::Internal(format!("the take-over failed: {why}"));
        let ready = tokio::task::spawn_blocking(move || predecessor.ready().map(|state| (state, predecessor))).await;
        let (state, predecessor) =
            ready.map_err(|why| failed(why.to_string()))?.map_err(|why| failed(why.to_string()))?;
        for cold in carry::unpack(&self.live, &state) {
            log::warn!("taking over: {cold}");
        }
        admin::hand::take_over(&self.live, &self.reloader);
        self.reloader.accept(true);
        if !self.workers.answer(ANSWER).await {
            let why = format!("a worker does not answer within {ANSWER:?}");
            predecessor.refuse(70, &format!("{why}\n"));
            return Err(failed(why));
        }
        let serving = tokio::task::spawn_blocking(move || predecessor.serving()).await;
        let line = serving.map_err(|why| failed(why.to_string()))?.map_err(|why| failed(why.to_string()))?;
        self.reloader.succession.elders.add(line);
        self.live.tools.metrics.upgraded(true);
        Ok(())
    }

    /// Where the listeners are: their names with the addresses that they are bound to, the admin listener last.
    pub fn bound(&self) -> Vec<(String, String)> {
        self.reloader.bound()
    }

    /// Serves and obeys until the last request has ended.
    async fn serve(mut self) {
        let follow = tokio::spawn(self.reloader.clone().follow());
        let reloader = self.reloader.clone();
        let elders = tokio::spawn(async move { reloader.succession.elders.follow().await });
        let watchdog = self
            .reloader
            .watchdog()
            .map(|(notify, period)| tokio::spawn(watchdog::feed(notify, self.workers.handles().to_vec(), period)));
        loop {
            let order = tokio::select! {
                order = self.signals.next() => order,
                () = self.reloader.succeeded() => {
                    // The successor speaks to the service manager from now on.
                    watchdog.iter().for_each(tokio::task::JoinHandle::abort);
                    break self.drain(Leaving::Succeeded).await;
                }
            };
            match order {
                Order::Reload => self.order(|reloader| async move { drop(reloader.reload("signal").await) }),
                Order::Upgrade => self.order(|reloader| async move { drop(reloader.upgrade("signal", None).await) }),
                Order::Reopen => self.live.load().access.reopen(),
                Order::Drain => break self.drain(Leaving::Stop).await,
                Order::Stop => break,
            }
        }
        follow.abort();
        elders.abort();
        let snapshot = self.live.load_full();
        snapshot.let_go();
        if tokio::time::timeout(LAST_MESSAGES, snapshot.gone()).await.is_err() {
            log::warn!("messages for pools that were under way will be sent again");
        }
        for ledger in self.live.load_full().ledgers() {
            let _ = tokio::task::spawn_blocking(move || ledger.save()).await;
        }
        if self.live.tools.spans.waiting() > 0 {
            self.live.tools.spans.flush(LAST_SPANS).await;
        }
        self.live.load().access.flush(LAST_LINES);
    }

    /// Begins what takes its time, and goes on listening.
    fn order<F: Future<Output = ()> + Send + 'static>(&self, deed: impl FnOnce(Arc<Reloader>) -> F) {
        self.reloader.keeper().once(deed(self.reloader.clone()));
    }
}

/// Waits for the first answer to each host name and of each store, for a while.
async fn lookups(snapshot: &Snapshot) {
    let all = async {
        for pool in snapshot.pools.values() {
            pool.ready().await;
        }
        for store in snapshot.stores.values() {
            store.ready().await;
        }
        for broker in snapshot.brokers.values() {
            broker.ready().await;
        }
    };
    if tokio::time::timeout(FIRST_LOOKUP, all).await.is_err() {
        log::warn!("a host name has no address yet, or a store gives no answer; the gateway starts without");
    }
}
