//! What is wrong with the document: where, in one sentence, and how bad.

use std::fmt;

/// One step from the top of the document down to a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Key(Box<str>),
    Index(usize),
}

/// Where in the document: `pools.orders.targets[1]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Step>);

impl Path {
    /// The path of these keys, from the top.
    pub fn of<const N: usize>(keys: [&str; N]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).into())).collect())
    }
    /// One key further down.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.into()))
    }
    /// One element of a list further down.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// An error keeps the document from being applied; a warning does not; a note says what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Error,
    Warn,
    Note,
}

/// One complaint about the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub at: Path,
    pub level: Level,
    /// What is wrong and what would be right, without the path.
    pub sentence: String,
}

/// Every complaint of one reading, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn error(&mut self, at: Path, sentence: impl Into<String>) {
        self.0.push(Problem { at, level: Level::Error, sentence: sentence.into() });
    }
    pub fn warn(&mut self, at: Path, sentence: impl Into<String>) {
        self.0.push(Problem { at, level: Level::Warn, sentence: sentence.into() });
    }
    pub fn note(&mut self, at: Path, sentence: impl Into<String>) {
        self.0.push(Problem { at, level: Level::Note, sentence: sentence.into() });
    }
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.level == Level::Error).count()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// The word of `known` nearest to `word`, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison takes the product of both lengths; nobody mistypes a word into a novel.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let near = |candidate: &'a str| (strsim::damerau_levenshtein(word, candidate), candidate);
    let (distance, best) = known.into_iter().map(near).min()?;
    (distance <= (word.chars().count().max(best.chars().count()) / 2).max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_document() {
        assert_eq!(
            Path::of(["pools", "orders", "targets"]).index(1).key("weight").to_string(),
            "pools.orders.targets[1].weight"
        );
    }

    #[test]
    fn the_nearest_word_is_named_only_when_it_is_near() {
        assert_eq!(nearest("brekaer", ["breaker", "health"]), Some("breaker"));
        assert_eq!(nearest("xyz", ["breaker", "health"]), None);
    }
}
