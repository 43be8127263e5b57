//! What a document means, flat: each object with every value that holds for it, whichever way it was written.
//!
//! A secret and the content of a file stand here only as marks under a key that was made for one comparison.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::seals::{Seals, hex};
use super::super::{Document, secret};

/// The sections of named objects with what one of them is called, in the order in which a diff tells of them.
pub(super) const SECTIONS: [(&str, &str); 6] = [
    ("listeners", "listener"),
    ("routes", "route"),
    ("pools", "pool"),
    ("limits", "limit"),
    ("auth", "auth"),
    ("stores", "store"),
];
/// What there is once.
pub(super) const SINGLES: [&str; 4] = ["runtime", "admin", "observe", "errors"];
/// Lists whose order means nothing.
const SETS: [&str; 12] =
    ["allow", "certs", "deny", "dns", "headers", "hosts", "match", "methods", "on", "origins", "protocols", "trust"];
/// Keys that name the elements of a list of maps.
const NAMES: [&str; 2] = ["at", "cert"];

/// Every object of a document, by section and name; what there is once has no name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Effective(pub(super) BTreeMap<String, BTreeMap<String, Object>>);

/// Its values by the keys that lead to them.
pub(super) type Object = Vec<(Vec<String>, Leaf)>;

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Leaf {
    Text(String),
    List(Vec<String>),
    /// What it is like without being it.
    Secret(String),
    /// The name of a file, and what its content is like.
    File(String, String),
}

/// A document that is compared with what serves, as it is sent there: neither side tells the other a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Under which it was marked.
    pub nonce: Nonce,
    /// What it means.
    pub effective: Effective,
}

/// A key for the marks of one comparison.
#[derive(Serialize, Deserialize, Clone)]
#[serde(transparent)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// The error is a sentence.
    pub fn new() -> Result<Self, String> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "there is no randomness on this machine".to_owned())?;
        Ok(Self(bytes))
    }
}

impl Effective {
    /// `seals` are of the files that the document names. Two documents can be compared that were marked alike.
    pub fn of(document: &Document, base: &Path, seals: &Seals, nonce: &Nonce) -> Self {
        let base = &std::path::absolute(base).unwrap_or_default();
        let flat = Flat { base, seals, key: hmac::Key::new(hmac::HMAC_SHA256, &nonce.0) };
        let Ok(Value::Object(mut whole)) = serde_json::to_value(document) else { return Self::default() };
        let mut sections = BTreeMap::new();
        for (section, _) in SECTIONS {
            let Some(Value::Object(objects)) = whole.remove(section) else { continue };
            let objects = objects.into_iter().map(|(name, value)| {
                let flat = flat.object(section, value);
                (name, flat)
            });
            sections.insert(section.to_owned(), objects.collect());
        }
        for single in SINGLES {
            let Some(value) = whole.remove(single) else { continue };
            sections.insert(single.to_owned(), BTreeMap::from([(String::new(), flat.object(single, value))]));
        }
        Self(sections)
    }
}

/// How values become leaves.
struct Flat<'a> {
    /// The directory of the document: files are named from there.
    base: &'a Path,
    seals: &'a Seals,
    key: hmac::Key,
}

impl Flat<'_> {
    fn object(&self, section: &str, mut value: Value) -> Object {
        let mut object = Object::new();
        if let Value::Object(map) = &mut value {
            map.remove("like");
            if section == "routes" {
                map.get_mut("to").into_iter().for_each(percent);
                map.remove("match").into_iter().for_each(|matches| self.matches(matches, &mut object));
            }
        }
        self.flatten(value, &mut Vec::new(), &mut object);
        object.sort_by(|(a, _), (b, _)| a.cmp(b));
        object
    }

    /// All matches as one value, their conditions below it.
    fn matches(&self, matches: Value, into: &mut Object) {
        let all = if let Value::Array(all) = matches { all } else { vec![matches] };
        let mut texts = Vec::with_capacity(all.len());
        for mut one in all {
            let text = short(&mut one);
            self.flatten(one, &mut vec!["match".to_owned(), text.clone()], into);
            texts.push(text);
        }
        texts.sort();
        into.push((vec!["match".to_owned()], Leaf::Text(texts.join(" or "))));
    }

    fn flatten(&self, value: Value, at: &mut Vec<String>, into: &mut Object) {
        match value {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    at.push(key);
                    self.flatten(value, at, into);
                    at.pop();
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for item in items {
                    at.push(name(&item));
                    self.flatten(item, at, into);
                    at.pop();
                }
            }
            Value::Array(items) => self.list(&items, at, into),
            scalar => into.push((at.clone(), self.leaf(&scalar, at))),
        }
    }

    /// A list of one is as good as the one; an empty one says nothing.
    fn list(&self, items: &[Value], at: &[String], into: &mut Object) {
        let mut texts: Vec<String> = items.iter().map(text).collect();
        if at.last().is_some_and(|key| SETS.contains(&key.as_str())) {
            texts.sort();
        }
        let leaf = match items {
            [] => return,
            [one] => self.leaf(one, at),
            _ if is_secret(at) => Leaf::Secret(self.mark(texts.join("\0").as_bytes())),
            _ => Leaf::List(texts),
        };
        into.push((at.to_vec(), leaf));
    }

    fn leaf(&self, value: &Value, at: &[String]) -> Leaf {
        let text = text(value);
        let path = Path::new(text.strip_prefix("file:").unwrap_or(&text));
        if let Some(content) = self.content(path, at) {
            let whole = std::path::absolute(path).unwrap_or_default();
            let short = whole.strip_prefix(self.base).unwrap_or(&whole);
            return Leaf::File(text.replacen(&*path.to_string_lossy(), &short.to_string_lossy(), 1), content);
        }
        let hidden = is_secret(at) && value.is_string() && !secret::is_reference(&text);
        if hidden || has_password(&text) { Leaf::Secret(self.mark(text.as_bytes())) } else { Leaf::Text(text) }
    }

    /// A mark of what lies in a file, or in the files of the directory with texts of one's own.
    fn content(&self, path: &Path, at: &[String]) -> Option<String> {
        if let Some(seal) = self.seals.get(path) {
            return Some(seal.map_or(String::new(), |seal| self.mark(seal)));
        }
        let directory = at.last().is_some_and(|key| key == "messages");
        let below = self.seals.iter().filter(|(file, _)| directory && file.parent() == Some(path));
        let all: Vec<u8> = below.filter_map(|(_, seal)| seal).flatten().copied().collect();
        (!all.is_empty()).then(|| self.mark(&all))
    }

    fn mark(&self, bytes: &[u8]) -> String {
        hex(hmac::sign(&self.key, bytes).as_ref().get(..16).unwrap_or_default())
    }
}

/// Weights as shares of all of them.
fn percent(to: &mut Value) {
    let Value::Object(pools) = to else { return };
    let all: f64 = pools.values().filter_map(Value::as_f64).sum();
    for weight in pools.values_mut() {
        let share = weight.as_f64().unwrap_or_default() * 100.0 / all.max(1.0);
        *weight = Value::String(format!("{} %", (share * 100.0).round() / 100.0));
    }
}

/// What a match says of method, host and path; the conditions stay.
fn short(one: &mut Value) -> String {
    let Value::Object(map) = one else { return text(one) };
    let mut said = |key: &str| map.remove(key).map(|value| text(&value)).unwrap_or_default();
    let (host, path, regex) = (said("host"), said("path"), said("regex"));
    let methods = match map.remove("methods") {
        Some(Value::Array(methods)) => methods.iter().map(text).collect::<Vec<_>>().join(",") + " ",
        _ => String::new(),
    };
    let host = if host == "*" { "" } else { &host };
    let any = if path.is_empty() && regex.is_empty() { "/*" } else { "" };
    format!("{methods}{host}{path}{regex}{any}")
}

/// What an element of a list is known by.
fn name(item: &Value) -> String {
    NAMES.iter().find_map(|key| item.get(*key)).map_or_else(|| text(item), text)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a key on the way says so; the names of pools are none.
fn is_secret(at: &[String]) -> bool {
    at.first().is_none_or(|key| key != "to") && at.iter().any(|key| secret::is_secret(key))
}

/// Whether a URL has a password in it.
fn has_password(text: &str) -> bool {
    let authority = text.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    authority.is_some_and(|authority| authority.contains('@'))
}
