//! How long each step towards a target may take; a route may ask for other limits than its pool.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The longest silence of the upstream: before its head, or between bytes of its body.
    pub idle: Duration,
    /// The longest time in which the upstream takes no byte of the request.
    pub write: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            tls: Duration::from_secs(3),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(60),
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
    /// The longest silence of the upstream: before its head, or between bytes of its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// The longest time in which the upstream takes no byte of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Duration>,
}

impl Timeout {
    /// The pool's limits with the route's in their place.
    pub fn over(&self, pool: &Config) -> Config {
        Config {
            connect: self.connect.unwrap_or(pool.connect),
            tls: self.tls.unwrap_or(pool.tls),
            idle: self.idle.unwrap_or(pool.idle),
            write: self.write.unwrap_or(pool.write),
        }
    }
}

/// A limit of zero would refuse everything.
pub(super) fn complain(config: &Config, at: &Path, problems: &mut Problems) {
    let limits = [("connect", config.connect), ("tls", config.tls), ("idle", config.idle), ("write", config.write)];
    for (key, _) in limits.into_iter().filter(|(_, limit)| limit.get().is_zero()) {
        problems.error(at.key(key), "must be more than zero");
    }
}
