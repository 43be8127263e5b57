//! Where requests go: a pool is a set of targets, watched and balanced.
//!
//! ```yaml
//! pools:
//!   catalog: [10.0.1.11:8080]
//!   orders:
//!     targets: [10.0.0.11:8080, { at: 10.0.0.12:8080, weight: 2 }]
//!     balance: least_requests
//!     health: { http: /healthz, every: 5s, down_after: 3, up_after: 2 }
//! ```

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::{Duration, Name};

pub mod balance;
pub mod health;
pub mod target;
pub mod timeout;
pub mod tls;

pub use timeout::Timeout;

/// A set of targets and how they are used; a list of addresses is a pool with every setting at its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
#[schemars(rename = "Pool", transform = also_a_list)]
pub struct Config {
    /// Another pool whose settings hold where this one says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<Name>,
    /// Where requests go: addresses, each with an optional weight.
    pub targets: Vec<target::Config>,
    /// What is spoken with the targets.
    pub protocol: Protocol,
    /// TLS towards the targets; plain when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Config>,
    /// How requests are spread over the targets.
    pub balance: balance::Config,
    /// How targets are asked whether they can serve; never asked, and always taken for up, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<health::Config>,
    /// How long each step towards a target may take.
    pub timeout: timeout::Config,
    /// Connections kept open between requests.
    pub keep_alive: KeepAlive,
}

/// What is spoken with the targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "PoolProtocol")]
pub enum Protocol {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    H1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// Connections kept open between requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolKeepAlive")]
pub struct KeepAlive {
    /// How long an unused connection is kept; shorter than the target's own limit avoids requests on dying connections.
    pub idle: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60) }
    }
}

fn also_a_list(long: &mut schemars::Schema) {
    let description = "A list of addresses, or a map with targets and how they are used.";
    let items = long.pointer("/properties/targets/items").cloned().unwrap_or_else(|| true.into());
    let short = serde_json::json!({ "type": "array", "items": items, "minItems": 1 });
    *long = schemars::json_schema!({ "description": description, "anyOf": [short, long.clone()] });
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses, e.g. [10.0.0.5:8080], or a map with `targets`")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Config, A::Error> {
                let targets = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(Config { targets, ..Config::default() })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Config, String> {
        serde_yaml::from_str(yaml).map_err(|why| why.to_string())
    }

    #[test]
    fn short_and_long_forms_are_the_same() {
        let long = "targets: [{ at: 10.0.0.1:80 }, { at: app:80, weight: 1 }]";
        assert_eq!(read("[10.0.0.1:80, app:80]").unwrap(), read(long).unwrap());
        let there = read(
            "{ targets: [app:80], balance: hash(cookie.s), protocol: h2c, health: { http: /, status: [200, 300..310] } }",
        );
        let there = there.unwrap();
        assert_eq!(read(&serde_yaml::to_string(&there).unwrap()).unwrap(), there);
    }

    #[test]
    fn refuses_unknown_keys_and_words() {
        assert!(read("{ targets: [a:1], ballance: random }").unwrap_err().contains("ballance"));
        assert!(read("{ targets: [{ at: a:1, wieght: 1 }] }").unwrap_err().contains("wieght"));
        assert!(read("{ targets: [a:1], balance: least_request }").unwrap_err().contains("mean `least_requests`?"));
        assert!(read("[8080]").unwrap_err().contains("`8080` needs a host"));
    }

    #[test]
    fn every_field_is_described() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        let undescribed = |definition: &serde_json::Value| {
            let fields = definition["properties"].as_object().cloned().unwrap_or_default();
            fields.into_iter().filter(|(_, field)| field.get("description").is_none()).map(|(name, _)| name).collect()
        };
        let long: Vec<String> = undescribed(&schema["anyOf"][1]);
        assert!(long.is_empty(), "{long:?}");
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            let fields: Vec<String> = undescribed(definition);
            assert!(fields.is_empty(), "{name}: {fields:?}");
        }
    }
}
