//! What went wrong: Pingora's error told in the words of the one table.

use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::ctx::Ctx;
use crate::broken::broken;
use crate::fault::Fault;
use crate::pool::lost;
pub(super) use crate::pool::lost::why;

/// The fault behind an error. `answered`: the target's head had come; `reused`: on a connection used before.
pub(super) fn fault_of(error: &Error, answered: bool, reused: bool) -> Fault {
    if let Some(fault) = lost::own(error).or_else(|| broken(error)) {
        return fault;
    }
    match error.esource() {
        ErrorSource::Upstream => lost::upstream(error, answered, reused),
        ErrorSource::Downstream => downstream(error.etype()),
        ErrorSource::Internal | ErrorSource::Unset => Fault::GatewayInternal,
    }
}

/// A target that still waits for the rest of the request is not to blame for its silence. Over HTTP/1 the connection has
/// seen to it before.
pub(super) fn owed(fault: Fault, session: &Session, ctx: &Ctx) -> Fault {
    let owes = fault == Fault::UpstreamTimeoutFirstByte && session.is_http2() && !ctx.upstream.sent;
    if owes { Fault::RequestTimeout } else { fault }
}

fn downstream(what: &ErrorType) -> Fault {
    match what {
        ErrorType::ReadTimedout => Fault::RequestTimeout,
        ErrorType::InvalidHTTPHeader => Fault::RequestMalformed,
        _ => Fault::ClientGone,
    }
}
