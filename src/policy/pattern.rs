//! A regular expression that a whole text has to match, bounded in size.

use std::fmt;
use std::str::FromStr;

/// A regular expression, compiled where it is read.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    whole: regex::Regex,
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = format!("^(?:{text})$");
        match regex::RegexBuilder::new(&whole).size_limit(1 << 18).dfa_size_limit(1 << 18).build() {
            Ok(whole) => Ok(Self { text: text.into(), whole }),
            Err(regex::Error::CompiledTooBig(_)) => Err(format!("`{text}` is too large a regular expression")),
            Err(why) => {
                let why = why.to_string();
                let why = why.rsplit("error: ").next().unwrap_or_default().trim();
                Err(format!("`{text}` is not a regular expression: {why}"))
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

crate::units::scalar!(Pattern, "a regular expression", example "[a-z]{2,8}",
    bare number |n| n.to_string().parse(),
    "A regular expression that the whole text has to match.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_has_to_match() {
        let pattern: Pattern = "a|b+".parse().unwrap();
        assert_eq!(["a", "bb", "ab", "xa", "a\n"].map(|text| pattern.matches(text)), [true, true, false, false, false]);
        assert!("(".parse::<Pattern>().unwrap_err().contains("is not a regular expression: unclosed group"));
        assert!("(a{1000}){1000}".parse::<Pattern>().unwrap_err().contains("too large"));
    }
}
