//! Which of the live targets takes the next request.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};

use crate::exchange::Request;
use crate::problem::{Path, Problems, nearest};
use crate::units::Duration;

mod estimate;
mod ewma;
mod hash;
mod least_requests;
mod random;
mod round_robin;

pub(super) use estimate::Estimate;
use ewma::Ewma;
use hash::Hash;
use least_requests::LeastRequests;
use random::Random;
use round_robin::RoundRobin;

/// How requests are spread over the targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Config {
    /// In turn, smoothly by weight.
    #[default]
    RoundRobin,
    /// The less busy of two targets drawn by weight.
    LeastRequests,
    /// The quicker of two targets drawn by weight: how late its answers begin, times the requests that it has.
    Ewma,
    /// Drawn by weight.
    Random,
    /// The same key goes to the same target, as long as it is up.
    Hash(Key),
}

/// What is wrong with how requests are spread.
pub(super) fn complain(config: &super::Config, at: &Path, problems: &mut Problems) {
    let at = at.key("slow_start");
    match config.slow_start.map(Duration::get) {
        Some(length) if length.is_zero() => problems.error(at, "must be more than zero"),
        Some(_) if matches!(config.balance, Config::Hash(_)) => {
            problems.warn(at, "means nothing with `balance: hash(...)`: a key goes back to its target at once");
        }
        _ => {}
    }
}

/// What of a request decides its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Header(http::HeaderName),
    Cookie(Box<str>),
    ClientIp,
    Path(Box<str>),
}

/// A balance worked out for one set of targets, which it knows by their places in the list.
pub(super) enum Choice {
    RoundRobin(RoundRobin),
    LeastRequests(LeastRequests),
    Ewma(Ewma),
    Random(Random),
    Hash { key: Key, ring: Hash, keyless: Random },
}

impl Choice {
    /// Nobody to choose from.
    pub(super) fn none() -> Self {
        Self::Random(Random::new(&[]))
    }

    /// For these names and weights; `turn` outlives the choice.
    pub(super) fn new(config: &Config, targets: &[(&str, u16)], turn: &Arc<AtomicUsize>) -> Self {
        let weights: Vec<u16> = targets.iter().map(|(_, weight)| *weight).collect();
        match config {
            Config::RoundRobin => Self::RoundRobin(RoundRobin::new(&weights, Arc::clone(turn))),
            Config::LeastRequests => Self::LeastRequests(LeastRequests::new(&weights)),
            Config::Ewma => Self::Ewma(Ewma::new(&weights)),
            Config::Random => Self::Random(Random::new(&weights)),
            Config::Hash(key) => {
                let ring = Hash::new(targets.iter().copied());
                Self::Hash { key: key.clone(), ring, keyless: Random::new(&weights) }
            }
        }
    }

    /// The place of the target for this request, among those that fit.
    pub(super) fn choose(
        &self,
        request: &dyn Request,
        fits: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> u32,
        latency: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(turns) => turns.choose(fits),
            Self::LeastRequests(least) => least.choose(fits, load),
            Self::Ewma(ewma) => ewma.choose(fits, load, latency),
            Self::Random(random) => random.choose(fits),
            Self::Hash { key: Key::ClientIp, ring, .. } => match request.client().to_canonical() {
                std::net::IpAddr::V4(client) => ring.choose(&client.octets(), fits),
                std::net::IpAddr::V6(client) => ring.choose(&client.octets(), fits),
            },
            Self::Hash { key, ring, keyless } => match key.of(request) {
                Some(key) => ring.choose(key, fits),
                None => keyless.choose(fits),
            },
        }
    }
}

impl Key {
    fn of<'r>(&self, request: &'r dyn Request) -> Option<&'r [u8]> {
        match self {
            Self::Header(name) => request.headers().get(name).map(http::HeaderValue::as_bytes),
            Self::Cookie(name) => request.cookie(name).map(str::as_bytes),
            Self::Path(name) => request.param(name).map(str::as_bytes),
            Self::ClientIp => None,
        }
    }
}

const WORDS: [&str; 5] = ["round_robin", "least_requests", "ewma", "random", "hash"];
const KEYS: &str = "hash(header.x), hash(cookie.x), hash(client.ip) or hash(path.name)";

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, key) = match text.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
            Some((word, key)) => (word, Some(key)),
            None => (text, None),
        };
        match (word, key) {
            ("round_robin", None) => Ok(Self::RoundRobin),
            ("least_requests", None) => Ok(Self::LeastRequests),
            ("ewma", None) => Ok(Self::Ewma),
            ("random", None) => Ok(Self::Random),
            ("hash", Some(key)) => key.parse().map(Self::Hash),
            ("hash", None) => Err(format!("`hash` needs a key: {KEYS}")),
            (known, Some(_)) if WORDS.contains(&known) => Err(format!("`{known}` takes no key; write `{known}`")),
            (unknown, _) => {
                let meant = nearest(unknown, WORDS).map(|word| format!(" Did you mean `{word}`?"));
                Err(format!(
                    "`{text}` is not a balance.{} It is one of round_robin, least_requests, ewma, random, hash(...)",
                    meant.unwrap_or_default()
                ))
            }
        }
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('.').filter(|(_, name)| !name.is_empty());
        match named {
            Some(("header", name)) => {
                name.parse().map(Self::Header).map_err(|_| format!("`{name}` is not a name of a header"))
            }
            Some(("cookie", name)) => Ok(Self::Cookie(name.into())),
            Some(("path", name)) => Ok(Self::Path(name.into())),
            Some(("client", "ip")) => Ok(Self::ClientIp),
            _ => Err(format!("`hash({text})` has no such key; it is {KEYS}")),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round_robin"),
            Self::LeastRequests => f.write_str("least_requests"),
            Self::Ewma => f.write_str("ewma"),
            Self::Random => f.write_str("random"),
            Self::Hash(Key::Header(name)) => write!(f, "hash(header.{name})"),
            Self::Hash(Key::Cookie(name)) => write!(f, "hash(cookie.{name})"),
            Self::Hash(Key::Path(name)) => write!(f, "hash(path.{name})"),
            Self::Hash(Key::ClientIp) => f.write_str("hash(client.ip)"),
        }
    }
}

impl TryFrom<String> for Config {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Config> for String {
    fn from(config: Config) -> Self {
        config.to_string()
    }
}

impl schemars::JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PoolBalance".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "How requests are spread over the targets.",
            "anyOf": [
                { "enum": ["round_robin", "least_requests", "ewma", "random"] },
                { "type": "string", "pattern": r"^hash\((header\..+|cookie\..+|client\.ip|path\..+)\)$" },
            ],
            "examples": ["least_requests", "hash(cookie.session)"],
        })
    }
}
