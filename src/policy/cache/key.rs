//! Which answer is meant: everything that may make two answers differ goes into one text, which is hashed.
//!
//! Always part of it are the route, the scheme, the host with its port, and who the guards found the client to be, unless
//! the key names `consumer` or a claim itself, or the route says `share`.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::store::{Id, Place};
use crate::exchange::{Exchange, Found};
use crate::policy::key;

/// What tells answers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub Vec<Part>);

/// Something of a request on which the answer may depend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Path,
    /// The whole query, as it was sent.
    Query,
    /// One parameter of it.
    Param(Box<str>),
    /// What limits can tell clients apart by.
    Who(key::Part),
}

impl Default for Key {
    fn default() -> Self {
        Self(vec![Part::Path, Part::Query])
    }
}

impl Key {
    pub(super) fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it says itself who a client is.
    pub fn says_who(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Who(key::Part::Consumer | key::Part::Claim(_))))
    }

    /// Whether two paths have two answers.
    pub fn has_path(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Path | Part::Who(key::Part::Param(_))))
    }

    /// What of an address is in it, so that it is void with that: all of it, all but the query, or the host alone.
    pub(super) fn place(&self) -> Place {
        let has = |part: &Part| self.0.contains(part);
        match (has(&Part::Path), has(&Part::Query)) {
            (true, true) => Place::Address,
            (true, false) => Place::Path,
            (false, _) => Place::Host,
        }
    }

    /// The names of path parameters in it.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Who(key::Part::Param(name)) => Some(&**name),
            _ => None,
        })
    }

    /// Writes all parts; nothing where one of them cannot be told for this request, which then is not cached.
    pub(super) fn write(&self, exchange: &Exchange<'_>, route: &str, to: &mut Text) -> Option<()> {
        self.0.iter().try_for_each(|part| part.write(exchange, route, to))
    }
}

impl Part {
    fn write(&self, exchange: &Exchange<'_>, route: &str, to: &mut Text) -> Option<()> {
        let request = exchange.request;
        match self {
            Self::Path => to.put(request.path().as_bytes()),
            Self::Query => to.maybe(request.query().map(str::as_bytes)),
            Self::Param(name) => {
                let all = request.query().unwrap_or_default().split('&');
                for pair in all.filter(|pair| is_named(pair, name.as_bytes())) {
                    to.put(pair.as_bytes());
                }
                to.put(b"");
            }
            Self::Who(key::Part::Header(name)) => to.lines(request.headers(), name),
            // A cookie that is not there is as good as another value of it; one that is said twice is not told.
            Self::Who(part @ key::Part::Cookie(name)) if request.cookie(name).is_some() => {
                return part.write(exchange, route, to);
            }
            Self::Who(key::Part::Cookie(_)) => to.maybe(None),
            Self::Who(part) => return part.write(exchange, route, to),
        }
        Some(())
    }
}

/// Whether a pair of the query has this name as a service reads it, which decodes it.
fn is_named(pair: &str, name: &[u8]) -> bool {
    let said = pair.split('=').next().unwrap_or_default().as_bytes();
    if !said.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return said == name;
    }
    let (mut said, mut name) = (said, name.iter());
    while let [first, rest @ ..] = said {
        let (byte, rest) = match (first, rest) {
            (b'+', _) => (b' ', rest),
            (b'%', [high, low, behind @ ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'%', rest),
            },
            _ => (*first, rest),
        };
        if name.next() != Some(&byte) {
            return false;
        }
        said = rest;
    }
    name.next().is_none()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// All that tells the answer to a request from others, and the hash of that where it is known without asking.
#[derive(Debug)]
pub struct Named {
    pub(super) text: Vec<u8>,
    pub(super) id: Option<Id>,
}

/// What a key is written to: each piece with its length before it, so that none runs into the next.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) Vec<u8>);

impl Text {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Nothing is not the same as an empty text.
    pub(super) fn maybe(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.put(bytes),
            None => self.0.extend_from_slice(&u64::MAX.to_le_bytes()),
        }
    }

    /// All lines of a field.
    pub(super) fn lines(&mut self, headers: &HeaderMap, name: &HeaderName) {
        for line in headers.get_all(name) {
            self.put(line.as_bytes());
        }
        self.maybe(None);
    }

    /// Who the guards found the client to be, and what they tell the target of it.
    pub(super) fn identity(&mut self, found: &Found) {
        let identity = &found.identity;
        self.maybe(identity.consumer.as_deref().map(str::as_bytes));
        for (name, value) in identity.telling() {
            self.put(name.as_bytes());
            self.put(value.to_string().as_bytes());
        }
        for (name, value) in found.forward.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            self.put(name.as_str().as_bytes());
            self.put(value.as_bytes());
        }
        self.maybe(None);
    }
}

/// Parts that limits share write themselves to a hasher; here all they write is kept.
impl Hasher for Text {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn finish(&self) -> u64 {
        0
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "path" => Ok(Self::Path),
            "query" => Ok(Self::Query),
            _ => match text.strip_prefix("query.") {
                Some("") => Err(format!("`{text}` needs a name behind the dot, e.g. {text}id")),
                Some(name) => Ok(Self::Param(name.into())),
                None => text
                    .parse()
                    .map(Self::Who)
                    .map_err(|why: String| why.replace("Keys: client.ip", "Keys: path, query, query.NAME, client.ip")),
            },
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path"),
            Self::Query => f.write_str("query"),
            Self::Param(name) => write!(f, "query.{name}"),
            Self::Who(part) => part.fmt(f),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

crate::units::scalar!(Part, "what tells answers apart", example "path",
    bare number |n| n.to_string().parse(),
    "path, query, query.NAME, client.ip, consumer, jwt.CLAIM, header.NAME, cookie.NAME, path.NAME, host or route.");

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let parts = Vec::<Part>::deserialize(from)?;
        if parts.is_empty() {
            return Err(de::Error::custom("an empty list is no key, e.g. [path, query]"));
        }
        Ok(Self(parts))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl JsonSchema for Key {
    fn schema_name() -> Cow<'static, str> {
        "CacheKey".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let part = generator.subschema_for::<Part>();
        schemars::json_schema!({ "type": "array", "items": part, "minItems": 1, "default": ["path", "query"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::asked::Asked;
    use serde_json::json;
    use std::sync::Arc;

    fn text(key: &str, request: &Asked, found: &mut Found) -> Option<Vec<u8>> {
        let (key, mut to): (Key, _) = (serde_yaml::from_str(key).unwrap(), Text::default());
        key.write(&Exchange { request, found }, "orders", &mut to)?;
        Some(to.0)
    }

    #[test]
    fn only_what_the_key_names_tells_answers_apart() {
        let of = |key, query, lines: &[(&'static str, &str)]| {
            let asked =
                lines.iter().fold(Asked { query, ..Asked::new() }, |asked, (name, value)| asked.with(name, value));
            text(key, &asked, &mut Found::default())
        };
        let none: &[(&str, &str)] = &[];
        assert_ne!(of("[path, query]", Some("a=1"), none), of("[path, query]", Some("a=2"), none));
        assert_ne!(of("[path, query]", Some(""), none), of("[path, query]", None, none));
        assert_eq!(of("[path]", Some("a=1"), none), of("[path]", Some("a=2"), none));
        assert_eq!(of("[path, query.a]", Some("a=1&b=1"), none), of("[path, query.a]", Some("b=2&a=1"), none));
        assert_ne!(of("[path, query.a]", Some("a=1&a=2"), none), of("[path, query.a]", Some("a=1"), none));
        let param = |query| of("[path, 'query.a b']", Some(query), none);
        for named in ["a+b=1", "a%20b=1", "%61+b=1", "%61%20%62"] {
            assert_ne!(param(named), param(""), "{named}");
        }
        for other in ["a%2bb=1", "a%2=1", "a+=1", "a+b+=1", "%=1", "a%20%zz=1"] {
            assert_eq!(param(other), param(""), "{other}");
        }
        let lines = |lines: &[(&'static str, &str)]| of("[path, header.x]", None, lines);
        assert_ne!(lines(&[("x", "a")]), lines(&[]));
        assert_ne!(lines(&[("x", "a"), ("x", "b")]), lines(&[("x", "ab")]));
        assert_eq!(lines(&[("y", "a")]), lines(&[]));
        let cookie = |line| of("[path, cookie.c]", None, &[("cookie", line)]);
        assert_ne!(cookie("c=1"), cookie("d=1"));
        assert!(cookie("c=1; c=2").is_none(), "said twice");
    }

    #[test]
    fn two_people_are_never_one_and_one_with_a_new_token_is() {
        let person = |claims: serde_json::Value, forward: Option<&str>| {
            let mut found = Found::default();
            found.identity.claims = claims.as_object().cloned().map(Arc::new);
            let value = forward.map(|value| value.parse().unwrap());
            found.forward.push((HeaderName::from_static("x-user"), value));
            let mut to = Text::default();
            to.identity(&found);
            to.0
        };
        assert_ne!(person(json!({ "sub": "a" }), None), person(json!({ "sub": "b" }), None));
        assert_eq!(person(json!({ "sub": "a", "exp": 1 }), None), person(json!({ "sub": "a", "exp": 2 }), None));
        assert_ne!(person(json!({ "sub": "a", "role": "x" }), None), person(json!({ "sub": "a" }), None));
        assert_ne!(person(json!({}), Some("a")), person(json!({}), Some("b")));
        assert_ne!(person(json!({}), Some("a")), person(json!({}), None));
        assert_ne!(person(json!({ "aud": "a", "exp": 1 }), None), person(json!({ "aud": "a", "exp": 2 }), None));
        assert_ne!(person(json!({ "sub": 1, "jti": "a" }), None), person(json!({ "sub": 2, "jti": "a" }), None));
    }

    #[test]
    fn parts_read_and_print_back() {
        for part in ["path", "query", "query.page", "header.x-a", "jwt.sub", "consumer", "path.id", "client.ip"] {
            assert_eq!(part.parse::<Part>().unwrap().to_string(), part);
        }
        assert!("query.".parse::<Part>().is_err() && "paths".parse::<Part>().is_err());
        assert!(serde_yaml::from_str::<Key>("[consumer]").unwrap().says_who());
    }
}
