//! Networks and what is known of each; an address is looked up by its longest prefix.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::problem::{Path, Problems};
use crate::units::{Network, Text};

/// Networks in the document, or a file with one a line.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Networks")]
pub enum List {
    /// `file:/path`; the file is read again when it changes.
    File(Text),
    /// One after the other.
    Here(Vec<Network>),
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of networks, e.g. [10.0.0.0/8], or file:NAME of a file with one a line")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
        let alone = || E::custom(format!("`{text}` is no list of networks; write [{text}]"));
        match text.strip_prefix("file:") {
            Some(_) => text.parse().map(List::File).map_err(E::custom),
            None if text.parse::<Network>().is_ok() => Err(alone()),
            None => Err(E::invalid_type(de::Unexpected::Str(text), &self)),
        }
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<List, A::Error> {
        let mut networks = Vec::new();
        while let Some(network) = list.next_element()? {
            networks.push(network);
        }
        Ok(List::Here(networks))
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}

/// More networks than this are a mistake, not a list.
const MOST: usize = 2_000_000;

impl List {
    /// The networks; what is no network is a problem that names its line.
    pub fn read(&self, at: &Path, problems: &mut Problems) -> Vec<IpNet> {
        let text = match self {
            Self::Here(networks) => return networks.iter().map(Network::get).collect(),
            Self::File(text @ Text::File(_)) => text,
            Self::File(_) => {
                problems.error(at.clone(), "takes a list of networks, or file:/path of a file with one a line");
                return Vec::new();
            }
        };
        let text = text.resolve().unwrap_or_else(|why| {
            problems.error(at.clone(), why);
            String::new()
        });
        let mut networks = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let word = line.split('#').next().unwrap_or_default().trim();
            if word.is_empty() {
                continue;
            }
            match word.parse::<Network>() {
                Ok(network) => networks.push(network.get()),
                Err(why) => problems.error(at.clone(), format!("line {}: {why}", number + 1)),
            }
            if networks.len() > MOST || problems.errors() > 100 {
                problems.error(at.clone(), format!("more than {MOST} networks, or too many mistakes"));
                break;
            }
        }
        networks
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(Text::File(path)) => Some(PathBuf::from(&**path)),
            _ => None,
        }
    }
}

/// A value for each network.
#[derive(Debug)]
pub struct Networks<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Networks<T> {
    /// The smallest network that holds `address`, which is canonical (no IPv4 inside IPv6).
    pub fn longest(&self, address: IpAddr) -> Option<(IpNet, &T)> {
        match address {
            IpAddr::V4(address) => {
                self.v4.get_lpm(&Ipv4Net::from(address)).map(|(network, value)| (IpNet::V4(network), value))
            }
            IpAddr::V6(address) => {
                self.v6.get_lpm(&Ipv6Net::from(address)).map(|(network, value)| (IpNet::V6(network), value))
            }
        }
    }
}

impl<T> FromIterator<(IpNet, T)> for Networks<T> {
    fn from_iter<I: IntoIterator<Item = (IpNet, T)>>(pairs: I) -> Self {
        let mut networks = Self { v4: PrefixMap::new(), v6: PrefixMap::new() };
        for (network, value) in pairs {
            match network {
                IpNet::V4(network) => drop(networks.v4.insert(network, value)),
                IpNet::V6(network) => drop(networks.v6.insert(network, value)),
            }
        }
        networks
    }
}
