//! `yumen check`: reads the whole document and says everything that is wrong with it, changing nothing.

use std::io::Write;
use std::path::PathBuf;

use crate::config::{self, Loaded, report};
use crate::problem::Problems;

/// What the command was asked to do.
#[derive(Debug, Clone)]
pub struct Args {
    pub config: PathBuf,
    /// As JSON, for programs.
    pub json: bool,
}

/// Checks; `compile` adds what only compiling shows, such as certificates. The exit code is 0, 66, 77 or 78.
pub fn run(args: &Args, compile: impl FnOnce(&Loaded) -> Problems) -> u8 {
    let mut loaded = config::load(&args.config);
    if loaded.problems.errors() == 0 {
        let further = compile(&loaded);
        loaded.problems.append(further);
    }
    let text = if args.json {
        format!("{:#}\n", report::json(&loaded.problems, &loaded.places))
    } else {
        report::human(&loaded.problems, &loaded.places)
    };
    // Nobody reads on: that is no failure of the check.
    let _ = std::io::stdout().write_all(text.as_bytes());
    loaded.code()
}
