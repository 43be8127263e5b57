//! `yumen show [PATH]`: every effective value and where it came from, secrets left out.

use std::fmt::Write as _;

use clap::Args;
use serde_yaml::Value;

use super::{Document, Exit};
use crate::config::{self, Loaded, Places, report, secret};
use crate::problem::{Path, Step, nearest};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    /// A part of the document, e.g. `routes.orders`; everything when left out.
    path: Option<String>,
}

/// Shows; the exit code is 0, 64 for a path that is not there, or that of a document that is wrong.
pub(super) fn run(options: &Options) -> Exit {
    let loaded = config::load(&options.document.config);
    if loaded.code() > 0 {
        eprint!("{}", report::human(&loaded.problems, &loaded.places));
        return Exit::of(loaded.code());
    }
    match show(&loaded, options.path.as_deref().unwrap_or_default()) {
        Ok(text) => super::print(&text),
        Err(sentence) => super::fail(Exit::Usage, &sentence),
    }
}

/// The part of the document at `path` as YAML with comments; the error is a sentence.
pub(super) fn show(loaded: &Loaded, path: &str) -> Result<String, String> {
    let mut document =
        serde_yaml::to_value(&loaded.document).map_err(|why| format!("cannot write the document: {why}"))?;
    let built_in = serde_yaml::to_value(loaded.document.built_in());
    complete(&mut document, built_in.map_err(|why| format!("cannot write what is built in: {why}"))?);
    let (at, value) = find(&document, path, &Path::default()).map_err(|near| {
        let near = near.map(|near| format!(". Did you mean `{near}`?"));
        format!("there is no `{path}` in the document{}", near.unwrap_or_default())
    })?;
    let mut out = Writer { places: &loaded.places, text: String::new() };
    match value {
        Value::Mapping(_) | Value::Sequence(_) if !is_empty(value) => out.below(value, 0, &at),
        leaf => out.leaf("", leaf, &at),
    }
    Ok(out.text)
}

/// Puts in what nobody has written and holds all the same.
fn complete(said: &mut Value, built_in: Value) {
    let (Value::Mapping(said), Value::Mapping(built_in)) = (said, built_in) else { return };
    for (key, value) in built_in {
        match said.get_mut(&key) {
            Some(known) => complete(known, value),
            None => drop(said.insert(key, value)),
        }
    }
}

/// Walks down `path`; names may hold dots, so that each key is tried whole. The error is the nearest path there is.
fn find<'a>(value: &'a Value, path: &str, at: &Path) -> Result<(Path, &'a Value), Option<String>> {
    if path.is_empty() {
        return Ok((at.clone(), value));
    }
    let rest_of = |key: &str| {
        let rest = path.strip_prefix(key)?;
        rest.strip_prefix('.').or((rest.is_empty() || rest.starts_with('[')).then_some(rest))
    };
    let mut near = None;
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let Some(rest) = key.as_str().and_then(rest_of) else { continue };
                match find(value, rest, &at.key(key.as_str().unwrap_or_default())) {
                    Err(deeper) => near = near.or(deeper),
                    found => return found,
                }
            }
            let first = path.split(['.', '[']).next().unwrap_or(path);
            let keys = map.keys().filter_map(Value::as_str);
            Err(near
                .or_else(|| nearest(first, keys).filter(|near| *near != first).map(|near| at.key(near).to_string())))
        }
        Value::Sequence(items) => {
            let (index, rest) = path.strip_prefix('[').and_then(|path| path.split_once(']')).ok_or(None)?;
            let index: usize = index.parse().map_err(|_| None)?;
            let item = items.get(index).ok_or(None)?;
            find(item, rest.strip_prefix('.').unwrap_or(rest), &at.index(index))
        }
        _ => Err(None),
    }
}

struct Writer<'a> {
    places: &'a Places,
    text: String,
}

impl Writer<'_> {
    /// A map or list, each entry on its own line.
    fn below(&mut self, value: &Value, indent: usize, at: &Path) {
        let space = " ".repeat(indent);
        match value {
            Value::Mapping(map) => {
                for (key, value) in map {
                    let key = key.as_str().unwrap_or_default();
                    self.entry(&format!("{space}{}:", plain(&key.into())), value, indent, &at.key(key));
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.item(item, indent, &at.index(index));
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, head: &str, value: &Value, indent: usize, at: &Path) {
        if is_leaf(value) {
            return self.leaf(&format!("{head} "), value, at);
        }
        self.text.push_str(head);
        self.text.push('\n');
        self.below(value, indent + 2, at);
    }

    fn item(&mut self, item: &Value, indent: usize, at: &Path) {
        let dash = format!("{}- ", " ".repeat(indent));
        if is_leaf(item) {
            return self.leaf(&dash, item, at);
        }
        let mut inner = Writer { places: self.places, text: String::new() };
        inner.below(item, indent + 2, at);
        self.text.push_str(&dash);
        self.text.push_str(inner.text.get(indent + 2..).unwrap_or_default());
    }

    fn leaf(&mut self, head: &str, value: &Value, at: &Path) {
        let hidden = value.as_str().is_some_and(|text| is_secret(at) && !secret::is_reference(text));
        let shown = if hidden { "(hidden)".to_owned() } else { plain(value) };
        let origin = self.places.origin(at);
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{head}{shown}  # {origin}");
    }
}

fn is_leaf(value: &Value) -> bool {
    !matches!(value, Value::Mapping(_) | Value::Sequence(_)) || is_empty(value)
}

fn is_empty(value: &Value) -> bool {
    value.as_mapping().is_some_and(serde_yaml::Mapping::is_empty) || value.as_sequence().is_some_and(Vec::is_empty)
}

/// Whether the nearest key above a value says that it is a secret.
fn is_secret(at: &Path) -> bool {
    let keys = at.steps().iter().rev();
    let nearest = keys.into_iter().find_map(|step| if let Step::Key(key) = step { Some(key) } else { None });
    nearest.is_some_and(|key| secret::is_secret(key))
}

/// A scalar on one line.
fn plain(value: &Value) -> String {
    match value {
        Value::Mapping(_) => "{}".to_owned(),
        Value::Sequence(_) => "[]".to_owned(),
        Value::String(text) if text.contains(|c: char| c.is_control()) => {
            serde_json::to_string(text).unwrap_or_default()
        }
        scalar => serde_yaml::to_string(scalar).unwrap_or_default().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
version: 1
listeners: { web: { bind: 80 } }
defaults:
  pool: { timeout: { connect: 2s } }
pools:
  orders: [10.0.0.1:80]
  canary: { like: orders, targets: [{ at: 10.0.0.2:80, weight: 2 }] }
routes:
  all.of.them:
    match: GET /orders/*
    to: { orders: 9, canary: 1 }
    request: { set: { authorization: abc, x-api-key: env:KEY } }
";

    fn shown(path: &str) -> Result<String, String> {
        let loaded = Loaded::from_text("y", DOCUMENT);
        assert_eq!(loaded.problems.errors(), 0, "{}", report::human(&loaded.problems, &loaded.places));
        show(&loaded, path)
    }

    #[test]
    fn every_value_says_where_it_came_from() {
        let canary = shown("pools.canary").unwrap();
        for line in [
            "- at: 10.0.0.2:80  # y:7:43",
            "    weight: 2  # y:7:64",
            "like: orders  # y:7:19",
            "  connect: 2s  # defaults.pool y:4:31",
            "  idle: 1m  # built-in",
            "  first_byte: 15s  # built-in",
            "  errors: 3  # built-in",
            "  for: 10s  # built-in",
            "balance: round_robin  # built-in",
        ] {
            assert!(canary.lines().any(|shown| shown.ends_with(line)), "{line}\n{canary}");
        }
        assert!(shown("pools.orders.targets[0]").unwrap().starts_with("at: 10.0.0.1:80  # y:6:12\n"));
    }

    #[test]
    fn what_nobody_has_written_and_holds_all_the_same_is_there() {
        assert_eq!(shown("routes.all.of.them.body.max").unwrap(), "10MiB  # built-in\n");
        assert_eq!(shown("pools.canary.timeout.first_byte").unwrap(), "15s  # built-in\n");
    }

    #[test]
    fn a_path_leads_to_a_part_even_through_dots() {
        assert_eq!(shown("routes.all.of.them.to.canary").unwrap(), "1  # y:11:30\n");
        assert_eq!(shown("pools.canary.targets[0].weight").unwrap(), "2  # y:7:64\n");
        assert_eq!(shown("routes.al").unwrap_err(), "there is no `routes.al` in the document");
        assert_eq!(
            shown("pools.canry").unwrap_err(),
            "there is no `pools.canry` in the document. Did you mean `pools.canary`?"
        );
    }

    #[test]
    fn secrets_are_hidden_and_references_shown() {
        let all = shown("").unwrap();
        assert!(all.contains("authorization: (hidden)  # y:12:38"), "{all}");
        assert!(all.contains("x-api-key: env:KEY"), "{all}");
    }
}
