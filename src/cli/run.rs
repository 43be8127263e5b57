//! `yumen run`: serve until told to stop.

use clap::{Args, ValueEnum};

use super::{Document, Exit};
use crate::gateway::takeover::{self, Inherited};
use crate::gateway::{self, Error, Gateway, source::Source};
use crate::telemetry::program;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    /// Said by a running gateway that starts its successor.
    #[arg(long, hide = true, require_equals = true)]
    takeover: Option<Stage>,
}

/// How far a successor has come.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Stage {
    /// Starts the program once more, so that it is nobody's child here, and ends.
    Launch,
    /// Takes over what comes over its standard input.
    Serve,
}

pub(super) fn run(options: &Options) -> Exit {
    program::start(program::Level::Info);
    let inherited = match options.takeover {
        None => None,
        Some(Stage::Launch) => {
            let failed = |why| super::fail(Exit::Internal, &format!("cannot start the successor: {why}"));
            return takeover::launch().map_or_else(failed, |()| Exit::Fine);
        }
        Some(Stage::Serve) => match takeover::take() {
            Ok(inherited) => Some(inherited),
            Err(why) => return super::fail(Exit::Internal, &format!("nothing to take over: {why}")),
        },
    };
    serve(Source::File(options.document.config.clone()), inherited, |gateway| {
        for (name, address) in gateway.bound() {
            log::info!("listening on {name} {address}");
        }
    })
}

/// Runs the gateway and turns its end into an exit code.
pub(super) fn serve(source: Source, inherited: Option<Inherited>, started: impl FnOnce(&Gateway)) -> Exit {
    let Err(why) = gateway::run(source, inherited, started) else { return Exit::Fine };
    match why {
        Error::Document(report, code) => {
            eprint!("{report}");
            Exit::of(code)
        }
        Error::Bind(sentence) => super::fail(Exit::CannotBind, &sentence),
        Error::Internal(sentence) => super::fail(Exit::Internal, &sentence),
    }
}
