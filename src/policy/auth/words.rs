//! One text, or several of which any will do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `orders`, or `[orders, admin]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// Only this.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

impl Words {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Any(words) => words,
        }
        .iter()
        .map(String::as_str)
    }
}
