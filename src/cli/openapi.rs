//! `yumen openapi`: one `OpenAPI` document of all routes that have one, as clients see them.

use clap::Args;

use super::{Document, Exit, deciding, print};
use crate::snapshot::openapi;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
}

/// Prints the document as JSON, and on standard error what does not fit into it; the exit code is 0, or that of a document
/// that is wrong.
pub(super) fn run(options: &Options) -> Exit {
    let (loaded, deciding) = match deciding::of(&options.document) {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    let merged = openapi::merged(&loaded.document, &deciding.routes);
    for sentence in &merged.left_out {
        eprintln!("{sentence}");
    }
    print(&format!("{:#}\n", merged.document))
}
