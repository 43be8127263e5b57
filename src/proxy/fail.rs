//! What went wrong: Pingora's error told in the words of the one table.

use pingora_error::{Error, ErrorSource, ErrorType};

use crate::broken::broken;
use crate::fault::Fault;

/// The fault behind an error. `answered`: the target's head had come; `reused`: on a connection used before.
pub(super) fn fault_of(error: &Error, answered: bool, reused: bool) -> Fault {
    if let Some(fault) = cause(error).or_else(|| broken(error)) {
        return fault;
    }
    match error.esource() {
        ErrorSource::Upstream => upstream(error, answered, reused),
        ErrorSource::Downstream => downstream(error.etype()),
        ErrorSource::Internal | ErrorSource::Unset => Fault::GatewayInternal,
    }
}

/// A fault of ours somewhere in the chain of causes.
fn cause(error: &Error) -> Option<Fault> {
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

/// What the log is told: the error in Pingora's words, without what the client sent.
pub(super) fn why(error: &Error) -> Option<String> {
    match cause(error) {
        Some(_) => None,
        None => Some(error.to_string().chars().take(300).collect()),
    }
}

fn downstream(what: &ErrorType) -> Fault {
    match what {
        ErrorType::ReadTimedout => Fault::RequestTimeout,
        ErrorType::InvalidHTTPHeader => Fault::RequestMalformed,
        _ => Fault::ClientGone,
    }
}

fn upstream(error: &Error, answered: bool, reused: bool) -> Fault {
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
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade | ErrorType::H2Error => {
            Fault::UpstreamProtocol
        }
        _ if reused && !answered => Fault::UpstreamResetReused,
        _ => Fault::UpstreamReset,
    }
}
