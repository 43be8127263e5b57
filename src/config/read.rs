//! Files to one tree: the main file, what it includes, and whose name is used twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use super::glob;
use super::include::{self, OnError};
use super::node::{Entry, Map, Node, Place, Value};
use super::notes::Notes;
use super::parse::{Budget, parse};
use super::relative;
use super::texts::Texts;
use crate::problem::Path;

/// Bytes of one file, and of all together; a million lines fit.
const FILE_BYTES: u64 = 16 << 20;
const ALL_BYTES: u64 = 64 << 20;
/// Includes within includes.
const NESTED: usize = 8;

/// Sections whose entries may come from several files.
pub(super) const SHARED: [&str; 5] = ["listeners", "pools", "routes", "auth", "defaults"];

/// Texts of files that are read as they were and not as they are.
pub type Instead = BTreeMap<PathBuf, Arc<str>>;

/// A file as it was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    /// As reports name it.
    pub(super) name: String,
    pub(super) text: Arc<str>,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) root: Node,
    pub(super) sources: Vec<Source>,
    pub(super) files: Vec<PathBuf>,
    /// Of each file that could be read its text.
    pub(super) texts: Texts,
    /// Those that may be held back, and of them those that could not be read.
    pub(super) soft: Vec<PathBuf>,
    pub(super) unread: Vec<PathBuf>,
    /// Directories in which a new file could match an `include`.
    pub(super) directories: Vec<PathBuf>,
    /// Secret texts of several lines: file, first and last line.
    pub(super) hidden: Vec<(u32, u32, u32)>,
    /// Why the main file could not be read.
    pub(super) unreadable: Option<io::ErrorKind>,
    /// Whether every file was read to its end.
    pub(super) complete: bool,
    /// Whether the main file was not.
    pub(super) broken: bool,
}

/// Reads the file at `path` and all that it includes.
pub(super) fn files(path: &FilePath, instead: &Instead, notes: &mut Notes) -> Reading {
    let mut reader = Reader::new(notes);
    reader.instead = Some(instead);
    reader.file(path, None);
    reader.finish()
}

/// Reads a document as it once was, whatever its files say now.
pub(super) fn texts(texts: &Texts, notes: &mut Notes) -> Reading {
    let mut reader = Reader::new(notes);
    reader.once = Some(texts);
    if let Some(main) = texts.main() {
        reader.file(main, None);
    }
    reader.finish()
}

/// Reads a text that is no file; it can include nothing.
pub(super) fn text(name: &str, text: &str, notes: &mut Notes) -> Reading {
    let mut reader = Reader::new(notes);
    reader.text(Source { name: name.to_owned(), text: text.into() }, None);
    reader.finish()
}

struct Reader<'n> {
    notes: &'n mut Notes,
    /// Where files are read from instead of the disk.
    once: Option<&'n Texts>,
    /// What is read instead of single files.
    instead: Option<&'n Instead>,
    /// Whether what is read now may be held back.
    soft: bool,
    reading: Reading,
    budget: Budget,
    bytes: u64,
    shared: BTreeMap<Box<str>, (Place, Vec<Entry>)>,
    single: Vec<Entry>,
    /// The tests of all files, one after the other, and where the first of them begin.
    tests: Option<(Place, Vec<Node>)>,
    /// Files that are being read, outermost first, and all that were, by their real paths.
    stack: Vec<PathBuf>,
    seen: Vec<PathBuf>,
}

/// The entry of an `include` that asks for a file.
type Asked<'a> = Option<(&'a Path, Place)>;

impl<'n> Reader<'n> {
    fn new(notes: &'n mut Notes) -> Self {
        Self {
            notes,
            once: None,
            instead: None,
            soft: false,
            reading: Reading { complete: true, ..Reading::default() },
            budget: Budget::default(),
            bytes: 0,
            shared: BTreeMap::new(),
            single: Vec::new(),
            tests: None,
            stack: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn file(&mut self, path: &FilePath, asked: Asked<'_>) {
        let real = self.once.is_none().then(|| path.canonicalize().ok()).flatten();
        let real = real.unwrap_or_else(|| path.to_owned());
        if self.stack.contains(&real) {
            return self.refuse(asked, format!("{} includes itself", path.display()));
        }
        if self.seen.contains(&real) {
            let (at, place) = asked.map_or_else(Default::default, |(at, place)| (at.clone(), place));
            return self.notes.warn(at, place, format!("{} is included already", path.display()));
        }
        self.reading.files.push(path.to_owned());
        if self.soft {
            self.reading.soft.push(path.to_owned());
        }
        let text = match self.contents(path) {
            Ok(text) => text,
            Err((kind, why)) => {
                if asked.is_none() {
                    self.reading.broken = true;
                    self.reading.unreadable = Some(kind);
                }
                if self.soft {
                    self.reading.unread.push(path.to_owned());
                }
                return self.refuse(asked, why);
            }
        };
        self.reading.texts.push(path, &text);
        self.seen.push(real.clone());
        self.stack.push(real);
        let directory = path.parent().unwrap_or(FilePath::new("")).to_owned();
        self.text(Source { name: path.display().to_string(), text }, Some(&directory));
        self.stack.pop();
    }

    fn refuse(&mut self, asked: Asked<'_>, why: String) {
        self.reading.complete = false;
        let (at, place) = asked.map_or_else(Default::default, |(at, place)| (at.clone(), place));
        self.notes.error(at, place, why);
    }

    /// The text of a file, if it is a file, of a size that can be meant, and UTF-8.
    fn contents(&mut self, path: &FilePath) -> Result<Arc<str>, (io::ErrorKind, String)> {
        if let Some(once) = self.once {
            return once
                .get(path)
                .ok_or_else(|| (io::ErrorKind::NotFound, said(&io::ErrorKind::NotFound.into(), path)));
        }
        if let Some(text) = self.instead.and_then(|instead| instead.get(path)) {
            return Ok(Arc::clone(text));
        }
        let show = path.display();
        let failed = |why: io::Error| (why.kind(), said(&why, path));
        let data = |sentence: String| Err((io::ErrorKind::InvalidData, sentence));
        let meta = path.metadata().map_err(failed)?;
        if !meta.is_file() {
            return data(format!("{show} is not a file"));
        }
        let mut bytes = Vec::new();
        if meta.len() <= FILE_BYTES {
            File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
        }
        let length = meta.len().max(bytes.len() as u64);
        self.bytes = self.bytes.saturating_add(length);
        if length > FILE_BYTES {
            return data(format!("{show} is too large: {} MiB, at most {}", length >> 20, FILE_BYTES >> 20));
        }
        if self.bytes > ALL_BYTES {
            return data(format!("the document is too large: more than {} MiB in all files", ALL_BYTES >> 20));
        }
        String::from_utf8(bytes).map(Into::into).or_else(|why| {
            let good = why.as_bytes().get(..why.utf8_error().valid_up_to()).unwrap_or_default();
            let line = good.split(|byte| *byte == b'\n').count();
            data(format!("{show} is not UTF-8: line {line} holds a byte that is no text"))
        })
    }

    fn text(&mut self, source: Source, directory: Option<&FilePath>) {
        let file = u32::try_from(self.reading.sources.len()).unwrap_or(u32::MAX);
        let tree = parse(&source.text, file, &mut self.budget, self.notes);
        self.reading.sources.push(source);
        let Some(mut tree) = tree else {
            self.reading.complete = false;
            self.reading.broken |= file == 0;
            return;
        };
        if let Some(directory) = directory {
            relative::resolve(&mut tree, directory);
        }
        let entries = match tree.value {
            Value::Map(map) => map.into_entries(),
            Value::Null => return,
            _ => {
                self.reading.complete = false;
                self.reading.broken |= file == 0;
                let sentence = "the document is a map that begins with `version: 1`";
                return self.notes.error(Path::default(), tree.place, sentence);
            }
        };
        let mut include = None;
        for entry in entries {
            match (&*entry.key, entry.node.value) {
                ("include", value) => include = Some(Entry { node: Node { value, ..entry.node }, ..entry }),
                (key, Value::Map(map)) if SHARED.contains(&key) => {
                    self.shared.entry(entry.key).or_insert((entry.at, Vec::new())).1.extend(map.into_entries());
                }
                ("tests", Value::Null) => {}
                ("tests", Value::List(tests)) => {
                    self.tests.get_or_insert((entry.node.place, Vec::new())).1.extend(tests);
                }
                ("version", value) if !self.stack.is_empty() && file > 0 && is_one(&value) => {}
                (_, value) => self.single.push(Entry { node: Node { value, ..entry.node }, ..entry }),
            }
        }
        if let Some(include) = include {
            self.include(&include.node, directory);
            if file == 0 {
                self.single.push(include);
            }
        }
    }

    fn include(&mut self, include: &Node, directory: Option<&FilePath>) {
        let at = Path::of(["include"]);
        let Value::List(patterns) = &include.value else {
            return self.notes.error(at, include.place, "expected a list of files, e.g. [conf.d/*.yaml]");
        };
        for (index, node) in patterns.iter().enumerate() {
            let (at, place) = (at.index(index), node.place);
            match (include::entry(node, &at, self.notes), directory) {
                (None, _) => {}
                (_, None) => self.notes.error(at, place, "only a file can include others"),
                (Some(_), _) if self.stack.len() >= NESTED => {
                    self.notes.error(at, place, format!("files include each other more than {NESTED} levels deep"));
                }
                (Some(one), Some(directory)) => {
                    let above = self.soft;
                    self.soft |= one.on_error == OnError::KeepLast;
                    self.pattern(&one.files, directory, &at, place);
                    self.soft = above;
                }
            }
        }
    }

    fn pattern(&mut self, pattern: &str, directory: &FilePath, at: &Path, place: Place) {
        let pattern = directory.join(pattern);
        if !glob::is_pattern(&pattern) {
            return self.file(&pattern, Some((at, place)));
        }
        match self.once.map_or_else(|| glob::matching(&pattern), |once| Ok(glob::among(&pattern, once.paths()))) {
            Err(why) => self.refuse(Some((at, place)), why),
            Ok(found) => {
                self.reading.directories.push(pattern.parent().unwrap_or(FilePath::new("")).to_owned());
                if found.is_empty() {
                    self.notes.warn(at.clone(), place, format!("no file matches {}", pattern.display()));
                }
                for path in found {
                    self.file(&path, Some((at, place)));
                }
            }
        }
    }

    fn finish(mut self) -> Reading {
        let mut root = std::mem::take(&mut self.single);
        for (key, (at, entries)) in std::mem::take(&mut self.shared) {
            let map = self.unique(entries, &Path::default().key(&key));
            root.push(Entry { key, at, node: Node::new(at, Value::Map(map)) });
        }
        if let Some((at, tests)) = self.tests.take() {
            root.push(Entry { key: "tests".into(), at, node: Node::new(at, Value::List(tests)) });
        }
        let root = self.unique(root, &Path::default());
        self.reading.root = Node::new(Place { file: 0, line: 1, column: 1 }, Value::Map(root));
        self.reading.hidden = self.budget.hidden;
        self.reading
    }

    /// The entries as a map; a name that two files use is complained about.
    fn unique(&mut self, entries: Vec<Entry>, at: &Path) -> Map {
        let (map, again) = Map::new(entries);
        for (entry, first) in again {
            let name = self.reading.sources.get(first.file as usize).map_or("", |source| &source.name);
            let sentence = format!("written twice, first at {name}:{}:{}; keep one of them", first.line, first.column);
            self.notes.error(at.key(&entry.key), entry.at, sentence);
        }
        map
    }
}

fn is_one(value: &Value) -> bool {
    matches!(value, Value::Number(text) if &**text == "1")
}

/// Why a file cannot be read, in one sentence.
fn said(why: &io::Error, path: &FilePath) -> String {
    let path = path.display();
    match why.kind() {
        io::ErrorKind::NotFound => format!("there is no file {path}"),
        io::ErrorKind::PermissionDenied => format!("no permission to read {path}"),
        _ => format!("cannot read {path}: {why}"),
    }
}

/// A hash of all that was read: SHA-256, by the TLS provider that is linked anyway.
pub(super) fn hash(sources: &[Source]) -> String {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() else { return String::new() };
    let mut context = suite.common.hash_provider.start();
    for source in sources {
        context.update(&(source.text.len() as u64).to_be_bytes());
        context.update(source.text.as_bytes());
    }
    let digest = context.finish();
    let short = digest.as_ref().iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    format!("{short:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(files: &[(&str, &str)]) -> (Reading, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut notes = Notes::default();
        let reading = super::files(&directory.path().join(files[0].0), &Instead::new(), &mut notes);
        let root = format!("{}/", directory.path().display());
        let said = notes.problems.iter().map(|problem| {
            let place = notes.marks.get(problem).unwrap();
            let file = reading.sources.get(place.file as usize).map_or("", |source| &source.name);
            format!("{file}:{}:{} {}: {}", place.line, place.column, problem.at, problem.sentence).replace(&root, "")
        });
        let said = said.collect();
        (reading, said)
    }

    #[test]
    fn included_files_add_their_names() {
        let (reading, said) = read(&[
            ("main.yaml", "version: 1\ninclude: [conf.d/*.yaml, more.yaml]\npools: { a: [x:1] }\n"),
            ("conf.d/2.yaml", "pools: { c: [x:1] }\n"),
            ("conf.d/1.yaml", "version: 1\npools: { b: [x:1] }\n"),
            ("conf.d/.hidden.yaml", "nonsense"),
            ("more.yaml", ""),
        ]);
        assert_eq!(said, Vec::<String>::new());
        let names: Vec<_> = reading.sources.iter().map(|source| source.name.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["main.yaml", "1.yaml", "2.yaml", "more.yaml"]);
        let pools: Vec<_> = reading.root.get("pools").unwrap().map().unwrap().iter().map(|e| &*e.key).collect();
        assert_eq!(pools, ["a", "b", "c"]);
        assert!(reading.complete);
    }

    #[test]
    fn a_name_in_two_files_names_both_places() {
        let (_, said) = read(&[
            ("main.yaml", "version: 1\ninclude: [b.yaml]\npools: { a: [x:1] }\nruntime: {}\n"),
            ("b.yaml", "pools:\n  a: [x:1]\nruntime: {}\nversion: 2\n"),
        ]);
        assert_eq!(
            said,
            [
                "b.yaml:2:3 pools.a: written twice, first at main.yaml:3:10; keep one of them",
                "b.yaml:3:1 runtime: written twice, first at main.yaml:4:1; keep one of them",
                "b.yaml:4:1 version: written twice, first at main.yaml:1:1; keep one of them",
            ]
        );
    }

    #[test]
    fn includes_that_cannot_be_read_are_said_at_their_place() {
        let (reading, said) = read(&[
            (
                "main.yaml",
                "include:\n- none.yaml\n- none/*.yaml\n- '*/x.yaml'\n- loop.yaml\n- 7\n- {}\n- twice.yaml\n- twice.yaml\n- dir\n",
            ),
            ("loop.yaml", "include: [main.yaml]\n"),
            ("twice.yaml", "{}"),
            ("dir/x", ""),
        ]);
        assert_eq!(
            said,
            [
                "main.yaml:2:3 include[0]: there is no file none.yaml",
                "main.yaml:3:3 include[1]: no file matches none/*.yaml",
                "main.yaml:4:3 include[2]: `*` and `?` can stand only in the last part of */x.yaml",
                "loop.yaml:1:11 include[0]: main.yaml includes itself",
                "main.yaml:6:3 include[4]: expected the name of a file, e.g. conf.d/*.yaml",
                "main.yaml:7:3 include[5]: the key `files` is missing",
                "main.yaml:9:3 include[7]: twice.yaml is included already",
                "main.yaml:10:3 include[8]: dir is not a file",
            ]
        );
        assert!(!reading.complete);
    }

    #[test]
    fn what_is_too_large_or_no_text_is_refused_before_it_costs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.yaml");
        File::create(&path).unwrap().set_len(100 << 20).unwrap();
        let sentence = |path: &FilePath| {
            let mut notes = Notes::default();
            files(path, &Instead::new(), &mut notes);
            let sentence = notes.problems.iter().next().unwrap().sentence.clone();
            sentence.replace(&format!("{}/", directory.path().display()), "")
        };
        assert_eq!(sentence(&path), "large.yaml is too large: 100 MiB, at most 16");
        fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
        assert_eq!(sentence(&path), "large.yaml is not UTF-8: line 2 holds a byte that is no text");
        assert_eq!(sentence(FilePath::new("/dev/zero")), "/dev/zero is not a file");
    }

    #[test]
    fn the_hash_is_of_the_contents() {
        let hash = |text: &str| super::hash(&[Source { name: String::new(), text: text.into() }]);
        assert_eq!(hash("a").len(), 32);
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(hash("a"), hash("b"));
    }
}
