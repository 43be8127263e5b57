//! Text that may be a secret: a literal, `file:/path` or `env:NAME`, resolved after parsing.

use std::fmt;
use std::str::FromStr;

/// Text from the document, from a file or from the environment; never printed when it came from outside.
#[derive(Clone, PartialEq, Eq)]
pub enum Text {
    Literal(Box<str>),
    File(Box<str>),
    Env(Box<str>),
}

impl Text {
    /// The text itself; one line end at the end of a file is left away. The error is a sentence without the secret.
    pub fn resolve(&self) -> Result<String, String> {
        match self {
            Self::Literal(text) => Ok(text.to_string()),
            Self::Env(name) => std::env::var(&**name).map_err(|_| format!("environment variable {name} is not set")),
            Self::File(path) => {
                let mut text = std::fs::read_to_string(&**path).map_err(|why| format!("cannot read {path}: {why}"))?;
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
                Ok(text)
            }
        }
    }
    /// The file in which it lies, to be watched for changes.
    pub fn file(&self) -> Option<std::path::PathBuf> {
        if let Self::File(path) = self { Some(std::path::PathBuf::from(&**path)) } else { None }
    }
    pub fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

impl FromStr for Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Self::File(path.into()),
            Some(("file", path)) => {
                return Err(format!("`file:{path}` needs an absolute path, e.g. file:/etc/yumen/secret"));
            }
            Some(("env", name)) => Self::Env(name.into()),
            _ => Self::Literal(text.into()),
        })
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("(literal)"),
            from_outside => fmt::Display::fmt(from_outside, f),
        }
    }
}

super::scalar!(Text, "a text", example "file:/run/credentials/yumen.service/token",
    bare number |n| Ok(Text::Literal(n.to_string().into())),
    "A text, or `file:/path` or `env:NAME` for a secret.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_not_shown_to_whoever_debugs_and_a_reference_is() {
        let shown = |text: &str| format!("{:?}", text.parse::<Text>().unwrap());
        assert_eq!(["secret", "file:/a", "env:A"].map(shown), ["(literal)", "file:/a", "env:A"]);
    }
}
