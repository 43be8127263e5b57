//! Accepting: one loop for each socket and worker, and the way of a connection from there to its first request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::HttpServerApp;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::crowd::Speaks;
use super::door::Door;
use super::gate::Permit;
use super::socket::Copy;
use super::{Live, proxied};
use crate::gateway::conn::{Conn, Io, Raw, Socket, serve_h1, serve_h2};
use crate::listener::{Connection, Listener, TlsFacts};

/// What one loop needs.
pub(super) struct Accept<A> {
    pub(super) app: Arc<A>,
    pub(super) door: Arc<dyn Door>,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) stop: watch::Sender<bool>,
    /// False while somebody else is to accept, or nobody.
    pub(super) accepting: watch::Receiver<bool>,
}

enum Ears {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How often it is told that nothing can be accepted.
const COMPLAINS: Duration = Duration::from_secs(10);
/// An address for those who have none.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Ears {
    async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Tcp(tcp) => {
                let (stream, peer) = tcp.accept().await?;
                Ok((Socket::Tcp(stream), SocketAddr::new(peer.ip().to_canonical(), peer.port())))
            }
            Self::Unix(unix) => unix.accept().await.map(|(stream, _)| (Socket::Unix(stream), NOWHERE)),
        }
    }
}

impl<A> Accept<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Accepts until the socket goes; connections that the kernel had taken in by then are served.
    pub(super) async fn run(self, copy: Copy) {
        let ears = match copy {
            Copy::Tcp(tcp) => TcpListener::from_std(tcp).map(Ears::Tcp),
            Copy::Unix(unix) => UnixListener::from_std(unix).map(Ears::Unix),
        };
        let ears = match ears {
            Ok(ears) => ears,
            Err(why) => return log::error!("listener {}: {why}", self.live.load().listener.name),
        };
        let (mut shutdown, mut stop) = (self.shutdown.clone(), self.stop.subscribe());
        let mut closing = pin!(async {
            tokio::select! {
                _ = shutdown.wait_for(|closing| *closing) => {}
                _ = stop.wait_for(|closing| *closing) => {}
            }
        });
        let mut complained = None;
        let mut accepting = self.accepting.clone();
        loop {
            let open = *accepting.borrow_and_update();
            let accepted = tokio::select! {
                biased;
                accepted = ears.accept(), if open => accepted,
                Ok(()) = accepting.changed() => continue,
                () = &mut closing => break,
            };
            match accepted {
                Ok((socket, peer)) => self.welcome(socket, peer),
                Err(why) => self.recover(&why, &mut complained).await,
            }
        }
        self.stop.send_replace(true);
    }

    /// A connection that died before we took it is nothing; without descriptors we wait, without spinning.
    async fn recover(&self, why: &io::Error, complained: &mut Option<Instant>) {
        if matches!(why.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return;
        }
        let listener = &self.live.load().listener.name;
        self.door.not_accepted(listener);
        if complained.is_none_or(|last| last.elapsed() > COMPLAINS) {
            log::warn!("listener {listener} cannot accept: {why}; connections wait");
            *complained = Some(Instant::now());
        }
        sleep(Duration::from_millis(50)).await;
    }

    fn welcome(&self, socket: Socket, peer: SocketAddr) {
        let live = self.live.load();
        let listener = live.listener.clone();
        let Some(mut permit) = live.gate.enter(&listener.limits) else {
            return self.door.turned_away(&listener.name, "connections");
        };
        let trusted = listener.proxied.iter().any(|network| network.contains(peer.ip()));
        let counted = matches!(socket, Socket::Tcp(_)) && !trusted;
        if counted && !permit.admit(peer.ip(), &listener.limits) {
            return self.door.turned_away(&listener.name, "per_address");
        }
        let guest = Guest {
            until: Instant::now() + listener.timeout.handshake.get(),
            visit: Visit::new(self.door.clone(), &listener),
            permit,
            peer,
            trusted,
            listener,
            closing: self.stop.subscribe(),
        };
        let (app, door, stop) = (self.app.clone(), self.door.clone(), guest.closing.clone());
        tokio::spawn(async move {
            // The handshake needs much that the connection does not: it lives in a box of its own.
            let Some((conn, h2, mut stay)) = Box::pin(guest.enter(socket)).await else { return };
            stay.1.speaks(if h2 { Speaks::H2 } else { Speaks::H1 });
            let h2 = if h2 { Some(conn) } else { serve_h1(conn, &app, &door, &stop).await };
            if let Some(conn) = h2 {
                stay.1.speaks(Speaks::H2);
                Box::pin(serve_h2(conn, app, &door, stop)).await;
            }
            drop(stay);
        });
    }
}

/// Tells the door that a connection came and went.
struct Visit {
    door: Arc<dyn Door>,
    listener: Arc<Listener>,
}

impl Visit {
    fn new(door: Arc<dyn Door>, listener: &Arc<Listener>) -> Self {
        door.opened(&listener.name);
        Self { door, listener: listener.clone() }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.door.closed(&self.listener.name);
    }
}

/// A connection that has not shown yet who it is.
struct Guest {
    listener: Arc<Listener>,
    visit: Visit,
    permit: Permit,
    peer: SocketAddr,
    /// Whether a PROXY header must come first.
    trusted: bool,
    until: Instant,
    closing: watch::Receiver<bool>,
}

impl Guest {
    /// PROXY header and TLS handshake, in time; then the connection, whether it speaks HTTP/2, and what it holds.
    async fn enter(mut self, socket: Socket) -> Option<(Box<Conn>, bool, (Visit, Permit))> {
        let local = match &socket {
            Socket::Tcp(tcp) => tcp.local_addr().ok()?,
            Socket::Unix(_) => NOWHERE,
        };
        let mut local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let mut raw = Raw::new(socket);
        if self.trusted {
            match timeout_at(self.until, proxied::read(&mut raw)).await {
                Ok(Ok(said)) => (self.peer, local) = said.unwrap_or((self.peer, local)),
                _ => return self.turn_away("proxy_protocol"),
            }
            if !self.permit.admit(self.peer.ip(), &self.listener.limits) {
                return self.turn_away("per_address");
            }
        }
        let (io, tls) = match self.listener.tls() {
            None => (Io::Plain(raw), None),
            Some(config) => {
                let stream = self.shake(config, raw).await?;
                let facts = TlsFacts::of(stream.get_ref().1);
                (Io::Tls(Box::new(stream)), Some(facts))
            }
        };
        let h2 = tls.as_ref().is_some_and(|tls| tls.h2);
        let Self { listener, visit, permit, peer, closing, .. } = self;
        let conn = Conn::new(io, Arc::new(Connection::new(listener, peer, local, tls, closing))).ok()?;
        Some((conn, h2, (visit, permit)))
    }

    fn turn_away<T>(&self, why: &'static str) -> Option<T> {
        self.visit.door.turned_away(&self.listener.name, why);
        None
    }

    async fn shake(&self, config: &Arc<rustls::ServerConfig>, raw: Raw) -> Option<TlsStream<Raw>> {
        let shaken = timeout_at(self.until, TlsAcceptor::from(config.clone()).accept(raw)).await;
        let (version, result) = match &shaken {
            Ok(Ok(stream)) => (TlsFacts::of(stream.get_ref().1).version, "ok"),
            Ok(Err(_)) => ("none", "failed"),
            Err(_) => ("none", "timeout"),
        };
        self.visit.door.handshake(&self.listener.name, version, result);
        shaken.ok()?.inspect_err(|why| log::debug!("TLS handshake with {}: {why}", self.peer)).ok()
    }
}
