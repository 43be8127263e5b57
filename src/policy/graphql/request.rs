//! What a client asks for: GraphQL over HTTP, by POST with JSON or by GET with a query string.

use serde_json::{Map, Value};

use super::listed;
use crate::canonical::unescape;
use crate::policy::once::Once;

/// One of the operations that a request asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) query: Option<String>,
    pub(super) name: Option<String>,
    pub(super) variables: Map<String, Value>,
    /// The hash of a text that both sides know.
    pub(super) hash: Option<String>,
}

/// What says which operation runs, and how.
const NAMES: [&str; 5] = ["query", "operationName", "variables", "extensions", "documentId"];

/// The first of them that a query string says, however it spells it.
pub(super) fn named(query: Option<&str>) -> Option<&'static str> {
    // Some servers begin the next parameter behind a semicolon, too.
    let all = query.unwrap_or_default().split(['&', ';']);
    all.filter_map(|pair| decoded(pair.split('=').next().unwrap_or_default())).find_map(|name| meant(&name))
}

/// What a server could take a name for: in other letters, or as `variables[n]`.
fn meant(name: &str) -> Option<&'static str> {
    let name = name.split(['[', '.']).next().unwrap_or_default().trim();
    NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

fn decoded(text: &str) -> Option<String> {
    unescape(&text.replace('+', " "))
}

impl Asked {
    /// The parameters of a query string; the error is a sentence.
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, String> {
        let query = query.unwrap_or_default();
        let mut said: [Option<String>; NAMES.len()] = Default::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if let Some(hidden) = pair.split(';').skip(1).find_map(|part| named(Some(part))) {
                return Err(format!("says `{hidden}` behind a semicolon"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decoded(name) else { continue };
            let Some(known) = meant(&name) else { continue };
            let value = decoded(value).ok_or_else(|| format!("`{known}` is no text"))?;
            let place = NAMES.iter().zip(&mut said).find(|(one, _)| **one == name);
            let (_, place) = place.ok_or_else(|| format!("does not say `{known}` by that name"))?;
            if place.replace(value).is_some() {
                return Err(format!("`{known}` is there twice"));
            }
        }
        let [query, name, variables, extensions, id] = said;
        let json = |name: &str, said: Option<String>| match said {
            None => Ok(Map::new()),
            Some(text) => match serde_json::from_str(&text) {
                Ok(Once(value)) => object(name, value),
                Err(why) if why.is_data() => Err(format!("`{name}` has a key twice")),
                Err(_) => Err(format!("`{name}` is not JSON")),
            },
        };
        let (variables, extensions) = (json("variables", variables)?, json("extensions", extensions)?);
        Self::new(query, name, variables, hash(&extensions), id)
    }

    /// One value of a body; the error is a sentence.
    pub(super) fn of_value(value: &Value) -> Result<Self, String> {
        let map = value.as_object().ok_or("is no object")?;
        if let Some(known) = map.keys().find_map(|key| meant(key).filter(|known| known != key)) {
            return Err(format!("does not say `{known}` by that name"));
        }
        let text = |name: &str| match map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{name}` is no text")),
        };
        let inner = |name: &str| object(name, map.get(name).cloned().unwrap_or_default());
        let hash = hash(&inner("extensions")?);
        Self::new(text("query")?, text("operationName")?, inner("variables")?, hash, text("documentId")?)
    }

    /// What says it in several ways has to mean one text by all of them.
    fn new(
        query: Option<String>,
        name: Option<String>,
        variables: Map<String, Value>,
        hash: Option<String>,
        id: Option<String>,
    ) -> Result<Self, String> {
        if id.is_some() && (query.is_some() || hash.is_some()) {
            return Err("says by its `documentId` and by something else what is to run".to_owned());
        }
        if let (Some(text), Some(hash)) = (&query, &hash)
            && !listed::hash(text).eq_ignore_ascii_case(hash)
        {
            return Err("has a `query` and the hash of another".to_owned());
        }
        Ok(Self { query, name: name.filter(|name| !name.is_empty()), variables, hash: hash.or(id) })
    }
}

fn object(name: &str, value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        _ => Err(format!("`{name}` is no object")),
    }
}

fn hash(extensions: &Map<String, Value>) -> Option<String> {
    extensions.get("persistedQuery")?.get("sha256Hash")?.as_str().map(str::to_owned)
}

/// The body of a request with the text of a listed operation in place of its hash.
pub(super) fn put_in(value: &mut Value, text: &str) {
    let Some(map) = value.as_object_mut() else { return };
    map.insert("query".to_owned(), text.into());
    map.remove("documentId");
    if let Some(extensions) = map.get_mut("extensions").and_then(Value::as_object_mut) {
        extensions.remove("persistedQuery");
    }
}
