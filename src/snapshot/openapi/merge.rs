//! Descriptions put together: operations by path and method, parts under names of their own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::exposed::{described, servers};
use super::refs::{self, Part};
use super::security::Schemes;
use crate::route::Route;

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// A document in the making.
pub(super) struct Merge {
    scheme: &'static str,
    /// What routes ask of clients.
    pub(super) schemes: Schemes,
    paths: BTreeMap<String, Map<String, Value>>,
    /// By path without the names of its parameters: with which names it stands in `paths`.
    shapes: BTreeMap<String, String>,
    /// As their description has them, and with references as they are here.
    parts: BTreeMap<Part, (Value, Value)>,
    /// Descriptions that are in already, with the names that their parts were given.
    known: Vec<(Value, BTreeMap<Part, String>)>,
    operations: BTreeSet<String>,
    tags: Vec<Value>,
    left_out: Vec<String>,
}

/// One operation of a route's description.
struct Place<'a> {
    route: &'a Route,
    whole: &'a Value,
    item: &'a Value,
    method: &'a str,
    path: &'a str,
    names: &'a BTreeMap<Part, String>,
}

impl Merge {
    pub(super) fn new(scheme: &'static str) -> Self {
        Self {
            scheme,
            schemes: Schemes::new(),
            paths: BTreeMap::new(),
            shapes: BTreeMap::new(),
            parts: BTreeMap::new(),
            known: Vec::new(),
            operations: BTreeSet::new(),
            tags: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Adds what the route takes of its description; `asked` is what it asks of clients itself.
    pub(super) fn add(&mut self, route: &Route, whole: &Value, bases: &[Box<str>], asked: Option<&Value>) {
        let names = self.parts(route, whole);
        let title = whole.pointer("/info/title").and_then(Value::as_str);
        self.tags.push(match title {
            Some(title) => json!({ "name": route.name, "description": title }),
            None => json!({ "name": route.name }),
        });
        for (template, item) in whole.get("paths").and_then(Value::as_object).into_iter().flatten() {
            let Some(item) = refs::follow(whole, item) else { continue };
            for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
                for base in bases {
                    let path = format!("{base}{template}");
                    let Some(hosts) = servers(route, &method.to_ascii_uppercase(), &path, self.scheme) else {
                        continue;
                    };
                    let place = Place { route, whole, item, method, path: &path, names: &names };
                    if let Err(why) = self.operation(&place, &hosts, asked) {
                        let method = method.to_ascii_uppercase();
                        self.left_out.push(format!("routes.{}: {method} {path} is left out: {why}", route.name));
                    }
                }
            }
        }
    }

    fn operation(&mut self, at: &Place<'_>, hosts: &BTreeSet<String>, asked: Option<&Value>) -> Result<(), String> {
        let shape = shape(at.path);
        let known = self.shapes.get(&shape).map_or(at.path, String::as_str);
        if known != at.path {
            return Err(format!("another route has it as {known}"));
        }
        if let Some(other) = self.paths.get(at.path).and_then(|item| item.get(at.method)) {
            let tag = tag(other).unwrap_or_default();
            return Err(format!("route {tag} has it already"));
        }
        let mut operation = at.item.get(at.method).cloned().unwrap_or_default();
        let id = operation.get("operationId").and_then(Value::as_str).map(str::to_owned);
        let Some(map) = operation.as_object_mut() else { return Err("it is no operation".to_owned()) };
        let inherited = at.item.get("parameters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        add_parameters(at.whole, map, inherited);
        let own = map.get("security").or(at.whole.get("security")).cloned();
        if let Some(security) = asked.cloned().or_else(|| own.map(|own| renamed(&own, at.names))) {
            map.insert("security".to_owned(), security);
        }
        map.insert("tags".to_owned(), json!([at.route.name]));
        map.insert("servers".to_owned(), described(hosts));
        if let Some(id) = id {
            let id = if self.operations.contains(&id) { format!("{}.{id}", at.route.name) } else { id };
            map.insert("operationId".to_owned(), id.clone().into());
            self.operations.insert(id);
        }
        refs::rename(&mut operation, at.names)?;
        self.shapes.insert(shape, at.path.to_owned());
        self.paths.entry(at.path.to_owned()).or_default().insert(at.method.to_owned(), operation);
        Ok(())
    }

    /// Takes in the parts of a description; which names they have here.
    fn parts(&mut self, route: &Route, whole: &Value) -> BTreeMap<Part, String> {
        if let Some((_, names)) = self.known.iter().find(|(known, _)| known == whole) {
            return names.clone();
        }
        let mut own: BTreeMap<Part, &Value> = BTreeMap::new();
        for (kind, named) in whole.get("components").and_then(Value::as_object).into_iter().flatten() {
            let named = named.as_object().into_iter().flatten();
            own.extend(named.map(|(name, value)| ((kind.clone(), name.clone()), value)));
        }
        let ours = |part: &Part| part.0 == "securitySchemes" && self.schemes.contains_key(&part.1);
        let differs =
            |part: &Part, value: &Value| ours(part) || self.parts.get(part).is_some_and(|(said, _)| said != value);
        let mut other: BTreeSet<Part> =
            own.iter().filter(|(part, value)| differs(part, value)).map(|(part, _)| part.clone()).collect();
        // What says the same and leads to what does not is another thing, too.
        loop {
            let leads = |value: &Value| refs::parts_of(value).iter().any(|part| other.contains(part));
            let more = own
                .iter()
                .filter(|(part, value)| self.parts.contains_key(*part) && !other.contains(*part) && leads(value));
            let more: Vec<Part> = more.map(|(part, _)| part.clone()).collect();
            if more.is_empty() {
                break;
            }
            other.extend(more);
        }
        let mut names = BTreeMap::new();
        for part in own.keys() {
            let name = if other.contains(part) { self.free(route, part, &own) } else { part.1.clone() };
            names.insert(part.clone(), name);
        }
        for (part, value) in own {
            let mut here = value.clone();
            // One that leads nowhere is told of by the operation that needs it.
            let _ = refs::rename(&mut here, &names);
            let name = names.get(&part).unwrap_or(&part.1).clone();
            self.parts.entry((part.0, name)).or_insert_with(|| (value.clone(), here));
        }
        self.known.push((whole.clone(), names.clone()));
        names
    }

    /// A name that nothing has.
    fn free(&self, route: &Route, part: &Part, own: &BTreeMap<Part, &Value>) -> String {
        let plain = format!("{}_{}", route.name, part.1);
        let numbered = (2..).map(|number| format!("{plain}_{number}"));
        let taken = |name: &String| {
            let key = (part.0.clone(), name.clone());
            self.parts.contains_key(&key) || own.contains_key(&key) || self.schemes.contains_key(name)
        };
        std::iter::once(plain.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(plain)
    }

    /// The rest of the document: servers, tags, paths, and of the parts those that are needed.
    pub(super) fn finish(mut self) -> (Map<String, Value>, Vec<String>) {
        let mut whole = Map::new();
        let mut all = self.paths.values().flat_map(Map::values).map(|operation| operation.get("servers").cloned());
        let first = all.next().flatten();
        if let Some(first) = first.filter(|first| all.all(|other| other.as_ref() == Some(first))) {
            // The same for all: said once.
            let operations = self.paths.values_mut().flat_map(|item| item.iter_mut());
            operations.for_each(|(_, operation)| drop(operation.as_object_mut().and_then(|map| map.remove("servers"))));
            whole.insert("servers".to_owned(), first);
        }
        let used: BTreeSet<&str> = self.paths.values().flat_map(Map::values).filter_map(tag).collect();
        let tags: Value = self
            .tags
            .iter()
            .filter(|tag| tag.get("name").and_then(Value::as_str).is_some_and(|name| used.contains(name)))
            .cloned()
            .collect();
        let paths: Map<String, Value> =
            self.paths.iter().map(|(path, item)| (path.clone(), item.clone().into())).collect();
        let paths = Value::Object(paths);
        let components = self.needed(&paths);
        whole.insert("tags".to_owned(), tags);
        whole.insert("paths".to_owned(), paths);
        if !components.is_empty() {
            whole.insert("components".to_owned(), components.into());
        }
        (whole, self.left_out)
    }

    /// The parts that operations lead to: what no client sees is not told.
    fn needed(&self, paths: &Value) -> Map<String, Value> {
        let mut open: Vec<Part> = refs::parts_of(paths).into_iter().collect();
        let operations = self.paths.values().flat_map(Map::values);
        let ways = operations.filter_map(|operation| operation.get("security").and_then(Value::as_array)).flatten();
        let asked = ways.filter_map(Value::as_object).flat_map(Map::keys);
        open.extend(asked.map(|name| ("securitySchemes".to_owned(), name.clone())));
        let mut needed: BTreeMap<Part, Value> = BTreeMap::new();
        while let Some(part) = open.pop() {
            if needed.contains_key(&part) {
                continue;
            }
            let ours = self.schemes.get(&part.1).filter(|_| part.0 == "securitySchemes");
            let Some(value) = ours.or(self.parts.get(&part).map(|(_, here)| here)) else { continue };
            open.extend(refs::parts_of(value));
            needed.insert(part, value.clone());
        }
        let mut components = Map::new();
        for ((kind, name), value) in needed {
            let named = components.entry(kind).or_insert_with(|| json!({}));
            named.as_object_mut().and_then(|named| named.insert(name, value));
        }
        components
    }
}

/// Those of the path that the operation does not say itself come first.
fn add_parameters(whole: &Value, operation: &mut Map<String, Value>, inherited: &[Value]) {
    let key = |parameter: &Value| {
        let said = refs::follow(whole, parameter).unwrap_or(parameter);
        (said.get("name").cloned(), said.get("in").cloned())
    };
    let own = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
    let said: Vec<_> = own.iter().map(key).collect();
    let mut all: Vec<Value> = inherited.iter().filter(|one| !said.contains(&key(one))).cloned().collect();
    all.extend(own);
    if !all.is_empty() {
        operation.insert("parameters".to_owned(), all.into());
    }
}

/// The description's own `security`, with the names that its schemes have here.
fn renamed(security: &Value, names: &BTreeMap<Part, String>) -> Value {
    let name = |name: &String| {
        let key = ("securitySchemes".to_owned(), name.clone());
        names.get(&key).unwrap_or(name).clone()
    };
    let way = |way: &Value| {
        let schemes = way.as_object().into_iter().flatten();
        Value::Object(schemes.map(|(scheme, scopes)| (name(scheme), scopes.clone())).collect())
    };
    security.as_array().into_iter().flatten().map(way).collect()
}

/// The route that an operation belongs to.
fn tag(operation: &Value) -> Option<&str> {
    operation.pointer("/tags/0")?.as_str()
}

/// A path without the names of its parameters.
fn shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    let mut inside = false;
    for letter in path.chars() {
        inside = (inside || letter == '{') && letter != '}';
        if !inside || letter == '{' {
            shape.push(letter);
        }
    }
    shape
}
