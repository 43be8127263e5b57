//! A request body that broke its framing or came too slowly: how the proxy learns why.

use std::fmt;
use std::io;

use crate::fault::Fault;

/// The cause inside the `io::Error` that a read of the body ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBody(pub Fault);

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request body: {}", self.0)
    }
}

impl std::error::Error for BadBody {}

impl From<BadBody> for io::Error {
    fn from(bad: BadBody) -> Self {
        let kind = if bad.0 == Fault::RequestTimeout { io::ErrorKind::TimedOut } else { io::ErrorKind::InvalidData };
        Self::new(kind, bad)
    }
}

/// The fault of a bad body, wherever in Pingora's chain of errors it lies.
pub fn bad_body(error: &pingora_error::Error) -> Option<Fault> {
    let mut cause = error.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if let Some(nested) = error.downcast_ref::<Box<pingora_error::Error>>() {
            return bad_body(nested);
        }
        if let Some(bad) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return bad.downcast_ref::<BadBody>().map(|bad| bad.0);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use pingora_error::{Error, ErrorType};

    use super::*;

    #[test]
    fn the_fault_is_found_under_pingoras_wrapping() {
        let error = Error::because(ErrorType::ReadError, "", io::Error::from(BadBody(Fault::RequestFraming)));
        assert_eq!(bad_body(&error), Some(Fault::RequestFraming));
        let outer = Error::because(ErrorType::InternalError, "", error);
        assert_eq!(bad_body(&outer), Some(Fault::RequestFraming));
        assert_eq!(bad_body(&Error::because(ErrorType::ReadError, "", io::Error::other("x"))), None);
    }
}
