//! What the document says of further tries, in a pool and in a route that asks for others than its pool.
//!
//! ```yaml
//! retry: { attempts: 2, on: [connect, reset, 502, 503], backoff: 50ms..1s, budget: 20%, methods: idempotent }
//! retry: off
//! ```

use std::fmt;
use std::str::FromStr;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Trouble;
use crate::problem::{Path, Problems};
use crate::units::{Duration, Share, or_short, short_form};

/// Further tries of one request, at most.
pub const MOST_ATTEMPTS: u32 = 10;

/// When a request that failed is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
#[schemars(rename = "PoolRetry", transform = or_short)]
pub struct Config {
    /// Further tries of a request after its first, 0 to 10; another target takes them where there is one.
    #[schemars(range(max = 10))]
    pub attempts: u32,
    /// After what: `connect`, `reset`, `timeout`, statuses from 400, names of gRPC statuses such as `unavailable`.
    pub on: Vec<Trouble>,
    /// The pause before a further try: up to the first length, then twice as long each time, up to the second one.
    pub backoff: Backoff,
    /// Further tries at most, as a share of the pool's requests; three a second are allowed on top.
    pub budget: Share,
    /// Which requests: `idempotent` ones (and those with an `Idempotency-Key`), `all`, or a list of methods.
    pub methods: Methods,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: vec![Trouble::Connect, Trouble::Reset, Trouble::Timeout],
            backoff: Backoff { shortest: Duration::from_millis(50), longest: Duration::from_secs(1) },
            budget: Share::from_percent(20),
            methods: Methods::Idempotent,
        }
    }
}

/// `off`, or how many further tries.
fn attempts(text: &str) -> Result<u32, String> {
    match text {
        "off" => Ok(0),
        _ => text.parse().map_err(|_| format!("`{text}` is not `off`, a number of further tries, or a map")),
    }
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { attempts: attempts(text)?, ..Self::default() })
    }
}

short_form!(Config, "`off`, a number of further tries, or { attempts, on, backoff, budget, methods }");

/// What a route says instead of its pool; what is left out stays as the pool has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
#[schemars(rename = "RouteRetry", transform = or_short)]
pub struct Retry {
    /// Further tries of a request after its first, 0 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10))]
    pub attempts: Option<u32>,
    /// After what: `connect`, `reset`, `timeout`, statuses from 400, names of gRPC statuses such as `unavailable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<Trouble>>,
    /// The pause before a further try: up to the first length, then twice as long each time, up to the second one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Which requests: `idempotent` ones (and those with an `Idempotency-Key`), `all`, or a list of methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Methods>,
}

impl FromStr for Retry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { attempts: Some(attempts(text)?), ..Self::default() })
    }
}

short_form!(Retry, "`off`, a number of further tries, or { attempts, on, backoff, methods }");

impl Config {
    pub(in crate::pool) fn complain(&self, at: &Path, problems: &mut Problems) {
        complain_of_attempts(self.attempts, at, problems);
        complain_of_causes(&self.on, Some(&self.methods), at, problems);
    }
}

impl Retry {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub fn complain(&self, at: &Path, problems: &mut Problems) {
        complain_of_attempts(self.attempts.unwrap_or_default(), at, problems);
        if let Some(on) = &self.on {
            complain_of_causes(on, self.methods.as_ref(), at, problems);
        }
    }
}

fn complain_of_attempts(attempts: u32, at: &Path, problems: &mut Problems) {
    if attempts > MOST_ATTEMPTS {
        problems.error(at.key("attempts"), format!("`{attempts}` is too many; at most {MOST_ATTEMPTS}"));
    }
}

fn complain_of_causes(on: &[Trouble], methods: Option<&Methods>, at: &Path, problems: &mut Problems) {
    if on.is_empty() {
        problems.error(at.key("on"), "names nothing, so nothing would be tried again; that is `retry: off`");
    }
    let calls = on.iter().find(|trouble| matches!(trouble, Trouble::Grpc(_)));
    if let (Some(trouble), Some(Methods::Idempotent)) = (calls, methods) {
        let sentence =
            format!("calls of gRPC are POSTs: for `{trouble}` say `methods: all` where they may be repeated");
        problems.warn(at.key("methods"), sentence);
    }
}

/// The bounds of the pauses between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub shortest: Duration,
    pub longest: Duration,
}

impl FromStr for Backoff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (shortest, longest) =
            text.split_once("..").ok_or_else(|| format!("`{text}` is not two lengths of time, e.g. 50ms..1s"))?;
        let read = |part: &str| part.parse::<Duration>().map_err(|why| format!("`{text}`: {why}"));
        let backoff = Self { shortest: read(shortest)?, longest: read(longest)? };
        if backoff.shortest > backoff.longest {
            return Err(format!("`{text}`: the shorter one comes first"));
        }
        if backoff.longest.get() > std::time::Duration::from_mins(1) {
            return Err(format!("`{text}`: a client does not wait for more than 1m"));
        }
        Ok(backoff)
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.shortest, self.longest)
    }
}

crate::units::scalar!(Backoff, "two lengths of time", example "50ms..1s",
    bare number |n| n.to_string().parse(),
    "The bounds of the pauses between tries: `50ms..1s`.");

/// Which requests may be sent more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// Those of RFC 9110 section 9.2.2, and POST and PATCH with an `Idempotency-Key`.
    Idempotent,
    All,
    These(Vec<Method>),
}

impl Methods {
    pub(super) fn admit(&self, method: &Method, keyed: bool) -> bool {
        match self {
            Self::Idempotent => method.is_idempotent() || (keyed && matches!(*method, Method::POST | Method::PATCH)),
            Self::All => true,
            Self::These(methods) => methods.contains(method),
        }
    }
}

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];

fn method(name: &str) -> Result<Method, String> {
    let known = METHODS.iter().find(|method| method.as_str() == name).cloned();
    known.ok_or_else(|| {
        let near = crate::problem::nearest(&name.to_uppercase(), METHODS.iter().map(Method::as_str));
        let near = near.map(|near| format!(". Did you mean `{near}`?")).unwrap_or_default();
        format!("`{name}` is no method{near}")
    })
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Methods;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`idempotent`, `all`, or a list of methods, e.g. [GET, POST]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Methods, E> {
                match text {
                    "idempotent" => Ok(Methods::Idempotent),
                    "all" => Ok(Methods::All),
                    _ => Err(E::custom(format!("`{text}` is not `idempotent`, `all`, or a list of methods"))),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Methods, A::Error> {
                let mut methods = Vec::new();
                while let Some(name) = list.next_element::<String>()? {
                    methods.push(method(&name).map_err(de::Error::custom)?);
                }
                if methods.is_empty() {
                    return Err(de::Error::custom("names no method; to try nothing again say `retry: off`"));
                }
                Ok(Methods::These(methods))
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Methods {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Idempotent => to.serialize_str("idempotent"),
            Self::All => to.serialize_str("all"),
            Self::These(methods) => to.collect_seq(methods.iter().map(Method::as_str)),
        }
    }
}

impl JsonSchema for Methods {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RetryMethods".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names = METHODS.map(|method| method.to_string());
        schemars::json_schema!({
            "description": "Which requests may be sent more than once: `idempotent`, `all`, or a list of methods.",
            "anyOf": [
                { "enum": ["idempotent", "all"] },
                { "type": "array", "minItems": 1, "items": { "enum": names } },
            ],
        })
    }
}
