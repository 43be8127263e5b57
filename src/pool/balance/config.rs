//! What the document says of balance.
//!
//! ```yaml
//! balance: least_requests
//! balance: hash(cookie.session)
//! balance: { hash: cookie.session, bound: 125% }
//! ```

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::exchange::Request;
use crate::problem::nearest;

/// How requests are spread over the targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    Hash(Hashed),
}

/// By which key, and how far one target may be ahead of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PoolBalanceHash")]
pub struct Hashed {
    /// The same key goes to the same target: `header.NAME`, `cookie.NAME`, `client.ip` or `path.NAME`.
    pub hash: Key,
    /// How many of the requests in flight a target may have, of its even share: above that a key goes to the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
}

/// A share of an even share: 101% to 1000%.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound(pub u16);

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
        let percent = text.strip_suffix('%').filter(digits).and_then(|number| number.parse().ok());
        let fits = percent.filter(|percent| (101..=1000).contains(percent));
        fits.map(Self).ok_or_else(|| format!("`{text}` is no bound; 101% to 1000%, e.g. 125%"))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

crate::units::scalar!(Bound, "a bound", example "125%",
    bare number |n| n.to_string().parse(),
    "How many requests a target may have, of its even share: 101% to 1000%.");

crate::units::scalar!(Key, "a key", example "cookie.session",
    bare number |n| n.to_string().parse(),
    "What of a request decides its target: `header.NAME`, `cookie.NAME`, `client.ip` or `path.NAME`.");

/// What of a request decides its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Header(http::HeaderName),
    Cookie(Box<str>),
    ClientIp,
    Path(Box<str>),
}

impl Config {
    pub(in crate::pool) fn is_hash(&self) -> bool {
        matches!(self, Self::Hash(_))
    }
}

impl Key {
    pub(super) fn of<'r>(&self, request: &'r dyn Request) -> Option<&'r [u8]> {
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
            ("hash", Some(key)) => key.parse().map(|hash| Self::Hash(Hashed { hash, bound: None })),
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
            Self::Hash(Hashed { hash, .. }) => write!(f, "hash({hash})"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Cookie(name) => write!(f, "cookie.{name}"),
            Self::Path(name) => write!(f, "path.{name}"),
            Self::ClientIp => f.write_str("client.ip"),
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a balance, e.g. least_requests, or { hash: cookie.session, bound: 125% }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Config, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                Hashed::deserialize(MapAccessDeserializer::new(map)).map(Config::Hash)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hash(hashed) if hashed.bound.is_some() => hashed.serialize(to),
            word => to.collect_str(word),
        }
    }
}

impl schemars::JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PoolBalance".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "How requests are spread over the targets.",
            "anyOf": [
                { "enum": ["round_robin", "least_requests", "ewma", "random"] },
                { "type": "string", "pattern": r"^hash\((header\..+|cookie\..+|client\.ip|path\..+)\)$" },
                generator.subschema_for::<Hashed>(),
            ],
            "examples": ["least_requests", "hash(cookie.session)"],
        })
    }
}
