//! One description of all routes that have one: what clients see of them, as one `OpenAPI` document.

mod exposed;
mod merge;
mod refs;
mod security;
mod upgrade;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::merge::Merge;
use crate::config::Document;
use crate::policy::validate::Described;
use crate::route::Route;

/// The document, and what it leaves out because it does not fit.
pub struct Merged {
    pub document: Value,
    pub left_out: Vec<String>,
}

/// What serves, in one document; `routes` are those that `document` was compiled to.
pub fn merged(document: &Document, routes: &[Arc<Route>]) -> Merged {
    let parts: Vec<(&Route, Described<'_>)> =
        routes.iter().filter_map(|route| Some((&**route, route.guards.as_deref()?.described()?))).collect();
    let is_new =
        |said: &Value| said.get("openapi").and_then(Value::as_str).is_some_and(|version| version.starts_with("3.1"));
    let certificates = document.auth.values().any(|auth| auth.certificate.is_some());
    // What only the new version can say needs the new version.
    let new = certificates || parts.iter().any(|(_, said)| is_new(said.document));
    let tls = document.listeners.values().any(|listener| listener.tls.is_some());
    let mut merge = Merge::new(if tls { "https" } else { "http" });
    for (route, said) in &parts {
        let mut whole = Value::clone(said.document);
        if new && !is_new(&whole) {
            upgrade::upgrade(&mut whole);
        }
        let auth = document.routes.get(&route.name).and_then(|config| config.auth.as_ref());
        let asked = security::of(&route.name, auth, document, &mut merge.schemes);
        merge.add(route, &whole, said.bases, asked.as_ref());
    }
    let version = if new { "3.1.0" } else { "3.0.3" };
    let (mut rest, left_out) = merge.finish();
    let mut whole = Map::new();
    whole.insert("openapi".to_owned(), version.into());
    whole.insert("info".to_owned(), info(&parts));
    whole.append(&mut rest);
    Merged { document: Value::Object(whole), left_out }
}

/// The titles and versions of all of them.
fn info(parts: &[(&Route, Described<'_>)]) -> Value {
    let said = |key: &str| {
        let all: BTreeSet<&str> =
            parts.iter().filter_map(|(_, said)| said.document.get("info")?.get(key)?.as_str()).collect();
        all.into_iter().collect::<Vec<_>>().join(", ")
    };
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    json!({ "title": or(said("title"), "No route has a description"), "version": or(said("version"), "-") })
}
