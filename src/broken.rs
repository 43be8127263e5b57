//! What broke a stream of bytes, be it a framing or a silence: how the proxy learns of it through what lies between.

use std::fmt;
use std::io;

use crate::fault::Fault;

/// The cause inside the `io::Error` that a read or a write ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(pub Fault);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Broken {}

impl From<Broken> for io::Error {
    fn from(bad: Broken) -> Self {
        let kind = if is_late(bad.0) { io::ErrorKind::TimedOut } else { io::ErrorKind::InvalidData };
        Self::new(kind, bad)
    }
}

fn is_late(fault: Fault) -> bool {
    matches!(fault.status(), 408 | 504)
}

/// The fault behind a broken stream, wherever in Pingora's chain of errors it lies.
pub fn broken(error: &pingora_error::Error) -> Option<Fault> {
    let mut cause = error.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if let Some(nested) = error.downcast_ref::<Box<pingora_error::Error>>() {
            return broken(nested);
        }
        if let Some(bad) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return bad.downcast_ref::<Broken>().map(|bad| bad.0);
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
        let error = Error::because(ErrorType::ReadError, "", io::Error::from(Broken(Fault::RequestFraming)));
        assert_eq!(broken(&error), Some(Fault::RequestFraming));
        let outer = Error::because(ErrorType::InternalError, "", error);
        assert_eq!(broken(&outer), Some(Fault::RequestFraming));
        assert_eq!(broken(&Error::because(ErrorType::ReadError, "", io::Error::other("x"))), None);
    }
}
