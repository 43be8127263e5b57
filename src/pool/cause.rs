//! What a failure of a target is: for its breaker and for its ejection alike.

use std::fmt;
use std::str::FromStr;

use super::health::Status;
use crate::fault::{Fault, Whose};

/// Whether the target failed, where the document does not say what that is; nothing where it is not the target's doing.
pub(super) fn usual(fault: Option<Fault>, status: u16) -> Option<bool> {
    match fault {
        None => Some(status >= 500),
        some => judge(&[], some, status).map(|_| true),
    }
}

/// Whether the target failed; nothing where it is not the target's doing.
pub(super) fn judge(on: &[Cause], fault: Option<Fault>, status: u16) -> Option<bool> {
    match fault {
        // The client left, or we refused: the target had no chance.
        Some(fault) if fault.row().whose != Whose::Upstream => None,
        // A kept connection that had died: the target is asked again on a new one.
        Some(Fault::UpstreamResetReused) => None,
        Some(fault) => Some(on.iter().any(|cause| cause.is(fault))),
        None => Some(on.iter().any(|cause| cause.is_status(status))),
    }
}

/// One kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No connection, or no TLS.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke, or what came is not HTTP.
    Reset,
    /// An answer with such a status.
    Status(Status),
}

impl Cause {
    /// What counts where the document does not say.
    pub(super) fn usual() -> Vec<Self> {
        let server_errors = "500..599".parse().map(Self::Status);
        [Self::Connect, Self::Timeout, Self::Reset].into_iter().chain(server_errors).collect()
    }

    fn is(self, fault: Fault) -> bool {
        match self {
            Self::Connect => matches!(
                fault,
                Fault::UpstreamConnect | Fault::UpstreamRefused | Fault::UpstreamConnectTimeout | Fault::UpstreamTls
            ),
            Self::Timeout => matches!(
                fault,
                Fault::UpstreamTimeoutFirstByte | Fault::UpstreamTimeoutIdle | Fault::UpstreamTimeoutTotal
            ),
            Self::Reset => {
                matches!(fault, Fault::UpstreamReset | Fault::UpstreamProtocol | Fault::UpstreamHeaderTooLarge)
            }
            Self::Status(_) => false,
        }
    }

    fn is_status(self, status: u16) -> bool {
        matches!(self, Self::Status(range) if range.contains(status))
    }
}

impl FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "connect" => Ok(Self::Connect),
            "timeout" => Ok(Self::Timeout),
            "reset" => Ok(Self::Reset),
            _ => text.parse().map(Self::Status).map_err(|_| {
                format!("`{text}` is no failure; it is connect, timeout, reset, a status or a range such as 500..599")
            }),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Timeout => f.write_str("timeout"),
            Self::Reset => f.write_str("reset"),
            Self::Status(status) => status.fmt(f),
        }
    }
}

crate::units::scalar!(Cause, "a kind of failure", example "timeout",
    bare number |n| n.to_string().parse(),
    "A failure: `connect`, `timeout`, `reset`, an HTTP status or a range of them with both ends, `500..599`.");
