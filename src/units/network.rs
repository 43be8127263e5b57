//! Networks: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A network in CIDR notation without host bits; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` lies inside; an IPv4-mapped IPv6 address counts as its IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
    pub fn get(&self) -> IpNet {
        self.0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a network, e.g. 10.0.0.0/8 or 2001:db8::/32");
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let net: IpNet = text.parse().map_err(|_| wrong())?;
        if net.trunc() != net {
            return Err(format!("`{text}` has bits beyond its prefix; did you mean {}?", net.trunc()));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

super::scalar!(Network, "a network", example "10.0.0.0/8",
    bare number |n| Err(format!("`{n}` is not a network, e.g. 10.0.0.0/8")),
    "A network in CIDR notation, or one address.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_of_one_and_mapped_addresses_are_plain() {
        let one: Network = "10.1.2.3".parse().unwrap();
        assert!(one.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!one.contains("10.1.2.4".parse().unwrap()));
    }

    #[test]
    fn host_bits_are_refused_with_the_network_that_was_meant() {
        let sentence = "10.1.2.3/8".parse::<Network>().unwrap_err();
        assert_eq!(sentence, "`10.1.2.3/8` has bits beyond its prefix; did you mean 10.0.0.0/8?");
    }
}
