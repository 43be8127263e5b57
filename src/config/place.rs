//! From a path of the document to the file, line and column where it stands, and to where a value came from.

use std::fmt;

use super::node::{Node, Origin, Place, Value};
use super::notes::Marks;
use super::read::Source;
use crate::problem::{Path, Problem, Step};

/// The places of a document that was read; they outlive the reading for reports and for `show`.
#[derive(Debug, Default)]
pub struct Places {
    pub(super) sources: Vec<Source>,
    /// Every object as it was completed from `defaults` and `like`.
    pub(super) tree: Node,
    pub(super) marks: Marks,
    /// Secret texts of several lines: file, first and last line.
    pub(super) hidden: Vec<(u32, u32, u32)>,
}

/// A place with the name of its file: `yumen.yaml:24:5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot<'a> {
    /// The number of the file in the order of reading.
    pub order: u32,
    pub line: u32,
    pub column: u32,
    pub file: &'a str,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From<'a> {
    BuiltIn,
    Own(Spot<'a>),
    Defaults(&'static str, Spot<'a>),
    Like(String, Spot<'a>),
}

impl fmt::Display for Spot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => f.write_str(self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

impl fmt::Display for From<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::Own(spot) => spot.fmt(f),
            Self::Defaults(one, spot) => write!(f, "defaults.{one} {spot}"),
            Self::Like(name, spot) => write!(f, "like {name} {spot}"),
        }
    }
}

impl Places {
    /// Where a complaint points; a whole file or the document when nothing nearer is known.
    pub fn of(&self, problem: &Problem) -> Spot<'_> {
        let place = self.marks.get(problem).unwrap_or_else(|| self.value(&problem.at).place);
        self.spot(place)
    }

    /// Where something is defined: the key of a map's entry, the value of a list's element.
    pub fn at(&self, path: &Path) -> Spot<'_> {
        let (above, last) = match path.steps().split_last() {
            Some((last, above)) => (above, Some(last)),
            None => (path.steps(), None),
        };
        let parent = self.walk(above);
        let entry = match (parent, last) {
            (Some(node), Some(Step::Key(key))) => node.map().and_then(|map| map.get(key)),
            _ => None,
        };
        self.spot(entry.map_or_else(|| self.value(path).place, |entry| entry.at))
    }

    /// Where an effective value came from; `path` may go deeper than what is written, as long forms do.
    pub fn origin(&self, path: &Path) -> From<'_> {
        let mut node = &self.tree;
        for step in path.steps() {
            match (node.step(step), &node.value) {
                (Some(below), _) => node = below,
                (None, Value::Map(_) | Value::Null | Value::Gone) => return From::BuiltIn,
                // What is written is shorter than what it means.
                (None, _) => break,
            }
        }
        let spot = self.spot(node.place);
        match (node.origin, path.steps()) {
            (Origin::Defaults, [Step::Key(section), ..]) => From::Defaults(one(section), spot),
            (Origin::Like, [Step::Key(section), Step::Key(name), ..]) => {
                let like =
                    self.tree.get(section).and_then(|section| section.get(name)).and_then(|node| node.get("like"));
                From::Like(like.and_then(Node::text).unwrap_or_default().to_owned(), spot)
            }
            _ => From::Own(spot),
        }
    }

    /// Whether no file could be read.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many objects a section has.
    pub fn count(&self, section: &str) -> usize {
        self.tree.get(section).and_then(Node::map).map_or(0, |map| map.iter().len())
    }

    /// The text of a file that was read, and whether a line of it belongs to a secret.
    pub(super) fn source(&self, order: u32) -> Option<&Source> {
        self.sources.get(order as usize)
    }

    pub(super) fn is_hidden(&self, order: u32, line: u32) -> bool {
        // They lie in the order of reading and do not overlap.
        let after = self.hidden.partition_point(|(file, first, _)| (*file, *first) <= (order, line));
        let before = after.checked_sub(1).and_then(|at| self.hidden.get(at));
        before.is_some_and(|(file, _, last)| *file == order && line <= *last)
    }

    /// The value at a path, or the nearest thing above it.
    fn value(&self, path: &Path) -> &Node {
        let mut node = &self.tree;
        for step in path.steps() {
            match node.step(step) {
                Some(below) => node = below,
                None => break,
            }
        }
        node
    }

    fn walk(&self, steps: &[Step]) -> Option<&Node> {
        steps.iter().try_fold(&self.tree, |node, step| node.step(step))
    }

    fn spot(&self, place: Place) -> Spot<'_> {
        let file = self.source(place.file).map_or("", |source| &source.name);
        Spot { order: place.file, line: place.line, column: place.column, file }
    }
}

fn one(section: &str) -> &'static str {
    match section {
        "listeners" => "listener",
        "pools" => "pool",
        _ => "route",
    }
}
