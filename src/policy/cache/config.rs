//! What the document says of a cache: for how long, by what key, in which store.
//!
//! ```yaml
//! cache: { ttl: 1h, stale: 1m, stale_if_error: 10m, negative: 10s, max: 256KiB, tags: x-tags, wait: 2s }
//! ```

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::units::{Duration, Name, Size, or_short, short_form};

/// Which answers are remembered, and for how long. A bare length of time is short for `ttl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Cache", transform = or_short)]
pub struct Config {
    /// For how long an answer is fresh, whatever it says of that itself; when left out, as long as it says (RFC 9111).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// For how long after that it is still served, while it is fetched anew beside the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Duration>,
    /// For how long after that it is served where the service fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_if_error: Option<Duration>,
    /// For how long 404, 405, 410, 414 and 501 are remembered that do not say it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<Duration>,
    /// What tells answers apart, beside route, scheme and host.
    #[serde(default, skip_serializing_if = "Key::is_usual")]
    pub key: Key,
    /// Answers that are marked `public` are kept once for all identities, and others are not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share: bool,
    /// An object of the section `stores`; when left out, 64 MiB in memory that such routes share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Name>,
    /// The longest body that is kept.
    #[serde(default = "usual_max")]
    pub max: Size,
    /// The field of the answer in which the service names tags to purge by; clients do not get to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Box<str>>,
    /// How long a request waits for another one that fetches the same.
    #[serde(default = "usual_wait")]
    pub wait: Duration,
    /// Clients may ask by `Cache-Control` for an answer that is newer, older, or fetched anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub obey: bool,
}

short_form!(Config, "a length of time, e.g. 60s, or { ttl: 60s, stale: 10s, key: [path, query], .. }");

fn usual_max() -> Size {
    Size::from_bytes(1 << 20)
}

fn usual_wait() -> Duration {
    Duration::from_secs(5)
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self {
            ttl: Some(text.parse()?),
            stale: None,
            stale_if_error: None,
            negative: None,
            key: Key::default(),
            share: false,
            store: None,
            max: usual_max(),
            tags: None,
            wait: usual_wait(),
            obey: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_alone_is_the_short_form() {
        let read = |text: &str| serde_yaml::from_str::<Config>(text);
        let short = read("60s").unwrap();
        assert_eq!(short, read("{ ttl: 60s, key: [path, query] }").unwrap());
        assert_eq!(short.max, Size::from_bytes(1 << 20));
        let printed = serde_yaml::to_string(&short).unwrap();
        assert_eq!(read(&printed).unwrap(), short, "{printed}");
        assert!(read("{}").unwrap().ttl.is_none());
        for wrong in ["60", "x", "{ tll: 1s }", "{ key: [] }", "{ key: [pth] }"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
