//! `yumen schema`: what may stand in the document, as a JSON schema for editors.

use super::{Exit, print};
use crate::config::schema;

/// Prints the schema.
pub(super) fn run() -> Exit {
    print(&format!("{:#}\n", schema::schema()))
}
