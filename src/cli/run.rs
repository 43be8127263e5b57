//! `yumen run`: serve until told to stop.

use super::{Document, Exit};
use crate::gateway::{self, Error, Gateway, source::Source};
use crate::telemetry::program;

pub(super) fn run(document: &Document) -> Exit {
    program::start(program::Level::Info);
    serve(Source::File(document.config.clone()), |gateway| {
        for (name, address) in gateway.bound() {
            log::info!("listening on {name} {address}");
        }
    })
}

/// Runs the gateway and turns its end into an exit code.
pub(super) fn serve(source: Source, started: impl FnOnce(&Gateway)) -> Exit {
    let Err(why) = gateway::run(source, started) else { return Exit::Fine };
    match why {
        Error::Document(report, code) => {
            eprint!("{report}");
            Exit::of(code)
        }
        Error::Bind(sentence) => super::fail(Exit::CannotBind, &sentence),
        Error::Internal(sentence) => super::fail(Exit::Internal, &sentence),
    }
}
