//! The process itself: threads, draining, whose word on client addresses counts.

use std::fmt;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::nearest;
use crate::units::{Duration, Network, Share, Size, scalar};

/// The process itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Runtime")]
pub struct Config {
    /// Threads that serve requests: `auto` (one for each processor) or a number.
    pub workers: Workers,
    /// How long what is in flight may take when the process ends.
    pub drain: Drain,
    /// How the address of a client is found behind other proxies.
    pub client_ip: ClientIp,
    /// A directory for what a restart should still know: the keys of issuers, the counts of quotas. `/var/lib/yumen` if that
    /// is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// How much memory there is, and from when on new requests are refused for the sake of those that are being served.
    pub memory: Memory,
    /// Unused connections to upstreams that the whole process keeps open.
    pub upstream_connections: NonZeroU16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: Workers::Auto,
            drain: Drain::default(),
            client_ip: ClientIp::default(),
            state: None,
            memory: Memory::default(),
            upstream_connections: NonZeroU16::MIN.saturating_add(1023),
        }
    }
}

impl Config {
    pub fn state(&self) -> &Path {
        self.state.as_deref().unwrap_or(Path::new("/var/lib/yumen"))
    }
}

/// How much memory there is, and what happens when it runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RuntimeMemory")]
pub struct Memory {
    /// `auto` (what the cgroup allows), a size, or `off`.
    pub limit: MemoryLimit,
    /// The share of it from which on new requests are answered 503 `shed.memory`, until five points less are in use.
    pub shed_at: Share,
}

impl Default for Memory {
    fn default() -> Self {
        Self { limit: MemoryLimit::Auto, shed_at: Share::from_percent(90) }
    }
}

/// The program itself needs about as much.
const LEAST_MEMORY: Size = Size::from_bytes(32 << 20);

/// Whose word on the memory counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// The kernel's, as the cgroup has it; where that has no limit there is none.
    #[default]
    Auto,
    /// So much for this process.
    Of(Size),
    Off,
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => {
                let size = text.parse().map_err(|why| format!("{why}, nor `auto` or `off`"))?;
                let few = || format!("`{size}` is too little to serve anyone; at least {LEAST_MEMORY}, or `off`");
                Some(Self::Of(size)).filter(|_| size >= LEAST_MEMORY).ok_or_else(few)
            }
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Of(size) => size.fmt(f),
        }
    }
}

scalar!(MemoryLimit, "`auto`, `off` or a size", example "auto",
    bare number |n| n.to_string().parse(),
    "`auto` (what the cgroup allows), a size such as `2GiB`, or `off`.");

/// Threads that serve requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each processor that the process may use.
    #[default]
    Auto,
    Number(u16),
}

impl Workers {
    /// The number of threads on this machine.
    pub fn here(self) -> usize {
        self.get(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// The number of threads, given the number of processors.
    pub fn get(self, processors: usize) -> usize {
        match self {
            Self::Auto => processors.max(1),
            Self::Number(number) => number.into(),
        }
    }
}

const MOST_WORKERS: u16 = 1024;

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let near = nearest(text, ["auto"]).map(|_| ". Did you mean `auto`?").unwrap_or_default();
        let fits = text.parse().ok().filter(|number| (1..=MOST_WORKERS).contains(number));
        let wrong = || format!("`{text}` is neither `auto` nor a number from 1 to {MOST_WORKERS}{near}");
        fits.map(Self::Number).ok_or_else(wrong)
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

scalar!(Workers, "`auto` or a number of threads", example "auto",
    bare number |n| n.to_string().parse(),
    "`auto` (one for each processor) or a number.");

/// How long what is in flight may take when the process ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// Connections at rest: a request that still comes is served, and its answer says that it was the last.
    pub idle: Duration,
    /// Requests that are being served when the process stops; after that their connections are cut.
    pub requests: Duration,
    /// The same when a successor has taken over: nobody waits for this process then, so that long requests and streams
    /// can end by themselves.
    pub streams: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { idle: seconds(5), requests: seconds(30), streams: seconds(600) }
    }
}

/// How the address of a client is found behind other proxies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientIp {
    /// Networks of proxies in front whose word is believed; the client is the right-most address outside of them.
    pub trust: Vec<Network>,
    /// The header field in which they say it.
    pub from: Forwarded,
}

/// The header field in which proxies say for whom they ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarded {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client` (RFC 7239).
    Forwarded,
    /// `X-Real-IP: client`.
    XRealIp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_an_empty_map_means() {
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        assert_eq!(Config::default().upstream_connections.get(), 1024);
    }

    #[test]
    fn workers_are_a_word_or_a_number() {
        assert_eq!("4".parse(), Ok(Workers::Number(4)));
        assert_eq!("auto".parse::<Workers>().unwrap().get(8), 8);
        assert_eq!(
            "autp".parse::<Workers>().unwrap_err(),
            "`autp` is neither `auto` nor a number from 1 to 1024. Did you mean `auto`?"
        );
        assert!("0".parse::<Workers>().is_err());
    }
}
