//! What is known while the calls of a request run: the request, who sent it, and what calls have brought so far.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::said::{Part, Source};
use crate::canonical;
use crate::exchange::{Identity, Request};

/// The request and the results so far; of a call that brought nothing there is nothing.
pub(super) struct Known<'a> {
    pub(super) request: &'a dyn Request,
    pub(super) identity: &'a Identity,
    /// The request's body, if that is JSON and was read.
    pub(super) body: Option<&'a str>,
    /// JSON, as it was written.
    pub(super) results: &'a [Option<Bytes>],
}

/// A value: a text, or JSON as it was written, so that numbers stay what they are.
pub(super) enum Held<'a> {
    Text(Cow<'a, str>),
    Json(Cow<'a, str>),
}

impl<'a> Held<'a> {
    /// The value as JSON.
    pub(super) fn json(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => Value::from(text).to_string().into(),
            Self::Json(json) => json,
        }
    }

    /// The value as a text; objects, lists and null have none.
    fn text(self) -> Option<String> {
        let json = match self {
            Self::Text(text) => return Some(text.into_owned()),
            Self::Json(json) => json,
        };
        match json.as_bytes().first()? {
            b'"' => serde_json::from_str(&json).ok(),
            b'{' | b'[' | b'n' => None,
            _ => Some(json.into_owned()),
        }
    }
}

/// A value that a text needs is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    /// The client left it out; otherwise an earlier call did not bring it.
    pub(super) of_request: bool,
}

impl<'a> Known<'a> {
    /// The value of a source; nothing where there is none.
    pub(super) fn value(&self, source: &Source) -> Option<Held<'a>> {
        let text = |text: Cow<'a, str>| Some(Held::Text(text));
        let json = |json: &'a str| Held::Json(json.into());
        let (request, identity) = (self.request, self.identity);
        match source {
            Source::Jwt(steps) => {
                let (first, rest) = steps.split_first()?;
                claim(identity.claims.as_ref()?.get(&**first)?, rest).map(|claim| Held::Json(claim.to_string().into()))
            }
            Source::Consumer => text(identity.consumer.as_deref()?.into()),
            Source::Path(name) => text(canonical::unescape(request.param(name)?)?.into()),
            Source::Query(name) => text(form(only(query(request, name))?)?.into()),
            Source::Header(name) => {
                let said = only(request.headers().get_all(name).into_iter())?;
                text(said.to_str().ok()?.into())
            }
            Source::Cookie(name) => text(request.cookie(name)?.into()),
            Source::Host => text(request.host().into()),
            Source::Client => text(request.client().to_canonical().to_string().into()),
            Source::Body(steps) => below(self.body?, steps).map(json),
            Source::Call(at, steps) => {
                below(std::str::from_utf8(self.results.get(*at)?.as_ref()?).ok()?, steps).map(json)
            }
        }
    }

    /// The value as a text; objects, lists and null have none.
    pub(super) fn text(&self, source: &Source) -> Result<String, Missing> {
        let text = self.value(source).and_then(Held::text);
        text.ok_or(Missing { of_request: !matches!(source, Source::Call(..)) })
    }

    /// A whole text, each value of it escaped.
    pub(super) fn write(&self, parts: &[Part], escape: fn(&str) -> String) -> Result<String, Missing> {
        let one = |part: &Part| match part {
            Part::Plain(text) => Ok(text.to_string()),
            Part::From(source) => self.text(source).map(|text| escape(&text)),
        };
        parts.iter().map(one).collect()
    }
}

/// Escapes all but what means the same everywhere in a target (RFC 3986 section 2.3).
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase();
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

/// As it is.
pub(super) fn plain(text: &str) -> String {
    text.to_owned()
}

fn claim<'a>(value: &'a Value, steps: &[Box<str>]) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match value {
        Value::Object(map) => map.get(&**step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The same in JSON as it was written; of a name that is there twice the last one.
fn below<'a>(json: &'a str, steps: &[Box<str>]) -> Option<&'a str> {
    steps.iter().try_fold(json, |json, step| {
        let mut reader = serde_json::Deserializer::from_str(json);
        reader.deserialize_any(Member(step)).ok().flatten().map(RawValue::get)
    })
}

/// Looks for one member of an object or a list.
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value()?;
            if name == self.0 {
                found = Some(value);
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
        let mut found = None;
        if let Ok(at) = self.0.parse::<usize>() {
            for _ in 0..at {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = list.next_element()?;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Said twice, nobody knows which one is meant: that is as good as not said.
fn only<T>(mut said: impl Iterator<Item = T>) -> Option<T> {
    said.next().filter(|_| said.next().is_none())
}

fn query<'r>(request: &'r dyn Request, name: &str) -> impl Iterator<Item = &'r str> {
    let pairs = request.query().unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(move |(key, _)| form(key).as_deref() == Some(name)).map(|(_, value)| value)
}

/// As forms write it: `+` is a space.
fn form(text: &str) -> Option<String> {
    canonical::unescape(&text.replace('+', " "))
}
