//! The first thing that is wrong with a value: where below it, what kind, and the sentence that says so.

use std::fmt::{self, Display};

use serde::de::{Error, Expected, Unexpected};

use crate::problem::{Step, nearest};

/// Why a value could not be read.
#[derive(Debug)]
pub(super) struct Mishap {
    /// The way from the value that was asked for to the one that is wrong, innermost step first.
    way: Vec<Step>,
    /// Whether the key is wrong and not the value under it.
    pub(super) key: bool,
    pub(super) kind: Kind,
    pub(super) sentence: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    UnknownKey,
    Missing(&'static str),
    /// Anything else: a wrong type, a wrong word, a rule of the type.
    Wrong,
}

impl Mishap {
    pub(super) fn wrong(sentence: impl Into<String>) -> Self {
        Self { way: Vec::new(), key: false, kind: Kind::Wrong, sentence: sentence.into() }
    }

    pub(super) fn below(mut self, step: Step) -> Self {
        self.way.push(step);
        self
    }

    pub(super) fn at_key(mut self, key: &str) -> Self {
        self.key = true;
        self.below(Step::Key(key.into()))
    }

    /// The way to the wrong value, outermost step first.
    pub(super) fn into_way(self) -> Vec<Step> {
        self.way.into_iter().rev().collect()
    }
}

/// "Did you mean `x`?", or what there is to choose from. Words that are equally near are all named.
pub(super) fn suggestion(word: &str, known: &[&str], what: &str) -> String {
    let Some(near) = nearest(word, known.iter().copied()) else {
        return format!("{what}: {}", known.join(", "));
    };
    let distance = |other: &str| strsim::damerau_levenshtein(word, other);
    let as_near: Vec<String> =
        known.iter().filter(|other| distance(other) == distance(near)).map(|other| format!("`{other}`")).collect();
    format!("Did you mean {}?", as_near.join(" or "))
}

impl Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Mishap {}

impl Error for Mishap {
    fn custom<T: Display>(sentence: T) -> Self {
        Self::wrong(sentence.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong(format!("expected {}, found {}", Wanted(expected), Found(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::wrong(format!("expected {}, found {length} of them", Wanted(expected)))
    }

    fn unknown_field(word: &str, known: &'static [&'static str]) -> Self {
        let suggestion = suggestion(word, known, "Known keys");
        Self { kind: Kind::UnknownKey, ..Self::wrong(format!("unknown key. {suggestion}")) }
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::wrong(format!("unknown word `{word}`. {}", suggestion(word, known, "Known words")))
    }

    fn missing_field(key: &'static str) -> Self {
        Self { kind: Kind::Missing(key), ..Self::wrong(format!("the key `{key}` is missing")) }
    }
}

/// What serde's derived code expects, in the words of an operator.
pub(super) struct Wanted<'a>(pub(super) &'a dyn Expected);

impl Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.0.to_string();
        let range = |f: &mut fmt::Formatter<'_>, from: u64, to: u64| write!(f, "a whole number from {from} to {to}");
        match said.as_str() {
            "a boolean" => f.write_str("true or false"),
            "a string" | "a borrowed string" => f.write_str("a text"),
            "u8" => range(f, 0, u8::MAX.into()),
            "u16" => range(f, 0, u16::MAX.into()),
            "u32" => range(f, 0, u32::MAX.into()),
            "a nonzero u8" => range(f, 1, u8::MAX.into()),
            "a nonzero u16" => range(f, 1, u16::MAX.into()),
            "a nonzero u32" => range(f, 1, u32::MAX.into()),
            "a nonzero u64" | "a nonzero usize" => f.write_str("a whole number from 1"),
            "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => f.write_str("a whole number"),
            "f32" | "f64" => f.write_str("a number"),
            "a sequence" => f.write_str("a list, e.g. [a, b]"),
            "unit" => f.write_str("nothing"),
            said if said.starts_with("struct ") || said == "a map" => f.write_str("a map, e.g. { key: value }"),
            said if said.starts_with("enum ") || said.ends_with(" identifier") => f.write_str("a word"),
            said => f.write_str(said),
        }
    }
}

/// What was found, in the same words.
struct Found<'a>(Unexpected<'a>);

impl Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "`{value}`"),
            Unexpected::Unsigned(number) => write!(f, "the number {number}"),
            Unexpected::Signed(number) => write!(f, "the number {number}"),
            Unexpected::Float(number) => write!(f, "the number {number}"),
            Unexpected::Str(text) => write!(f, "the text `{text}`"),
            Unexpected::Unit | Unexpected::Option => f.write_str("nothing"),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map => f.write_str("a map"),
            other => other.fmt(f),
        }
    }
}
