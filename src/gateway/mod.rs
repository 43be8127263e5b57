//! The process: put together from the first snapshot, then reloaded, watched, and drained at its end.

pub mod admin;
mod conn;
mod door;
pub mod keeper;
pub mod listen;
pub mod notify;
pub mod reload;
pub mod signals;
pub mod source;
pub mod watch;
mod watchdog;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch as channel;

use self::keeper::Keeper;
use self::listen::{Inheritance, Listeners, Worker};
use self::notify::Notify;
use self::reload::Reloader;
use self::signals::{Order, Signals};
use self::source::Source;
use self::workers::Workers;
use crate::config::report;
use crate::pool::connection::Connections;
use crate::proxy;
use crate::snapshot::{self, Live, Snapshot, Tools};
use crate::telemetry::program;

/// How long a host name may keep the start waiting: without its first answer a pool has no targets.
const FIRST_LOOKUP: Duration = Duration::from_secs(2);
/// How long the last lines of the access log may take at the end.
const LAST_LINES: Duration = Duration::from_secs(2);
/// What the process may take to end once nothing is in flight.
const LEAVING: Duration = Duration::from_secs(10);
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
pub fn run(source: Source, started: impl FnOnce(&Gateway)) -> Result<(), Error> {
    // Before there are threads: it takes what is said to us alone out of the environment.
    let inherited = Inheritance::of(notify::inherited());
    let (snapshot, tools) = first(&source)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| Error::Internal(format!("cannot start a runtime: {why}")))?;
    runtime.block_on(async {
        let gateway = Gateway::start(source, snapshot, tools, inherited).await?;
        started(&gateway);
        gateway.announce(notify::watchdog_period());
        gateway.serve().await;
        Ok(())
    })
}

/// The first snapshot, or why there is none. Warnings go to the log.
fn first(source: &Source) -> Result<(Snapshot, Tools), Error> {
    let mut loaded = source.load();
    let tools = Tools::new().map_err(Error::Internal)?;
    let code = loaded.code();
    let compiled = snapshot::compile(&mut loaded, &tools, None);
    let report = report::human(&compiled.problems, &loaded.places);
    match compiled.snapshot {
        Some(snapshot) => {
            program::set_level(snapshot.log);
            if !compiled.problems.is_empty() {
                log::warn!("{}", report.trim_end());
            }
            Ok((snapshot, tools))
        }
        None => Err(Error::Document(report, if code == 0 { 78 } else { code })),
    }
}

/// A gateway that serves.
pub struct Gateway {
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    stop: channel::Sender<bool>,
    signals: Signals,
    notify: Notify,
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
    async fn start(source: Source, first: Snapshot, tools: Tools, inherited: Inheritance) -> Result<Self, Error> {
        let internal = |what: &str, why: std::io::Error| Error::Internal(format!("{what}: {why}"));
        let signals = Signals::listen().map_err(|why| internal("cannot listen to signals", why))?;
        let workers = Workers::start(first.process.workers).map_err(|why| internal("cannot start workers", why))?;
        let kept = first.process.upstream_connections / workers.handles().len().max(1);
        let live = Arc::new(Live::new(first, tools));
        let keeper = Keeper::new(Handle::current(), workers.handles().first().cloned().unwrap_or_else(Handle::current));
        keeper.replace(live.load().chores());
        lookups(&live.load_full()).await;
        let (stop, stopped) = channel::channel(false);
        let crew = workers.handles().iter().map(|handle| {
            let connections = Arc::new(Connections::new(kept));
            handle.spawn(sweep(connections.clone()));
            let runtime = handle.clone();
            let aside = Arc::new(move |work| drop(runtime.spawn(work)));
            Worker { runtime: handle.clone(), app: Arc::new(proxy::app(live.clone(), connections, aside)) }
        });
        let listeners = Listeners::new(crew.collect(), door::door(live.clone()), stopped);
        let listeners = listeners.inheriting(Arc::new(inherited));
        let reloader = Reloader::start(source, live.clone(), listeners, keeper).map_err(Error::Bind)?;
        Ok(Self { live, reloader, stop, signals, notify: Notify::from_environment(), workers })
    }

    /// Tells the service manager that we serve, and from now on so often that we are well.
    fn announce(&self, watchdog: Option<Duration>) {
        self.reloader.announce(self.notify.clone());
        if let Some(period) = watchdog {
            tokio::spawn(watchdog::feed(self.notify.clone(), self.workers.handles().to_vec(), period));
        }
    }

    /// Where the listeners are: their names with the addresses that they are bound to, the admin listener last.
    pub fn bound(&self) -> Vec<(String, String)> {
        self.reloader.bound()
    }

    /// Serves and obeys until the last request has ended.
    async fn serve(mut self) {
        let follow = tokio::spawn(self.reloader.clone().follow());
        loop {
            match self.signals.next().await {
                Order::Reload => drop(self.reloader.reload("signal").await),
                Order::Reopen => self.live.load().access.reopen(),
                Order::Drain => break self.drain().await,
                Order::Stop => break,
            }
        }
        follow.abort();
        for ledger in self.live.load_full().ledgers() {
            let _ = tokio::task::spawn_blocking(move || ledger.save()).await;
        }
        self.live.load().access.flush(LAST_LINES);
    }

    /// Readiness off, no new connections, then out as soon as nothing is in flight or the time is over.
    async fn drain(&mut self) {
        let patience = self.live.load().drain;
        log::info!("draining: {} connections, at most {patience:?}", self.reloader.connections());
        self.live.drain();
        self.notify.stopping("draining");
        self.notify.extend_timeout(patience + LEAVING);
        let _ = self.stop.send(true);
        let reloader = self.reloader.clone();
        let empty = async {
            while reloader.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let left = tokio::select! {
            () = empty => return log::info!("drained"),
            () = tokio::time::sleep(patience) => "the time is over".to_owned(),
            order = self.signals.next() => format!("a second signal came ({order:?})"),
        };
        log::warn!("leaving with {} connections: {left}", self.reloader.connections());
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
    };
    if tokio::time::timeout(FIRST_LOOKUP, all).await.is_err() {
        log::warn!("a host name has no address yet, or a store gives no answer; the gateway starts without");
    }
}
