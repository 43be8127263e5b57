//! `yumen check`: reads the whole document and says everything that is wrong with it, changing nothing.

use clap::Args;

use super::{Document, Exit, Format, Output, fail, print};
use crate::config::{self, report};
use crate::gateway::rehearse;
use crate::snapshot::{self, Tools};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    #[command(flatten)]
    output: Output,
}

/// Reads and compiles and runs the tests of the document, but opens nothing and asks nobody. The exit code is 0, 66, 77 or 78.
pub(super) fn run(options: &Options) -> Exit {
    let tools = match Tools::new() {
        Ok(tools) => tools,
        Err(why) => return fail(Exit::Internal, &why),
    };
    let mut loaded = config::load(&options.document.config);
    if loaded.unreadable.is_none() {
        let (deciding, further) = snapshot::deciding(&loaded, &tools);
        loaded.problems.append(further);
        if let Some(deciding) = deciding.filter(|_| loaded.code() == 0) {
            let failing = rehearse::problems(&loaded, (&deciding).into());
            loaded.problems.append(failing);
        }
    }
    let text = match options.output.output {
        Format::Json => format!("{:#}\n", report::json(&loaded.problems, &loaded.places)),
        Format::Human => report::human(&loaded.problems, &loaded.places),
    };
    match print(&text) {
        Exit::Fine => Exit::of(loaded.code()),
        failed => failed,
    }
}
