//! `yumen run`: serve until told to stop.

use super::{Document, Exit};
use crate::gateway::{self, Error, Gateway, source::Source};
use crate::telemetry::program;

pub(super) fn run(document: &Document) -> Exit {
    program::start();
    serve(Source::File(document.config.clone()), |gateway| {
        for (name, address) in gateway.bound() {
            log::info!("listening on {name} {address}");
        }
    })
}

/// Runs the gateway and turns its end into an exit code.
pub(super) fn serve(source: Source, started: impl FnOnce(&Gateway)) -> Exit {
    let Err(why) = gateway::run(source, started) else { return Exit::Fine };
    let exit = match &why {
        Error::Invalid(report) => {
            eprint!("{report}");
            return Exit::Invalid;
        }
        Error::Unreadable(io, _) if io.kind() == std::io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        Error::Unreadable(..) => Exit::FileMissing,
        Error::Bind(_) => Exit::CannotBind,
        Error::Internal(_) => Exit::Internal,
    };
    super::fail(exit, &why.to_string())
}
