//! What differs in effect between two documents, however they are written: a sentence for each difference.

mod effective;
mod say;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};

pub use effective::{Candidate, Effective, Nonce};

use super::reload::Reload;
use effective::{Leaf, Object, SECTIONS, SINGLES};

/// Lines that a log or a history keeps of one diff, and the length of each.
const FEW: usize = 20;
const SHORT: usize = 200;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Where, e.g. `routes.orders.to.orders-canary`.
    pub path: String,
    /// What became of it.
    pub kind: Kind,
    /// The value before; not of a secret nor of what has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// The value after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// When it takes effect.
    pub reload: Reload,
    /// The whole in a sentence, e.g. `route orders: to.orders-canary 5 % -> 10 %`.
    pub text: String,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// All differences, in the order of the sections and names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Diff(pub Vec<Change>);

impl Diff {
    /// What `new` changes of `old`; both have to be marked alike.
    pub fn between(old: &Effective, new: &Effective) -> Self {
        let mut changes = Vec::new();
        let none = BTreeMap::new();
        let all = SECTIONS.iter().copied().chain(SINGLES.iter().map(|single| (*single, *single)));
        for (section, one) in all {
            let old = old.0.get(section).unwrap_or(&none);
            let new = new.0.get(section).unwrap_or(&none);
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let at = At { section, one, name };
                match (old.get(name), new.get(name)) {
                    (Some(old), Some(new)) => compare(&at, old, new, &mut changes),
                    (None, Some(new)) => changes.push(at.whole(Kind::Added, new)),
                    (Some(old), None) => changes.push(at.whole(Kind::Removed, old)),
                    (None, None) => {}
                }
            }
        }
        Self(changes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every difference in a line, with when it takes effect.
    pub fn human(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, change| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<9}  {}", change.reload, change.text);
            text
        })
    }

    /// The first lines, for a log.
    pub fn brief(&self) -> Vec<String> {
        let line = |change: &Change| say::cut(&format!("{}  {}", change.reload, change.text), SHORT);
        let mut lines: Vec<String> = self.0.iter().take(FEW).map(line).collect();
        if let Some(more) = self.0.len().checked_sub(FEW).filter(|more| *more > 0) {
            lines.push(format!("and {more} more"));
        }
        lines
    }
}

/// An object of both documents.
struct At<'a> {
    section: &'a str,
    one: &'a str,
    name: &'a str,
}

impl At<'_> {
    fn keys<'k>(&'k self, below: &'k [String]) -> impl Iterator<Item = &'k str> {
        let name = Some(self.name).filter(|name| !name.is_empty());
        [self.section].into_iter().chain(name).chain(below.iter().map(String::as_str))
    }

    fn change(&self, below: &[String], kind: Kind, said: &str) -> Change {
        let space = if self.name.is_empty() { "" } else { " " };
        Change {
            path: self.keys(below).collect::<Vec<_>>().join("."),
            kind,
            was: None,
            is: None,
            reload: Reload::of(self.keys(below)),
            text: say::plain(&format!("{}{space}{}: {said}", self.one, self.name)),
        }
    }

    /// It came or went as a whole.
    fn whole(&self, kind: Kind, object: &Object) -> Change {
        let word = if kind == Kind::Added { "added" } else { "removed" };
        let said = Some(say::gist(object)).filter(|gist| kind == Kind::Added && !gist.is_empty());
        self.change(&[], kind, &said.map_or(word.to_owned(), |gist| format!("{word} ({gist})")))
    }
}

/// The differences of one object: values first that both have, then what came and went, each as large as it is whole.
fn compare(at: &At<'_>, old: &Object, new: &Object, changes: &mut Vec<Change>) {
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) = (index(old), index(new));
    for (path, leaf) in &before {
        let Some(now) = after.get(path).filter(|now| *now != leaf) else { continue };
        let mut change = at.change(path, Kind::Changed, &format!("{} {}", say::path(path), say::both(leaf, now)));
        (change.was, change.is) = (say::value(leaf), say::value(now));
        changes.push(change);
    }
    for (kind, here, there) in [(Kind::Removed, &before, &after), (Kind::Added, &after, &before)] {
        for (path, leaves) in groups(here, there) {
            changes.push(group(at, kind, &path, &leaves));
        }
    }
}

type Index<'a> = BTreeMap<&'a [String], &'a Leaf>;

fn index(object: &Object) -> Index<'_> {
    object.iter().map(|(path, leaf)| (path.as_slice(), leaf)).collect()
}

/// What only `here` has, under the first keys of which `there` has nothing.
fn groups<'a>(here: &Index<'a>, there: &Index<'_>) -> BTreeMap<Vec<String>, Vec<(&'a [String], &'a Leaf)>> {
    let mut groups: BTreeMap<Vec<String>, Vec<_>> = BTreeMap::new();
    for (path, leaf) in here.iter().filter(|(path, _)| !there.contains_key(*path)) {
        let begins = |first: &[String]| there.keys().any(|other| other.starts_with(first));
        let first = (1..path.len()).filter_map(|length| path.get(..length)).find(|first| !begins(first));
        groups.entry(first.unwrap_or(path).to_vec()).or_default().push((*path, *leaf));
    }
    groups
}

fn group(at: &At<'_>, kind: Kind, path: &[String], leaves: &[(&[String], &Leaf)]) -> Change {
    let name = say::path(path);
    let alone = leaves.iter().find(|(own, _)| *own == path).and_then(|(_, leaf)| say::value(leaf));
    let said = match (kind, &alone) {
        (Kind::Removed, Some(value)) => format!("{name} {value} -> not set"),
        (_, Some(value)) => format!("{name} not set -> {value}"),
        (Kind::Removed, None) => format!("{name} removed"),
        (_, None) => {
            let below = leaves.iter().map(|(own, leaf)| (own.get(path.len()..).unwrap_or_default(), *leaf));
            let gist = say::list(below);
            if gist.is_empty() { format!("{name} added") } else { format!("{name} added ({gist})") }
        }
    };
    let mut change = at.change(path, kind, &said);
    if kind == Kind::Removed {
        change.was = alone;
    } else {
        change.is = alone;
    }
    change
}

#[cfg(test)]
mod tests;
