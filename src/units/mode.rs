//! Whether a decision holds, or is only watched: `mode: shadow`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether what a guard decides holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// What is refused goes no further.
    #[default]
    Enforce,
    /// What would be refused is counted and logged, and goes on.
    Shadow,
}

impl Mode {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
