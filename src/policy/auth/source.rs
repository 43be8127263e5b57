//! Where a request bears what it shows: a header field, a cookie or, only if the document says so, the query.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, header};

use super::Denial;
use crate::exchange::{Found, Request};
use crate::fault::Fault;

/// A place in a request: `header.x-api-key`, `cookie.session` or `query.token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Header(HeaderName),
    Cookie(Box<str>),
    Query(Box<str>),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no place in a request, e.g. header.authorization, cookie.session, query.token");
        let (kind, name) = text.split_once('.').ok_or_else(wrong)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(wrong());
        }
        match kind {
            "header" if name.contains('_') => {
                Err(format!("`{text}`: fields with `_` in their name are refused at the door"))
            }
            "header" => name.parse().map(Self::Header).map_err(|_| wrong()),
            "cookie" => Ok(Self::Cookie(name.into())),
            "query" => Ok(Self::Query(name.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Cookie(name) => write!(f, "cookie.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
        }
    }
}

crate::units::scalar!(Source, "a place in a request", example "header.authorization",
    bare number |n| n.to_string().parse(),
    "A place in a request: `header.NAME`, `cookie.NAME` or `query.NAME`.");

/// What lies in one of `sources`. In `authorization` it stands behind `scheme`; nothing may stand there twice.
pub fn find<'r>(sources: &[Source], scheme: &str, request: &'r dyn Request) -> Result<Option<&'r str>, Denial> {
    let mut found = None;
    for source in sources {
        let here = match source {
            Source::Header(name) => field(name, scheme, request)?,
            Source::Cookie(name) => only(cookies(request).filter(|(key, _)| *key == &**name).map(|(_, value)| value))?,
            Source::Query(name) => only(pairs(request).filter(|(key, _)| *key == &**name).map(|(_, value)| value))?,
        };
        if here.is_some() && found.is_some() {
            return Err(twice());
        }
        found = found.or(here);
    }
    Ok(found.filter(|text| !text.is_empty()))
}

fn twice() -> Denial {
    Denial::new(Fault::AuthMalformed, "more than one of them")
}

fn only<'r>(mut all: impl Iterator<Item = &'r str>) -> Result<Option<&'r str>, Denial> {
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(twice()),
        (one, None) => Ok(one),
    }
}

fn field<'r>(name: &HeaderName, scheme: &str, request: &'r dyn Request) -> Result<Option<&'r str>, Denial> {
    let mut values = request.headers().get_all(name).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(twice());
    }
    let text = value.to_str().map_err(|_| Denial::new(Fault::AuthMalformed, "something else than plain text"))?;
    if *name != header::AUTHORIZATION {
        return Ok(Some(text.trim()));
    }
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(word.eq_ignore_ascii_case(scheme).then(|| rest.trim()))
}

fn cookies(request: &dyn Request) -> impl Iterator<Item = (&str, &str)> {
    let lines = request.headers().get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

fn pairs(request: &dyn Request) -> impl Iterator<Item = (&str, &str)> {
    request.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='))
}

/// A query without these parameters; nothing where nothing is left.
pub fn without(query: &str, names: &[Box<str>]) -> Option<String> {
    let is_named = |pair: &str| names.iter().any(|name| **name == *pair.split_once('=').map_or(pair, |(name, _)| name));
    let kept: Vec<_> = query.split('&').filter(|pair| !is_named(pair)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Sees to it that the target does not see what lies there.
pub fn hide(sources: &[Source], request: &dyn Request, found: &mut Found) {
    let changes = &mut found.forward;
    let named = |name: &str| sources.iter().any(|source| matches!(source, Source::Cookie(cookie) if **cookie == *name));
    for source in sources {
        match source {
            Source::Header(name) => changes.push((name.clone(), None)),
            Source::Query(name) => found.hidden_params.push(name.clone()),
            Source::Cookie(_) => {}
        }
    }
    if cookies(request).any(|(name, _)| named(name)) {
        let lines = request.headers().get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let all = lines.flat_map(|line| line.split(';')).map(str::trim).filter(|pair| !pair.is_empty());
        let kept: Vec<_> = all.filter(|pair| !named(pair.split_once('=').map_or(*pair, |(name, _)| name))).collect();
        let kept = HeaderValue::from_str(&kept.join("; ")).ok().filter(|_| !kept.is_empty());
        changes.push((header::COOKIE, kept));
    }
}
