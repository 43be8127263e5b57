//! What went wrong: Pingora's error told in the words of the one table.

use pingora_error::{Error, ErrorSource, ErrorType};

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

fn downstream(what: &ErrorType) -> Fault {
    match what {
        ErrorType::ReadTimedout => Fault::RequestTimeout,
        ErrorType::InvalidHTTPHeader => Fault::RequestMalformed,
        _ => Fault::ClientGone,
    }
}
