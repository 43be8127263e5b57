//! Where the addresses of targets come from when the document does not name them.

mod dns;

pub(super) use dns::{Change, Lookup, Resolver};
