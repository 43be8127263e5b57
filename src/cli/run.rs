//! `yumen run`: serve until told to stop.

use clap::{Args, ValueEnum};

use super::{Document, Exit};
use crate::gateway::boot::Boot;
use crate::gateway::takeover::{self, Inherited};
use crate::gateway::{self, Error, Gateway, source::Source};
use crate::telemetry::program;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    /// What becomes of a start whose document is wrong: it fails, or the last generation serves that was good.
    #[arg(long, value_enum, env = "YUMEN_BOOT", default_value = "refuse")]
    boot: When,
    /// Said by a running gateway that starts its successor.
    #[arg(long, hide = true, require_equals = true)]
    takeover: Option<Stage>,
}

/// What becomes of a start whose document is wrong.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum When {
    /// It fails.
    Refuse,
    /// The last generation serves that was good, and the log, `/status`, a metric and an alert say so.
    #[value(name = "last_good")]
    LastGood,
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
    let boot = match options.boot {
        When::Refuse => Boot::Refuse,
        When::LastGood => Boot::LastGood,
    };
    serve(Source::File(options.document.config.clone()), boot, inherited, |gateway| {
        for (name, address) in gateway.bound() {
            log::info!("listening on {name} {address}");
        }
    })
}

/// Runs the gateway and turns its end into an exit code.
pub(super) fn serve(source: Source, boot: Boot, inherited: Option<Inherited>, started: impl FnOnce(&Gateway)) -> Exit {
    let ended = gateway::run(source, boot, inherited, started);
    log::logger().flush();
    let Err(why) = ended else { return Exit::Fine };
    match why {
        Error::Document(report, code) => {
            eprint!("{report}");
            Exit::of(code)
        }
        Error::Bind(sentence) => super::fail(Exit::CannotBind, &sentence),
        Error::Internal(sentence) => super::fail(Exit::Internal, &sentence),
    }
}
