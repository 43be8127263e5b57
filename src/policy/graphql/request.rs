//! What a client asks for: GraphQL over HTTP, by POST with JSON or by GET with a query string.

use serde_json::{Map, Value};

use crate::canonical::unescape;

/// One of the operations that a request asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) query: Option<String>,
    pub(super) name: Option<String>,
    pub(super) variables: Map<String, Value>,
    /// The hash of a text that both sides know.
    pub(super) hash: Option<String>,
}

impl Asked {
    /// The parameters of a query string; the error is a sentence.
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, String> {
        let mut asked = Self::default();
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let mut seen = Vec::new();
        for (name, value) in pairs {
            let decoded = || unescape(&value.replace('+', " ")).ok_or_else(|| format!("`{name}` is no text"));
            if !["query", "operationName", "variables", "extensions"].contains(&name) {
                continue;
            }
            if seen.contains(&name) {
                return Err(format!("`{name}` is there twice"));
            }
            seen.push(name);
            let json = || serde_json::from_str::<Value>(&decoded()?).map_err(|_| format!("`{name}` is not JSON"));
            match name {
                "query" => asked.query = Some(decoded()?),
                "operationName" => asked.name = Some(decoded()?).filter(|name| !name.is_empty()),
                "variables" => asked.variables = object(name, json()?)?,
                _ => asked.hash = hash(&object(name, json()?)?),
            }
        }
        Ok(asked)
    }

    /// One value of a body; the error is a sentence.
    pub(super) fn of_value(value: &Value) -> Result<Self, String> {
        let map = value.as_object().ok_or("is no object")?;
        let text = |name: &str| match map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{name}` is no text")),
        };
        let inner = |name: &str| object(name, map.get(name).cloned().unwrap_or_default());
        Ok(Self {
            query: text("query")?,
            name: text("operationName")?.filter(|name| !name.is_empty()),
            variables: inner("variables")?,
            hash: hash(&inner("extensions")?).or(text("documentId")?),
        })
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
