//! A JSON Schema: compiled where it is read, without a look at any other document.

use std::fmt;
use std::path::PathBuf;

use jsonschema::{Draft, PatternOptions, Registry, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A schema in the document, or the file that holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    File(Box<str>),
    Here(serde_json::Map<String, Value>),
}

impl JsonSchema for Source {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "JsonSchemaSource".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A JSON Schema (draft 2020-12 unless it says another), or the name of a file that holds one.",
            "anyOf": [{ "type": "string" }, { "type": "object" }],
        })
    }
}

impl Source {
    /// The file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(name) => Some(PathBuf::from(&**name)),
            Self::Here(_) => None,
        }
    }

    fn read(&self) -> Result<Value, String> {
        match self {
            Self::Here(map) => Ok(Value::Object(map.clone())),
            Self::File(name) => {
                let text = std::fs::read_to_string(&**name).map_err(|why| format!("cannot read {name}: {why}"))?;
                serde_json::from_str(&text).map_err(|why| format!("{name} is not JSON: {why}"))
            }
        }
    }
}

/// A schema, compiled.
pub(super) struct Schema(Validator);

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    pub(super) fn compile(source: &Source) -> Result<Self, String> {
        let built = jsonschema::options().offline().with_pattern_options(patterns()).build(&source.read()?);
        built.map(Self).map_err(|why| format!("is not a schema that can be used: {why}"))
    }

    /// The one to which a reference leads among schemas that know each other.
    pub(super) fn within(registry: &Registry<'_>, draft: Draft, reference: &str) -> Result<Self, String> {
        let options = jsonschema::options().offline().with_draft(draft).with_registry(registry);
        let built = options.with_pattern_options(patterns()).build(&json!({ "$ref": reference }));
        built.map(Self).map_err(|why| format!("is not a schema that can be used: {why}"))
    }

    /// What is wrong where: a JSON pointer and a sentence without what the client sent.
    pub(super) fn errors(&self, body: &[u8], most: usize) -> Vec<(Box<str>, Box<str>)> {
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(why) => {
                let sentence = format!("is not JSON: line {}, column {}", why.line(), why.column());
                return vec![("#".into(), sentence.into())];
            }
        };
        let told =
            |error: jsonschema::ValidationError<'_>| (format!("#{}", error.instance_path()).into(), sentence(&error));
        self.0.iter_errors(&value).take(most).map(told).collect()
    }

    /// What is wrong with a value, without the value.
    pub(super) fn first_error(&self, value: &Value) -> Option<Box<str>> {
        self.0.validate(value).err().map(|error| sentence(&error))
    }
}

fn sentence(error: &jsonschema::ValidationError<'_>) -> Box<str> {
    error.masked().to_string().chars().take(200).collect()
}

/// Patterns are linear in time. References lead into the schema itself, or nowhere.
fn patterns() -> PatternOptions<jsonschema::Regex> {
    PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20)
}
