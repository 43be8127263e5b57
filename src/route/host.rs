//! Hosts as routes name them, and as upstreams see them.

use std::fmt;
use std::str::FromStr;

/// The hosts of a match.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(Box<str>),
    /// Every host below; without the `*`, e.g. `.example.com`.
    Below(Box<str>),
    /// Every host.
    #[default]
    Any,
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(domain) => Ok(Self::Below(format!(".{}", name(domain)?).into())),
            None => Ok(Self::Exact(name(text)?.into())),
        }
    }
}

/// The host as requests carry it after they were made safe.
fn name(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err(format!("`{text}`: `*` stands only in front, e.g. *.example.com"));
    }
    Ok(text.to_ascii_lowercase())
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(domain) => write!(f, "*{domain}"),
            Self::Any => f.write_str("*"),
        }
    }
}

crate::units::scalar!(HostPattern, "a host", example "api.example.com",
    bare number |n| Err(format!("`{n}` is not a host, e.g. api.example.com")),
    "A host, `*.example.com` for every host below, or `*` for every host.");

/// The host that the upstream sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The client's.
    #[default]
    Pass,
    /// This one, perhaps with a port.
    Set(Box<str>),
}

impl FromStr for UpstreamHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pass" => Ok(Self::Pass),
            host => Ok(Self::Set(host.to_ascii_lowercase().into())),
        }
    }
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Set(host) => f.write_str(host),
        }
    }
}

crate::units::scalar!(UpstreamHost, "`pass` or a host", example "pass",
    bare number |n| Err(format!("`{n}` is not a host, e.g. api.example.com")),
    "`pass` keeps the client's host; a name is sent instead of it.");
