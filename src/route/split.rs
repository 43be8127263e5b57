//! Which of several pools: by weight, smoothly, without a lock.

use std::collections::BTreeMap;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Name, or_short, short_form};

/// Pools and their weights, e.g. `{ orders: 90, orders-canary: 10 }`; 0 to 1000, and 0 means never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent, remote = "Self")]
#[schemars(transform = or_short)]
pub struct To(pub BTreeMap<Name, u32>);

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(BTreeMap::from([(text.parse()?, 100)])))
    }
}

short_form!(To, "the name of a pool, or pools with their weights");
