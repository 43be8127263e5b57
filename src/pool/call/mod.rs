//! Requests of our own to a pool: all that the pool promises to those of clients holds for them, without any client.
//!
//! ```ignore
//! let mut call = Call::new(pool, RequestHeader::build("GET", b"/users/7", None)?);
//! call.deadline = Some(Instant::now() + Duration::from_millis(300));
//! let answer = call.whole(64 << 10).await?;                 // head, body, trailers; at most so many bytes
//!
//! let mut answering = call.open().await?;                   // the same piece by piece
//! while let Some(piece) = answering.piece().await? { ... }
//! answering.trailers();                                     // what came behind the last piece, by HTTP/2
//! ```
//!
//! The pool's balance, health, breaker, ejection, places (`max_in_flight`, waiting in line), retries with their budget,
//! time limits, protocol, TLS and fallback hold, and its metrics count every try. The call's own `timeout` and `retry` say
//! what a route would say in their place; `deadline` is when whoever asks has no more use for an answer, which is no fault of
//! the target. An answer of any status is an answer: `Err` means that there was none, or not to its end. What became of each
//! try is told by the answer and by the failure alike ([`Tried`]).
//!
//! The head needs a method, a target in origin form (`/path?query`) and what fields the caller wants; `Host` is the target's
//! own unless it is said, framing and `:authority` are made here. Nothing is taken away from the head of the answer: who
//! passes that on takes out what belongs to a connection.
//!
//! It runs wherever it is awaited, on a worker or in a chore, which must be of a tokio runtime; each thread keeps its
//! connections for [a moment](exchange::REST). Dropped at any point it ends there, and its target is told that its client
//! has gone.

mod answering;
mod attempt;
mod exchange;
mod running;
mod sending;

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use answering::{Answer, Answering};
use bytes::Bytes;
use futures_util::Stream;
use pingora_http::RequestHeader;
use running::Running;

use super::retry::{End, Retry};
use super::{Picked, Pool, Target, Timeout};
use crate::fault::Fault;
use crate::telemetry::trace::Trace;

/// A request of our own, not sent yet.
pub struct Call {
    pub pool: Arc<Pool>,
    pub head: RequestHeader,
    pub body: Body,
    /// For whom, where the pool balances by that.
    pub client: IpAddr,
    /// The limits in place of the pool's.
    pub timeout: Option<Timeout>,
    /// When it is tried again, in place of what the pool says.
    pub retry: Option<Retry>,
    /// When nobody waits for it any longer.
    pub deadline: Option<Instant>,
    /// Where its tries stand in a trace.
    pub spans: Option<Spans>,
}

/// A span for each try. The head says that of the first try, unless a rule of its route has changed what it says; further
/// tries say their own.
#[derive(Debug, Clone, Copy)]
pub struct Spans {
    pub trace: Trace,
    /// The number of the first one among the spans of its request.
    pub first: u32,
}

impl Spans {
    /// `traceparent` of a try, the first one being 1.
    pub fn traceparent(&self, number: usize) -> [u8; 55] {
        self.trace.traceparent(self.first.saturating_add(u32::try_from(number - 1).unwrap_or(u32::MAX)))
    }
}

/// The body of a call.
pub enum Body {
    /// It is here, and can be sent once more.
    Whole(Bytes),
    /// It comes piece by piece, and only one try can have it. By HTTP/2 the answer may begin before its end.
    Pieces(Pieces),
}

/// A body that comes piece by piece; a fault ends the call with it.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

impl Body {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// What one try sends; nothing where an earlier one took it.
    fn take(&mut self) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Pieces(_) => std::mem::replace(self, Self::Whole(Bytes::new())),
        }
    }
}

/// What became of one try.
#[derive(Clone)]
pub struct Tried {
    pub target: Arc<Target>,
    pub end: End,
    pub began: Instant,
    /// When the head of its answer came.
    pub answered: Option<Instant>,
    /// Of the try that answered: when the last piece of it came, or when it was told of.
    pub ended: Instant,
    /// On a connection that was used before.
    pub reused: bool,
}

/// A call without an answer.
pub struct Failed {
    pub fault: Fault,
    /// For the log.
    pub why: String,
    /// When a target may take requests again.
    pub wait: Option<Duration>,
    /// Every try that there was.
    pub tries: Vec<Tried>,
    /// Why there was not another one, where that is worth a word.
    pub not_retried: Option<&'static str>,
}

impl std::fmt::Debug for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({} tries)", self.fault, self.why, self.tries.len())
    }
}

impl Call {
    /// One without a body, within the pool's own limits.
    pub fn new(pool: Arc<Pool>, head: RequestHeader) -> Self {
        let (body, client) = (Body::Whole(Bytes::new()), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self { pool, head, body, client, timeout: None, retry: None, deadline: None, spans: None }
    }

    /// Sends it, and returns as soon as the head of an answer is here.
    pub async fn open(self) -> Result<Answering, Failed> {
        Box::pin(Running::begin(self).run()).await
    }

    /// The same at this target first.
    pub async fn open_at(self, picked: Picked) -> Result<Answering, Failed> {
        Box::pin(Running::begin(self).run_at(picked)).await
    }

    /// The answer as a whole; one of more than `most` bytes is given up with `upstream.too_large`.
    pub async fn whole(self, most: usize) -> Result<Answer, Failed> {
        self.open().await?.whole(most).await
    }
}

#[cfg(test)]
mod tests;
