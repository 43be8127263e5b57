//! What went wrong between us and a target: Pingora's error told in the words of the one table.

use pingora_error::{Error, ErrorType};

use crate::broken::broken;
use crate::fault::Fault;

/// The fault behind an error of an exchange with a target. `answered`: the head of its answer had come; `reused`: on a
/// connection used before.
pub fn fault_of(error: &Error, answered: bool, reused: bool) -> Fault {
    own(error).or_else(|| broken(error)).unwrap_or_else(|| upstream(error, answered, reused))
}

/// A fault of ours somewhere in the chain of causes.
pub fn own(error: &Error) -> Option<Fault> {
    let mut cause = error.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static));
    while let Some(inner) = cause {
        if let Some(fault) = inner.downcast_ref::<Fault>() {
            return Some(*fault);
        }
        cause = match inner.downcast_ref::<Box<Error>>() {
            Some(error) => error.cause.as_deref().map(|cause| cause as _),
            None => inner.source(),
        };
    }
    None
}

/// What the log is told: the error in Pingora's words, without what a client sent.
pub fn why(error: &Error) -> Option<String> {
    match own(error) {
        Some(_) => None,
        None => Some(error.to_string().chars().take(300).collect()),
    }
}

/// The fault behind an error that only Pingora names.
pub fn upstream(error: &Error, answered: bool, reused: bool) -> Fault {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Fault::UpstreamConnectTimeout,
        ErrorType::ConnectRefused => Fault::UpstreamRefused,
        ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::ConnectProxyFailure
        | ErrorType::BindError
        | ErrorType::AcceptError
        | ErrorType::SocketError => Fault::UpstreamConnect,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSWantX509Lookup
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => Fault::UpstreamTls,
        ErrorType::ReadTimedout if !answered => Fault::UpstreamTimeoutFirstByte,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Fault::UpstreamTimeoutIdle,
        ErrorType::InvalidHTTPHeader if error.to_string().contains("larger than") => Fault::UpstreamHeaderTooLarge,
        ErrorType::Custom("InvalidChunk")
        | ErrorType::InvalidHTTPHeader
        | ErrorType::InvalidH2
        | ErrorType::H2Downgrade
        | ErrorType::H2Error => Fault::UpstreamProtocol,
        _ if reused && !answered => Fault::UpstreamResetReused,
        _ => Fault::UpstreamReset,
    }
}
