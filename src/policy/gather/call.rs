//! One call of several: which pool, what it is asked, and what a failure means.
//!
//! ```yaml
//! gather:
//!   order: { pool: orders, method: POST, path: /find, body: { order: $path.id, by: $header.x-user }, timeout: 300ms, on_error: null }
//!   stock: { pool: catalog, path: /stock/$path.id }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::body::{Body, source};
use super::known::{self, Known, Missing};
use super::said::{self, Part, Source};
use super::{Find, MOST_ALL};
use crate::policy::headers::Field;
use crate::policy::template::{self, Offer};
use crate::pool::health::Status;
use crate::pool::{Pool, Retry};
use crate::problem::{Path, Problems};
use crate::units::{Duration, Name, Size};

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GatherCall")]
pub struct Said {
    /// The pool that is asked.
    pub pool: Name,
    /// What it is asked for: a path, and a query if need be, e.g. `/users/$jwt.sub?full=$query.full`.
    pub path: Box<str>,
    /// How: GET, POST, PUT, PATCH or DELETE.
    #[serde(default)]
    pub method: Verb,
    /// Fields of the request, besides those that every call has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Field, Box<str>>,
    /// Its body, sent as JSON; a text that is nothing but `$name` stands for the value itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// How long it may take, all tries included; as the route and the pool say when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When it is tried again; as the route and the pool say when left out.
    #[serde(default, skip_serializing_if = "Retry::is_default")]
    pub retry: Retry,
    /// What a failure means: `fail` refuses the request, `null` stands in place of the result, `omit` leaves it out.
    #[serde(default)]
    pub on_error: OnError,
    /// Which statuses of the answer are failures.
    #[serde(default = "failures")]
    pub errors: Vec<Status>,
    /// What the answer is taken for: `json`, or `text`, which becomes one string.
    #[serde(default)]
    pub read: Read,
    /// Bytes of its answer, at most.
    #[serde(default = "most")]
    pub max: Size,
}

fn failures() -> Vec<Status> {
    "400..599".parse().into_iter().collect()
}

fn most() -> Size {
    Size::from_bytes(1 << 20)
}

/// What a failure of a call means for the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    #[default]
    Fail,
    Null,
    Omit,
}

impl<'de> Deserialize<'de> for OnError {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = OnError;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fail, null or omit")
            }
            fn visit_unit<E>(self) -> Result<OnError, E> {
                Ok(OnError::Null)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OnError, E> {
                match text {
                    "fail" => Ok(OnError::Fail),
                    "null" => Ok(OnError::Null),
                    "omit" => Ok(OnError::Omit),
                    _ => Err(E::custom(format!("unknown word `{text}`. Known words: fail, null, omit"))),
                }
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for OnError {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fail => to.serialize_str("fail"),
            Self::Null => to.serialize_unit(),
            Self::Omit => to.serialize_str("omit"),
        }
    }
}

impl JsonSchema for OnError {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GatherOnError".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "What a failure of a call means for the request.",
            "enum": ["fail", null, "omit"],
        })
    }
}

/// What an answer is taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "GatherRead")]
pub enum Read {
    #[default]
    Json,
    Text,
}

/// How a pool is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verb(Method);

const VERBS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

impl Default for Verb {
    fn default() -> Self {
        Self(Method::GET)
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = VERBS.into_iter().find(|method| method.as_str() == text).map(Self);
        known.ok_or_else(|| format!("`{text}` is not how a call asks: GET, POST, PUT, PATCH or DELETE"))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::units::scalar!(Verb, "a method", example "POST",
    bare number |n| n.to_string().parse(),
    "GET, POST, PUT, PATCH or DELETE.");

/// What texts of a route may name.
pub struct Terms<'a> {
    /// The calls, in their order.
    pub names: &'a [&'a str],
    pub offers: &'a [Offer],
    pub has_auth: bool,
}

/// A call, decided once.
#[derive(Debug)]
pub struct Call {
    name: Name,
    pool: Arc<Pool>,
    method: Method,
    path: Vec<Part>,
    /// Each `key=value`.
    query: Vec<Vec<Part>>,
    fields: Vec<(HeaderName, Vec<Part>)>,
    body: Option<Body>,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<Retry>,
    pub(super) on_error: OnError,
    pub(super) errors: Vec<Status>,
    pub(super) read: Read,
    pub(super) most: usize,
    needs: Vec<usize>,
}

/// Why a call cannot be made of this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmade {
    Missing(Missing),
    /// A value would change more than its own place.
    Unfit,
}

impl Call {
    pub(super) fn compile(
        name: &Name,
        said: &Said,
        terms: &Terms<'_>,
        find: &mut Find<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        if said::is_root(name.as_str()) || name.as_str().contains('.') {
            let sentence = format!("`${name}` would not be the result of this call; give it another name");
            problems.error(at.clone(), sentence);
        }
        let pool = find(&said.pool, &at.key("pool"), problems);
        let target = target(&said.path, terms);
        let target = target.map_err(|why| problems.error(at.key("path"), why)).ok();
        let fields = fields(&said.headers, terms, &at.key("headers"), problems);
        let body = said.body.as_ref().map(|body| Body::read(body, terms));
        let body = body.transpose().map_err(|why| problems.error(at.key("body"), why)).ok().flatten();
        complain(said, at, problems);
        let ((path, query), pool) = (target?, pool?);
        let mut call = Self {
            name: name.clone(),
            pool,
            method: said.method.0.clone(),
            path,
            query,
            fields,
            body,
            timeout: said.timeout,
            retry: Some(said.retry.clone()).filter(|retry| !retry.is_default()),
            on_error: said.on_error,
            errors: said.errors.clone(),
            read: said.read,
            most: said.max.len(),
            needs: Vec::new(),
        };
        let needs = call.sources().into_iter().filter_map(|source| match source {
            Source::Call(at, _) => Some(*at),
            _ => None,
        });
        call.needs = needs.collect();
        (problems.errors() == before).then_some(call)
    }

    pub fn name(&self) -> &Name {
        &self.name
    }
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
    pub fn method(&self) -> &Method {
        &self.method
    }
    /// The calls whose results it is made of.
    pub fn needs(&self) -> &[usize] {
        &self.needs
    }

    pub(super) fn sources(&self) -> Vec<&Source> {
        let texts = [&self.path].into_iter().chain(&self.query).chain(self.fields.iter().map(|(_, parts)| parts));
        let mut all: Vec<&Source> = texts.flatten().filter_map(source).collect();
        if let Some(body) = &self.body {
            body.sources(&mut all);
        }
        all
    }

    /// The request of this call.
    pub(super) fn make(&self, known: &Known<'_>) -> Result<(RequestHeader, Bytes), Unmade> {
        let target = self.target(known)?;
        let build = RequestHeader::build_no_case(self.method.clone(), target.as_bytes(), Some(16));
        let mut head = build.map_err(|_| Unmade::Unfit)?;
        let _ = head.insert_header(header::ACCEPT, HeaderValue::from_static("application/json"));
        let body = self.body.as_ref().map(|body| body.make(known));
        if body.is_some() {
            let _ = head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, parts) in &self.fields {
            // A field of which something is missing is not sent.
            if let Ok(value) = known.write(parts, known::plain) {
                let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Unmade::Unfit)?;
                let _ = head.insert_header(name.clone(), value);
            }
        }
        Ok((head, body.unwrap_or_default().into()))
    }

    fn target(&self, known: &Known<'_>) -> Result<String, Unmade> {
        let mut path = String::new();
        for part in &self.path {
            match part {
                Part::Plain(text) => path.push_str(text),
                Part::From(source) => {
                    let text = known.text(source).map_err(Unmade::Missing)?;
                    if text.is_empty() {
                        // `/users/` is another thing than `/users/7`.
                        return Err(Unmade::Unfit);
                    }
                    path.push_str(&known::escaped(&text));
                }
            }
        }
        let mut target = template::checked(path).map_err(|_| Unmade::Unfit)?;
        // What is not there is not asked for.
        let pairs = self.query.iter().filter_map(|pair| known.write(pair, known::escaped).ok());
        for (number, pair) in pairs.enumerate() {
            target.extend([if number == 0 { "?" } else { "&" }, &*pair]);
        }
        Ok(target)
    }
}

/// The path, and the pairs of the query.
fn target(text: &str, terms: &Terms<'_>) -> Result<(Vec<Part>, Vec<Vec<Part>>), String> {
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let path = said::read(path, terms)?;
    let query: Vec<_> = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .map(|pair| said::read(pair, terms))
        .collect::<Result<_, _>>()?;
    let plain = |parts: &[Part]| -> String {
        parts.iter().map(|part| if let Part::Plain(text) = part { text } else { "x" }).collect()
    };
    let fits = |byte: u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    if !text.starts_with('/')
        || template::checked(plain(&path)).is_err()
        || !query.iter().flat_map(|pair| plain(pair).into_bytes()).all(fits)
    {
        return Err(format!("`{text}` is not a path that a request can have, e.g. /users/$jwt.sub?full=true"));
    }
    Ok((path, query))
}

fn fields(
    said: &BTreeMap<Field, Box<str>>,
    terms: &Terms<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Vec<(HeaderName, Vec<Part>)> {
    let mut all = Vec::new();
    for (field, text) in said {
        match (field.name(), said::read(text, terms)) {
            (Some(name), Ok(parts)) => all.push((name, parts)),
            (_, Err(why)) => problems.error(at.key(field.as_str()), why),
            (None, Ok(_)) => {}
        }
    }
    all
}

fn complain(said: &Said, at: &Path, problems: &mut Problems) {
    if said.body.is_some() && said.method == Verb::default() {
        problems.error(at.key("body"), "a GET has no body; say `method: POST`");
    }
    if said.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
        problems.error(at.key("timeout"), "must be more than zero");
    }
    if said.max > MOST_ALL || said.max.is_empty() {
        problems.error(at.key("max"), format!("`{}` is not from 1B to {MOST_ALL}", said.max));
    }
    said.retry.complain(&at.key("retry"), problems);
}
