//! `match`: which requests are a route's, in its short form and in its long one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{self, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::path::Regex;
use super::predicate::{Condition, Predicate};
use super::{host, path};
use crate::policy::template::Offer;
use crate::problem::{Path, Problems};
use crate::units::{or_short, scalar, short_form};

/// One match: a request has to fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(transform = or_short)]
pub struct Match {
    /// Any of these methods (HEAD is not in GET); every method when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// The host; every host when left out.
    #[serde(default)]
    pub host: host::HostPattern,
    /// The path; every path when left out and there is no `regex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<path::PathPattern>,
    /// The path as a regular expression, which has to fit all of it, instead of `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Regex>,
    /// Header fields by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<HeaderName, Condition>,
    /// Parameters of the query by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<Box<str>, Condition>,
    /// Cookies by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<Box<str>, Condition>,
}

short_form!(Match, "e.g. GET api.example.com/orders/*, or { methods, host, path, .. }");

impl FromStr for Match {
    type Err = String;

    /// `[METHOD[,METHOD] ][HOST]/PATH`
    fn from_str(text: &str) -> Result<Self, String> {
        let (methods, target) = match text.split_once(' ') {
            Some((methods, target)) => (methods.split(',').map(str::parse).collect::<Result<_, _>>()?, target),
            None => (Vec::new(), text),
        };
        let Some(slash) = target.find('/') else {
            return Err(format!("`{text}` has no path, e.g. GET api.example.com/orders/*"));
        };
        let (host, path) = target.split_at(slash);
        let host = if host.is_empty() { host::HostPattern::Any } else { host.parse()? };
        Ok(Self { methods, host, path: Some(path.parse()?), ..Self::default() })
    }
}

impl Match {
    /// Its path, as the document says it.
    pub fn path(&self) -> Cow<'_, str> {
        match (&self.path, &self.regex) {
            (Some(path), _) => path.as_str().into(),
            (None, Some(regex)) => regex.to_string().into(),
            (None, None) => "/*".into(),
        }
    }

    /// What this match gives to the templates of its route.
    pub fn offer(&self) -> Offer {
        let names = match (&self.path, &self.regex) {
            (Some(path), _) => path.names(),
            (None, Some(regex)) => regex.names(),
            (None, None) => None,
        };
        Offer {
            names: names.map(|names| names.to_vec()).unwrap_or_default(),
            rest: self.regex.is_none() && self.path.as_ref().is_none_or(path::PathPattern::is_open),
            literal: match &self.regex {
                Some(_) => None,
                None => Some(self.path.as_ref().map(path::PathPattern::literal).unwrap_or_default()),
            },
        }
    }
}

impl fmt::Display for Match {
    /// The short form; conditions are not in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, method) in self.methods.iter().enumerate() {
            write!(f, "{}{method}", if at > 0 { "," } else { "" })?;
        }
        if !self.methods.is_empty() {
            f.write_str(" ")?;
        }
        if self.host != host::HostPattern::Any {
            write!(f, "{}", self.host)?;
        }
        f.write_str(&self.path())
    }
}

/// The conditions of every match, checked.
pub fn compile(all: &[Match], priority: Option<u32>, at: &Path, problems: &mut Problems) -> Box<[Box<[Predicate]>]> {
    if priority.is_some() && !all.iter().all(|one| one.regex.is_some()) {
        problems.error(at.key("priority"), "is only for a regex against another; other matches have their order");
    }
    let at = at.key("match");
    if all.is_empty() {
        problems.error(at.clone(), "needs at least one match");
    }
    let compile = |(index, one): (usize, &Match)| {
        let at = if all.len() > 1 { at.index(index) } else { at.clone() };
        one.check(&at, problems);
        Predicate::all(one, &at, problems)
    };
    all.iter().enumerate().map(compile).collect()
}

impl Match {
    fn check(&self, at: &Path, problems: &mut Problems) {
        if self.path.is_some() && self.regex.is_some() {
            problems.error(at.clone(), "takes one of `path` and `regex`");
        }
        if let Some(regex) = &self.regex
            && !regex.literal().is_empty()
            && !regex.literal().starts_with('/')
        {
            problems.error(at.key("regex"), format!("`{regex}` matches nothing: a path begins with `/`"));
        }
    }
}

/// The matches of a route; a request has to fit one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Matches(pub Vec<Match>);

impl<'de> Deserialize<'de> for Matches {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Matches;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a match, e.g. GET api.example.com/orders/*, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Matches, E> {
                Ok(Matches(vec![text.parse().map_err(E::custom)?]))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Matches, A::Error> {
                Ok(Matches(vec![Match::deserialize(de::value::MapAccessDeserializer::new(map))?]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Matches, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Matches)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Matches {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => Serialize::serialize(only, to),
            list => Serialize::serialize(list, to),
        }
    }
}

impl JsonSchema for Matches {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matches".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<Match>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// A method that a route may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    pub const ALL: [Self; 7] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|method| method.as_str() == text);
        named.ok_or_else(|| {
            let near = crate::problem::nearest(&text.to_ascii_uppercase(), Self::ALL.map(Self::as_str));
            let hint = near.map(|near| format!(". Did you mean `{near}`?")).unwrap_or_default();
            format!("`{text}` is not a method that a route can ask for{hint}")
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

scalar!(Method, "a method", example "GET",
    bare number |n| Err(format!("`{n}` is not a method, e.g. GET")),
    "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.");

/// The name of a header field in a condition, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(Box<str>);

impl HeaderName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = http::HeaderName::from_bytes(text.as_bytes());
        let name = name.map_err(|_| format!("`{text}` is not the name of a header field"))?;
        match name.as_str() {
            "host" => Err("the host of a request is matched by `host`".to_owned()),
            name => Ok(Self(name.into())),
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar!(HeaderName, "the name of a header field", example "x-beta",
    bare number |n| n.to_string().parse(),
    "The name of a header field.");
