//! What only the whole document shows: names that mean nothing, things that nobody uses, addresses taken twice.

use std::collections::{BTreeMap, BTreeSet};

use super::brokers;
use super::document::Document;
use super::inherit::undefined;
use super::node::{Entry, Map, Node, Place, Value};
use super::notes::Notes;
use crate::policy::auth::NONE;
use crate::problem::Path;
use crate::telemetry::access::Destination;
use crate::units::Address;

/// Checks the tree as it was completed, and the objects that could be read from it.
pub(super) fn whole(tree: &Node, document: &Document, notes: &mut Notes) {
    something_listens(tree, notes);
    pools_exist_and_are_used(tree, notes);
    auth_exists_and_is_used(tree, notes);
    limits_exist_and_are_used(tree, notes);
    stores_exist_and_are_used(tree, notes);
    addresses_are_free(tree, document, notes);
    admin_is_local(tree, document, notes);
    access_log_has_a_folder(tree, document, notes);
}

fn access_log_has_a_folder(tree: &Node, document: &Document, notes: &mut Notes) {
    let Destination::File(file) = &document.observe.access_log.to else { return };
    let Some(folder) = file.parent().filter(|folder| !folder.is_dir()) else { return };
    let place = ["observe", "access_log", "to"].iter().try_fold(tree, |node, key| node.get(key));
    let sentence = format!("there is no folder {} to write it to", folder.display());
    notes.error(Path::of(["observe", "access_log", "to"]), place.map_or(tree.place, |node| node.place), sentence);
}

fn something_listens(tree: &Node, notes: &mut Notes) {
    // A section that is no map at all was complained about already.
    let is_empty = |section| match tree.get(section).map(|node| &node.value) {
        None | Some(Value::Null) => true,
        Some(Value::Map(map)) => map.is_empty(),
        Some(_) => false,
    };
    if is_empty("listeners") {
        let sentence = "there is no listener, so nothing can be served; e.g. listeners: { web: { bind: 0.0.0.0:80 } }";
        notes.error(Path::default(), tree.place, sentence);
    }
    if is_empty("routes") {
        notes.warn(Path::default(), tree.place, "there is no route, so every request is answered 404");
    }
}

fn pools_exist_and_are_used(tree: &Node, notes: &mut Notes) {
    let empty = Map::default();
    let section = |name| tree.get(name).and_then(Node::map).unwrap_or(&empty);
    let pools: Vec<&str> = section("pools").iter().map(|entry| &*entry.key).collect();
    let mut used = BTreeSet::new();
    // Where a name is mistyped, the pool that was meant would look unused.
    let mut all_known = true;
    for route in section("routes").iter() {
        all_known &= route.node.map().is_some();
        let Some(to) = route.node.map().and_then(|route| route.get("to")).map(|to| &to.node) else { continue };
        all_known &= !matches!(to.value, Value::Gone);
        let at = Path::of(["routes", &route.key, "to"]);
        let named: Vec<_> = match &to.value {
            Value::Map(map) => map.iter().map(|entry| (&*entry.key, at.key(&entry.key), entry.at)).collect(),
            _ => to.text().map(|name| (name, at, to.place)).into_iter().collect(),
        };
        for (name, at, place) in named {
            used.insert(name);
            if section("pools").get(name).is_none() {
                all_known = false;
                let sentence = undefined("pool", name, &pools, notes);
                notes.error(at, place, sentence);
            }
        }
    }
    for route in section("routes").iter() {
        let Some((at, node, name)) = copied(route) else { continue };
        used.insert(name);
        if section("pools").get(name).is_none() {
            all_known = false;
            let sentence = undefined("pool", name, &pools, notes);
            notes.error(at, node.place, sentence);
        }
    }
    all_known &= brokers::pools_exist(tree, &pools, &mut used, notes);
    // Whether they are there is said by who compiles the calls.
    let called: BTreeSet<_> = section("routes").iter().flat_map(called).collect();
    for pool in section("pools").iter() {
        let Some((node, name)) = pool.node.get("fallback").and_then(|node| Some((node, node.text()?))) else {
            continue;
        };
        used.insert(name);
        let at = Path::of(["pools", &pool.key, "fallback"]);
        if section("pools").get(name).is_none() {
            all_known = false;
            let sentence = undefined("pool", name, &pools, notes);
            notes.error(at, node.place, sentence);
        } else if let Some(way) = way_back(&pool.key, section("pools")) {
            notes.error(at, node.place, format!("`{}` falls back on {way}, so nobody would serve", pool.key));
        }
    }
    if !all_known || called.iter().any(|name| section("pools").get(name).is_none()) {
        return;
    }
    used.extend(called);
    used.extend(section("pools").iter().filter_map(|pool| pool.node.get("like").and_then(Node::text)));
    for pool in section("pools").iter().filter(|pool| !used.contains(&*pool.key)) {
        notes.warn(Path::of(["pools", &pool.key]), pool.at, "no route uses this pool");
    }
}

/// The pool that a route's copies go to, with its place.
fn copied(route: &Entry) -> Option<(Path, &Node, &str)> {
    let copies = route.node.get("copy_to")?;
    let at = Path::of(["routes", &route.key, "copy_to"]);
    let (node, at) = copies.get("pool").map_or((copies, at.clone()), |pool| (pool, at.key("pool")));
    Some((at, node, node.text()?))
}

/// The pools that the calls of a route name.
fn called(route: &Entry) -> Vec<&str> {
    let calls = route.node.get("gather").and_then(Node::map);
    calls.into_iter().flat_map(Map::iter).filter_map(|call| call.node.get("pool")?.text()).collect()
}

/// The pools that lead from this one back to it, if they do: "`b`, that on `a`".
fn way_back(name: &str, pools: &Map) -> Option<String> {
    let next = |name: &&str| pools.get(name)?.node.get("fallback")?.text();
    let way: Vec<&str> = std::iter::successors(next(&name), next).take(pools.iter().count()).collect();
    let end = way.iter().position(|other| *other == name)?;
    let words: Vec<String> = way.iter().take(end + 1).map(|name| format!("`{name}`")).collect();
    Some(words.join(", that on "))
}

fn auth_exists_and_is_used(tree: &Node, notes: &mut Notes) {
    let empty = Map::default();
    let section = |name| tree.get(name).and_then(Node::map).unwrap_or(&empty);
    let names: Vec<&str> = section("auth").iter().map(|entry| &*entry.key).collect();
    if let Some(entry) = section("auth").get(NONE) {
        notes.error(Path::of(["auth", NONE]), entry.at, "`none` is the word for no auth; choose another name");
    }
    let mut said = Vec::new();
    for route in section("routes").iter() {
        let Some(node) = route.node.get("auth") else { continue };
        let at = Path::of(["routes", &route.key, "auth"]);
        said.extend(node.text().filter(|name| *name != NONE).map(|name| (name, at.clone(), node.place)));
        members(node, &at, &mut said);
    }
    for entry in section("auth").iter() {
        members(&entry.node, &Path::of(["auth", &entry.key]), &mut said);
    }
    let used: BTreeSet<&str> = said.iter().map(|(name, ..)| *name).collect();
    let unknown = |name: &str| section("auth").get(name).is_none();
    let all_known = !said.iter().any(|(name, ..)| unknown(name));
    for (name, at, place) in said.into_iter().filter(|(name, ..)| unknown(name)) {
        let sentence = undefined("auth", name, &names, notes);
        notes.error(at, place, sentence);
    }
    for entry in section("auth").iter().filter(|entry| all_known && !used.contains(&*entry.key)) {
        notes.warn(Path::of(["auth", &entry.key]), entry.at, "no route uses this auth");
    }
}

/// The names in `any` and `all`, each with its place.
fn members<'t>(node: &'t Node, at: &Path, said: &mut Vec<(&'t str, Path, Place)>) {
    for key in ["any", "all"] {
        let Some(Value::List(items)) = node.get(key).map(|list| &list.value) else { continue };
        let one = |(index, item): (usize, &'t Node)| Some((item.text()?, at.key(key).index(index), item.place));
        said.extend(items.iter().enumerate().filter_map(one));
    }
}

fn limits_exist_and_are_used(tree: &Node, notes: &mut Notes) {
    let empty = Map::default();
    let section = |name| tree.get(name).and_then(Node::map).unwrap_or(&empty);
    let limits: Vec<&str> = section("limits").iter().map(|entry| &*entry.key).collect();
    let mut used = BTreeSet::new();
    // Where a name is mistyped, the limit that was meant would look unused.
    let mut all_known = true;
    for route in section("routes").iter() {
        let Some(limit) = route.node.map().and_then(|route| route.get("limit")).map(|entry| &entry.node) else {
            all_known &= route.node.map().is_some();
            continue;
        };
        all_known &= !matches!(limit.value, Value::Gone);
        let at = Path::of(["routes", &route.key, "limit"]);
        let named: Vec<_> = match &limit.value {
            Value::List(items) => items.iter().enumerate().map(|(index, item)| (item, at.index(index))).collect(),
            _ => vec![(limit, at)],
        };
        for (name, at, place) in named.into_iter().filter_map(|(node, at)| Some((node.text()?, at, node.place))) {
            used.insert(name);
            if section("limits").get(name).is_none() {
                all_known = false;
                let sentence = undefined("limit", name, &limits, notes);
                notes.error(at, place, sentence);
            }
        }
    }
    for limit in section("limits").iter().filter(|limit| all_known && !used.contains(&*limit.key)) {
        notes.warn(Path::of(["limits", &limit.key]), limit.at, "no route uses this limit");
    }
}

fn stores_exist_and_are_used(tree: &Node, notes: &mut Notes) {
    let empty = Map::default();
    let section = |name| tree.get(name).and_then(Node::map).unwrap_or(&empty);
    let stores: Vec<&str> = section("stores").iter().map(|entry| &*entry.key).collect();
    let mut said = Vec::new();
    for limit in section("limits").iter() {
        shares(&limit.node, &Path::of(["limits", &limit.key]), &mut said);
    }
    for route in section("routes").iter() {
        let Some(limit) = route.node.get("limit") else { continue };
        let at = Path::of(["routes", &route.key, "limit"]);
        match &limit.value {
            Value::List(items) => {
                items.iter().enumerate().for_each(|(index, item)| shares(item, &at.index(index), &mut said));
            }
            _ => shares(limit, &at, &mut said),
        }
    }
    brokers::are_of_their_kind(tree, &said, notes);
    for (name, at, place) in said.iter().filter(|(name, ..)| in_memory(section("stores"), name)) {
        let sentence = format!("`{name}` keeps answers in memory; hosts count together in a Redis");
        notes.error(at.clone(), *place, sentence);
    }
    let mut cached = Vec::new();
    for route in section("routes").iter() {
        let Some(node) = route.node.get("cache").and_then(|cache| cache.get("store")) else { continue };
        let at = Path::of(["routes", &route.key, "cache", "store"]);
        cached.extend(node.text().map(|name| (name, at, node.place)));
    }
    brokers::are_of_their_kind(tree, &cached, notes);
    said.extend(cached);
    let mut used: BTreeSet<&str> = said.iter().map(|(name, ..)| *name).collect();
    let unknown = |name: &str| section("stores").get(name).is_none();
    let all_known = brokers::complain(tree, &stores, notes) && !used.iter().any(|name| unknown(name));
    for (name, at, place) in said.into_iter().filter(|(name, ..)| unknown(name)) {
        let sentence = undefined("store", name, &stores, notes);
        notes.error(at, place, sentence);
    }
    used.extend(brokers::used(tree));
    for store in section("stores").iter().filter(|store| all_known && !used.contains(&*store.key)) {
        let sentence = if store.node.get("mqtt").is_some() {
            "no route uses this broker"
        } else {
            "no limit and no cache uses this store"
        };
        notes.warn(Path::of(["stores", &store.key]), store.at, sentence);
    }
}

/// Whether a store is no Redis.
fn in_memory(stores: &Map, name: &str) -> bool {
    stores.get(name).is_some_and(|store| store.node.get("memory").is_some())
}

/// The store that a limit names, with its place.
fn shares<'t>(limit: &'t Node, at: &Path, said: &mut Vec<(&'t str, Path, Place)>) {
    let Some(share) = limit.get("share") else { return };
    let (node, at) = match share.get("store") {
        Some(store) => (store, at.key("share").key("store")),
        None => (share, at.key("share")),
    };
    said.extend(node.text().map(|name| (name, at, node.place)));
}

fn addresses_are_free(tree: &Node, document: &Document, notes: &mut Notes) {
    let mut taken: BTreeMap<&Address, String> = BTreeMap::from([(&document.admin.bind, "admin".to_owned())]);
    for (name, listener) in &document.listeners {
        for (index, address) in listener.bind.0.iter().enumerate() {
            let any = matches!(address, Address::Ip(ip) if ip.port() == 0);
            if any {
                continue;
            }
            let mut at = Path::of(["listeners", name.as_str(), "bind"]);
            let bind =
                tree.get("listeners").and_then(|section| section.get(name.as_str())).and_then(|node| node.get("bind"));
            let list = bind.filter(|bind| matches!(bind.value, Value::List(_)));
            if list.is_some() {
                at = at.index(index);
            }
            let element = list.and_then(|list| list.step(&crate::problem::Step::Index(index))).or(bind);
            let place = element.map_or(tree.place, |node| node.place);
            match taken.get(address) {
                // The listener itself says what stands in it twice.
                Some(by) if *by == format!("listeners.{name}") => {}
                Some(by) => notes.error(at, place, format!("`{address}` is taken by {by} already")),
                None => {
                    taken.insert(address, format!("listeners.{name}"));
                }
            }
        }
    }
}

fn admin_is_local(tree: &Node, document: &Document, notes: &mut Notes) {
    let Some(bind) = tree.get("admin").and_then(|admin| admin.get("bind")) else { return };
    if !document.admin.is_local() {
        let sentence =
            "other machines can reach this: whoever can connect sees the status and can reload; e.g. 127.0.0.1:9901";
        notes.warn(Path::of(["admin", "bind"]), bind.place, sentence);
    }
}
