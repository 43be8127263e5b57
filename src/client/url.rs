//! Addresses of documents on the web: `https://host/path`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;

/// Where something can be fetched; no user, no fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    text: Box<str>,
    pub tls: bool,
    /// Without the brackets of IPv6.
    pub host: Box<str>,
    pub port: u16,
    /// Path and query.
    pub target: Box<str>,
    /// As it stands in the `Host` field.
    pub authority: Box<str>,
}

impl Url {
    /// Whether nobody on the way can read along or answer instead.
    pub fn is_safe(&self) -> bool {
        let loopback = || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        self.tls || &*self.host == "localhost" || loopback()
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a URL, e.g. https://id.example.com/keys");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
        if authority.as_str().contains('@') || text.contains('#') || authority.host().is_empty() {
            return Err(wrong());
        }
        let (tls, port) = match scheme {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return Err(wrong()),
        };
        Ok(Self {
            tls,
            port: authority.port_u16().unwrap_or(port),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase().into(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).into(),
            authority: authority.as_str().into(),
            text: text.into(),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

crate::units::scalar!(Url, "a URL", example "https://id.example.com/keys",
    bare number |n| n.to_string().parse(),
    "A URL: `https://host/path`.");
