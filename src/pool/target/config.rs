//! What the document says of a target.
//!
//! ```yaml
//! targets: [10.0.0.5:8080, { at: app.internal:8080, weight: 2 }, { at: 10.0.1.5:8080, backup: true }]
//! ```

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::Address;

/// The largest weight of a target.
pub const MAX_WEIGHT: u16 = 1000;

/// Where requests may go: an address, or an address with its weight and priority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "PoolTarget", transform = also_an_address)]
pub struct Config {
    /// The address: IP and port, host name and port, or `unix:/path`.
    pub at: Address,
    /// Its share of the requests against the other targets, 1 to 1000; 0 drains it: no new requests.
    #[serde(default = "one")]
    #[schemars(range(max = 1000))]
    pub weight: u16,
    /// Which group it belongs to: 0 is used first, a higher one when the ones before it have nobody left, or too few by
    /// the pool's `panic_below`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// Used only when the others cannot: the same as `priority: 1`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
}

impl From<Address> for Config {
    fn from(at: Address) -> Self {
        Self { at, weight: 1, priority: 0, backup: false }
    }
}

impl Config {
    /// The group that it belongs to.
    pub(in crate::pool) fn group(&self) -> u8 {
        if self.backup { 1 } else { self.priority }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(priority: &u8) -> bool {
    *priority == 0
}

fn one() -> u16 {
    1
}

fn also_an_address(long: &mut schemars::Schema) {
    let description = "An address, or an address with its weight and priority.";
    let short = serde_json::json!({ "type": "string", "examples": ["10.0.0.5:8080"] });
    *long = schemars::json_schema!({ "description": description, "anyOf": [short, long.clone()] });
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, e.g. 10.0.0.5:8080, or { at: 10.0.0.5:8080, weight: 2 }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Config, E> {
                text.parse::<Address>().map(Config::from).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, port: u64) -> Result<Config, E> {
                Err(E::custom(format!("`{port}` needs a host, e.g. 127.0.0.1:{port}")))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                Config::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}
