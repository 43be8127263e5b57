//! The access log: one line per request, written by a thread of its own.

mod config;

pub use config::{Config, Destination, Format};
