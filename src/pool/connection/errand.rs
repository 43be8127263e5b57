//! One try's need of a connection: how long each step may take, and what became of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::VirtualSocketStream;
use tokio::time::Instant;

use super::lease::Lease;
use super::line::Line;
use super::{Connections, Place, habit};
use crate::fault::Fault;

/// How long each step may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// To open a connection.
    pub connect: Duration,
    /// From the last byte of the request to the head of the answer.
    pub first_byte: Duration,
    /// From the start to the head of the answer.
    pub per_try: Option<Duration>,
    /// The longest silence.
    pub idle: Duration,
    /// The longest time in which no byte of the request is taken.
    pub write: Duration,
    /// When the request must have been answered, all tries included.
    pub end: Option<Instant>,
    /// How long a connection is kept while nobody needs it.
    pub keep: Duration,
    /// The request may not be sent twice.
    pub once: bool,
    /// How the kernel finds out about hosts that are gone.
    pub alive: TcpKeepalive,
}

/// What Pingora is given to connect with, and what the proxy learns from it.
pub struct Errand {
    me: Weak<Self>,
    connections: Arc<Connections>,
    limits: Limits,
    begun: Instant,
    reused: AtomicBool,
    sent: AtomicBool,
    answered: AtomicBool,
    /// Milliseconds for which the target says that it keeps the connection; more than it can say where it says nothing.
    told: AtomicU64,
    /// Milliseconds after the start within which the client must have sent more; more than it can say where others see
    /// to that.
    owed: AtomicU64,
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Errand").field(&self.limits).finish()
    }
}

impl Errand {
    pub fn new(connections: Arc<Connections>, limits: Limits) -> Arc<Self> {
        let (begun, reused, answered) = (Instant::now(), AtomicBool::new(false), AtomicBool::new(false));
        let (sent, told, owed) = (AtomicBool::new(false), AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        Arc::new_cyclic(|me| Self { me: me.clone(), connections, limits, begun, reused, sent, answered, told, owed })
    }

    /// Whether the connection had served a request before.
    pub fn reused(&self) -> bool {
        self.reused.load(Relaxed)
    }

    /// The client has said its last byte: now it is the target's turn.
    pub fn sent(&self) {
        self.sent.store(true, Relaxed);
    }

    /// The client must have sent more of its request so long after the start.
    pub fn owes(&self, within: Duration) {
        self.owed.store(within.as_millis().try_into().unwrap_or(u64::MAX), Relaxed);
    }

    fn owed_until(&self) -> Option<Instant> {
        let owed = self.owed.load(Relaxed);
        if owed == u64::MAX { None } else { self.begun.checked_add(Duration::from_millis(owed)) }
    }

    /// The head of the answer is here.
    pub fn answer(&self) {
        self.answered.store(true, Relaxed);
    }

    /// The target says for how long it keeps the connection.
    pub fn told(&self, keeps: Duration) {
        self.told.store(keeps.as_millis().try_into().unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    /// When a silence that began at `since` has lasted too long.
    pub(super) fn silent_until(&self, since: Instant) -> Instant {
        if self.is_answered() {
            return self.before_end(since + self.limits.idle);
        }
        if self.sent.load(Relaxed) {
            return self.in_this_try(since + self.limits.first_byte);
        }
        let idle = since + self.limits.idle;
        self.in_this_try(self.owed_until().map_or(idle, |owed| owed.min(idle)))
    }

    fn before_end(&self, at: Instant) -> Instant {
        self.limits.end.map_or(at, |end| end.min(at))
    }

    fn in_this_try(&self, at: Instant) -> Instant {
        self.before_end(self.limits.per_try.map_or(at, |limit| at.min(self.begun + limit)))
    }

    /// When a target that takes nothing since `since` is given up.
    pub(super) fn stuck_until(&self, since: Instant) -> Instant {
        self.before_end(since + self.limits.write)
    }

    /// What a silence is called: a target that waits for the rest of the request is not to blame for it.
    pub(super) fn silence(&self) -> Fault {
        let owes = || !self.sent.load(Relaxed) && self.owed.load(Relaxed) != u64::MAX;
        match self.is_answered() {
            true => Fault::UpstreamTimeoutIdle,
            false if owes() => Fault::RequestTimeout,
            false => Fault::UpstreamTimeoutFirstByte,
        }
    }

    /// The connection may serve another request.
    pub(super) fn give_back(&self, mut line: Line) {
        line.rest(self.limits.keep);
        let told = self.told.load(Relaxed);
        if told != u64::MAX {
            line.rest_safely(habit::safe(Duration::from_millis(told)));
        }
        self.connections.put(line);
    }
}

#[async_trait]
impl L4Connect for Errand {
    async fn connect(&self, address: &SocketAddr) -> pingora_error::Result<Stream> {
        let (keep, once) = (self.limits.keep, self.limits.once);
        let kept = self.connections.take(&Place(address.clone()), keep, once, self.begun);
        self.reused.store(kept.is_some(), Relaxed);
        let line = if let Some(line) = kept {
            line
        } else {
            let until = self.in_this_try(self.begun + self.limits.connect);
            Line::open(address, until, &self.limits.alive).await?
        };
        let lease = Lease::new(line, self.me.upgrade());
        Ok(Stream::from(VirtualSocketStream::new(Box::new(lease))))
    }
}
