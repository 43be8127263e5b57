//! Conditions on a request beside its host and path.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matches;
use super::path::Regex;
use crate::canonical::unescape;
use crate::exchange::Request;
use crate::problem::{Path, Problems};
use crate::units::{or_short, short_form};

/// What a header, query parameter or cookie has to be; exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(transform = or_short)]
pub struct Condition {
    /// Exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Box<str>>,
    /// There at all, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Like this, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Regex>,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { is: Some(text.into()), ..Self::default() })
    }
}

short_form!(Condition, "a text, or one of { is }, { present } and { regex }");

/// One condition, decided once.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    pub of: Of,
    pub test: Test,
}

/// The part of the request that is looked at; of several of one name, the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Of {
    Header(HeaderName),
    Query(Box<str>),
    Cookie(Box<str>),
}

/// What it has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Is(Box<str>),
    Present,
    Absent,
    Regex(Regex),
}

impl Predicate {
    fn compile(of: Of, condition: &Condition, at: Path, problems: &mut Problems) -> Option<Self> {
        let test = match (&condition.is, condition.present, &condition.regex) {
            (Some(text), None, None) => Test::Is(text.clone()),
            (None, Some(true), None) => Test::Present,
            (None, Some(false), None) => Test::Absent,
            (None, None, Some(regex)) => Test::Regex(regex.clone()),
            _ => {
                problems.error(at, "takes exactly one of `is`, `present` and `regex`");
                return None;
            }
        };
        Some(Self { of, test })
    }

    /// Every condition of one match.
    pub fn all(of: &matches::Match, at: &Path, problems: &mut Problems) -> Box<[Self]> {
        let mut all = Vec::with_capacity(of.headers.len() + of.query.len() + of.cookies.len());
        for (name, condition) in &of.headers {
            let at = at.key("headers").key(name.as_str());
            let header = HeaderName::from_bytes(name.as_str().as_bytes()).ok();
            all.extend(header.and_then(|name| Self::compile(Of::Header(name), condition, at, problems)));
        }
        for (name, condition) in &of.query {
            let at = at.key("query").key(name);
            all.extend(Self::compile(Of::Query(name.clone()), condition, at, problems));
        }
        for (name, condition) in &of.cookies {
            let at = at.key("cookies").key(name);
            all.extend(Self::compile(Of::Cookie(name.clone()), condition, at, problems));
        }
        all.into()
    }

    pub fn holds(&self, request: &dyn Request) -> bool {
        match &self.of {
            Of::Header(name) => match self.test {
                Test::Present => request.headers().contains_key(name),
                Test::Absent => !request.headers().contains_key(name),
                _ => self.fits(request.header(name.as_str()).map(Cow::Borrowed)),
            },
            Of::Query(name) => self.fits(request.query_param(name).map(decoded)),
            Of::Cookie(name) => self.fits(request.cookie(name).map(Cow::Borrowed)),
        }
    }

    fn fits(&self, value: Option<Cow<'_, str>>) -> bool {
        match (&self.test, value) {
            (Test::Is(text), Some(value)) => **text == *value,
            (Test::Regex(regex), Some(value)) => regex.matches(&value),
            (Test::Present, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
            (_, None) => false,
        }
    }

    /// Whether no request can meet both.
    pub fn excludes(&self, other: &Self) -> bool {
        self.of == other.of
            && match (&self.test, &other.test) {
                (Test::Is(one), Test::Is(other)) => one != other,
                (Test::Is(text), Test::Regex(regex)) | (Test::Regex(regex), Test::Is(text)) => !regex.matches(text),
                (one, other) => (*one == Test::Absent) != (*other == Test::Absent),
            }
    }
}

/// The value of a query parameter as forms write it.
fn decoded(value: &str) -> Cow<'_, str> {
    if !value.contains(['%', '+']) {
        return Cow::Borrowed(value);
    }
    unescape(&value.replace('+', " ")).map_or(Cow::Borrowed(value), Cow::Owned)
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            Of::Header(name) => write!(f, "header {name}")?,
            Of::Query(name) => write!(f, "query parameter {name}")?,
            Of::Cookie(name) => write!(f, "cookie {name}")?,
        }
        match &self.test {
            Test::Is(text) => write!(f, " to be `{text}`"),
            Test::Present => Ok(()),
            Test::Absent => f.write_str(" to be absent"),
            Test::Regex(regex) => write!(f, " to match `{regex}`"),
        }
    }
}

/// Some of the methods that a route may ask for; none of them means every method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Methods(u8);

impl Methods {
    pub fn of(methods: &[matches::Method]) -> Self {
        Self(methods.iter().fold(0, |all, method| all | 1 << *method as u8))
    }
    pub fn allow(self, method: &Method) -> bool {
        self.0 == 0 || self.names().any(|name| name == method.as_str())
    }
    pub fn are_all(self) -> bool {
        self.0 == 0
    }
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Whether no method is in both.
    pub fn exclude(self, other: Self) -> bool {
        !self.are_all() && !other.are_all() && self.0 & other.0 == 0
    }
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = matches::Method::ALL.into_iter().filter(move |method| self.0 & 1 << *method as u8 != 0);
        named.map(matches::Method::as_str)
    }
}

impl fmt::Display for Methods {
    /// As in `Allow`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names().enumerate() {
            write!(f, "{}{name}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
