//! What the document says of limits that several hosts count together.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Name, or_short, short_form};

/// In which store hosts count together; the bare name of a store is short for `store`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Share", transform = or_short)]
pub struct Share {
    /// An object of the section `stores`.
    pub store: Name,
}

short_form!(Share, "the name of a store, or { store: shared, .. }");

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { store: text.parse()? })
    }
}

/// What holds while the store is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfStoreDown {
    /// Each host counts for itself, to its part of the number.
    #[default]
    Local,
    /// Nothing is counted, everyone is admitted.
    Open,
    /// Nobody is admitted.
    Closed,
}

impl IfStoreDown {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
