//! What the document says of compression: `on`, `off`, a list of codings, or all of it.
//!
//! ```yaml
//! compress: { with: [br, gzip], level: fast }
//! ```

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Coding;
use crate::problem::{Path, Problems};
use crate::units::Size;

/// Which answers are compressed, and how: `on`, `off`, a list of codings, or this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
#[schemars(rename = "Compress", transform = or_list)]
pub struct Config {
    /// The codings, the best first; a client gets the one that it prefers, and the first of equals. None is `off`.
    pub with: Vec<Coding>,
    /// How hard it is tried: `fast`, `normal`, or `small` for what is asked for often and changes seldom.
    #[serde(skip_serializing_if = "Level::is_default")]
    pub level: Level,
    /// Answers that say to be smaller stay as they are.
    pub min: Size,
    /// Media types that are compressed, e.g. `application/json`, `text/*` or `*+json`; those that usually shrink when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Box<str>>,
    /// `plain` leaves answers as they are that may bear a secret to a browser which a foreign page makes ask; `compress` does not.
    #[serde(skip_serializing_if = "Secrets::is_default")]
    pub secrets: Secrets,
}

/// How hard it is tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CompressLevel")]
pub enum Level {
    /// zstd 1, br 2, gzip 1.
    Fast,
    /// zstd 3, br 4, gzip 4.
    #[default]
    Normal,
    /// zstd 9, br 6, gzip 6.
    Small,
}

impl Level {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to answers that may bear a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CompressSecrets")]
pub enum Secrets {
    /// They stay as they are.
    #[default]
    Plain,
    /// They are compressed like others.
    Compress,
}

impl Secrets {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            with: Coding::ALL.into(),
            level: Level::default(),
            min: Size::from_bytes(1 << 10),
            types: Vec::new(),
            secrets: Secrets::default(),
        }
    }
}

impl Config {
    pub(super) fn fits(&self, at: &Path, problems: &mut Problems) {
        for (index, coding) in self.with.iter().enumerate() {
            if self.with.iter().take(index).any(|earlier| earlier == coding) {
                problems.error(at.key("with").index(index), format!("`{}` stands there twice", coding.word()));
            }
        }
        for (index, kind) in self.types.iter().enumerate() {
            let is_part = |part: &str| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
            };
            let ends = kind.strip_prefix("*+").is_some_and(is_part);
            let fits = kind.split_once('/').is_some_and(|(main, sub)| is_part(main) && (is_part(sub) || sub == "*"));
            if !fits && !ends {
                let sentence = format!("`{kind}` is not a media type, e.g. application/json, text/* or *+json");
                problems.error(at.key("types").index(index), sentence);
            }
        }
    }
}

const SAID: &str = "`on`, `off`, a list of codings (zstd, br, gzip), or { with, level, min, types, secrets }";

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SAID)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Config, E> {
                match text {
                    "on" => Ok(Config::default()),
                    "off" => Ok(Config { with: Vec::new(), ..Config::default() }),
                    _ => Err(E::custom(format!("`{text}` is not {SAID}"))),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Config, A::Error> {
                Ok(Config { with: Vec::deserialize(SeqAccessDeserializer::new(seq))?, ..Config::default() })
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

/// Adds the short forms to the schema of the long one.
fn or_list(schema: &mut schemars::Schema) {
    let description = schema.remove("description");
    let list = schema.get("properties").and_then(|keys| keys.get("with")).cloned().unwrap_or_default();
    let long = std::mem::take(schema);
    *schema = schemars::json_schema!({ "anyOf": [{ "enum": ["on", "off"] }, list, long] });
    if let Some(description) = description {
        schema.insert("description".to_owned(), description);
    }
}
