//! Paths as routes name them: exact, everything below, templates, regular expressions.

use std::fmt;
use std::str::FromStr;

/// The path of a match: `/orders`, `/orders/*`, `/orders/:id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern {
    text: Box<str>,
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` is not a path, e.g. /orders/*"));
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

crate::units::scalar!(PathPattern, "a path", example "/orders/*",
    bare number |n| Err(format!("`{n}` is not a path, e.g. /orders/*")),
    "A path: `/orders` is exact, `/orders/*` is it and all below, `:id` is one segment.");

/// A regular expression that the whole text has to match.
#[derive(Debug, Clone)]
pub struct Regex {
    text: Box<str>,
    whole: regex::Regex,
}

impl Regex {
    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Regex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 20).build();
        match built {
            Ok(whole) => Ok(Self { text: text.into(), whole }),
            Err(regex::Error::CompiledTooBig(_)) => Err(format!("`{text}` is too large a regular expression")),
            Err(_) => Err(format!("`{text}` is not a regular expression")),
        }
    }
}

impl fmt::Display for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

crate::units::scalar!(Regex, "a regular expression", example "/v[0-9]+/orders",
    bare number |n| n.to_string().parse(),
    "A regular expression; the whole text has to match.");
