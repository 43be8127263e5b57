//! The document as a tree of nodes, each of which knows where it stands.

use crate::problem::Step;

/// A position in one of the files that were read; lines and columns count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// How a node came to be part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Origin {
    /// Written in the object itself.
    #[default]
    Own,
    /// Taken over from `defaults`.
    Defaults,
    /// Taken over from the object that `like` names.
    Like,
}

/// One value of the document.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Debug, Clone, Default)]
pub(super) enum Value {
    #[default]
    Null,
    Bool(bool),
    /// A number of the core schema, as it is written.
    Number(Box<str>),
    Text(Box<str>),
    /// A plain word that YAML 1.1 takes for a boolean: `no`, `on`, `yes`, `off`.
    Doubtful(Box<str>),
    List(Vec<Node>),
    Map(Map),
    /// Wrong and already complained about: the rest is read as if it were not there.
    Gone,
}

/// One key of a map and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) at: Place,
    pub(super) node: Node,
}

/// Entries in the order of their keys, each key once.
#[derive(Debug, Clone, Default)]
pub(super) struct Map(Vec<Entry>);

impl Map {
    /// Sorts the entries; of those with the same key the first stays, the others are given back, each with the first's place.
    pub(super) fn new(mut entries: Vec<Entry>) -> (Self, Vec<(Entry, Place)>) {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        let mut again = Vec::new();
        for entry in entries {
            match kept.last() {
                Some(first) if first.key == entry.key => again.push((entry, first.at)),
                _ => kept.push(entry),
            }
        }
        (Self(kept), again)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.get(self.find(key).ok()?)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        self.find(key).ok().map(|at| self.0.remove(at))
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry> {
        self.0.iter_mut()
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.0
    }

    /// A map of entries that are already sorted and unique.
    pub(super) fn of_sorted(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| (*entry.key).cmp(key))
    }
}

impl Node {
    pub(super) fn new(place: Place, value: Value) -> Self {
        Self { place, origin: Origin::Own, value }
    }

    pub(super) fn map(&self) -> Option<&Map> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    pub(super) fn map_mut(&mut self) -> Option<&mut Map> {
        if let Value::Map(map) = &mut self.value { Some(map) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Number(text) | Value::Doubtful(text) => Some(text),
            _ => None,
        }
    }

    /// The value under a key of a map, unless it is gone.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.map()?.get(key).map(|entry| &entry.node).filter(|node| !matches!(node.value, Value::Gone))
    }

    pub(super) fn step(&self, step: &Step) -> Option<&Self> {
        match (step, &self.value) {
            (Step::Key(key), Value::Map(map)) => map.get(key).map(|entry| &entry.node),
            (Step::Index(index), Value::List(items)) => items.get(*index),
            _ => None,
        }
    }

    pub(super) fn walk_mut(&mut self, steps: &[Step]) -> Option<&mut Self> {
        steps.iter().try_fold(self, |node, step| match (step, &mut node.value) {
            (Step::Key(key), Value::Map(map)) => map.get_mut(key).map(|entry| &mut entry.node),
            (Step::Index(index), Value::List(items)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// How many nodes this one consists of, and how deep it goes.
    pub(super) fn weight(&self) -> (usize, usize) {
        let sum = |(size, depth): (usize, usize), node: &Self| {
            let (more, deep) = node.weight();
            (size + more, depth.max(deep + 1))
        };
        match &self.value {
            Value::List(items) => items.iter().fold((1, 1), sum),
            Value::Map(map) => map.iter().map(|entry| &entry.node).fold((1, 1), sum),
            _ => (1, 0),
        }
    }
}
