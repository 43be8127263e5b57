//! Which found addresses are used: none that lead back to this machine, unless the document says so.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be found although it leads back to this machine or its own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PoolDiscoverAllow")]
pub enum Allow {
    /// 127.0.0.0/8 and `::1`.
    Loopback,
    /// 169.254.0.0/16, where clouds keep their credentials, and `fe80::/10`.
    LinkLocal,
    /// An address that this gateway listens on.
    Listeners,
}

/// Why a found address is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Loopback,
    LinkLocal,
    Listeners,
    Unspecified,
    Multicast,
    Port,
}

impl Why {
    fn allowed(self) -> Option<Allow> {
        match self {
            Self::Loopback => Some(Allow::Loopback),
            Self::LinkLocal => Some(Allow::LinkLocal),
            Self::Listeners => Some(Allow::Listeners),
            Self::Unspecified | Self::Multicast | Self::Port => None,
        }
    }

    /// What would let it in, for people.
    pub(in crate::pool) fn remedy(self) -> String {
        let word = match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Listeners => "listeners",
            Self::Unspecified | Self::Multicast | Self::Port => return String::new(),
        };
        format!("; if that is meant, say `discover: {{ allow: [{word}] }}`")
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "is loopback",
            Self::LinkLocal => "is link-local",
            Self::Listeners => "is a listener of this gateway",
            Self::Unspecified => "is no address of a host",
            Self::Multicast => "is multicast",
            Self::Port => "has port 0",
        })
    }
}

/// What is believed.
#[derive(Debug, Clone, Default, Hash)]
pub(in crate::pool) struct Rule {
    pub(super) allow: Vec<Allow>,
    /// Where this gateway listens.
    pub(super) listeners: Vec<SocketAddr>,
}

impl Rule {
    /// Why the address is not used, if it is not; the document itself may have `written` its host name, and who writes
    /// `localhost` has said loopback.
    pub(in crate::pool) fn refuses(&self, written: &str, address: SocketAddr) -> Option<Why> {
        self.judge(written, address, is_here)
    }

    fn judge(&self, written: &str, address: SocketAddr, here: impl Fn(IpAddr) -> bool) -> Option<Why> {
        let ip = address.ip().to_canonical();
        let never = match ip {
            _ if address.port() == 0 => Some(Why::Port),
            _ if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => Some(Why::Multicast),
            // All of 0.0.0.0/8 leads to this machine.
            IpAddr::V4(ip) if ip.octets().starts_with(&[0]) => Some(Why::Unspecified),
            _ if ip.is_unspecified() => Some(Why::Unspecified),
            _ => None,
        };
        let by_name = written == "localhost" || written.ends_with(".localhost");
        let loopback = || (ip.is_loopback() && !by_name).then_some(Why::Loopback);
        let local = || is_link_local(ip).then_some(Why::LinkLocal);
        let ours = || self.is_ours(ip, address.port(), here).then_some(Why::Listeners);
        let open = |why: &Why| !why.allowed().is_some_and(|word| self.allow.contains(&word));
        never.or_else(|| [loopback(), local(), ours()].into_iter().flatten().find(open))
    }

    fn is_ours(&self, ip: IpAddr, port: u16, here: impl Fn(IpAddr) -> bool) -> bool {
        self.listeners.iter().filter(|own| own.port() == port).any(|own| {
            let own = own.ip().to_canonical();
            own == ip || (own.is_unspecified() && here(ip))
        })
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether the address is one of this machine: only such a one can be bound. Sends nothing.
fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: &[Allow]) -> Rule {
        let listeners = ["0.0.0.0:443", "[::]:444", "10.0.0.7:80", "[::ffff:10.0.0.8]:80"];
        Rule { allow: allow.to_vec(), listeners: listeners.map(|text| text.parse().unwrap()).to_vec() }
    }

    fn judged(rule: &Rule, address: &str) -> Option<Why> {
        let here = |ip: IpAddr| ip.is_loopback() || ip == IpAddr::from([10, 0, 0, 9]);
        rule.judge("app.internal", address.parse().unwrap(), here)
    }

    #[test]
    fn what_leads_back_here_is_refused_in_every_spelling() {
        for (address, why) in [
            ("10.0.0.1:80", None),
            ("[2001:db8::1]:80", None),
            ("127.0.0.1:80", Some(Why::Loopback)),
            ("127.9.9.9:80", Some(Why::Loopback)),
            ("[::1]:80", Some(Why::Loopback)),
            ("[::ffff:127.0.0.1]:80", Some(Why::Loopback)),
            ("169.254.169.254:80", Some(Why::LinkLocal)),
            ("[::ffff:169.254.169.254]:80", Some(Why::LinkLocal)),
            ("[fe80::1]:80", Some(Why::LinkLocal)),
            ("0.0.0.0:80", Some(Why::Unspecified)),
            ("0.1.2.3:80", Some(Why::Unspecified)),
            ("[::]:80", Some(Why::Unspecified)),
            ("[::ffff:0.0.0.0]:80", Some(Why::Unspecified)),
            ("224.0.0.1:80", Some(Why::Multicast)),
            ("[ff02::1]:80", Some(Why::Multicast)),
            ("[::ffff:224.0.0.1]:80", Some(Why::Multicast)),
            ("255.255.255.255:80", Some(Why::Multicast)),
            ("10.0.0.1:0", Some(Why::Port)),
            ("10.0.0.7:80", Some(Why::Listeners)),
            ("[::ffff:10.0.0.7]:80", Some(Why::Listeners)),
            ("10.0.0.8:80", Some(Why::Listeners)),
            ("10.0.0.7:81", None),
            ("10.0.0.9:443", Some(Why::Listeners)),
            ("10.0.0.9:444", Some(Why::Listeners)),
            ("10.0.0.1:443", None),
        ] {
            assert_eq!(judged(&rule(&[]), address), why, "{address}");
        }
    }

    #[test]
    fn each_word_allows_what_it_says_and_nothing_else() {
        let all = rule(&[Allow::Loopback, Allow::LinkLocal, Allow::Listeners]);
        for (address, word) in [
            ("127.0.0.1:80", Allow::Loopback),
            ("[::ffff:169.254.1.1]:80", Allow::LinkLocal),
            ("10.0.0.7:80", Allow::Listeners),
        ] {
            assert_eq!(judged(&rule(&[word]), address), None, "{address}");
            assert_eq!(judged(&all, address), None, "{address}");
            let others: Vec<_> = all.allow.iter().copied().filter(|other| *other != word).collect();
            assert!(judged(&rule(&others), address).is_some(), "{address}");
        }
        assert_eq!(judged(&rule(&[Allow::Loopback]), "127.0.0.1:443"), Some(Why::Listeners), "still a loop");
        for never in ["0.0.0.0:80", "224.0.0.1:80", "10.0.0.1:0"] {
            assert!(judged(&all, never).is_some(), "{never}");
        }
    }

    #[test]
    fn who_names_localhost_has_said_loopback() {
        let rule = rule(&[]);
        let judge = |host, address: &str| rule.judge(host, address.parse().unwrap(), |_| true);
        assert_eq!(judge("localhost", "127.0.0.1:80"), None);
        assert_eq!(judge("app.localhost", "[::1]:80"), None);
        assert_eq!(judge("localhost", "169.254.0.1:80"), Some(Why::LinkLocal));
        assert_eq!(judge("localhost", "127.0.0.1:443"), Some(Why::Listeners));
        assert_eq!(judge("localhost.example.com", "127.0.0.1:80"), Some(Why::Loopback));
    }

    #[test]
    fn an_address_of_this_machine_can_be_told_from_others() {
        assert!(is_here(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_here(IpAddr::from([192, 0, 2, 1])));
    }
}
