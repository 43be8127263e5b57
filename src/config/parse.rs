//! Text to tree: YAML events become nodes with their places, within a budget that no document outgrows by accident.

use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle};

use super::broken;
use super::node::{Entry, Map, Node, Place, Value};
use super::notes::Notes;
use super::scalar;
use super::secret;
use crate::problem::Path;

/// Levels of nesting; the language itself needs seven.
pub(super) const DEPTH: usize = 64;
/// Nodes of all files together: 40,000 objects of a usual size are a third of it.
const NODES: usize = 3_000_000;
/// Nodes that aliases may stand for, all of them together.
const COPIES: usize = 100_000;

/// What the files that were read so far have used up, and which stretches of them are secret.
#[derive(Debug, Default)]
pub(super) struct Budget {
    nodes: usize,
    copies: usize,
    /// Secret scalars of several lines: file, first and last line.
    pub(super) hidden: Vec<(u32, u32, u32)>,
}

/// A complaint that ends the reading of a file.
struct Stop(Place, String);

/// The tree of one file, or nothing if it could not be read to its end. An empty file is an empty map.
pub(super) fn parse(text: &str, file: u32, budget: &mut Budget, notes: &mut Notes) -> Option<Node> {
    let mut options = granit_parser::options! { disallow_directives: true };
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    let mut build = Build { text, file, budget, notes, frames: Vec::new(), anchors: HashMap::new(), root: None };
    match build.read(parser) {
        Ok(()) => {
            let empty = || Node::new(Place { file, line: 1, column: 1 }, Value::Null);
            Some(build.root.unwrap_or_else(empty))
        }
        Err(Stop(place, sentence)) => {
            notes.error(Path::default(), place, sentence);
            None
        }
    }
}

/// A collection that is not closed yet.
struct Frame {
    place: Place,
    anchor: usize,
    /// It is written in brackets.
    flow: bool,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(Box<str>, Place)>),
}

struct Build<'a> {
    text: &'a str,
    file: u32,
    budget: &'a mut Budget,
    notes: &'a mut Notes,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
}

impl Build<'_> {
    fn read<'t>(&mut self, parser: Parser<'t, StrInput<'t>>) -> Result<(), Stop> {
        let mut documents = 0;
        for event in parser {
            let (event, span) = event.map_err(|why| self.broken(&why))?;
            let place = self.place(&span.start);
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Stop(place, "a second document begins here; one file holds one document".into()));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    no_tag(place, tag.is_some())?;
                    self.scalar(&text, style, anchor, place, &span)?;
                }
                Event::SequenceStart(style, anchor, tag) => {
                    no_tag(place, tag.is_some())?;
                    self.open(Open::List(Vec::new()), style, anchor, place)?;
                }
                Event::MappingStart(style, anchor, tag) => {
                    no_tag(place, tag.is_some())?;
                    self.open(Open::Map(Vec::new(), None), style, anchor, place)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(id) => self.alias(id, place)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, at: Place, span: &Span) -> Result<(), Stop> {
        self.count(at)?;
        if let Some(Frame { open: Open::Map(_, key @ None), .. }) = self.frames.last_mut() {
            if text.is_empty() && style == ScalarStyle::Plain {
                return Err(Stop(at, "a key is missing before the `:`".into()));
            }
            *key = Some((text.into(), at));
            return Ok(());
        }
        let last = line(span.end.line());
        if last > at.line && self.key().is_some_and(|key| secret::is_secret(key) && !secret::is_reference(text)) {
            self.budget.hidden.push((self.file, at.line, last));
        }
        let value = if style == ScalarStyle::Plain { scalar::plain(text) } else { Value::Text(text.into()) };
        self.done(Node::new(at, value), anchor)
    }

    fn open(&mut self, open: Open, style: StructureStyle, anchor: usize, place: Place) -> Result<(), Stop> {
        self.count(place)?;
        self.deep(place, 1)?;
        let place = match self.frames.last() {
            Some(Frame { open: Open::Map(_, None), .. }) => {
                return Err(Stop(place, "a key must be a word, not a list or a map".into()));
            }
            // A block begins on the line below its key: the key is where the eye looks for it.
            Some(Frame { open: Open::Map(_, Some((_, key))), .. }) if style == StructureStyle::Block => *key,
            _ => place,
        };
        self.frames.push(Frame { place, anchor, flow: style != StructureStyle::Block, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(Frame { place, anchor, open, .. }) = self.frames.pop() else { return Ok(()) };
        let value = match open {
            Open::List(items) => Value::List(items),
            Open::Map(entries, _) => Value::Map(self.map(entries)),
        };
        self.done(Node::new(place, value), anchor)
    }

    fn map(&mut self, entries: Vec<Entry>) -> Map {
        let (map, again) = Map::new(entries);
        for (entry, first) in again {
            let sentence = format!("written twice, first in line {}; keep one of them", first.line);
            self.notes.error(self.path().key(&entry.key), entry.at, sentence);
        }
        map
    }

    /// Puts a finished node into the collection that is open, or makes it the root.
    fn done(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            self.copy(node.place, node.weight().0)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(entries, key)) => {
                let Some((key, at)) = key.take() else { return Ok(()) };
                if &*key == "<<" {
                    return Err(Stop(at, "merge keys (`<<`) are not read; use `like: name` or `defaults`".into()));
                }
                entries.push(Entry { key, at, node });
            }
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<(), Stop> {
        let inside = || Stop(place, "an alias stands inside of what it means, so it would never end".into());
        let mut node = self.anchors.get(&id).cloned().ok_or_else(inside)?;
        if let Some(Frame { open: Open::Map(_, None), .. }) = self.frames.last() {
            return Err(Stop(place, "an alias cannot be a key; write the word".into()));
        }
        let (size, depth) = node.weight();
        self.copy(place, size)?;
        self.deep(place, depth)?;
        node.place = place;
        self.done(node, 0)
    }

    fn count(&mut self, place: Place) -> Result<(), Stop> {
        self.budget.nodes += 1;
        if self.budget.nodes > NODES {
            return Err(Stop(place, format!("the document is too large: more than {NODES} values")));
        }
        Ok(())
    }

    fn copy(&mut self, place: Place, size: usize) -> Result<(), Stop> {
        self.budget.copies = self.budget.copies.saturating_add(size);
        if self.budget.copies > COPIES {
            return Err(Stop(place, format!("aliases stand for more than {COPIES} values; write less with `like`")));
        }
        Ok(())
    }

    fn deep(&self, place: Place, more: usize) -> Result<(), Stop> {
        if self.frames.len() + more > DEPTH {
            return Err(Stop(place, format!("nested deeper than {DEPTH} levels")));
        }
        Ok(())
    }

    /// The key that the next value belongs to, also from inside a list.
    fn key(&self) -> Option<&str> {
        self.frames.iter().rev().find_map(|frame| match &frame.open {
            Open::Map(_, key) => Some(key.as_ref().map(|(key, _)| &**key)),
            Open::List(_) => None,
        })?
    }

    fn path(&self) -> Path {
        self.frames.iter().fold(Path::default(), |path, frame| match &frame.open {
            Open::List(items) => path.index(items.len()),
            Open::Map(_, Some((key, _))) => path.key(key),
            Open::Map(_, None) => path,
        })
    }

    fn place(&self, at: &Marker) -> Place {
        Place { file: self.file, line: line(at.line()), column: line(at.col() + 1) }
    }

    fn broken(&self, why: &ScanError) -> Stop {
        let open = self.frames.iter().rev().find(|frame| frame.flow).map(|frame| match frame.open {
            Open::List(_) => (frame.place, '['),
            Open::Map(..) => (frame.place, '{'),
        });
        let (place, sentence) = broken::told(why.kind(), self.place(why.marker()), open, self.text);
        Stop(place, sentence)
    }
}

fn line(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn no_tag(place: Place, tagged: bool) -> Result<(), Stop> {
    if tagged { Err(Stop(place, "tags (`!word`) are not read; leave the tag out".into())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Option<Node>, Vec<(u32, u32, String)>) {
        let mut notes = Notes::default();
        let tree = parse(text, 0, &mut Budget::default(), &mut notes);
        let said = notes.problems.iter().map(|problem| {
            let place = notes.marks.get(problem).unwrap();
            (place.line, place.column, problem.sentence.clone())
        });
        (tree, said.collect())
    }

    fn complaint(text: &str) -> (u32, u32, String) {
        let (_, said) = read(text);
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        said.into_iter().next().unwrap()
    }

    #[test]
    fn nodes_know_their_place_and_blocks_stand_at_their_key() {
        let (tree, said) = read("a: 1\nb:\n  c: { d: [x, \"y\"] }\n");
        assert_eq!(said, []);
        let tree = tree.unwrap();
        let at = |node: &Node| (node.place.line, node.place.column);
        assert_eq!(at(tree.get("a").unwrap()), (1, 4));
        let b = tree.get("b").unwrap();
        assert_eq!(at(b), (2, 1));
        let d = b.get("c").unwrap().get("d").unwrap();
        assert_eq!(at(d), (3, 11));
        let Value::List(items) = &d.value else { panic!("not a list") };
        assert_eq!((at(&items[1]), items[1].text()), ((3, 15), Some("y")));
    }

    #[test]
    fn mistakes_of_the_yaml_itself_are_said_in_plain_words() {
        for (text, line, column, sentence) in [
            ("a:\n\tb: 1\n", 2, 1, "a tab stands here; YAML wants spaces"),
            ("a:\n  b: 1\n\tc: 1\n", 3, 1, "a tab stands here; YAML wants spaces"),
            ("a:\n  b: 1\n  \tc: 1\n", 3, 3, "a tab stands here; YAML wants spaces"),
            ("a:\n  b: [::]:80\n", 2, 6, "what begins with `[` is a list; write an address in quotes, \"[::]:80\""),
            (
                "a: { b: [::1]:80, c: 1 }\n",
                1,
                9,
                "what begins with `[` is a list; write an address in quotes, \"[::1]:80\"",
            ),
            ("a:1\nb: 2\n", 1, 1, "a space is missing after the `:` of `a:1`"),
            ("a:\n  b:/x\n  c: 1\n", 2, 3, "a space is missing after the `:` of `b:/x`"),
            ("a:\n  c: 1\n  b:/x\n", 3, 3, "a space is missing after the `:` of `b:/x`"),
            (
                "a:\n  b: 1\n    c: 2\n",
                3,
                5,
                "this line is indented deeper than line 2, whose key has its value already",
            ),
            ("a:\n  b: [1, 2\n  c: 1\nd: 1\n", 2, 6, "the `[` that opens here is not closed before line 3"),
            ("a: { b: 1\n  c: { d: 1 }\n", 1, 4, "the `{` that opens here is not closed before line 2"),
            ("a: 1\n---\nb: 1\n", 2, 1, "a second document begins here; one file holds one document"),
            ("a: 1\nb: 2\na: 3\n", 3, 1, "written twice, first in line 1; keep one of them"),
            ("a: !!int 3\n", 1, 10, "tags (`!word`) are not read; leave the tag out"),
            (
                "a: *b\n",
                1,
                4,
                "this alias has no anchor (`&name`) before it; put the text in quotes if it begins with `*`",
            ),
            ("a: &b { c: 1 }\nd: { <<: *b }\n", 2, 6, "merge keys (`<<`) are not read; use `like: name` or `defaults`"),
            ("a: &b [*b]\n", 1, 8, "an alias stands inside of what it means, so it would never end"),
            ("a: [1, 2\n", 1, 4, "the `[` that opens here is never closed"),
            ("a: b: c\n", 1, 5, "a second `: ` in this line; put the text in quotes"),
            ("? [a]\n: b\n", 1, 3, "a key must be a word, not a list or a map"),
        ] {
            assert_eq!(complaint(text), (line, column, sentence.to_owned()), "{text}");
        }
    }

    #[test]
    fn aliases_serve_within_reason() {
        let (tree, said) = read("a: &x { b: 1 }\nc: *x\n");
        assert_eq!(said, []);
        assert_eq!(tree.unwrap().get("c").unwrap().get("b").unwrap().text(), Some("1"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..20 {
            let before = format!("*a{}", n - 1);
            writeln!(bomb, "a{n}: &a{n} [{}]", [before.as_str(); 10].join(", ")).unwrap();
        }
        assert!(complaint(&bomb).2.starts_with("aliases stand for more than"));
    }

    #[test]
    fn very_many_complaints_end_somewhere() {
        let (_, said) = read(&"a: 1\n".repeat(60_000));
        assert_eq!(said.len(), 50_001);
        assert_eq!(said.last().unwrap().2, "more than 50000 complaints; the rest is left out");
    }

    #[test]
    fn depth_is_refused_before_it_hurts() {
        let mut block = String::new();
        for n in 0..10_000_usize {
            writeln!(block, "{}a:", " ".repeat(n.min(300))).unwrap();
        }
        let nested = ["[".repeat(10_000), "{a: ".repeat(10_000), "- ".repeat(10_000), block];
        for text in nested {
            let said = read(&text).1;
            assert!(said.iter().any(|(_, _, said)| said.starts_with("nested deeper")), "{said:?}");
        }
        let mut stairs = format!("a0: &a0 {}{}\n", "[".repeat(50), "]".repeat(50));
        writeln!(stairs, "a1: {}*a0{}", "[".repeat(50), "]".repeat(50)).unwrap();
        assert_eq!(complaint(&stairs).2, "nested deeper than 64 levels");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}") {
            read(&text);
        }

        #[test]
        fn nor_anything_that_looks_like_yaml(text in "[a-c:{}\\[\\],\\-?&*!|>'\"%#@~ \n\t0-9<.]{0,120}") {
            read(&text);
        }
    }
}
