//! Where to listen and where to connect: `0.0.0.0:443`, `[::]:443`, `example.com:80`, `unix:/run/app.sock`.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An endpoint: an IP address and port, a host name and port, or the path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    Ip(SocketAddr),
    Host { name: Box<str>, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// The path of a unix socket.
    pub fn socket_file(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Ip(_) | Self::Host { .. } => None,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not an address, e.g. 10.0.0.5:8080, [::1]:8080, app.internal:8080 or unix:/run/app.sock"
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            // sun_path holds 108 bytes with its final zero (unix(7)).
            let fits = path.starts_with('/') && path.len() < 108;
            return if fits { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        if let Ok(ip) = text.parse::<SocketAddr>() {
            return Ok(Self::Ip(ip));
        }
        if text.starts_with('/') {
            return Err(format!("`{text}` is a file; write a socket as unix:{text}"));
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` needs a port, e.g. {text}:8080"))?;
        let port = port.parse().map_err(|_| wrong())?;
        let numeric_tail = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if !is_host_name(name) || numeric_tail {
            return Err(wrong());
        }
        Ok(Self::Host { name: name.to_ascii_lowercase().into(), port })
    }
}

/// Whether `name` is a DNS host name (RFC 1123 section 2.1, underscores allowed as DNS does).
pub fn is_host_name(name: &str) -> bool {
    let label = |l: &[u8]| {
        (1..=63).contains(&l.len())
            && l.first() != Some(&b'-')
            && l.last() != Some(&b'-')
            && l.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
    };
    name.len() <= 253 && name.as_bytes().split(|b| *b == b'.').all(label)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

super::scalar!(Address, "an address", example "10.0.0.5:8080",
    bare number |port| match u16::try_from(port) {
        Ok(port) => Ok(Address::Ip(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))),
        Err(_) => Err(format!("`{port}` is not a port: at most 65535")),
    },
    "An address: IP and port, host name and port, `unix:/path`; where we listen, a bare port means all addresses.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for text in ["0.0.0.0:443", "[::1]:8080", "app.internal:80", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_cannot_be_reached() {
        for text in ["", "10.0.0.1", "10.0.0.1:99999", "256.0.0.1:80", "a b:80", "unix:relative", ":80", "::1:80"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let socket = "/run/app.sock".parse::<Address>().unwrap_err();
        assert_eq!(socket, "`/run/app.sock` is a file; write a socket as unix:/run/app.sock");
    }
}
