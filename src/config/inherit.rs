//! Built-in < `defaults` < `like` < the object: maps merge, anything else is replaced whole.

use std::collections::HashMap;

use super::node::{Entry, Map, Node, Origin, Value};
use super::notes::Notes;
use crate::problem::{Path, nearest};

/// A kind of named object: where it stands, what it takes over, and what its short form means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The section of the document.
    pub(super) section: &'static str,
    /// Its key in `defaults`, and what one of them is called.
    pub(super) one: &'static str,
    /// Keys that belong to each object and not to `defaults`.
    pub(super) own: &'static [&'static str],
    /// Keys whose maps are one value and never merge.
    whole: &'static [&'static str],
    /// The key that a bare list is short for.
    list: Option<&'static str>,
}

pub(super) const LISTENERS: Kind =
    Kind { section: "listeners", one: "listener", own: &["bind", "like"], whole: &[], list: None };
pub(super) const LIMITS: Kind = Kind { section: "limits", one: "limit", own: &[], whole: &[], list: None };
pub(super) const STORES: Kind = Kind { section: "stores", one: "store", own: &[], whole: &[], list: None };
pub(super) const POOLS: Kind =
    Kind { section: "pools", one: "pool", own: &["targets", "like"], whole: &[], list: Some("targets") };
pub(super) const ROUTES: Kind = Kind {
    section: "routes",
    one: "route",
    own: &["match", "like"],
    whole: &["match", "to", "auth", "limit"],
    list: None,
};
pub(super) const AUTH: Kind = Kind { section: "auth", one: "auth", own: &[], whole: &[], list: None };

/// Keys that exclude each other: who writes one does not take over the others.
const RIVALS: [&[&str]; 3] =
    [&["to", "redirect", "respond", "gather", "batch"], &["http", "tcp"], &["strip", "prefix", "path"]];

/// The deepest chain of `like`.
const CHAIN: usize = 32;

/// Completes every object of a section from `defaults` and from the object that its `like` names.
///
/// The names come back in an order in which nothing precedes what it is like, each with whether that could be found.
pub(super) fn complete(
    section: &mut Map,
    kind: Kind,
    defaults: Option<&Node>,
    notes: &mut Notes,
) -> Vec<(Box<str>, bool)> {
    for entry in section.iter_mut() {
        long_form(&mut entry.node, kind);
    }
    let bases = bases(section, kind, notes);
    let mut order: Vec<Box<str>> = section.iter().map(|entry| entry.key.clone()).collect();
    let depth = |name: &str| chain(name, &bases).count();
    order.sort_by_cached_key(|name| depth(name));
    for name in &order {
        let base =
            bases.get(name).and_then(|base| section.get(base)).map(|entry| taken_over(&entry.node, Origin::Like));
        let base = base.or_else(|| defaults.map(|node| taken_over(node, Origin::Defaults)));
        if let (Some(mut base), Some(entry)) = (base, section.get_mut(name)) {
            one_source(&entry.node, &mut base);
            over(&mut entry.node, base, kind.whole);
        }
    }
    section.iter_mut().for_each(|entry| only_what_is_used(&mut entry.node));
    let found = |name: &str| match section.get(name).map(|entry| &entry.node) {
        Some(node) => node.get("like").is_none() || bases.contains_key(name),
        None => false,
    };
    order.into_iter().map(|name| (found(&name), name)).map(|(found, name)| (name, found)).collect()
}

/// Turns a bare list into the map that it is short for; nothing at all is an empty map.
pub(super) fn long_form(node: &mut Node, kind: Kind) {
    let (place, value) = (node.place, std::mem::take(&mut node.value));
    node.value = match (value, kind.list) {
        (Value::List(items), Some(key)) => {
            let list = Node { place, origin: node.origin, value: Value::List(items) };
            Value::Map(Map::of_sorted(vec![Entry { key: key.into(), at: place, node: list }]))
        }
        (Value::Null, _) => Value::Map(Map::default()),
        (other, _) => other,
    };
}

/// Which object each one is like; names that are wrong are complained about and left out.
fn bases(section: &Map, kind: Kind, notes: &mut Notes) -> HashMap<Box<str>, Box<str>> {
    let mut bases = HashMap::new();
    let names: Vec<&str> = section.iter().map(|entry| &*entry.key).collect();
    for entry in section.iter() {
        let Some(like) = entry.node.get("like") else { continue };
        let Some(base) = like.text() else { continue };
        if section.get(base).is_some() {
            bases.insert(entry.key.clone(), base.into());
        } else if !notes.silent_on_references {
            let sentence = undefined(kind.one, base, &names, notes);
            notes.error(Path::of([kind.section, &entry.key, "like"]), like.place, sentence);
        }
    }
    for entry in section.iter() {
        let chain: Vec<&str> = chain(&entry.key, &bases).collect();
        let Some(like) = entry.node.get("like").filter(|_| chain.len() > CHAIN) else { continue };
        let around = chain.iter().position(|name| *name == &*entry.key).and_then(|at| chain.get(..=at));
        let at = Path::of([kind.section, &entry.key, "like"]);
        match around {
            Some(around) => {
                let way = around.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" is like ");
                let sentence = format!("`{}` is like {way}, so it would never end", entry.key);
                notes.error(at, like.place, sentence);
            }
            // Leads into somebody else's circle, which is said there.
            None if chain.iter().enumerate().any(|(at, name)| chain.iter().skip(at + 1).any(|other| other == name)) => {
            }
            None => notes.error(at, like.place, format!("more than {CHAIN} objects in a row that are `like` the next")),
        }
    }
    let endless = |name: &str| chain(name, &bases).count() > CHAIN;
    let endless: Vec<Box<str>> = bases.keys().filter(|name| endless(name)).cloned().collect();
    for name in endless {
        bases.remove(&name);
    }
    bases
}

/// The names that `name` is like, nearest first; cut where it is too long to be meant.
fn chain<'a>(name: &str, bases: &'a HashMap<Box<str>, Box<str>>) -> impl Iterator<Item = &'a str> {
    std::iter::successors(bases.get(name), |name| bases.get(&***name)).map(|name| &**name).take(CHAIN + 1)
}

/// "pool `event` is not defined. Pools: events, orders".
pub(super) fn undefined(one: &str, name: &str, names: &[&str], notes: &mut Notes) -> String {
    const SHOWN: usize = 20;
    let start = format!("{one} `{name}` is not defined");
    if names.is_empty() {
        return format!("{start}; there are no {one}s");
    }
    if names.len() <= SHOWN {
        let mut title = format!("{one}s");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        return format!("{start}. {title}: {}", names.join(", "));
    }
    let near = if notes.may_compare(names.len()) { nearest(name, names.iter().copied()) } else { None };
    near.map_or(start.clone(), |near| format!("{start}. Did you mean `{near}`?"))
}

/// A copy whose parts remember that they were taken over; `like` itself is not.
fn taken_over(node: &Node, origin: Origin) -> Node {
    let mut copy = node.clone();
    if let Some(map) = copy.map_mut() {
        map.take("like");
    }
    mark(&mut copy, origin);
    copy
}

fn mark(node: &mut Node, origin: Origin) {
    if node.origin == Origin::Own {
        node.origin = origin;
    }
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| mark(item, origin)),
        Value::Map(map) => map.iter_mut().for_each(|entry| mark(&mut entry.node, origin)),
        _ => {}
    }
}

/// What of `discover` is said to Consul.
const OF_CONSUL: [&str; 5] = ["tag", "at", "token", "datacenter", "ca"];

/// A pool's targets come from one place: who says where from takes over no other one.
fn one_source(own: &Node, base: &mut Node) {
    let asks = |key| own.get("discover").is_some_and(|discover| discover.get(key).is_some());
    let said = [("targets", own.get("targets").is_some()), ("srv", asks("srv")), ("consul", asks("consul"))];
    let (Some(base), true) = (base.map_mut(), said.iter().any(|(_, said)| *said)) else { return };
    for (other, _) in said.iter().filter(|(_, said)| !said) {
        base.take(other);
        if let Some(discover) = base.get_mut("discover").and_then(|entry| entry.node.map_mut()) {
            discover.take(other);
        }
    }
}

/// What was taken over for Consul means nothing to a pool that does not ask it.
fn only_what_is_used(node: &mut Node) {
    let Some(discover) = node.map_mut().and_then(|map| map.get_mut("discover")?.node.map_mut()) else { return };
    if discover.get("consul").is_some() {
        return;
    }
    for key in OF_CONSUL {
        if discover.get(key).is_some_and(|entry| entry.node.origin != Origin::Own) {
            discover.take(key);
        }
    }
}

/// Puts `base` under `node`: what `node` does not say comes from there.
fn over(node: &mut Node, base: Node, whole: &[&str]) {
    let (Value::Map(own), Value::Map(base)) = (&mut node.value, base.value) else { return };
    let rival = |own: &Map, key: &str| {
        let group = RIVALS.iter().find(|group| group.contains(&key));
        group.is_some_and(|group| group.iter().any(|other| own.get(other).is_some()))
    };
    let mut fresh = Vec::new();
    for entry in base.into_entries() {
        if let Some(mine) = own.get_mut(&entry.key) {
            if !whole.contains(&&*entry.key) {
                over(&mut mine.node, entry.node, &[]);
            }
        } else if !rival(own, &entry.key) {
            fresh.push(entry);
        }
    }
    let mut entries = std::mem::take(own).into_entries();
    entries.append(&mut fresh);
    *own = Map::new(entries).0;
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Budget, parse};
    use super::*;

    fn merged(kind: Kind, section: &str, defaults: &str) -> (Map, Vec<String>) {
        let mut notes = Notes::default();
        let mut read = |text: &str| parse(text, 0, &mut Budget::default(), &mut notes).unwrap();
        let (section, defaults) = (read(section), read(defaults));
        let Value::Map(mut section) = section.value else { panic!("no map") };
        complete(&mut section, kind, Some(&defaults), &mut notes);
        (section, notes.problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect())
    }

    fn text<'a>(section: &'a Map, way: &[&str]) -> Option<&'a str> {
        let (first, rest) = way.split_first().unwrap();
        rest.iter().try_fold(&section.get(first)?.node, |node, key| node.get(key))?.text()
    }

    #[test]
    fn three_steps_in_their_order() {
        let (pools, said) = merged(
            POOLS,
            "{ a: [x:1], b: { like: a, timeout: { connect: 3s } }, c: { like: b, timeout: { idle: 4s }, health: { tcp: true } } }",
            "{ timeout: { connect: 1s, idle: 2s }, health: { http: /, every: 5s } }",
        );
        assert_eq!(said, Vec::<String>::new());
        assert_eq!(text(&pools, &["a", "timeout", "connect"]), Some("1s"));
        assert_eq!(text(&pools, &["b", "timeout", "connect"]), Some("3s"));
        assert_eq!(text(&pools, &["b", "timeout", "idle"]), Some("2s"));
        assert_eq!(text(&pools, &["c", "timeout", "connect"]), Some("3s"));
        assert_eq!(text(&pools, &["c", "timeout", "idle"]), Some("4s"));
        assert_eq!(text(&pools, &["c", "health", "every"]), Some("5s"));
        assert_eq!(text(&pools, &["c", "health", "http"]), None, "a probe by TCP is not also one by HTTP");
        assert!(pools.get("c").unwrap().node.get("targets").is_some());
        assert!(pools.get("a").unwrap().node.get("like").is_none());
    }

    #[test]
    fn targets_come_from_one_source() {
        let (pools, said) = merged(
            POOLS,
            "{ a: [x:1], b: { like: a, discover: { consul: b } }, c: { discover: { srv: _a._b.c } }, d: { like: b, targets: [y:1] } }",
            "{ discover: { at: here, dns: [there], allow: [loopback] } }",
        );
        assert_eq!(said, Vec::<String>::new());
        assert!(pools.get("b").unwrap().node.get("targets").is_none());
        assert_eq!(text(&pools, &["b", "discover", "at"]), Some("here"));
        for (pool, none) in [("a", "at"), ("c", "at"), ("d", "at"), ("d", "consul")] {
            assert_eq!(text(&pools, &[pool, "discover", none]), None, "{pool} {none}");
            assert!(pools.get(pool).unwrap().node.get("discover").unwrap().get("allow").is_some(), "{pool}");
        }
    }

    #[test]
    fn what_is_one_value_does_not_merge() {
        let (routes, _) = merged(
            ROUTES,
            "{ a: { match: { path: /a, host: h }, to: { x: 1, y: 1 } }, b: { like: a, match: { path: /b }, to: { z: 1 } }, c: { like: a, redirect: https } }",
            "{}",
        );
        assert_eq!(text(&routes, &["b", "match", "host"]), None);
        assert_eq!(text(&routes, &["b", "to", "x"]), None);
        assert_eq!(text(&routes, &["c", "to", "x"]), None);
        assert_eq!(text(&routes, &["c", "match", "host"]), Some("h"));
    }

    #[test]
    fn circles_and_strangers_are_said() {
        let (_, said) =
            merged(POOLS, "{ a: { like: b }, b: { like: a }, c: { like: x }, d: { like: d }, e: { like: a } }", "{}");
        assert_eq!(
            said,
            [
                "pools.c.like: pool `x` is not defined. Pools: a, b, c, d, e",
                "pools.a.like: `a` is like `b` is like `a`, so it would never end",
                "pools.b.like: `b` is like `a` is like `b`, so it would never end",
                "pools.d.like: `d` is like `d`, so it would never end",
            ]
        );
    }
}
