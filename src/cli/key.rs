//! `yumen key new NAME`: a key for a consumer, and the line with its hash for the file of an `auth`.

use clap::Subcommand;

use super::{Exit, fail, print};
use crate::policy::auth::api_key;
use crate::units::Name;

/// What to do about keys.
#[derive(Subcommand, Debug)]
pub(super) enum Deed {
    /// Print a new key for a consumer, and the line with its hash for the file.
    New {
        /// The name of the consumer.
        name: Name,
    },
}

/// Prints both; the key is shown this once and kept nowhere.
pub(super) fn run(deed: &Deed) -> Exit {
    let Deed::New { name } = deed;
    match api_key::generate() {
        Some((key, hash)) => print(&format!("key:   {key}\nline:  {name}: {{ hash: \"{hash}\" }}\n")),
        None => fail(Exit::Internal, "this machine has no randomness to make a key of"),
    }
}
