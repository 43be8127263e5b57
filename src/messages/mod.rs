//! The texts of our own answers, in the client's language; codes and logs are never translated.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The language of the answers that the gateway gives itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Languages offered to `Accept-Language`; the first serves everyone who asks for none of them.
    pub languages: Vec<String>,
    /// A directory of message files, `<language>.ftl`: each replaces or adds texts of its language.
    pub messages: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { languages: vec!["en".into(), "zh-CN".into()], messages: None }
    }
}
