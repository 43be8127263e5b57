//! What was complained about while reading, and where exactly, when that is not where the value stands.

use std::collections::{HashMap, HashSet};

use super::node::Place;
use crate::problem::{Level, Path, Problem, Problems};

/// Complaints as they come, each once for a place and a sentence.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Problems,
    pub(super) marks: Marks,
    /// Set when not everything could be read, so that a name may well be defined.
    pub(super) silent_on_references: bool,
    /// Words that were compared in the search of nearest ones.
    compared: usize,
    seen: HashSet<(Place, String)>,
}

/// Where a complaint points when the path alone does not say it: to a key, to the end of a broken file.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<(Path, String), Place>);

impl Marks {
    pub(super) fn get(&self, problem: &Problem) -> Option<Place> {
        self.0.get(&(problem.at.clone(), problem.sentence.clone())).copied()
    }
}

/// Complaints that are kept; nobody reads further, and a hostile document could make millions.
const MOST: usize = 50_000;
/// Characters of a sentence; a value that is quoted in it may have any length.
const LONGEST: usize = 500;

/// Words compared for suggestions, all complaints together: a broken document of a million names is still read at once.
const COMPARED: usize = 500_000;

impl Notes {
    /// Whether so many more words may be compared.
    pub(super) fn may_compare(&mut self, words: usize) -> bool {
        self.compared = self.compared.saturating_add(words);
        self.compared <= COMPARED
    }

    pub(super) fn error(&mut self, at: Path, place: Place, sentence: impl Into<String>) {
        self.note(Level::Error, at, place, sentence.into());
    }

    pub(super) fn warn(&mut self, at: Path, place: Place, sentence: impl Into<String>) {
        self.note(Level::Warn, at, place, sentence.into());
    }

    fn note(&mut self, level: Level, at: Path, place: Place, mut sentence: String) {
        if let Some((end, _)) = sentence.char_indices().nth(LONGEST) {
            sentence.truncate(end);
            sentence.push_str("...");
        }
        if self.seen.len() == MOST {
            sentence = format!("more than {MOST} complaints; the rest is left out");
        }
        if self.seen.len() > MOST || !self.seen.insert((place, sentence.clone())) {
            return;
        }
        self.marks.0.insert((at.clone(), sentence.clone()), place);
        match level {
            Level::Error => self.problems.error(at, sentence),
            Level::Warn => self.problems.warn(at, sentence),
            Level::Note => self.problems.note(at, sentence),
        }
    }
}
