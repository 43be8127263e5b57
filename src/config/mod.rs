//! The document: read, place, check, report.

mod de;
mod fit;
mod mishap;
mod node;
mod notes;
mod parse;
mod scalar;
mod secret;
