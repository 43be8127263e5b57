//! The admin listener: health, metrics, status and reload, for the operator only.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Address;

/// The admin listener: health, metrics, status and reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Admin")]
pub struct Config {
    /// Where it listens: an address, or `unix:/path` for a socket file that only the same user can open.
    pub bind: Address,
    /// Names that requests may use in `Host` beside loopback names and addresses; others are refused.
    pub hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { bind: Address::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 9901))), hosts: Vec::new() }
    }
}

impl Config {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match &self.bind {
            Address::Ip(address) => address.ip().to_canonical().is_loopback(),
            Address::Host { name, .. } => &**name == "localhost",
            Address::Unix(_) => true,
        }
    }
}
