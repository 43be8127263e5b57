//! `yumen log-level LEVEL --for 60s`: the running gateway says more or less of itself, always for a while.

use clap::{Args, ValueEnum};

use super::Exit;
use super::door::{Door, escaped};
use crate::units;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The least important message that is still written; `auto` for what the document says.
    level: Level,
    /// For how long, e.g. 60s; at most 24h.
    #[arg(
        long = "for",
        value_name = "TIME",
        required_if_eq_any([("level", "error"), ("level", "warn"), ("level", "info"), ("level", "debug"), ("level", "trace")])
    )]
    length: Option<units::Duration>,
    /// Of one part of the program only, e.g. `yumen::gateway::listen`.
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
}

#[derive(ValueEnum, Clone, Copy)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
    Auto,
}

pub(super) fn run(options: &Options) -> Exit {
    let level = options.level.to_possible_value().map(|level| level.get_name().to_owned()).unwrap_or_default();
    let length = options.length.map(|length| format!("&for={length}")).unwrap_or_default();
    let module = options.module.as_deref().map(|module| format!("&module={}", escaped(module))).unwrap_or_default();
    options.door.order(&format!("/log-level?level={level}{length}{module}"))
}
