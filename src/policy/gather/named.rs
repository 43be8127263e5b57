//! The settings of `gather`: calls by their names, and beside them how their results become one answer.
//!
//! ```yaml
//! gather: { a: { pool: orders, path: /a }, b: { pool: catalog, path: /b }, as: merge }
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{As, Said};
use crate::units::{Name, Size};

/// Calls by their names, and how their results become one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub calls: BTreeMap<Name, Said>,
    pub shape: Option<As>,
    pub template: Option<Box<str>>,
    pub kind: Option<Box<str>>,
    pub max: Option<Size>,
}

/// What no call can be named.
const OWN: [&str; 4] = ["as", "template", "type", "max"];

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("calls by their names, e.g. user: { pool: users, path: /users/$jwt.sub }")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut all = Config { calls: BTreeMap::new(), shape: None, template: None, kind: None, max: None };
                while let Some(key) = map.next_key::<String>()? {
                    match &*key {
                        "as" => all.shape = Some(map.next_value()?),
                        "template" => all.template = Some(map.next_value()?),
                        "type" => all.kind = Some(map.next_value()?),
                        "max" => all.max = Some(map.next_value()?),
                        name => {
                            let name = name.parse().map_err(de::Error::custom)?;
                            all.calls.insert(name, map.next_value()?);
                        }
                    }
                }
                Ok(all)
            }
        }
        from.deserialize_map(Visitor)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, call) in &self.calls {
            map.serialize_entry(name, call)?;
        }
        if let Some(shape) = &self.shape {
            map.serialize_entry("as", shape)?;
        }
        for (key, text) in [("template", &self.template), ("type", &self.kind)] {
            if let Some(text) = text {
                map.serialize_entry(key, text)?;
            }
        }
        if let Some(max) = &self.max {
            map.serialize_entry("max", max)?;
        }
        map.end()
    }
}

impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        "Gather".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (call, shape, size) =
            (generator.subschema_for::<Said>(), generator.subschema_for::<As>(), generator.subschema_for::<Size>());
        let described = |schema: Schema, text: &str| {
            let mut schema = schema;
            schema.insert("description".to_owned(), text.into());
            schema
        };
        let text = || schemars::json_schema!({ "type": "string" });
        let keys = [
            described(shape, "How the results become one answer: `object` (each under its name) or `merge`."),
            described(text(), "The answer as a template of minijinja, with each result under its name."),
            described(text(), "The content type of what the template makes; application/json when left out."),
            described(size, "Bytes of all answers together, at most; 8MiB when left out."),
        ];
        let properties: serde_json::Map<String, serde_json::Value> =
            OWN.into_iter().zip(keys).map(|(key, schema)| (key.to_owned(), schema.to_value())).collect();
        schemars::json_schema!({
            "type": "object",
            "description": "Calls by their names, and how their results become one answer.",
            "properties": properties,
            "additionalProperties": call,
            "minProperties": 1,
        })
    }
}
