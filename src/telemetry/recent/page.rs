//! What is kept of one request that went wrong: names, places, times; no field, cookie, body or token of it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::fault::Fault;
use crate::telemetry::clock::Moment;

/// Everything that was decided about one request.
#[derive(Debug, Serialize)]
pub struct Page<'a> {
    pub request_id: &'a str,
    pub trace_id: &'a str,
    pub time: Said<SystemTime>,
    /// The configuration that it came under.
    pub generation: u64,
    pub status: u16,
    /// Nothing where the target itself answered with an error.
    #[serde(rename = "code", serialize_with = "code", skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// What decided, and where it stands: `routes.admin.ip (yumen.yaml:31:5)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    pub listener: Named<'a>,
    pub client: IpAddr,
    pub protocol: &'a str,
    pub method: &'a str,
    pub host: Cow<'a, str>,
    pub path: Cow<'a, str>,
    /// Only where the access log shows it too, and without what is secret in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Named<'a>>,
    /// What each guard of the route said, in the order in which they are asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Named<'a>>,
    /// Why no target took the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Out>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt<'a>>,
    /// Why the last of them was not followed by another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_retried: Option<&'a str>,
    /// What became of the calls that it was to be answered with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call<'a>>,
    /// The answer had begun and was cut off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub timings_ms: Times,
}

impl Default for Page<'_> {
    fn default() -> Self {
        Self {
            request_id: "",
            trace_id: "",
            time: Said(SystemTime::UNIX_EPOCH),
            generation: 0,
            status: 0,
            fault: None,
            rule: None,
            detail: None,
            listener: Named::default(),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            protocol: "",
            method: "",
            host: "".into(),
            path: "".into(),
            query: None,
            consumer: None,
            route: None,
            guards: Vec::new(),
            pool: None,
            targets: Vec::new(),
            attempts: Vec::new(),
            not_retried: None,
            calls: Vec::new(),
            cut: false,
            bytes_in: 0,
            bytes_out: 0,
            timings_ms: Times::default(),
        }
    }
}

/// Something of the document.
#[derive(Debug, Default, Serialize)]
pub struct Named<'a> {
    pub name: &'a str,
    /// `yumen.yaml:31:3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<&'a str>,
    /// Which of its matches took the request.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One guard of the route.
#[derive(Debug, Serialize)]
pub struct Guard<'a> {
    pub rule: &'a str,
    /// `passed`, `refused`, `would refuse` or `not asked`.
    pub said: &'static str,
    #[serde(serialize_with = "code", skip_serializing_if = "Option::is_none")]
    pub code: Option<Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
}

/// One target that takes no requests.
#[derive(Debug, Serialize)]
pub struct Out {
    pub target: String,
    pub out: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One try with one target.
#[derive(Debug, Serialize)]
pub struct Attempt<'a> {
    pub target: &'a str,
    /// A kept connection was used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    pub end: End,
    /// How long was waited before it.
    #[serde(skip_serializing_if = "Said::is_zero")]
    pub waited_ms: Said<Duration>,
    pub took_ms: Said<Duration>,
    /// Until the head of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<Said<Duration>>,
}

/// One call of several.
#[derive(Debug, Serialize)]
pub struct Call<'a> {
    pub name: &'a str,
    pub pool: &'a str,
    /// Nothing where it could not be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    pub took_ms: Said<Duration>,
    /// Tries with targets.
    pub tries: usize,
}

/// How a try ended: by a fault, or with an answer of this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    #[serde(serialize_with = "fault")]
    Code(Fault),
    Status(u16),
}

/// How long what took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Times {
    pub total: Said<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Said<Duration>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Said<Duration>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Said<Duration>>,
}

/// A time as it is written: a moment as text, a length in milliseconds exact to the microsecond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said<T>(pub T);

impl Said<Duration> {
    fn is_zero(&self) -> bool {
        self.0.as_micros() == 0
    }
}

impl Serialize for Said<Duration> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64((self.0.as_secs_f64() * 1e6).round() / 1e3)
    }
}

impl Serialize for Said<SystemTime> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&String::from_utf8_lossy(&Moment::of(self.0).rfc3339_micros()))
    }
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
fn code<S: Serializer>(fault: &Option<Fault>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_some(&fault.map(Fault::code))
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn fault<S: Serializer>(fault: &Fault, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(fault.code())
}
