//! Answers by itself, always the same.
//!
//! ```yaml
//! respond: 204
//! respond: { status: 200, type: application/json, body: '{"ok":true}' }
//! ```

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{or_short, short_form};

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "Respond", transform = or_short)]
pub struct Config {
    /// 200 to 599.
    #[serde(default = "ok")]
    pub status: u16,
    /// The text of the answer.
    #[serde(default)]
    pub body: Box<str>,
    /// Its content type.
    #[serde(default = "plain", rename = "type")]
    pub kind: Box<str>,
}

fn ok() -> u16 {
    200
}

fn plain() -> Box<str> {
    "text/plain; charset=utf-8".into()
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let status = text.parse().map_err(|_| format!("`{text}` is not a status, e.g. 204"))?;
        Ok(Self { status, body: Box::default(), kind: plain() })
    }
}

short_form!(Config, "a status, or { status, body, type }");
