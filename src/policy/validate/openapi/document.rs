//! An `OpenAPI` 3 document as it was read: its parts by their JSON pointers, with references followed.

use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use jsonschema::{Draft, Registry};
use serde_json::{Map, Value};

use super::{dialect, fields};
use crate::policy::validate::schema::Schema;

/// The name of the document among schemas.
const URI: &str = "urn:yumen:openapi";
/// References that lead to references, at most.
const DEEPEST: usize = 16;
/// No description that people write is larger.
const LARGEST: u64 = 16 << 20;

/// A document whose schemas are in the words of JSON Schema.
pub(super) struct Document {
    /// As the file has it.
    pub(super) said: Arc<Value>,
    /// Fields that there are not: whether that may be, and a sentence.
    pub(super) strange: Vec<(bool, String)>,
    root: Value,
    draft: Draft,
}

impl Document {
    /// JSON or YAML; a sentence where it is not `OpenAPI` 3.0 or 3.1.
    pub(super) fn read(file: &str) -> Result<Self, String> {
        let size = fs::metadata(file).map_err(|why| format!("cannot read {file}: {why}"))?.len();
        if size > LARGEST {
            return Err(format!("{file} has {size} bytes; {LARGEST} are the most"));
        }
        let text = fs::read_to_string(file).map_err(|why| format!("cannot read {file}: {why}"))?;
        let mut root = parse(&text).map_err(|why| format!("{file}: {why}"))?;
        let version = root.get("openapi").and_then(Value::as_str).unwrap_or_default();
        let draft = match version.get(..4) {
            Some("3.0.") => Draft::Draft4,
            Some("3.1.") => Draft::Draft202012,
            _ => return Err(format!("{file} is no OpenAPI document of version 3.0 or 3.1")),
        };
        let strange = fields::unknown(&root, u8::from(draft != Draft::Draft4));
        let strange = strange.iter().map(|one| (one.allowed, one.told(file, &text))).collect();
        let said = Arc::new(root.clone());
        dialect::translate(&mut root, draft == Draft::Draft4);
        Ok(Self { said, strange, root, draft })
    }

    pub(super) fn root(&self) -> At<'_> {
        At { root: &self.root, value: &self.root, pointer: String::new() }
    }

    /// Where schemas find each other.
    pub(super) fn registry(&self) -> Result<Registry<'_>, String> {
        let registry = Registry::new().draft(self.draft).add(URI, &self.root).map_err(|why| why.to_string())?;
        registry.prepare().map_err(|why| why.to_string())
    }

    pub(super) fn schema(&self, at: &At<'_>, registry: &Registry<'_>) -> Result<Schema, String> {
        let reference = format!("{URI}#{}", at.pointer);
        Schema::within(registry, self.draft, &reference).map_err(|why| format!("{at}: {why}"))
    }
}

fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|why| why.to_string())?;
    plain(value)
}

/// YAML as JSON: statuses are numbers in YAML and names in JSON.
fn plain(value: serde_yaml::Value) -> Result<Value, String> {
    use serde_yaml::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(word) => word.into(),
        Yaml::Number(number) => serde_json::to_value(number).map_err(|why| why.to_string())?,
        Yaml::String(text) => text.into(),
        Yaml::Sequence(items) => items.into_iter().map(plain).collect::<Result<_, _>>()?,
        Yaml::Mapping(map) => {
            let named = |(name, value)| {
                let name = match name {
                    Yaml::String(name) => name,
                    Yaml::Number(number) => number.to_string(),
                    Yaml::Bool(word) => word.to_string(),
                    _ => return Err("a key is no text".to_owned()),
                };
                Ok((name, plain(value)?))
            };
            map.into_iter().map(named).collect::<Result<Map<_, _>, _>>()?.into()
        }
        Yaml::Tagged(tagged) => plain(tagged.value)?,
    })
}

/// One place in the document.
#[derive(Clone)]
pub(super) struct At<'d> {
    root: &'d Value,
    pub(super) value: &'d Value,
    /// As it stands in a reference: escaped for JSON pointers, then for URIs.
    pointer: String,
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.pointer)
    }
}

impl<'d> At<'d> {
    /// What lies under a name; nothing where it does not.
    pub(super) fn key(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        Some(Self { root: self.root, value, pointer: format!("{}/{}", self.pointer, escaped(name)) })
    }

    pub(super) fn text(&self, name: &str) -> Option<&'d str> {
        self.value.get(name)?.as_str()
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.value.get(name).is_some_and(|value| *value == Value::Bool(true))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'d str, Self)> {
        let map = self.value.as_object().into_iter().flatten();
        map.filter_map(|(name, _)| Some((name.as_str(), self.key(name)?)))
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Self> {
        self.value.as_array().into_iter().flatten().enumerate().map(|(index, value)| Self {
            root: self.root,
            value,
            pointer: format!("{}/{index}", self.pointer),
        })
    }

    /// Where a `$ref` leads, or the place itself.
    pub(super) fn follow(&self) -> Result<Self, String> {
        let mut at = self.clone();
        for _ in 0..DEEPEST {
            let Some(reference) = at.text("$ref") else { return Ok(at) };
            let lost = || format!("{self}: `{reference}` leads nowhere in this document");
            let pointer = reference.strip_prefix('#').ok_or_else(lost)?;
            let plain = crate::canonical::unescape(pointer).ok_or_else(lost)?;
            at = Self { root: self.root, value: self.root.pointer(&plain).ok_or_else(lost)?, pointer: pointer.into() };
        }
        Err(format!("{self}: too many references one after the other"))
    }
}

pub(super) fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'~' => out.push_str("~0"),
            b'/' => out.push_str("~1"),
            b'-' | b'.' | b'_' => out.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            // Writing into memory cannot fail.
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}
