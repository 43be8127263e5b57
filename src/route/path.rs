//! Paths as routes name them: exact, everything below, templates, regular expressions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::canonical;
use crate::policy::template::{self, Segment};

/// The path of a match: `/orders`, `/orders/*`, `/orders/:id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    segments: Box<[Segment]>,
}

impl PathPattern {
    pub fn as_str(&self) -> &str {
        &self.text
    }
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// The names of `:name`, in their order.
    pub fn names(&self) -> Option<Arc<[Box<str>]>> {
        let names: Vec<Box<str>> = template::names(&self.segments).map(Into::into).collect();
        (!names.is_empty()).then(|| names.into())
    }
    /// Whether it ends in `/*`.
    pub fn is_open(&self) -> bool {
        self.segments.last() == Some(&Segment::Rest)
    }
    /// The segments in front of everything that varies, as routes see them.
    pub fn literal(&self) -> Vec<Box<str>> {
        let literal = self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(name) => Some(canonical::key(name).into()),
            _ => None,
        });
        literal.collect()
    }
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.into(), segments: template::parse(text)? })
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
    literal: Box<str>,
    whole: regex::Regex,
}

impl Regex {
    /// The text that every match begins with: a quick no for the others.
    pub fn literal(&self) -> &str {
        &self.literal
    }
    pub fn matches(&self, text: &str) -> bool {
        text.starts_with(&*self.literal) && self.whole.is_match(text)
    }
    /// The names of its groups.
    pub fn names(&self) -> Option<Arc<[Box<str>]>> {
        let names: Vec<Box<str>> = self.whole.capture_names().flatten().map(Into::into).collect();
        (!names.is_empty()).then(|| names.into())
    }
    /// Where its named groups matched, in the order of their names.
    pub fn groups(&self, text: &str) -> Vec<(usize, usize)> {
        let Some(captures) = self.whole.captures(text) else { return Vec::new() };
        let named = self.whole.capture_names().enumerate().filter(|(_, name)| name.is_some());
        let range = |(at, _)| captures.get(at).map_or((usize::MAX, usize::MAX), |group| (group.start(), group.end()));
        named.map(range).collect()
    }
}

/// What stands in front of the first part of a regular expression that varies.
fn literal_of(text: &str) -> String {
    let mut out = String::new();
    if has_choice(text) {
        return out;
    }
    let mut chars = text.strip_prefix('^').unwrap_or(text).chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => out.push(escaped),
                _ => break,
            },
            '?' | '*' | '{' => {
                out.pop();
                break;
            }
            '.' | '+' | '(' | ')' | '[' | ']' | '}' | '|' | '^' | '$' => break,
            c => out.push(c),
        }
    }
    out
}

/// Whether there is a `|` outside of every group.
fn has_choice(text: &str) -> bool {
    let (mut depth, mut class, mut escaped) = (0_u32, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            _ if class => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Regex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let built =
            regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 18).dfa_size_limit(1 << 18).build();
        match built {
            Ok(whole) if whole.capture_names().flatten().count() > template::MAX_PARAMS => {
                Err(format!("`{text}` has more than {} names", template::MAX_PARAMS))
            }
            Ok(whole) => Ok(Self { text: text.into(), literal: literal_of(text).into(), whole }),
            Err(regex::Error::CompiledTooBig(_)) => Err(format!("`{text}` is too large a regular expression")),
            Err(why) => {
                let why = why.to_string();
                let why = why.rsplit("error: ").next().unwrap_or_default().trim();
                Err(format!("`{text}` is not a regular expression: {why}"))
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_regex_begins_with_is_known() {
        let table = [
            ("/v[0-9]+/x", "/v"),
            ("^/a/b$", "/a/b"),
            ("/a|/b", ""),
            ("/(a|b)", "/"),
            ("/ab?c", "/a"),
            ("/a\\.b.*", "/a.b"),
            ("/a+", "/a"),
            ("(?i)/a", ""),
            ("/a\\d", "/a"),
            ("/x[|]y", "/x"),
            ("/a{2}", "/"),
        ];
        for (text, literal) in table {
            assert_eq!(text.parse::<Regex>().unwrap().literal(), literal, "{text}");
        }
    }

    #[test]
    fn a_regex_matches_the_whole_text() {
        let regex: Regex = "/v[0-9]+|/w".parse().unwrap();
        assert_eq!(["/v1", "/w", "/v1/x", "x/w"].map(|text| regex.matches(text)), [true, true, false, false]);
        assert!("(".parse::<Regex>().unwrap_err().starts_with("`(` is not a regular expression: unclosed group"));
        assert!("/(a{1000}){1000}".parse::<Regex>().unwrap_err().ends_with("is too large a regular expression"));
    }
}
