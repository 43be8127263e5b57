//! Builds the table, and finds the routes between which nothing decides.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Route;
use super::host::{HostId, HostPattern, Hosts};
use super::predicate::{Of, Test};
use super::table::{Entry, EntryId, Node, NodeId, Spot, Table};
use crate::canonical;
use crate::policy::template::Segment;
use crate::problem::{Path, Problems};

impl Table {
    /// Puts every route where its path leads; ties between routes are problems.
    pub fn compile(routes: &[Arc<Route>], problems: &mut Problems) -> Self {
        let patterns = routes.iter().flat_map(|route| route.matches.iter().map(|one| &one.host));
        let (hosts, ids) = Hosts::new(patterns);
        let root = Node { literal: true, ..Node::default() };
        let mut table = Self { entries: Vec::new(), hosts, tree: vec![root], regexes: Vec::new() };
        for route in routes {
            for entry in entries(route, &ids) {
                table.insert(entry);
            }
        }
        table.sort();
        table.complain(problems);
        table
    }

    fn insert(&mut self, entry: Entry) {
        let id = EntryId::try_from(self.entries.len()).unwrap_or(EntryId::MAX);
        let host = entry.host;
        if entry.regex.is_some() {
            self.regexes.push((host, id));
        } else {
            self.insert_path(&entry, id);
        }
        self.entries.push(entry);
    }

    fn insert_path(&mut self, entry: &Entry, id: EntryId) {
        let pattern = entry.route.matches.get(entry.index).and_then(|one| one.path.as_ref());
        let segments = pattern.map_or(&[Segment::Rest][..], |path| path.segments());
        let mut at: NodeId = 0;
        for segment in segments {
            let next = NodeId::try_from(self.tree.len()).unwrap_or(NodeId::MAX);
            let Some(node) = self.tree.get_mut(at as usize) else { return };
            node.sample.get_or_insert(id);
            let literal = node.literal;
            let (child, literal) = match segment {
                Segment::Literal(name) => (*node.children.entry(canonical::key(name).into()).or_insert(next), literal),
                Segment::Param(_) => (*node.param.get_or_insert(next), false),
                Segment::Rest => {
                    node.below.push((entry.host, id));
                    return;
                }
            };
            if child == next {
                self.tree.push(Node { literal, ..Node::default() });
            }
            at = child;
        }
        if let Some(node) = self.tree.get_mut(at as usize) {
            node.sample.get_or_insert(id);
            node.ends.push((entry.host, id));
        }
    }

    /// The order in which entries are asked does not depend on the order in the document.
    fn sort(&mut self) {
        let entries = &self.entries;
        let rank = |(host, id): &(HostId, EntryId)| {
            let entry = entries.get(*id as usize);
            (*host, Reverse(entry.map_or(0, Entry::conditions)), entry.map(|entry| (&entry.route.name, entry.index)))
        };
        for node in &mut self.tree {
            node.ends.sort_by(|a, b| rank(a).cmp(&rank(b)));
            node.below.sort_by(|a, b| rank(a).cmp(&rank(b)));
        }
        let regex_rank = |(_, id): &(HostId, EntryId)| {
            let entry = entries.get(*id as usize);
            let wide = entry.map(|entry| (Reverse(entry.route.priority), Reverse(entry.host_pattern().rank())));
            let narrow = entry.map(|entry| (Reverse(entry.conditions()), &entry.route.name, entry.index));
            (wide, narrow)
        };
        self.regexes.sort_by(|a, b| regex_rank(a).cmp(&regex_rank(b)));
    }

    fn complain(&self, problems: &mut Problems) {
        let mut ties = Ties { table: self, said: BTreeSet::new() };
        let spots = self.tree.iter().flat_map(|node| [&node.ends, &node.below]);
        spots.for_each(|spot| ties.in_spot(spot));
        ties.among_regexes(&self.regexes);
        for (one, other, regex) in ties.said {
            let advice = if regex { "give one of them a `priority`" } else { "add a condition to one" };
            let (first, second) = (self.entries.get(one as usize), self.entries.get(other as usize));
            if let (Some(first), Some(second)) = (first, second) {
                let (earlier, later) = in_order(&first.route, &second.route);
                let sentence = format!(
                    "routes.{} and routes.{} ({}) match the same requests; {advice}",
                    later.name,
                    earlier.name,
                    line_of(&earlier.place, &later.place),
                );
                problems.error(Path::of(["routes", later.name.as_str()]), sentence);
            }
        }
        self.complain_of_shadows(problems);
    }

    /// A template is never reached where `/*` behind the same text takes every request first.
    fn complain_of_shadows(&self, problems: &mut Problems) {
        for node in self.tree.iter().skip(1).filter(|node| node.literal && !node.below.is_empty()) {
            for (_, id) in node.param.map(|id| self.spots_from(id)).unwrap_or_default() {
                let Some(entry) = self.entry(id) else { continue };
                let wider = self.hosts.wider(entry.host_pattern());
                let Some(taker) = self.at(&node.below, wider).find(|taker| taker.conditions() == 0) else { continue };
                let path = entry.route.matches.get(entry.index).map(ToString::to_string).unwrap_or_default();
                let sentence = format!("`{path}` is never reached: routes.{} comes first", taker.route.name);
                problems.warn(Path::of(["routes", entry.route.name.as_str()]), sentence);
            }
        }
    }

    fn spots_from(&self, id: NodeId) -> Vec<(HostId, EntryId)> {
        let (mut found, mut open) = (Vec::new(), vec![id]);
        while let Some(node) = open.pop().and_then(|id| self.node(id)) {
            found.extend(node.ends.iter().chain(&node.below).copied());
            open.extend(node.children.values().chain(&node.param).copied());
        }
        found
    }
}

impl Entry {
    pub(super) fn host_pattern(&self) -> &HostPattern {
        self.route.matches.get(self.index).map_or(&HostPattern::Any, |one| &one.host)
    }
}

fn entries<'r>(route: &'r Arc<Route>, ids: &'r HashMap<HostPattern, HostId>) -> impl Iterator<Item = Entry> + 'r {
    route.entries().enumerate().map(|(index, (one, predicates))| Entry {
        route: Arc::clone(route),
        index,
        host: ids.get(&one.host).copied().unwrap_or(0),
        methods: super::Methods::of(&one.methods),
        predicates: predicates.into(),
        names: match &one.regex {
            Some(regex) => regex.names(),
            None => one.path.as_ref().and_then(super::path::PathPattern::names),
        },
        regex: one.regex.clone(),
    })
}

/// The two routes as they stand in the document.
fn in_order<'r>(one: &'r Route, other: &'r Route) -> (&'r Route, &'r Route) {
    let place = |route: &'r Route| {
        let (file, line) = file_and_line(&route.place);
        (file, line.parse::<u64>().unwrap_or(0), &route.name)
    };
    if place(one) <= place(other) { (one, other) } else { (other, one) }
}

fn file_and_line(place: &str) -> (&str, &str) {
    let mut parts = place.rsplitn(3, ':').skip(1);
    let line = parts.next().unwrap_or_default();
    (parts.next().unwrap_or_default(), line)
}

/// `line 26`, or with its file where that is another.
fn line_of(place: &str, seen_from: &str) -> String {
    let (file, line) = file_and_line(place);
    if file == file_and_line(seen_from).0 { format!("line {line}") } else { format!("{file}:{line}") }
}

/// Pairs of entries between which nothing decides.
struct Ties<'t> {
    table: &'t Table,
    said: BTreeSet<(EntryId, EntryId, bool)>,
}

/// Entries by the text that they want.
type Groups = HashMap<Box<str>, Vec<EntryId>>;

/// More pairs than this help nobody.
const ENOUGH: usize = 50;

impl Ties<'_> {
    fn in_spot(&mut self, spot: &Spot) {
        let equal =
            |a: &(HostId, EntryId), b: &(HostId, EntryId)| a.0 == b.0 && self.conditions(a.1) == self.conditions(b.1);
        let runs: Vec<Vec<EntryId>> = spot
            .chunk_by(equal)
            .filter(|run| run.len() > 1)
            .map(|run| run.iter().map(|(_, id)| *id).collect())
            .collect();
        for run in runs {
            self.among(&run, &mut Vec::new());
        }
    }

    fn conditions(&self, id: EntryId) -> usize {
        self.table.entry(id).map_or(0, Entry::conditions)
    }

    /// Sorts a large group by something on which all its entries disagree, before it compares each with each.
    fn among(&mut self, group: &[EntryId], done: &mut Vec<Of>) {
        let apart = if group.len() > 16 { self.apart(group, done) } else { None };
        let Some((of, groups)) = apart else { return self.pairs(group) };
        done.push(of);
        groups.values().filter(|group| group.len() > 1).for_each(|group| self.among(group, done));
        done.pop();
    }

    /// The groups by value of something that every entry wants to be exactly one text.
    fn apart(&self, group: &[EntryId], done: &[Of]) -> Option<(Of, Groups)> {
        let exact = |id: EntryId, of: &Of| {
            let predicates = self.table.entry(id)?.predicates.iter();
            predicates.filter(|predicate| predicate.of == *of).find_map(|predicate| match &predicate.test {
                Test::Is(text) => Some(text.clone()),
                _ => None,
            })
        };
        let first = self.table.entry(*group.first()?)?;
        for predicate in first.predicates.iter().filter(|predicate| !done.contains(&predicate.of)) {
            let mut groups = Groups::new();
            let sorted = group.iter().try_for_each(|id| {
                groups.entry(exact(*id, &predicate.of)?).or_default().push(*id);
                Some(())
            });
            if sorted.is_some() {
                return Some((predicate.of.clone(), groups));
            }
        }
        None
    }

    fn pairs(&mut self, group: &[EntryId]) {
        for (at, one) in group.iter().enumerate() {
            for other in group.iter().skip(at + 1) {
                self.compare(*one, *other, false);
            }
            if self.said.len() > ENOUGH {
                return;
            }
        }
    }

    fn compare(&mut self, one: EntryId, other: EntryId, regex: bool) {
        let (Some(a), Some(b)) = (self.table.entry(one), self.table.entry(other)) else { return };
        let apart = a.methods.exclude(b.methods)
            || a.predicates.iter().any(|mine| b.predicates.iter().any(|theirs| mine.excludes(theirs)));
        if !apart && !Arc::ptr_eq(&a.route, &b.route) {
            self.said.insert((one, other, regex));
        }
    }

    /// Whether two regular expressions share a text is not decided: they are apart only if they begin differently.
    fn among_regexes(&mut self, regexes: &[(HostId, EntryId)]) {
        let table = self.table;
        let rank = |id: EntryId| table.entry(id).map(|entry| (entry.route.priority, entry.host, entry.conditions()));
        let literal =
            |id: EntryId| table.entry(id).and_then(|entry| entry.regex.as_ref()).map_or("", |regex| regex.literal());
        let mut sorted: Vec<EntryId> = regexes.iter().map(|(_, id)| *id).collect();
        sorted.sort_by_key(|id| (rank(*id), literal(*id)));
        for (at, one) in sorted.iter().enumerate() {
            let alike = |id: &&EntryId| rank(**id) == rank(*one) && literal(**id).starts_with(literal(*one));
            for other in sorted.iter().skip(at + 1).take_while(alike) {
                self.compare(*one, *other, true);
            }
            if self.said.len() > ENOUGH {
                return;
            }
        }
    }
}
