//! Further files of the document, and what becomes of the whole when one of them is wrong.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mishap::suggestion;
use super::node::{Node, Value};
use super::notes::Notes;
use crate::problem::Path;
use crate::units::{or_short, short_form};

/// Files of a name or a pattern, e.g. `conf.d/*.yaml`, or with what holds for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(transform = or_short)]
pub struct Include {
    /// The files, relative to this one, with `*` and `?` in the last part.
    pub files: String,
    /// What becomes of a reload when one of them is wrong: `refuse`, or `keep_last`, which reads it as it last was good.
    #[serde(default)]
    pub on_error: OnError,
}

/// What becomes of a reload when a file is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nothing changes.
    #[default]
    Refuse,
    /// The file is held back: it is read as it last was good, and the others land.
    KeepLast,
}

impl FromStr for Include {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { files: text.to_owned(), on_error: OnError::Refuse })
    }
}

short_form!(Include, "the name of a file, e.g. conf.d/*.yaml, or { files, on_error }");

/// One entry of the list as it is written; what is wrong with it is said.
pub(super) fn entry(node: &Node, at: &Path, notes: &mut Notes) -> Option<Include> {
    const KEYS: [&str; 2] = ["files", "on_error"];
    let sentence = "expected the name of a file, e.g. conf.d/*.yaml";
    let map = match &node.value {
        Value::Text(files) => return files.parse().ok(),
        Value::Map(map) => map,
        _ => {
            notes.error(at.clone(), node.place, sentence);
            return None;
        }
    };
    for own in map.iter().filter(|own| !KEYS.contains(&&*own.key)) {
        let unknown = format!("unknown key. {}", suggestion(&own.key, &KEYS, "Known keys"));
        notes.error(at.key(&own.key), own.at, unknown);
    }
    let on_error = match map.get("on_error").map(|own| (own.node.text().unwrap_or_default(), own.node.place)) {
        None | Some(("refuse", _)) => OnError::Refuse,
        Some(("keep_last", _)) => OnError::KeepLast,
        Some((word, place)) => {
            let words = suggestion(word, &["refuse", "keep_last"], "Known words");
            notes.error(at.key("on_error"), place, format!("unknown word `{word}`. {words}"));
            OnError::Refuse
        }
    };
    let files = map.get("files").map(|own| &own.node);
    match files.map(|files| (&files.value, files.place)) {
        Some((Value::Text(files), _)) => Some(Include { files: files.to_string(), on_error }),
        Some((_, place)) => {
            notes.error(at.key("files"), place, sentence);
            None
        }
        None => {
            notes.error(at.clone(), node.place, "the key `files` is missing");
            None
        }
    }
}
