//! Once more or not: what a failed try was, which request it was, and what the document says of both.
//!
//! The decision is pure. The budget (`budget.rs`) and the choice of another target come after it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::Method;

mod config;
pub mod further;

pub use config::{Backoff, Config, MOST_ATTEMPTS, Methods, Retry};

use super::chance;
use super::health::Status;
use crate::fault::Fault;
use crate::problem::nearest;

/// One kind of failure after which a request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, or no TLS.
    Connect,
    /// The connection broke before the head of the answer, or what came is not HTTP.
    Reset,
    /// No head of an answer in time.
    Timeout,
    /// An answer with such a status.
    Status(Status),
    /// An answer that is nothing but such a status of gRPC.
    Grpc(u8),
}

/// What the names of statuses stand for (grpc.io, statuscodes.md); `ok` is no trouble.
const GRPC: [(&str, u8); 16] = [
    ("cancelled", 1),
    ("unknown", 2),
    ("invalid-argument", 3),
    ("deadline-exceeded", 4),
    ("not-found", 5),
    ("already-exists", 6),
    ("permission-denied", 7),
    ("resource-exhausted", 8),
    ("failed-precondition", 9),
    ("aborted", 10),
    ("out-of-range", 11),
    ("unimplemented", 12),
    ("internal", 13),
    ("unavailable", 14),
    ("data-loss", 15),
    ("unauthenticated", 16),
];

impl Trouble {
    /// For metrics and the log: one of five words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status(_) => "status",
            Self::Grpc(_) => "grpc",
        }
    }

    fn is(self, end: End) -> bool {
        match (self, end) {
            (Self::Connect, End::Lost(fault)) => is_connect(fault),
            (Self::Reset, End::Lost(fault)) => {
                matches!(fault, Fault::UpstreamReset | Fault::UpstreamResetReused | Fault::UpstreamProtocol)
            }
            (Self::Timeout, End::Lost(fault)) => fault == Fault::UpstreamTimeoutFirstByte,
            (Self::Status(statuses), End::Answered { status, .. }) => statuses.contains(status),
            (Self::Grpc(code), End::Answered { grpc, .. }) => grpc == Some(code),
            _ => false,
        }
    }
}

fn is_connect(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::UpstreamConnect | Fault::UpstreamRefused | Fault::UpstreamConnectTimeout | Fault::UpstreamTls
    )
}

impl FromStr for Trouble {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "connect" => return Ok(Self::Connect),
            "reset" => return Ok(Self::Reset),
            "timeout" => return Ok(Self::Timeout),
            _ => {}
        }
        if let Some((_, code)) = GRPC.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Grpc(*code));
        }
        let Ok(statuses) = text.parse::<Status>() else {
            let words = ["connect", "reset", "timeout"].into_iter().chain(GRPC.iter().map(|(name, _)| *name));
            let near = nearest(text, words).map(|near| format!(". Did you mean `{near}`?")).unwrap_or_default();
            return Err(format!(
                "`{text}` is no failure; it is connect, reset, timeout, a status or a range such as 500..599, or the \
                 name of a gRPC status{near}"
            ));
        };
        if (100..400).any(|status| statuses.contains(status)) {
            return Err(format!("`{text}` is no failure: statuses of failures go from 400 to 599"));
        }
        Ok(Self::Status(statuses))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(statuses) => statuses.fmt(f),
            Self::Grpc(code) => {
                f.write_str(GRPC.iter().find(|(_, known)| known == code).map_or("unknown", |(name, _)| name))
            }
            plain => f.write_str(plain.word()),
        }
    }
}

crate::units::scalar!(Trouble, "a kind of failure", example "reset",
    bare number |n| n.to_string().parse(),
    "A failure: `connect`, `reset`, `timeout`, an HTTP status from 400, a range of them (`500..599`), or the name of a gRPC status (`unavailable`).");

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Without an answer.
    Lost(Fault),
    /// With the head of one; `grpc` where nothing else follows.
    Answered { status: u16, grpc: Option<u8> },
}

/// A try that may have failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    pub end: End,
    /// The target says that it did nothing with the request.
    pub refused: bool,
    /// When the target wants to be asked again.
    pub wait: Option<Duration>,
}

impl Failed {
    pub fn lost(fault: Fault) -> Self {
        Self { end: End::Lost(fault), refused: false, wait: None }
    }

    /// Whether the target has done nothing with the request: then any method may be sent again.
    pub fn is_untouched(&self) -> bool {
        self.refused || matches!(self.end, End::Lost(fault) if is_connect(fault))
    }
}

/// The request of a try, as far as it decides.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a Method,
    /// It carries an `Idempotency-Key`.
    pub keyed: bool,
    /// All of its body that was read can be sent again.
    pub whole: bool,
    /// Some of an answer has gone to the client.
    pub begun: bool,
    /// Tries so far.
    pub tries: u32,
}

/// Why a request that failed is not tried again; failures that the document does not name need no word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Not {
    Begun,
    Attempts,
    Method,
    Body,
    Wait,
    Late,
    Budget,
    Nobody,
}

impl Not {
    /// For the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Begun => "answer begun",
            Self::Attempts => "attempts used up",
            Self::Method => "method not idempotent",
            Self::Body => "body too large",
            Self::Wait => "retry-after too long",
            Self::Late => "no time left",
            Self::Budget => "budget used up",
            Self::Nobody => "no target",
        }
    }
}

/// What a pool says, with what its route says in its place.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    pub pool: &'a Config,
    pub route: Option<&'a Retry>,
}

impl Rule<'_> {
    /// Further tries of one request, at most.
    pub fn attempts(&self) -> u32 {
        self.route.and_then(|route| route.attempts).unwrap_or(self.pool.attempts)
    }
    fn on(&self) -> &[Trouble] {
        self.route.and_then(|route| route.on.as_deref()).unwrap_or(&self.pool.on)
    }
    fn backoff(&self) -> Backoff {
        self.route.and_then(|route| route.backoff).unwrap_or(self.pool.backoff)
    }
    fn methods(&self) -> &Methods {
        self.route.and_then(|route| route.methods.as_ref()).unwrap_or(&self.pool.methods)
    }

    /// Whether such a request may be sent more than once.
    pub fn admits(&self, method: &Method, keyed: bool) -> bool {
        self.methods().admit(method, keyed)
    }

    /// Whether the document names a status of gRPC.
    pub fn names_calls(&self) -> bool {
        self.on().iter().any(|trouble| matches!(trouble, Trouble::Grpc(_)))
    }

    /// What of that which the document names this end is.
    pub fn trouble(&self, end: End) -> Option<Trouble> {
        self.on().iter().find(|trouble| trouble.is(end)).copied()
    }

    /// Whether the request may be tried once more, and what the trouble was; if not, why, where that is worth a word.
    pub fn again(&self, failed: &Failed, asked: &Asked<'_>) -> Result<Trouble, Option<Not>> {
        let trouble = self.trouble(failed.end).ok_or(None)?;
        let not = if asked.begun {
            Not::Begun
        } else if asked.tries > self.attempts() {
            Not::Attempts
        } else if !failed.is_untouched() && !self.methods().admit(asked.method, asked.keyed) {
            Not::Method
        } else if !asked.whole {
            Not::Body
        } else if failed.wait.is_some_and(|wait| wait > self.backoff().longest.get()) {
            Not::Wait
        } else {
            return Ok(trouble);
        };
        // Who wants no further tries is not told of each that there was not.
        Err(Some(not).filter(|_| self.attempts() > 0))
    }

    /// A pause by chance before a further try.
    pub fn some_pause(&self, number: u32, wait: Option<Duration>) -> Duration {
        self.pause(number, wait, chance::share())
    }

    /// The pause before a further try, the first one being number 1: any length up to a bound that doubles each time,
    /// so that those who failed together do not come back together; as long as the target asks for, where it does.
    fn pause(&self, number: u32, wait: Option<Duration>, chance: f64) -> Duration {
        let Backoff { shortest, longest } = self.backoff();
        let doubled = shortest.get().saturating_mul(1 << number.saturating_sub(1).min(20));
        doubled.min(longest.get()).mul_f64(chance.clamp(0.0, 1.0)).max(wait.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
