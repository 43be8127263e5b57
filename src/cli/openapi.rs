//! `yumen openapi`: one `OpenAPI` document of all routes that have one, as clients see them.

use clap::Args;

use super::{Document, Exit, fail, print};
use crate::config::{self, report};
use crate::snapshot::{self, Tools, openapi};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
}

/// Prints the document as JSON, and on standard error what does not fit into it; the exit code is 0, or that of a document
/// that is wrong.
pub(super) fn run(options: &Options) -> Exit {
    let tools = match Tools::new() {
        Ok(tools) => tools,
        Err(why) => return fail(Exit::Internal, &why),
    };
    let loaded = config::load(&options.document.config);
    let (deciding, problems) = snapshot::deciding(&loaded, &tools);
    let Some(deciding) = deciding.filter(|_| loaded.code() == 0) else {
        eprint!("{}", report::human(if loaded.code() == 0 { &problems } else { &loaded.problems }, &loaded.places));
        return Exit::of(if loaded.code() == 0 { Exit::Invalid as u8 } else { loaded.code() });
    };
    let merged = openapi::merged(&loaded.document, &deciding.routes);
    for sentence in &merged.left_out {
        eprintln!("{sentence}");
    }
    print(&format!("{:#}\n", merged.document))
}
