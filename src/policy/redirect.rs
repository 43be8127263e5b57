//! Sends the client elsewhere.
//!
//! ```yaml
//! redirect: https                                             # the same, over TLS
//! redirect: { to: "https://new.example.com/x/:id", status: 302 }
//! ```

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{or_short, short_form};

/// Where the client is sent; the query is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "Redirect", transform = or_short)]
pub struct Config {
    /// `https`, a path, or an URL; `:name` and `*` stand for parts of the match, no path keeps the path.
    pub to: Box<str>,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { to: text.into(), status: permanent() })
    }
}

short_form!(Config, "`https`, a path or an URL, or { to, status }");
