//! Names of things in the document.

use std::fmt;
use std::str::FromStr;

/// A name: letters, digits, `-`, `_` and `.`, at most 64 of them; it appears in metrics, logs and errors.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
            return Err(format!("`{text}` is not a name: use letters, digits, `-`, `_` and `.`, at most 64"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::scalar!(Name, "a name", example "orders",
    bare number |n| n.to_string().parse(),
    "A name: letters, digits, `-`, `_` and `.`, at most 64.");
