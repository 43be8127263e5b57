//! Which of a route's requests are told of as traces.
//!
//! ```yaml
//! trace: { sample: 1% }
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::telemetry::trace::Rate;
use crate::units::Share;

/// Which of a route's requests are told of as traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RouteTrace")]
pub struct Config {
    /// The share of the traces that begin here and are kept, in place of that of `observe.traces`.
    pub sample: Share,
}

/// The same, decided once.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub share: Share,
    pub rate: Rate,
}

impl From<&Config> for Sample {
    fn from(config: &Config) -> Self {
        Self { share: config.sample, rate: Rate::of(config.sample) }
    }
}
