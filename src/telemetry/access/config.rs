//! Where access lines go and what they look like.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// One line for each request, once it has ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where lines go: `stdout`, `stderr`, `off` or `file:/path`.
    pub to: Destination,
    /// What a line looks like: one JSON object, or Apache's combined format.
    pub format: Format,
    /// Whether lines show the query of the request; off because queries carry tokens and names.
    pub query: bool,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line, every field.
    #[default]
    Json,
    /// Apache's combined format.
    Combined,
}

/// Where lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Destination {
    #[default]
    Stdout,
    Stderr,
    Off,
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            "off" => Ok(Self::Off),
            _ => match text.strip_prefix("file:") {
                Some(path) if path.starts_with('/') && !path.ends_with('/') => Ok(Self::File(path.into())),
                Some(path) => {
                    Err(format!("`file:{path}` needs the absolute path of a file, e.g. file:/var/log/yumen/access.log"))
                }
                None => {
                    let near = crate::problem::nearest(text, ["stdout", "stderr", "off"]);
                    let near = near.map(|word| format!(", did you mean `{word}`?")).unwrap_or_default();
                    Err(format!("`{text}` is not one of stdout, stderr, off or file:/path{near}"))
                }
            },
        }
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Destination;
            // Naming `off` tells the reader of the document that the word is meant here, without quotes.
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("stdout, stderr, off or file:/path")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Destination, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Visitor)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::Off => f.write_str("off"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl JsonSchema for Destination {
    fn schema_name() -> Cow<'static, str> {
        "Destination".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Where lines go: `stdout`, `stderr`, `off` or `file:/path`.",
            "pattern": "^(stdout|stderr|off|file:/.*[^/])$",
            "examples": ["stdout", "file:/var/log/yumen/access.log"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for text in ["stdout", "stderr", "off", "file:/var/log/access.log"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn says_what_would_be_right() {
        assert!("file:log".parse::<Destination>().unwrap_err().contains("absolute path"));
        assert!("stdot".parse::<Destination>().unwrap_err().ends_with("did you mean `stdout`?"));
        assert!("/var/log/x".parse::<Destination>().is_err());
    }

    #[test]
    fn an_empty_document_is_the_default() {
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        let config: Config = serde_json::from_str(r#"{ "to": "off", "format": "combined", "query": true }"#).unwrap();
        assert_eq!(config, Config { to: Destination::Off, format: Format::Combined, query: true });
        assert!(serde_json::from_str::<Config>(r#"{ "path": "x" }"#).is_err());
    }
}
