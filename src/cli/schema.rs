//! `yumen schema`: the JSON schema of the document, for editors.

use std::io::Write;

use crate::config::schema;

/// Prints the schema; the exit code is 0.
pub fn run() -> u8 {
    let _ = std::io::stdout().write_all(format!("{:#}\n", schema::schema()).as_bytes());
    0
}
