//! Conditions on a request beside its host and path.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::Regex;
use crate::units::{or_short, short_form};

/// What a header, query parameter or cookie has to be; exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(transform = or_short)]
pub struct Condition {
    /// Exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Box<str>>,
    /// There at all, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Like this, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Regex>,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { is: Some(text.into()), ..Self::default() })
    }
}

short_form!(Condition, "a text, or one of { is }, { present } and { regex }");
