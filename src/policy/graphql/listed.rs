//! The operations that may run, by their hash.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};

use super::document;

/// Tokens of a listed operation, at most: the list is the operator's own.
const MOST_TOKENS: usize = 50_000;
/// Operations of one list, at most.
const MOST: usize = 10_000;

/// What may run.
#[derive(Debug, Default)]
pub(super) struct Listed {
    texts: Vec<(Box<str>, Box<str>)>,
    /// By SHA-256 and by the id that the list gives.
    by_hash: HashMap<Box<str>, usize>,
}

impl Listed {
    /// A map of ids and operations, or a manifest as Apollo's tools write it; the error is a sentence.
    pub(super) fn read(file: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|why| format!("cannot read {file}: {why}"))?;
        let value: Value = serde_json::from_str(&text).map_err(|why| format!("{file} is not JSON: {why}"))?;
        let mut listed = Self::default();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        match (value.get("operations").and_then(Value::as_array), value.as_object()) {
            (Some(operations), _) => {
                for (at, operation) in operations.iter().enumerate() {
                    let body = text(operation.get("body"));
                    let body = body.ok_or_else(|| format!("{file}: operation {} has no `body`", at + 1))?;
                    listed.add(file, &text(operation.get("id")).unwrap_or_default(), &body)?;
                }
            }
            (None, Some(map)) => {
                for (id, body) in map {
                    let body = body.as_str().ok_or_else(|| format!("{file}: `{id}` is no text"))?;
                    listed.add(file, id, body)?;
                }
            }
            _ => return Err(format!("{file} is neither a map of operations nor a manifest")),
        }
        Ok(listed)
    }

    fn add(&mut self, file: &str, id: &str, body: &str) -> Result<(), String> {
        let wrong = |why: &str| format!("{file}: `{id}` {why}");
        if self.texts.len() >= MOST {
            return Err(format!("{file} has more than {MOST} operations"));
        }
        let operation = document::measure(body, None, &Map::new(), MOST_TOKENS, &HashMap::new());
        let name = operation.map_err(|why| wrong(&why))?.name.ok_or_else(|| wrong("has no name"))?;
        let at = self.texts.len();
        self.texts.push((name.into(), body.into()));
        for key in [hash(body), id.to_ascii_lowercase()] {
            if self.by_hash.insert(key.into(), at).is_some_and(|other| other != at) {
                return Err(wrong("stands there twice"));
            }
        }
        Ok(())
    }

    /// The name and the text of this hash.
    pub(super) fn get(&self, hash: &str) -> Option<(&str, &str)> {
        let at = self.by_hash.get(hash.to_ascii_lowercase().as_str())?;
        self.texts.get(*at).map(|(name, text)| (&**name, &**text))
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn hash(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        hex.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or_default()));
        hex
    })
}
