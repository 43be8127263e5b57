//! Active health: each target is asked at intervals whether it can serve.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{self, Duration};

/// How targets are asked whether they can serve: by HTTP or by opening a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolHealth")]
pub struct Config {
    /// Ask by `GET` of this path, over the pool's own protocol and TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Ask by opening a connection (with TLS if the pool has it).
    pub tcp: bool,
    /// How often each target is asked; 10% earlier or later by chance.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// After so many bad answers in a row a target is down.
    pub down_after: u32,
    /// After so many good answers in a row a target is up again.
    pub up_after: u32,
    /// Statuses that count as good: numbers or ranges, e.g. `[200, 204, "300..399"]`.
    pub status: Vec<Status>,
    /// Text that the body must contain within its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The host that is asked for; the target's own when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: None,
            tcp: false,
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            down_after: 3,
            up_after: 2,
            status: vec![Status { first: 200, last: 399 }],
            body: None,
            host: None,
        }
    }
}

/// One status, or a range of them with both ends: `200..399`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    first: u16,
    last: u16,
}

impl Status {
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let status = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("`{text}` is not a status or a range of them, e.g. 204 or 200..399")),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => first.fmt(f),
            (first, last) => write!(f, "{first}..{last}"),
        }
    }
}

units::scalar!(Status, "a status or a range of them", example "200..399",
    bare number |n| n.to_string().parse(),
    "An HTTP status, or a range with both ends: `200..399`.");
