//! What is told of requests and of the program itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::otlp;
use crate::telemetry::{access, program};

/// What is told of requests and of the program itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The program's own log, on standard error.
    pub log: program::Config,
    /// One line for each request.
    pub access_log: access::Config,
    /// The way of each request, as spans for a receiver that speaks OTLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<otlp::Config>,
}
