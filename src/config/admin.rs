//! The admin listener: health, metrics, status and reload, for the operator only.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

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
    /// A socket file for what only the user of the gateway and root may order: `yumen upgrade`. `control.sock` in the
    /// runtime directory that systemd gives, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Address>,
}

/// Where systemd's runtime directory is, as the unit names it.
const RUNTIME: &str = "/run/yumen";
const CONTROL: &str = "control.sock";

impl Default for Config {
    fn default() -> Self {
        Self { bind: Address::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 9901))), hosts: Vec::new(), control: None }
    }
}

impl Config {
    /// Where this process listens for its user.
    pub fn control(&self) -> Option<Address> {
        let given =
            || std::env::var_os("RUNTIME_DIRECTORY").map(|runtime| Address::Unix(Path::new(&runtime).join(CONTROL)));
        self.control.clone().or_else(given)
    }

    /// Where a running gateway is likely to listen for its user.
    pub fn control_of_another(&self) -> Option<Address> {
        let usual = || Some(Path::new(RUNTIME).join(CONTROL)).filter(|path| path.exists()).map(Address::Unix);
        self.control().or_else(usual)
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match &self.bind {
            Address::Ip(address) => address.ip().to_canonical().is_loopback(),
            Address::Host { name, .. } => &**name == "localhost",
            Address::Unix(_) => true,
        }
    }
}
