//! What the document says of limits: how often, by what, and how clients are told.
//!
//! ```yaml
//! limit: { rate: 100/min, burst: 20, key: header.x-client-id, else: client.ip }
//! ```
//!
//! A name stands for an object of the section `limits`, whose count all routes that name it share. A list means that all
//! of them must admit.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::share::{IfStoreDown, Share};
use crate::policy::guard::Mode;
use crate::policy::key::Key;
use crate::units::{self, Inline, Quota, Rate};

/// How often requests of one key are admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limit")]
pub struct Config {
    /// How many requests in which time, e.g. 100/min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many requests in a period of the calendar (h, day, week, month or year, in UTC), e.g. 1M/month; in place of
    /// `rate`. Without `share` its counts are kept under `runtime.state` for a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// How many requests may be under way at the same time; in place of `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<NonZeroU32>,
    /// How `rate` is understood.
    #[serde(default, skip_serializing_if = "Algorithm::is_default")]
    pub algorithm: Algorithm,
    /// Of `token_bucket`: how many requests at once, where none came before; left out: the number of `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Of `leaky_bucket`: how many requests may wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<NonZeroU32>,
    /// By what requests are counted: `client.ip` (IPv6 by /64), `consumer`, `jwt.CLAIM`, `header.NAME`, `cookie.NAME`,
    /// `path.NAME`, `host`, `route`, or a list of them together.
    pub key: Key,
    /// By what those are counted that have no such key; needed where there can be such.
    #[serde(default, rename = "else", skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Key>,
    /// Only requests for which this expression (CEL, as in `require`) holds are counted, e.g. `consumer.plan == "gold"`. One
    /// that cannot be answered holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How many keys are counted at most, which bounds the memory: about 40 bytes each, 110 by `sliding_window`; with `share` up to 200 more.
    #[serde(default = "most_keys", skip_serializing_if = "is_most_keys")]
    pub keys: NonZeroU32,
    /// The store in which all hosts count together, e.g. `shared`; left out: each host counts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Of `share`: what holds while the store is down.
    #[serde(default, skip_serializing_if = "IfStoreDown::is_default")]
    pub if_store_down: IfStoreDown,
    /// Which header fields tell the client how much is left.
    #[serde(default, skip_serializing_if = "Headers::is_default")]
    pub headers: Headers,
    /// `shadow` only counts and logs what would be refused.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

impl Config {
    /// Nothing but a key: the number is still to be said.
    pub fn by(key: Key) -> Self {
        Self {
            rate: None,
            quota: None,
            in_flight: None,
            algorithm: Algorithm::default(),
            burst: None,
            queue: None,
            key,
            otherwise: None,
            when: None,
            keys: MOST_KEYS,
            share: None,
            if_store_down: IfStoreDown::default(),
            headers: Headers::default(),
            mode: Mode::default(),
        }
    }
}

const MOST_KEYS: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);

fn most_keys() -> NonZeroU32 {
    MOST_KEYS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_most_keys(keys: &NonZeroU32) -> bool {
    *keys == MOST_KEYS
}

/// How a rate is understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// `burst` at once, and then one after the other as they come back at `rate`.
    #[default]
    TokenBucket,
    /// At most so many in every span of that length.
    SlidingWindow,
    /// At most so many in a window that begins with the first request.
    FixedWindow,
    /// One after the other: who comes too early waits, up to `queue` of them.
    LeakyBucket,
}

impl Algorithm {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which header fields tell the client how much is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// `RateLimit-Policy` and `RateLimit`.
    #[default]
    Standard,
    /// The same, and the older `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
    Legacy,
    /// None but `Retry-After` with a refusal.
    None,
}

impl Headers {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The limits of a route; all of them must admit. An empty list takes away what `defaults` or `like` would give.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Uses(pub Vec<Use>);

/// One limit of a route: the name of an object of the section `limits`, or one of the route's own.
pub type Use = units::Use<Config>;

impl Inline for Config {
    const EXPECTED: &'static str =
        "the name of a limit, or a limit, e.g. { rate: 100/min, key: client.ip }, or a list of them";
    const SCHEMA: &'static str = "LimitOfRoute";
}

impl Uses {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Uses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Uses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Config::EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Uses, E> {
                Ok(Uses(vec![Use::Named(text.parse().map_err(E::custom)?)]))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Uses, A::Error> {
                Ok(Uses(vec![Use::deserialize(MapAccessDeserializer::new(map))?]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Uses, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Uses)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Uses {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => only.serialize(to),
            list => list.serialize(to),
        }
    }
}

impl JsonSchema for Uses {
    fn schema_name() -> Cow<'static, str> {
        "Limits".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<Use>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_a_map_and_a_list_are_read_and_printed_back() {
        for text in ["per-user", "{ rate: 100/min, key: client.ip }", "[per-user, { rate: 1/s, burst: 3, key: route }]"]
        {
            let uses: Uses = serde_yaml::from_str(text).unwrap();
            let printed = serde_yaml::to_string(&uses).unwrap();
            assert_eq!(serde_yaml::from_str::<Uses>(&printed).unwrap(), uses, "{printed}");
        }
        assert!(serde_yaml::from_str::<Uses>("{ rate: 100/min, kye: client.ip }").is_err());
    }
}
