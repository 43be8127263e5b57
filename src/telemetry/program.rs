//! The program's own log: one line per event on standard error, its level changeable while it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much the program says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The least important message that is still written. `RUST_LOG`, when set, wins.
    pub level: Level,
}

/// How important a message is, most important first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}
