//! A node into a type, with every complaint: what is wrong is noted, taken out, and the rest is tried again.

use serde::de::DeserializeOwned;

use super::de::At;
use super::mishap::{Kind, Mishap};
use super::node::{Node, Place, Value};
use super::notes::Notes;
use super::secret;
use crate::problem::{Path, Step, nearest};

/// Complaints about one object, each of which costs another try; beyond them nobody reads on.
const MOST: usize = 64;
/// The same about an object of very many values.
const MOST_OF_LARGE: usize = 4;
const LARGE: usize = 50_000;

/// Whether the node is a whole object or a part of one, of which nothing can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Part,
}

/// What was taken out of the node, and why.
struct Taken {
    way: Vec<Step>,
    kind: Kind,
}

/// Reads `T`; everything that is wrong goes to `notes` and out of `node`, and then nothing is given back.
pub(super) fn fit<T: DeserializeOwned>(node: &mut Node, at: &Path, extent: Extent, notes: &mut Notes) -> Option<T> {
    match T::deserialize(At(node)) {
        Ok(value) => Some(value),
        Err(first) => {
            complain::<T>(first, node, at, extent, notes);
            None
        }
    }
}

/// Notes the first mishap and all others that can be found without it.
fn complain<T: DeserializeOwned>(first: Mishap, node: &mut Node, at: &Path, extent: Extent, notes: &mut Notes) {
    // Where something is missing, the whole map goes out of this copy; others may still take it over from `node`.
    let mut rest = node.clone();
    let most = if node.weight().0 > LARGE { MOST_OF_LARGE } else { MOST };
    let (mut mishap, mut taken) = (first, Vec::new());
    for _ in 0..most {
        let (key, kind, sentence) = (mishap.key, mishap.kind.clone(), mishap.sentence.clone());
        let way = mishap.into_way();
        if !follows(&way, &kind, &rest, extent, &taken) {
            notes.error(below(at, &way), place(&rest, &way, key), without_secret(sentence, &rest, &way));
            if !matches!(kind, Kind::Missing(_)) {
                take_out(node, &way);
            }
        }
        take_out(&mut rest, &way);
        if way.is_empty() {
            return;
        }
        taken.push(Taken { way, kind });
        mishap = match T::deserialize(At(&rest)) {
            Ok(_) => return,
            Err(next) => next,
        };
    }
}

/// Whether a mishap only follows from one before, or from looking at a part.
fn follows(way: &[Step], kind: &Kind, node: &Node, extent: Extent, taken: &[Taken]) -> bool {
    let Some(target) = walk(node, way) else { return false };
    let collection = matches!(target.value, Value::Map(_) | Value::List(_));
    let in_list = way.iter().any(|step| matches!(step, Step::Index(_)));
    if extent == Extent::Part && !in_list && matches!(target.value, Value::Map(_)) && *kind != Kind::UnknownKey {
        return true;
    }
    let inside = |taken: &&Taken| taken.way.len() > way.len() && taken.way.starts_with(way);
    let mut inside = taken.iter().filter(inside);
    match kind {
        Kind::UnknownKey => false,
        Kind::Wrong => collection && inside.next().is_some(),
        Kind::Missing(missing) => inside.any(|taken| match (taken.way.get(way.len()..), &taken.kind) {
            (Some([Step::Key(key)]), Kind::UnknownKey) => nearest(key, [*missing]).is_some(),
            (Some([Step::Key(key), ..]), _) => **key == **missing,
            _ => false,
        }),
    }
}

/// The sentence without the value, if that is a secret.
fn without_secret(sentence: String, node: &Node, way: &[Step]) -> String {
    let key = way.iter().rev().find_map(|step| if let Step::Key(key) = step { Some(key) } else { None });
    let text = walk(node, way).and_then(Node::text).filter(|text| !text.is_empty());
    match (key, text) {
        (Some(key), Some(text)) if secret::is_secret(key) => sentence.replace(text, "(hidden)"),
        _ => sentence,
    }
}

fn take_out(node: &mut Node, way: &[Step]) {
    if let Some(wrong) = node.walk_mut(way) {
        wrong.value = Value::Gone;
    }
}

fn walk<'a>(node: &'a Node, way: &[Step]) -> Option<&'a Node> {
    way.iter().try_fold(node, |node, step| node.step(step))
}

fn below(at: &Path, way: &[Step]) -> Path {
    way.iter().fold(at.clone(), |path, step| match step {
        Step::Key(key) => path.key(key),
        Step::Index(index) => path.index(*index),
    })
}

/// Where the mishap stands: at the key if that is wrong, else at the value, or at the nearest thing above it.
fn place(node: &Node, way: &[Step], key: bool) -> Place {
    let mut place = node.place;
    let mut current = Some(node);
    for (at, step) in way.iter().enumerate() {
        let last = at + 1 == way.len();
        if let (true, true, Step::Key(word), Some(map)) = (key, last, step, current.and_then(Node::map)) {
            return map.get(word).map_or(place, |entry| entry.at);
        }
        current = current.and_then(|node| node.step(step));
        place = current.map_or(place, |node| node.place);
    }
    place
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::parse::{Budget, parse};
    use super::*;
    use crate::units::{Address, Duration, Name};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Thing {
        at: Address,
        #[serde(default)]
        timeout: Timeout,
        #[serde(default)]
        verify: bool,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        weights: BTreeMap<Name, u16>,
        #[serde(default)]
        parts: Vec<Part>,
        note: Option<String>,
        port: Option<u16>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Part {
        cert: String,
        key: String,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code)]
    struct Timeout {
        connect: Option<Duration>,
        idle: Option<Duration>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        #[default]
        RoundRobin,
        Random,
        Off,
        #[serde(rename = "1.2")]
        Old,
    }

    fn complaints(text: &str, extent: Extent) -> Vec<String> {
        let mut notes = Notes::default();
        let mut node = parse(text, 0, &mut Budget::default(), &mut notes).unwrap();
        let fitted = fit::<Thing>(&mut node, &Path::of(["things", "a"]), extent, &mut notes);
        assert_eq!(fitted.is_some(), notes.problems.is_empty() && extent == Extent::Whole, "{text}");
        let said = notes.problems.iter().map(|problem| {
            let place = notes.marks.get(problem).unwrap();
            format!("{}:{} {}: {}", place.line, place.column, problem.at, problem.sentence)
        });
        said.collect()
    }

    #[test]
    fn every_complaint_of_an_object_at_its_place() {
        let text = "at: 10.0.0.1\n\
                    timeout: { conect: 1s, idle: 5 }\n\
                    verify: yes\n\
                    mode: rond_robin\n\
                    weights: { a: 70000, 'b c': 1 }\n\
                    parts: [{ cert: x }, 3]\n\
                    note: no\n\
                    port: \"80\"\n";
        assert_eq!(
            complaints(text, Extent::Whole),
            [
                "1:5 things.a.at: `10.0.0.1` needs a port, e.g. 10.0.0.1:8080",
                "4:7 things.a.mode: unknown word `rond_robin`. Did you mean `round_robin`?",
                "7:7 things.a.note: `no` is a boolean to some readers and a text to others; write \"no\" in quotes if it is a text",
                "6:9 things.a.parts[0]: the key `key` is missing",
                "6:22 things.a.parts[1]: expected a map { cert, key }, found the number 3",
                "8:7 things.a.port: expected a whole number from 0 to 65535, found the text `80`",
                "2:12 things.a.timeout.conect: unknown key. Did you mean `connect`?",
                "2:30 things.a.timeout.idle: `5` needs a unit, e.g. 5s",
                "3:9 things.a.verify: expected true or false, found `yes`; write true",
                "5:15 things.a.weights.a: expected a whole number from 0 to 65535, found the number 70000",
                "5:22 things.a.weights.b c: `b c` is not a name: use letters, digits, `-`, `_` and `.`, at most 64",
            ]
        );
    }

    #[test]
    fn what_follows_from_another_complaint_is_not_said() {
        assert_eq!(
            complaints("att: 10.0.0.1:80", Extent::Whole),
            ["1:1 things.a.att: unknown key. Did you mean `at`?"]
        );
        assert_eq!(
            complaints("zzzzzzzz: 1", Extent::Whole),
            [
                "1:1 things.a.zzzzzzzz: unknown key. Known keys: at, timeout, verify, mode, weights, parts, note, port",
                "1:1 things.a: the key `at` is missing",
            ]
        );
    }

    #[test]
    fn nothing_is_missing_in_a_part() {
        assert!(complaints("verify: true", Extent::Part).is_empty());
        assert_eq!(
            complaints("verify: 1", Extent::Part),
            ["1:9 things.a.verify: expected true or false, found the number 1"]
        );
    }

    #[test]
    fn a_part_stays_whole_but_for_what_is_wrong_in_it() {
        let mut notes = Notes::default();
        let text = "{ mode: random, port: x, timeout: { idle: 1s, conect: 2s } }";
        let mut node = parse(text, 0, &mut Budget::default(), &mut notes).unwrap();
        assert!(fit::<Thing>(&mut node, &Path::default(), Extent::Part, &mut notes).is_none());
        assert_eq!(notes.problems.errors(), 2);
        assert_eq!(node.get("mode").and_then(Node::text), Some("random"));
        assert_eq!(node.get("timeout").and_then(|timeout| timeout.get("idle")).and_then(Node::text), Some("1s"));
        assert!(node.get("port").is_none());
    }

    #[test]
    fn words_that_the_type_knows_need_no_quotes_but_numbers_do() {
        assert!(complaints("{ at: 443, mode: off }", Extent::Whole).is_empty());
        assert_eq!(
            complaints("{ at: 443, mode: 1.2 }", Extent::Whole),
            ["1:18 things.a.mode: expected a text, found a number; write it in quotes, \"1.2\""]
        );
    }
}
