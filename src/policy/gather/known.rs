//! What is known while the calls of a request run: the request, who sent it, and what calls have brought so far.

use std::borrow::Cow;

use serde_json::Value;

use super::said::{Part, Source};
use crate::canonical;
use crate::exchange::{Identity, Request};

/// The request and the results so far; of a call that brought nothing there is nothing.
pub(super) struct Known<'a> {
    pub(super) request: &'a dyn Request,
    pub(super) identity: &'a Identity,
    /// The request's body, if that is JSON and was read.
    pub(super) body: Option<&'a Value>,
    pub(super) results: &'a [Option<Value>],
}

/// A value that a text needs is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    /// The client left it out; otherwise an earlier call did not bring it.
    pub(super) of_request: bool,
}

impl<'a> Known<'a> {
    /// The value of a source; nothing where there is none.
    pub(super) fn value(&self, source: &Source) -> Option<Cow<'a, Value>> {
        let text = |text: Cow<'_, str>| Some(Cow::Owned(Value::String(text.into_owned())));
        let (request, identity) = (self.request, self.identity);
        match source {
            Source::Jwt(steps) => {
                let (first, rest) = steps.split_first()?;
                below(identity.claims.as_ref()?.get(&**first)?, rest).map(Cow::Borrowed)
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
            Source::Body(steps) => below(self.body?, steps).map(Cow::Borrowed),
            Source::Call(at, steps) => below(self.results.get(*at)?.as_ref()?, steps).map(Cow::Borrowed),
        }
    }

    /// The value as a text; objects, lists and null have none.
    pub(super) fn text(&self, source: &Source) -> Result<String, Missing> {
        let text = match self.value(source).as_deref() {
            Some(Value::String(text)) => Some(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
            _ => None,
        };
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

fn below<'a>(value: &'a Value, steps: &[Box<str>]) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match value {
        Value::Object(map) => map.get(&**step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
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
