//! `yumen upgrade`: another process takes over from the running gateway.

use std::path::PathBuf;

use clap::Args;

use super::door::{Door, escaped};
use super::{Exit, fail, reload};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The program that takes over; else what now lies where the running one was started from. It reads and checks the
    /// document first: where it refuses it, or fails in any other way, the running gateway serves on.
    #[arg(value_name = "PROGRAM")]
    program: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Exit {
    let target = match options.program.as_ref().map(std::fs::canonicalize).transpose() {
        Ok(None) => "/upgrade".to_owned(),
        Ok(Some(file)) => format!("/upgrade?program={}", escaped(&file.to_string_lossy())),
        Err(why) => {
            let file = options.program.as_deref().unwrap_or(std::path::Path::new("")).display().to_string();
            return fail(Exit::FileMissing, &format!("{file}: {why}"));
        }
    };
    match options.door.ask_privately(&target) {
        Ok(answer) => reload::verdict(&answer),
        Err(exit) => exit,
    }
}
