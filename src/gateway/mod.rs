//! The process: put together from the first snapshot, then reloaded, watched, and drained at its end.

pub mod admin;
pub mod conn;
pub mod keeper;
pub mod listen;
pub mod reload;
pub mod signals;
pub mod source;
pub mod watch;
pub mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as channel;

use self::admin::Admin;
use self::keeper::Keeper;
use self::listen::{Listeners, Worker};
use self::reload::Reloader;
use self::signals::{Order, Signals};
use self::source::Source;
use self::workers::Workers;
use crate::listener::Listener;
use crate::proxy::{self, Proxy};
use crate::snapshot::{self, Live, Snapshot, Tools};
use crate::telemetry::program;

/// Why the gateway could not start; each is one sentence or a whole report, and an exit code of its own.
#[derive(Debug)]
pub enum Error {
    /// The document is wrong: what `check` prints.
    Invalid(String),
    /// The document cannot be read.
    Unreadable(std::io::Error, String),
    /// An address cannot be listened on.
    Bind(String),
    /// Threads, memory, metrics: the machine.
    Internal(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(text) | Self::Unreadable(_, text) | Self::Bind(text) | Self::Internal(text) => f.write_str(text),
        }
    }
}

/// Serves until told to stop. `started` learns where the listeners are once all of them accept.
pub fn run(source: Source, started: impl FnOnce(&Gateway)) -> Result<(), Error> {
    let snapshot = first(&source)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Error::Internal(format!("cannot start a runtime: {why}")))?;
    runtime.block_on(async {
        let gateway = Gateway::start(source, snapshot)?;
        started(&gateway);
        gateway.serve().await;
        Ok(())
    })
}

/// The first snapshot, or why there is none.
fn first(source: &Source) -> Result<(Snapshot, Tools), Error> {
    let loaded = source.load().map_err(|why| {
        let sentence = format!("{source}: {why}");
        Error::Unreadable(why, sentence)
    })?;
    let tools = Tools::new().map_err(|why| Error::Internal(format!("cannot count: {why}")))?;
    let compiled = snapshot::compile(&loaded, &tools, None);
    match compiled.snapshot {
        Some(snapshot) => {
            program::set_level(snapshot.log);
            compiled.say_warnings();
            Ok((snapshot, tools))
        }
        None => Err(Error::Invalid(compiled.report)),
    }
}

/// A gateway that serves.
pub struct Gateway {
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    stop: channel::Sender<bool>,
    signals: Signals,
    /// Kept for their threads.
    _workers: Workers,
}

impl Gateway {
    /// Binds, starts the workers and the chores; returns when every listener accepts.
    fn start(source: Source, first: Snapshot, tools: Tools) -> Result<Self, Error> {
        let internal = |what: &str, why: &dyn std::fmt::Display| Error::Internal(format!("{what}: {why}"));
        let signals = Signals::listen().map_err(|why| internal("cannot listen to signals", &why))?;
        let workers = Workers::start(first.workers).map_err(|why| internal("cannot start workers", &why))?;
        let upstream_connections = first.upstream_connections;
        let live = Arc::new(Live::new(first, tools));
        let (stop, stopped) = channel::channel(false);
        let apps = workers.handles().iter().map(|handle| Worker {
            handle: handle.clone(),
            app: Arc::new(proxy::app(live.clone(), upstream_connections / workers.handles().len())),
        });
        let listeners = Listeners::new(apps.collect(), proxy::door(live.clone()), stopped.clone());
        let keeper = Keeper::new(tokio::runtime::Handle::current());
        let reloader = Reloader::start(source, live.clone(), listeners, keeper, stopped).map_err(Error::Bind)?;
        Ok(Self { live, reloader, stop, signals, _workers: workers })
    }

    /// Where the listeners are: their names with the addresses that they are bound to.
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
        self.live.load().access.flush();
    }

    /// Readiness off, no new connections, then out as soon as nothing is in flight or the time is over.
    async fn drain(&mut self) {
        let patience = self.live.load().drain;
        log::info!("draining: {} connections, at most {patience:?}", self.reloader.connections());
        self.live.drain();
        let _ = self.stop.send(true);
        let reloader = self.reloader.clone();
        let empty = async {
            while reloader.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = empty => log::info!("drained"),
            () = tokio::time::sleep(patience) => {
                log::warn!("left with {} connections after {patience:?}", self.reloader.connections());
            }
            order = self.signals.next() => log::warn!("left with {} connections: {order:?}", self.reloader.connections()),
        }
    }
}
