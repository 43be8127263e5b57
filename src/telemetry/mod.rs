//! What the gateway tells the outside: metrics, access log, trace context and its own log.

pub mod access;
pub mod clock;
pub mod counted;
pub mod metrics;
pub mod program;
pub mod random;
pub mod recent;
pub mod trace;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is told of requests and of the program itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The program's own log, on standard error.
    pub log: program::Config,
    /// One line for each request.
    pub access_log: access::Config,
}
