//! One file for each verb of the command line.

pub mod check;
pub mod schema;
pub mod show;
