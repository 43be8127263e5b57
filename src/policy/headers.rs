//! Sets, adds and removes header fields of the request or of the response.
//!
//! ```yaml
//! request:
//!   set: { x-tenant: acme, authorization: file:/run/credentials/yumen/orders }
//!   remove: [x-debug]
//! response:
//!   add: { cache-control: no-store }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Text;

/// What happens to the header fields: first `remove`, then `set`, then `add`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Fields")]
pub struct Config {
    /// Fields that get this one value, whatever they had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<Field, Text>,
    /// Fields that get this value beside those that they have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<Field, Text>,
    /// Fields that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Field>,
}

impl Config {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// The name of a header field that a route may change, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(Box<str>);

/// Framing and connection belong to the gateway: a route that changed them could smuggle.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

impl Field {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = http::HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| format!("`{text}` is not the name of a header field"))?;
        match name.as_str() {
            "host" => Err("the field `host` is set by the route's key `host`".to_owned()),
            ours if OURS.contains(&ours) => {
                Err(format!("the field `{ours}` belongs to the gateway and cannot be changed"))
            }
            name => Ok(Self(name.into())),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::units::scalar!(Field, "the name of a header field", example "x-tenant",
    bare number |n| n.to_string().parse(),
    "The name of a header field; those of framing and connection cannot be changed.");
