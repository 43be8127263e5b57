//! Where spans go, and which.
//!
//! ```yaml
//! observe:
//!   traces: { otlp: https://collector.example.com:4318, sample: 10%, headers: { x-key: file:/run/credentials/key } }
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::url::Url;
use crate::units::{Duration, Share, Text};

/// The way of each request, as spans for a receiver that speaks OTLP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traces")]
pub struct Config {
    /// Where the receiver is; without a path, `/v1/traces` is meant over HTTP.
    pub otlp: Url,
    /// How it is spoken to: protobuf over HTTP, or gRPC.
    #[serde(default)]
    pub protocol: Protocol,
    /// The share of the traces that begin here and are kept; a route may say another one. Requests that end in a fault of
    /// ours or a 5xx are always kept.
    #[serde(default = "sample")]
    pub sample: Share,
    /// Whose word on whether a trace is kept counts: that of hops in `runtime.client_ip.trust`, of everyone, or of nobody.
    #[serde(default)]
    pub follow: Follow,
    /// Fields that the receiver wants, such as a key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    /// What is said of this gateway beside `service.name`, `service.version` and `host.name`, or in their place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// How long the receiver may take for a batch.
    #[serde(default = "timeout")]
    pub timeout: Duration,
    /// How many spans may wait; those beyond are dropped and counted.
    #[serde(default = "queue")]
    pub queue: u32,
    /// A PEM file of the authorities to believe instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// How the receiver is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Protobuf over HTTP.
    #[default]
    Http,
    /// gRPC, over HTTP/2.
    Grpc,
}

/// Whose word on whether a trace is kept counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// That of hops that may speak for others.
    #[default]
    Trusted,
    /// That of everyone.
    Anyone,
    /// Nobody's.
    Nobody,
}

impl Config {
    /// Files whose change changes whom we tell.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.ca.iter().cloned().chain(self.headers.values().filter_map(Text::file))
    }
}

fn sample() -> Share {
    Share::from_percent(10)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn queue() -> u32 {
    8192
}
