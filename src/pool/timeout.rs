//! How long each step towards a target may take; a route may ask for other limits than its pool.
//!
//! ```yaml
//! pools:
//!   orders:
//!     targets: [10.0.0.11:8080, 10.0.0.12:8080]
//!     timeout: { connect: 1s, first_byte: 5s, per_try: 6s, idle: 60s, total: 30s, deadline_header: x-request-timeout }
//! ```

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::problem::{Path, Problems};
use crate::units::Duration;

/// How long each step towards a target may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolTimeout")]
pub struct Config {
    /// To open a connection.
    pub connect: Duration,
    /// To agree on TLS, after the connection is open.
    pub tls: Duration,
    /// The longest wait for the answer's head after the last byte of the request; 15s when left out, or `idle` where that is
    /// shorter, in streams, and towards targets that are spoken to over TLS or by HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// The longest that one try may take to the head of its answer, connecting included; no limit of its own when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Duration>,
    /// The longest silence of the upstream: before its head, or between bytes of its body.
    pub idle: Duration,
    /// The same in a stream of events (`accept: text/event-stream`) or a call of gRPC; `idle` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
    /// The longest time in which the upstream takes no byte of the request.
    pub write: Duration,
    /// The longest that a request may take from its head to the last byte of its answer, all tries included; no limit when
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Duration>,
    /// The field in which a client says how long it waits, e.g. `x-request-timeout`: `1500ms`, `2s`, or a plain number of
    /// milliseconds. It can only shorten `total`; the target is told what is left. `grpc-timeout` always counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_header: Option<Field>,
}

/// The name of a header field.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Field(HeaderName);

impl Field {
    pub fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl FromStr for Field {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is not the name of a header field"))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            tls: Duration::from_secs(3),
            first_byte: None,
            per_try: None,
            idle: Duration::from_secs(60),
            stream_idle: None,
            write: Duration::from_secs(60),
            total: None,
            deadline_header: None,
        }
    }
}

/// What a route says instead of its pool; what is left out stays as the pool has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RouteTimeout")]
pub struct Timeout {
    /// To open a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
    /// To agree on TLS, after the connection is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Duration>,
    /// The longest wait for the answer's head after the last byte of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// The longest that one try may take to the head of its answer, connecting included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Duration>,
    /// The longest silence of the upstream: before its head, or between bytes of its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// The same in a stream of events (`accept: text/event-stream`) or a call of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
    /// The longest time in which the upstream takes no byte of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Duration>,
    /// The longest that a request may take from its head to the last byte of its answer, all tries included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Duration>,
    /// The field in which a client says how long it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_header: Option<Field>,
}

impl Timeout {
    /// What no pool's limits could mend.
    pub fn complain(&self, at: &Path, problems: &mut Problems) {
        complain(&self.over(&Config::default()), at, problems);
    }

    /// The pool's limits with the route's in their place.
    pub fn over(&self, pool: &Config) -> Config {
        Config {
            connect: self.connect.unwrap_or(pool.connect),
            tls: self.tls.unwrap_or(pool.tls),
            first_byte: self.first_byte.or(pool.first_byte),
            per_try: self.per_try.or(pool.per_try),
            idle: self.idle.unwrap_or(pool.idle),
            stream_idle: self.stream_idle.or(pool.stream_idle),
            write: self.write.unwrap_or(pool.write),
            total: self.total.or(pool.total),
            deadline_header: self.deadline_header.clone().or_else(|| pool.deadline_header.clone()),
        }
    }
}

/// How long a target may think about an answer where the document says nothing.
const FIRST_BYTE: Duration = Duration::from_secs(15);

impl Config {
    /// The longest wait for the head of the answer.
    pub fn head(&self) -> Duration {
        self.first_byte.unwrap_or_else(|| FIRST_BYTE.min(self.idle))
    }

    /// The limits of a stream, which may begin as late as it may rest. A connection that is Pingora's has one limit for
    /// every wait.
    pub fn stream(&mut self, shared: bool) {
        if let Some(idle) = self.stream_idle {
            self.idle = idle;
            if shared {
                (self.first_byte, self.per_try) = (None, None);
            }
        }
        if !shared && self.first_byte.is_none() {
            self.first_byte = Some(self.idle);
        }
    }
}

/// The field in which a call of gRPC says how long it waits.
pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What a target is told in this field of the time that is left, rounded down so that it ends before us.
pub fn told(name: &HeaderName, left: std::time::Duration) -> Option<HeaderValue> {
    let left = left.as_millis();
    // Eight digits are all that gRPC has room for; nobody waits for a day.
    let text = if *name == GRPC_TIMEOUT { format!("{}m", left.min(99_999_999)) } else { format!("{left}ms") };
    HeaderValue::try_from(text).ok()
}

/// Whether the answer may rest for longer than others: a stream of events, or a call of gRPC.
pub fn is_stream(request: &request::Parts) -> bool {
    let accepts = |accept: &HeaderValue| accept.to_str().is_ok_and(|accept| accept.contains("text/event-stream"));
    (request.method == Method::POST && is_grpc(&request.headers))
        || request.headers.get(header::ACCEPT).is_some_and(accepts)
}

/// Whether it is a call of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| is_grpc_kind(kind.as_bytes()))
}

/// Whether who says this content type speaks gRPC, be it for the web.
pub fn is_grpc_kind(content_type: &[u8]) -> bool {
    let grpc = b"application/grpc";
    content_type.get(..grpc.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(grpc))
}

/// A limit of zero would refuse everything.
pub(super) fn complain(config: &Config, at: &Path, problems: &mut Problems) {
    let always = [("connect", config.connect), ("tls", config.tls), ("idle", config.idle), ("write", config.write)];
    let if_said = [
        ("first_byte", config.first_byte),
        ("per_try", config.per_try),
        ("stream_idle", config.stream_idle),
        ("total", config.total),
    ];
    let if_said = if_said.into_iter().filter_map(|(key, limit)| limit.map(|limit| (key, limit)));
    for (key, _) in always.into_iter().chain(if_said).filter(|(_, limit)| limit.get().is_zero()) {
        problems.error(at.key(key), "must be more than zero");
    }
}
