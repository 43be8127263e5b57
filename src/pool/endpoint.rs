//! The targets of the document, checked: fixed addresses, and host names that are looked up.

use std::collections::BTreeMap;
use std::net::SocketAddr as IpPort;
use std::sync::Arc;

use pingora::protocols::l4::socket::SocketAddr;

use super::discover::Lookup;
use super::peer::Settings;
use super::{Config, Protocol, Shelves, target};
use crate::problem::{Path, Problems};
use crate::units::{Address, Name};

/// One entry of `targets`.
pub(super) enum Endpoint {
    Fixed { name: Box<str>, address: SocketAddr, asked: Box<str>, weight: u16, priority: u8 },
    Named { host: Box<str>, port: u16, lookup: Arc<Lookup>, weight: u16, priority: u8 },
}

/// One address of an entry.
pub(super) struct Found {
    /// For people, and the key of the live cell.
    pub(super) name: Box<str>,
    pub(super) address: SocketAddr,
    /// What the target is asked for: its host name or IP address.
    pub(super) asked: Box<str>,
    pub(super) weight: u16,
    pub(super) priority: u8,
}

impl Endpoint {
    pub(super) fn new(pool: &Name, config: &target::Config, shelves: &Shelves) -> Option<Self> {
        let (name, weight, priority) = (config.at.to_string().into(), config.weight, config.group());
        Some(match &config.at {
            Address::Ip(ip) => Self::Fixed {
                name,
                address: SocketAddr::Inet(*ip),
                asked: ip.ip().to_string().into(),
                weight,
                priority,
            },
            Address::Unix(path) => {
                let address = std::os::unix::net::SocketAddr::from_pathname(path).ok()?;
                Self::Fixed { name, address: SocketAddr::Unix(address), asked: "localhost".into(), weight, priority }
            }
            Address::Host { name: host, port } => {
                let lookup = shelves.lookups.keep((pool.clone(), host.clone()), Lookup::default);
                Self::Named { host: host.clone(), port: *port, lookup, weight, priority }
            }
        })
    }

    /// The addresses known now.
    pub(super) fn found(&self) -> Vec<Found> {
        match self {
            Self::Fixed { name, address, asked, weight, priority } => {
                let (name, address, asked) = (name.clone(), address.clone(), asked.clone());
                vec![Found { name, address, asked, weight: *weight, priority: *priority }]
            }
            Self::Named { host, port, lookup, weight, priority } => {
                let one = |address| {
                    let address = IpPort::new(address, *port);
                    let name = format!("{host}/{address}").into();
                    Found {
                        name,
                        address: SocketAddr::Inet(address),
                        asked: host.clone(),
                        weight: *weight,
                        priority: *priority,
                    }
                };
                lookup.addresses().into_iter().map(one).collect()
            }
        }
    }

    pub(super) fn lookup(&self) -> Option<(&str, &Arc<Lookup>)> {
        match self {
            Self::Named { host, lookup, .. } => Some((host, lookup)),
            Self::Fixed { .. } => None,
        }
    }
}

/// The host of a probe that names none: what the certificate carries, else the target's own name and port.
pub(super) fn authority(settings: &Settings, asked: &str, address: &SocketAddr) -> String {
    let usual = if settings.has_tls() { 443 } else { 80 };
    let own = if asked.contains(':') { format!("[{asked}]") } else { asked.to_owned() };
    match (settings.name(), address) {
        (Some(name), _) => name.to_owned(),
        (None, SocketAddr::Inet(ip)) if ip.port() != usual => format!("{own}:{}", ip.port()),
        _ => own,
    }
}

/// What is wrong with the targets.
pub(super) fn complain(config: &Config, at: &Path, problems: &mut Problems) {
    let at = at.key("targets");
    if config.targets.is_empty() {
        problems.error(at.clone(), "needs at least one address, e.g. [10.0.0.5:8080]");
    } else if config.targets.iter().all(|target| target.weight == 0) {
        problems.warn(at.clone(), "every target has weight 0: no request will be served");
    }
    let name = config.tls.as_ref().map(|tls| (tls.verify, tls.sni.is_some()));
    let mut places = BTreeMap::new();
    for (index, target) in config.targets.iter().enumerate() {
        let at = at.index(index);
        if target.weight > target::MAX_WEIGHT {
            problems.error(at.key("weight"), format!("`{}` is too heavy; at most 1000", target.weight));
        }
        if target.backup && target.priority > 0 {
            problems.error(at.key("backup"), "stands beside `priority`, and means `priority: 1`; say one of them");
        }
        if let Some(first) = places.insert(&target.at, index) {
            problems.error(at.clone(), format!("`{}` is the same address as targets[{first}]", target.at));
        }
        match &target.at {
            Address::Ip(ip) if ip.ip().is_unspecified() || ip.ip().is_multicast() => {
                problems.error(at, format!("`{ip}` cannot be connected to; name a host, e.g. 127.0.0.1:{}", ip.port()));
            }
            Address::Ip(ip) if ip.port() == 0 => problems.error(at, "port 0 cannot be connected to"),
            Address::Host { port: 0, .. } => problems.error(at, "port 0 cannot be connected to"),
            Address::Unix(_) if name == Some((true, false)) => {
                problems
                    .error(at, "a unix socket has no name that its certificate could carry; say `tls: { sni: name }`");
            }
            _ => {}
        }
    }
}

/// What is wrong with the protocol beside the presence of `tls`.
pub(super) fn complain_of_protocol(config: &Config, at: &Path, problems: &mut Problems) {
    let at = at.key("protocol");
    match (config.protocol, config.tls.is_some()) {
        (Protocol::H2, false) => {
            problems.error(at, "`h2` is HTTP/2 over TLS and needs `tls`; without TLS it is `h2c`");
        }
        (Protocol::H2c, true) => problems.error(at, "`h2c` is HTTP/2 without TLS; beside `tls` it is `h2`"),
        _ => {}
    }
}
