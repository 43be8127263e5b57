//! The document: read, place, check, report.
//!
//! Text becomes a tree of nodes that know their place ([`parse`], [`read`]); objects take over what they do not say
//! ([`inherit`]); each is read into its own type and complains on its own ([`fit`]); what only the whole shows comes last
//! ([`check`]). Complaints are rendered by [`report`].

pub mod admin;
mod broken;
mod brokers;
mod built_in;
pub mod case;
mod check;
mod de;
pub mod diff;
pub mod document;
mod fit;
mod glob;
pub mod include;
mod inherit;
mod mishap;
mod node;
mod notes;
pub mod observe;
mod parse;
pub mod place;
mod read;
mod relative;
pub mod reload;
pub mod report;
pub mod runtime;
mod scalar;
pub mod schema;
pub mod seals;
pub mod secret;
mod texts;

use std::path::{Path, PathBuf};

pub use document::Document;
pub use place::Places;
pub use read::Instead;
pub use seals::Seals;
pub use texts::Texts;

use crate::problem::Problems;
use notes::Notes;
use read::Reading;

/// A document as it was read, with everything that is wrong with it.
#[derive(Debug)]
pub struct Loaded {
    /// What could be read; objects that are wrong are left out.
    pub document: Document,
    pub problems: Problems,
    /// Where everything stands, for further complaints and for `show`.
    pub places: Places,
    /// All files that were asked for, the main one first.
    pub files: Vec<PathBuf>,
    /// What stood in them, to read it again as it was.
    pub texts: Texts,
    /// Included files that may be held back where they are wrong, and of them those that could not be read.
    pub soft: Vec<PathBuf>,
    pub unread: Vec<PathBuf>,
    /// Directories in which a new file could match an `include`.
    pub directories: Vec<PathBuf>,
    /// SHA-256 of all contents, cut to 128 bits, in hexadecimal.
    pub hash: String,
    /// Why the main file could not be read at all.
    pub unreadable: Option<std::io::ErrorKind>,
}

/// Reads the document in a file and all that it includes.
pub fn load(path: &Path) -> Loaded {
    load_with(path, &Instead::new())
}

/// The same, but some files are read as they once were.
pub fn load_with(path: &Path, instead: &Instead) -> Loaded {
    let mut notes = Notes::default();
    let reading = read::files(path, instead, &mut notes);
    Loaded::new(reading, notes)
}

impl Loaded {
    /// Reads a document as it was, whatever its files say now; the files that it names are looked for as they are.
    pub fn again(texts: &Texts) -> Self {
        let mut notes = Notes::default();
        let reading = read::texts(texts, &mut notes);
        Self::new(reading, notes)
    }

    /// Reads a document that is no file; reports call it `name`.
    pub fn from_text(name: &str, text: &str) -> Self {
        let mut notes = Notes::default();
        let reading = read::text(name, text, &mut notes);
        Self::new(reading, notes)
    }

    /// The exit code of a command that cannot go on (sysexits): 66 no such file, 77 no permission, 78 wrong, 0 fine.
    pub fn code(&self) -> u8 {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        match self.unreadable {
            Some(NotFound) => 66,
            Some(PermissionDenied) => 77,
            _ if self.problems.errors() > 0 => 78,
            _ => 0,
        }
    }

    fn new(mut reading: Reading, mut notes: Notes) -> Self {
        let mut document = Document::default();
        // What stands in a file that could not be read is not undefined.
        notes.silent_on_references = !reading.complete;
        if !reading.broken {
            document = document::read(&mut reading.root, &mut notes);
        }
        if reading.complete {
            check::whole(&reading.root, &document, &mut notes);
        }
        let hash = read::hash(&reading.sources);
        let places =
            Places { sources: reading.sources, tree: reading.root, marks: notes.marks, hidden: reading.hidden };
        Self {
            document,
            problems: notes.problems,
            places,
            files: reading.files,
            texts: reading.texts,
            soft: reading.soft,
            unread: reading.unread,
            directories: reading.directories,
            hash,
            unreadable: reading.unreadable,
        }
    }
}
