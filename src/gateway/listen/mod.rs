//! The sockets we listen on, which come and go while the process runs, and the workers that serve them.

mod accept;
mod crowd;
mod door;
mod gate;
mod inherited;
mod proxied;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use pingora::apps::HttpServerApp;
use tokio::sync::watch;

pub use crowd::Crowded;
pub use door::{Door, Seen};
pub use inherited::Inheritance;

use crate::listener::Listener;
use crate::units::{Address, Name};
use gate::Gate;
use socket::Bound;

/// A thread with a runtime of its own, and the application that serves its connections.
pub struct Worker<A> {
    pub runtime: tokio::runtime::Handle,
    pub app: Arc<A>,
}

/// Why a listener cannot listen.
#[derive(Debug)]
pub struct BindError {
    pub listener: Name,
    pub address: Address,
    pub why: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener {} cannot listen on {}: {}", self.listener, self.address, self.why)
    }
}

impl std::error::Error for BindError {}

/// Where a listener is bound: what the document says, and what the kernel gave (port 0 becomes a real one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub listener: Name,
    pub asked: Address,
    pub bound: Address,
}

/// What tells one socket from another; two listeners may both ask for port 0 and get different ones.
type Key = (Address, Option<Name>);

/// Keeps sockets open beyond the end of the process.
pub trait Keep: Send + Sync {
    /// From now on this socket, under this name.
    fn keep(&self, name: &str, socket: BorrowedFd<'_>);
    /// No longer what was kept under this name.
    fn forget(&self, name: &str);
}

/// All sockets of the process.
pub struct Listeners<A> {
    workers: Vec<Worker<A>>,
    door: Arc<dyn Door>,
    shutdown: watch::Receiver<bool>,
    open: Mutex<BTreeMap<Key, Open>>,
    /// What listens already.
    inherited: Arc<Inheritance>,
    /// Who keeps our sockets open for the process after us.
    keeper: OnceLock<Arc<dyn Keep>>,
    /// False while connections are to wait in the backlog.
    accepting: watch::Sender<bool>,
    /// Counts of connections, which outlive sockets and reloads.
    gates: Mutex<BTreeMap<Name, Arc<Gate>>>,
}

/// What the next connection of a socket gets.
struct Live {
    listener: Arc<Listener>,
    gate: Arc<Gate>,
}

/// A socket in use.
struct Open {
    bound: Bound,
    /// Read anew for each connection: a reload changes what comes next and nothing that runs.
    live: Arc<ArcSwap<Live>>,
    /// True once the socket goes: its connections end after the request that they serve.
    stop: watch::Sender<bool>,
}

impl Open {
    /// The name under which it is handed on; a socket of somebody else is found by its address alone.
    fn label(&self, key: &Key) -> String {
        if self.bound.is_ours() { inherited::label(key) } else { inherited::FOREIGN.to_owned() }
    }

    /// Who gave us a socket keeps it, too.
    fn keep(&self, key: &Key, keeper: &dyn Keep) {
        if !self.bound.is_ours() {
            return;
        }
        match self.bound.descriptor() {
            Ok(socket) => keeper.keep(&inherited::label(key), socket.as_fd()),
            Err(why) => return log::warn!("{} cannot be kept: {why}", key.0),
        }
        self.bound.lives_on(true);
    }
}

impl<A> Listeners<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Nothing is bound yet. When `shutdown` turns true, sockets close and connections end after their running request.
    pub fn new(workers: Vec<Worker<A>>, door: Arc<dyn Door>, shutdown: watch::Receiver<bool>) -> Self {
        let (open, gates, inherited, keeper) = Default::default();
        let accepting = watch::Sender::new(true);
        Self { workers, door, shutdown, open, inherited, keeper, accepting, gates }
    }

    /// Takes what listens already before it binds anything itself.
    #[must_use]
    pub fn inheriting(self, inherited: Arc<Inheritance>) -> Self {
        Self { inherited, ..self }
    }

    /// Accepts, or lets connections wait in the backlog: somebody else may accept from the same sockets.
    pub fn accept_now(&self, accept: bool) {
        self.accepting.send_replace(accept);
    }

    /// Lets go of all sockets; their connections end as if they went with a reload.
    pub fn release(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for socket in open.values() {
            socket.stop.send_replace(true);
        }
    }

    /// What listened before us and was not asked for yet.
    pub fn inherited(&self) -> &Arc<Inheritance> {
        &self.inherited
    }

    /// Gives every socket, also those to come, into this keeping; those that go are taken out of it.
    pub fn kept_by(&self, keeper: Arc<dyn Keep>) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, socket) in open.iter() {
            socket.keep(key, &*keeper);
        }
        let _ = self.keeper.set(keeper);
    }

    /// Another descriptor of every socket, with the name under which an [`Inheritance`] finds it.
    pub fn handed_on(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(key, socket)| Ok((socket.label(key), socket.bound.descriptor()?))).collect()
    }

    /// Listens where `new` says and nowhere else, whole or not at all: sockets that stay are not touched,
    /// their next connections get the new settings.
    pub fn apply(&self, new: Vec<Arc<Listener>>) -> Result<(), BindError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = wanted(new)?;
        let mut fresh = BTreeMap::new();
        for (key, listener) in &wanted {
            if !open.contains_key(key) {
                let fail = |why| BindError { listener: listener.name.clone(), address: key.0.clone(), why };
                let taken = self.inherited.take(key).map(|taken| Bound::taken(taken, &key.0));
                let bound = taken.unwrap_or_else(|| Bound::bind(&key.0)).map_err(fail)?;
                let copies: io::Result<Vec<_>> = self.workers.iter().map(|_| bound.copy()).collect();
                fresh.insert(key.clone(), (bound, copies.map_err(fail)?, listener.clone()));
            }
        }
        // From here on nothing can fail.
        open.retain(|key, socket| {
            let kept = wanted.get(key);
            match kept {
                Some(listener) => socket.live.store(self.live(listener.clone())),
                None => self.close(key, socket),
            }
            kept.is_some()
        });
        for (key, (bound, copies, listener)) in fresh {
            let socket = Open {
                bound,
                live: Arc::new(ArcSwap::new(self.live(listener))),
                stop: watch::Sender::new(*self.shutdown.borrow()),
            };
            self.accept(&socket, copies);
            if let Some(keeper) = self.keeper.get() {
                socket.keep(&key, &**keeper);
            }
            open.insert(key, socket);
        }
        Ok(())
    }

    /// Where we listen now.
    pub fn places(&self) -> Vec<Place> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |((asked, _), socket): (&Key, &Open)| Place {
            listener: socket.live.load().listener.name.clone(),
            asked: asked.clone(),
            bound: socket.bound.address().clone(),
        };
        open.iter().map(place).collect()
    }

    /// Connections open now, over all listeners.
    pub fn connections(&self) -> usize {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.values().map(|gate| gate.count()).sum()
    }

    /// The process after us listens on all of them: the files of unix sockets stay when we go.
    pub fn live_on(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().for_each(|socket| socket.bound.lives_on(true));
    }

    fn close(&self, key: &Key, socket: &Open) {
        if let Some(keeper) = self.keeper.get() {
            keeper.forget(&inherited::label(key));
            socket.bound.lives_on(false);
        }
        socket.stop.send_replace(true);
    }

    /// Who is connected to each listener.
    pub fn crowds(&self) -> Vec<Crowded> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().map(|(name, gate)| gate.crowded(name.as_str(), Instant::now())).collect()
    }

    fn live(&self, listener: Arc<Listener>) -> Arc<Live> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|name, gate| gate.count() > 0 || Arc::strong_count(gate) > 1 || *name == listener.name);
        let gate = gates.entry(listener.name.clone()).or_default().clone();
        Arc::new(Live { listener, gate })
    }

    fn accept(&self, socket: &Open, copies: Vec<socket::Copy>) {
        for (worker, copy) in self.workers.iter().zip(copies) {
            let accept = accept::Accept {
                app: worker.app.clone(),
                door: self.door.clone(),
                live: socket.live.clone(),
                shutdown: self.shutdown.clone(),
                stop: socket.stop.clone(),
                accepting: self.accepting.subscribe(),
            };
            worker.runtime.spawn(accept.run(copy));
        }
    }
}

/// Every address with its listener; the same address twice cannot be bound.
fn wanted(new: Vec<Arc<Listener>>) -> Result<BTreeMap<Key, Arc<Listener>>, BindError> {
    let mut wanted = BTreeMap::new();
    for listener in new {
        for address in &listener.binds {
            let any_port = matches!(address, Address::Ip(ip) if ip.port() == 0);
            let key = (address.clone(), any_port.then(|| listener.name.clone()));
            if wanted.insert(key, listener.clone()).is_some() {
                let why = io::Error::new(io::ErrorKind::AddrInUse, "another listener has this address");
                return Err(BindError { listener: listener.name.clone(), address: address.clone(), why });
            }
        }
    }
    Ok(wanted)
}
