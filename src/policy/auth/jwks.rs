//! Where a set of keys comes from: a file, a URL, or wherever the issuer says.

use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::url::Url;
use crate::units::{Duration, or_short, short_form};

/// A set of keys (RFC 7517): a file, a URL, or `discover`; the long form takes one of `file`, `url` and `discover`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Jwks", transform = or_short)]
pub struct Jwks {
    /// A file, read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Fetched in the background, never by a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// Whether the issuer's `/.well-known/openid-configuration` says where the keys are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discover: bool,
    /// How long fetched keys are believed while no newer ones can be had.
    #[serde(default = "day")]
    pub keep_if_down: Duration,
    /// How often at most a token that names an unknown key makes us fetch; its request waits for that, 2s at most.
    #[serde(default = "half_minute")]
    pub refetch_unknown_kid: Duration,
    /// A PEM file of the authorities to believe instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether keys may come over `http:` from elsewhere than this machine; anyone on the way could sign tokens then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

short_form!(Jwks, "a file, a URL, `discover`, or a map with one of them");

fn day() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

fn half_minute() -> Duration {
    Duration::from_secs(30)
}

impl FromStr for Jwks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut jwks = Self {
            file: None,
            url: None,
            discover: false,
            keep_if_down: day(),
            refetch_unknown_kid: half_minute(),
            ca: None,
            plain_http: false,
        };
        match text {
            "discover" => jwks.discover = true,
            url if url.contains("://") => jwks.url = Some(url.parse()?),
            file => jwks.file = Some(file.into()),
        }
        Ok(jwks)
    }
}
