//! What only the whole document shows of brokers: who names them, and which pools their messages go on to.

use std::collections::BTreeSet;

use super::inherit::undefined;
use super::node::{Map, Node, Place};
use super::notes::Notes;
use crate::problem::Path;

/// A name, with its place.
pub(super) type Said<'t> = (&'t str, Path, Place);

/// The brokers that routes publish to or listen to.
fn named(tree: &Node) -> Vec<Said<'_>> {
    let mut said: Vec<Said<'_>> = Vec::new();
    for route in tree.get("routes").and_then(Node::map).into_iter().flat_map(Map::iter) {
        for key in ["publish", "subscribe"] {
            let Some(store) = route.node.get(key).and_then(|action| action.get("store")) else { continue };
            let at = Path::of(["routes", &route.key, key, "store"]);
            said.extend(store.text().map(|name| (name, at, store.place)));
        }
    }
    said
}

/// The pools that messages go on to.
fn pools(tree: &Node) -> Vec<Said<'_>> {
    let mut said: Vec<Said<'_>> = Vec::new();
    for store in tree.get("stores").and_then(Node::map).into_iter().flat_map(Map::iter) {
        for forward in store.node.get("forward").and_then(Node::map).into_iter().flat_map(Map::iter) {
            let Some(to) = forward.node.get("to") else { continue };
            let at = Path::of(["stores", &store.key, "forward", &forward.key, "to"]);
            said.extend(to.text().map(|name| (name, at, to.place)));
        }
    }
    said
}

/// The same, each one used; whether all of them are there.
pub(super) fn pools_exist<'t>(tree: &'t Node, all: &[&str], used: &mut BTreeSet<&'t str>, notes: &mut Notes) -> bool {
    let mut all_known = true;
    for (name, at, place) in pools(tree) {
        used.insert(name);
        if !all.contains(&name) {
            all_known = false;
            let sentence = undefined("pool", name, all, notes);
            notes.error(at, place, sentence);
        }
    }
    all_known
}

/// Whether the store of this name is a broker; nothing where there is no such store.
fn is_broker(tree: &Node, name: &str) -> Option<bool> {
    let store = tree.get("stores")?.get(name)?;
    Some(store.get("mqtt").is_some())
}

/// A limit counts in a Redis, and a route publishes to a broker.
pub(super) fn are_of_their_kind(tree: &Node, limits: &[Said<'_>], notes: &mut Notes) {
    for (name, at, place) in limits.iter().filter(|(name, ..)| is_broker(tree, name) == Some(true)) {
        notes.error(at.clone(), *place, format!("store `{name}` is a broker, which counts nothing; name a Redis"));
    }
    for (name, at, place) in named(tree).into_iter().filter(|(name, ..)| is_broker(tree, name) == Some(false)) {
        notes.error(at, place, format!("store `{name}` is no broker: it has no `mqtt`"));
    }
}

/// Brokers that exist; those of the document that nobody uses are told of by the caller.
pub(super) fn complain(tree: &Node, stores: &[&str], notes: &mut Notes) -> bool {
    let unknown: Vec<_> = named(tree).into_iter().filter(|(name, ..)| is_broker(tree, name).is_none()).collect();
    let all_known = unknown.is_empty();
    for (name, at, place) in unknown {
        let sentence = undefined("store", name, stores, notes);
        notes.error(at, place, sentence);
    }
    all_known
}

/// The stores that routes or messages use.
pub(super) fn used(tree: &Node) -> BTreeSet<&str> {
    let stores = tree.get("stores").and_then(Node::map).into_iter().flat_map(Map::iter);
    let forwarding = stores.filter(|store| store.node.get("forward").is_some()).map(|store| &*store.key);
    named(tree).into_iter().map(|(name, ..)| name).chain(forwarding).collect()
}
