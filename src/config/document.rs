//! The document: every key of the first level, and how each object of it is read on its own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::case::Case;
use super::fit::{Extent, fit};
use super::include::{self, Include};
use super::inherit::{self, AUTH, Kind, LIMITS, LISTENERS, POOLS, ROUTES, STORES};
use super::mishap::suggestion;
use super::node::{Map, Node, Value};
use super::notes::Notes;
use super::{admin, observe, runtime};
use crate::client::store;
use crate::policy::limit;
use crate::problem::Path;
use crate::units::Name;
use crate::{listener, messages, policy, pool, route};

/// A whole gateway: where it listens, what goes where, and how it is run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Yumen", deny_unknown_fields)]
pub struct Document {
    /// The version of this language: 1.
    pub version: Version,
    /// Further files, relative to this one, with `*` and `?` in the last part; a name is used once in all of them.
    #[schemars(default)]
    pub include: Vec<Include>,
    /// Where requests come in.
    pub listeners: BTreeMap<Name, listener::Config>,
    /// How often clients may ask, by name.
    #[schemars(default)]
    pub limits: BTreeMap<Name, limit::Config>,
    /// What several hosts share, by name.
    #[schemars(default)]
    pub stores: BTreeMap<Name, store::Config>,
    /// Where requests go, by name.
    #[schemars(default)]
    pub pools: BTreeMap<Name, pool::Config>,
    /// Which requests go where; their order means nothing.
    #[schemars(default)]
    pub routes: BTreeMap<Name, route::Config>,
    /// Who may come in, by name.
    #[schemars(default)]
    pub auth: BTreeMap<Name, policy::auth::Config>,
    /// What holds for every listener, pool and route that says nothing else.
    #[serde(skip_serializing)]
    #[schemars(default)]
    pub defaults: Defaults,
    /// The process itself.
    #[schemars(default)]
    pub runtime: runtime::Config,
    /// The admin listener: health, metrics, status and reload.
    #[schemars(default)]
    pub admin: admin::Config,
    /// What is told of requests and of the program itself.
    #[schemars(default)]
    pub observe: observe::Config,
    /// The language of the answers that the gateway gives itself.
    #[schemars(default)]
    pub errors: messages::Config,
    /// What must become of which requests: `check` and `test` find it out, and no reload passes that breaks one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub tests: Vec<Case>,
}

/// The version of the language; there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Version;

/// What holds for every object of a kind that says nothing else; its values go into the objects as they are read.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[allow(dead_code)]
pub struct Defaults {
    /// For every listener; all of its keys but `bind` and `like`.
    listener: Option<listener::Config>,
    /// For every pool; all of its keys but `targets` and `like`.
    pool: Option<pool::Config>,
    /// For every route; all of its keys but `match` and `like`.
    route: Option<route::Config>,
}

const KEYS: [&str; 14] = [
    "version",
    "include",
    "listeners",
    "auth",
    "limits",
    "stores",
    "pools",
    "routes",
    "defaults",
    "runtime",
    "admin",
    "observe",
    "errors",
    "tests",
];

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("version {number} is not known here; write version: 1")) }
    }
}

impl From<Version> for u64 {
    fn from(_: Version) -> Self {
        1
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "The version of this language.", "const": 1 })
    }
}

/// Reads every object of the tree on its own; the tree becomes what it means, with every default filled in.
pub(super) fn read(root: &mut Node, notes: &mut Notes) -> Document {
    known_keys(root, notes);
    let mut top = Top { root, notes };
    let mut document = Document { version: top.version(), include: top.include(), ..Document::default() };
    document.listeners = top.section(LISTENERS);
    document.limits = top.section(LIMITS);
    document.stores = top.section(STORES);
    document.pools = top.section(POOLS);
    document.routes = top.section(ROUTES);
    document.auth = top.section(AUTH);
    document.runtime = top.single("runtime");
    document.admin = top.single("admin");
    document.observe = top.single("observe");
    document.errors = top.single("errors");
    document.tests = top.tests();
    document
}

fn known_keys(root: &Node, notes: &mut Notes) {
    for entry in root.map().into_iter().flat_map(Map::iter).filter(|entry| !KEYS.contains(&&*entry.key)) {
        let sentence = format!("unknown key. {}", suggestion(&entry.key, &KEYS, "Known keys"));
        notes.error(Path::default().key(&entry.key), entry.at, sentence);
    }
    let Some(defaults) = root.get("defaults").and_then(Node::map) else { return };
    let kinds = [LISTENERS, POOLS, ROUTES];
    let known = kinds.map(|kind| kind.one);
    for entry in defaults.iter() {
        let at = Path::of(["defaults", &entry.key]);
        let Some(kind) = kinds.iter().find(|kind| kind.one == &*entry.key) else {
            let sentence = format!("unknown key. {}", suggestion(&entry.key, &known, "Known keys"));
            notes.error(at, entry.at, sentence);
            continue;
        };
        for own in entry.node.map().into_iter().flat_map(Map::iter).filter(|own| kind.own.contains(&&*own.key)) {
            let sentence = format!("belongs to each {}, it has no default", kind.one);
            notes.error(at.key(&own.key), own.at, sentence);
        }
    }
}

struct Top<'a> {
    root: &'a mut Node,
    notes: &'a mut Notes,
}

impl Top<'_> {
    fn version(&mut self) -> Version {
        let place = self.root.place;
        let Some(entry) = self.root.map_mut().and_then(|map| map.get_mut("version")) else {
            self.notes.error(Path::default(), place, "the key `version` is missing; write version: 1");
            return Version;
        };
        fit(&mut entry.node, &Path::of(["version"]), Extent::Whole, self.notes).unwrap_or_default()
    }

    /// The files that are included; reading them has said what is wrong.
    fn include(&self) -> Vec<Include> {
        let include = self.root.get("include").map(|node| &node.value);
        let Some(Value::List(items)) = include else { return Vec::new() };
        items.iter().filter_map(|node| include::entry(node, &Path::default(), &mut Notes::default())).collect()
    }

    /// The tests, each read on its own; those that are wrong are left out.
    fn tests(&mut self) -> Vec<Case> {
        let Some(entry) = self.root.map_mut().and_then(|map| map.get_mut("tests")) else { return Vec::new() };
        let at = Path::of(["tests"]);
        let Value::List(items) = &mut entry.node.value else {
            let sentence = "expected a list, e.g. [{ send: GET api.example.com/orders/7, expect: 401 auth.missing }]";
            self.notes.error(at, entry.node.place, sentence);
            return Vec::new();
        };
        let notes = &mut *self.notes;
        let read = |(index, node): (usize, &mut Node)| fit::<Case>(node, &at.index(index), Extent::Whole, notes);
        items.iter_mut().enumerate().filter_map(read).collect()
    }

    /// One object of the first level, or its default.
    fn single<T: DeserializeOwned + Default>(&mut self, key: &str) -> T {
        let Some(entry) = self.root.map_mut().and_then(|map| map.get_mut(key)) else { return T::default() };
        if matches!(entry.node.value, Value::Null) {
            entry.node.value = Value::Map(Map::default());
        }
        fit(&mut entry.node, &Path::of([key]), Extent::Whole, self.notes).unwrap_or_default()
    }

    /// The objects of a section, each completed and read on its own; those that are wrong are left out.
    fn section<T: DeserializeOwned>(&mut self, kind: Kind) -> BTreeMap<Name, T> {
        let defaults = self.defaults::<T>(kind);
        let Some(section) = self.root.map_mut().and_then(|map| map.get_mut(kind.section)) else {
            return BTreeMap::new();
        };
        let objects = match &mut section.node.value {
            Value::Map(objects) => objects,
            Value::Null => return BTreeMap::new(),
            _ => {
                let sentence = format!("expected a map of names, e.g. {}: {{ name: ... }}", kind.section);
                self.notes.error(Path::of([kind.section]), section.node.place, sentence);
                return BTreeMap::new();
            }
        };
        let mut read = BTreeMap::new();
        for (key, whole) in inherit::complete(objects, kind, defaults.as_ref(), self.notes) {
            let Some(entry) = objects.get_mut(&key) else { continue };
            let at = Path::of([kind.section, &key]);
            // What it is like could not be found, so nothing can be said to be missing.
            let extent = if whole { Extent::Whole } else { Extent::Part };
            let object = fit::<T>(&mut entry.node, &at, extent, self.notes).filter(|_| whole);
            match (key.parse::<Name>(), object) {
                (Ok(name), Some(object)) => drop(read.insert(name, object)),
                (Err(sentence), _) => self.notes.error(at, entry.at, sentence),
                (Ok(_), None) => {}
            }
        }
        read
    }

    /// What `defaults` says of a kind, checked whether or not an object takes it over; what is wrong is left out.
    fn defaults<T: DeserializeOwned>(&mut self, kind: Kind) -> Option<Node> {
        let defaults = &mut self.root.map_mut()?.get_mut("defaults")?.node;
        let at = Path::of(["defaults", kind.one]);
        let place = defaults.place;
        let Some(map) = defaults.map_mut() else {
            let sentence = "expected a map, e.g. defaults: { pool: { timeout: { connect: 1s } } }";
            self.notes.error(Path::of(["defaults"]), place, sentence);
            return None;
        };
        let node = &mut map.get_mut(kind.one)?.node;
        if !matches!(node.value, Value::Map(_)) {
            self.notes.error(at, node.place, format!("expected a map with keys of a {}", kind.one));
            return None;
        }
        let map = node.map_mut()?;
        for own in kind.own {
            map.take(own);
        }
        fit::<T>(node, &at, Extent::Part, self.notes);
        Some(node.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Loaded;
    use super::*;
    use crate::units::Duration;

    #[test]
    fn defaults_reach_every_kind_of_object() {
        let text = "\
version: 1
defaults:
  listener: { timeout: { head: 3s }, tls: { tickets: false } }
  pool: { timeout: { connect: 4s } }
  route: { timeout: { idle: 5s } }
listeners:
  web: { bind: 80 }
  edge: { bind: 443, tls: { certs: [] } }
pools: { app: [127.0.0.1:80] }
routes: { all: { match: /*, to: app } }
";
        let document = Loaded::from_text("y", text).document;
        let name = |name: &str| name.parse::<Name>().unwrap();
        let edge = document.listeners.get(&name("edge")).unwrap();
        assert_eq!(edge.timeout.head, Duration::from_secs(3));
        assert!(edge.tls.as_ref().is_some_and(|tls| !tls.tickets));
        assert_eq!(document.pools.get(&name("app")).unwrap().timeout.connect, Duration::from_secs(4));
        assert_eq!(document.routes.get(&name("all")).unwrap().timeout.idle, Some(Duration::from_secs(5)));
    }
}
