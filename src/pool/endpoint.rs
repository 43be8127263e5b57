//! The targets of the document, checked: fixed addresses, and sources that are asked for more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pingora::protocols::l4::socket::SocketAddr;

use super::discover::file::{self, Targets};
use super::discover::{Instance, Lookup, Refused, Source, Terms};
use super::peer::Settings;
use super::{Config, Protocol, Shelves, target};
use crate::problem::{Path, Problems};
use crate::units::{Address, Name};

/// One entry of `targets`, or of the file that stands for them.
pub(super) struct Said {
    target: target::Config,
    /// Where it stands in that file.
    place: Option<String>,
}

/// The entries of the document, or of the file that it names.
pub(super) fn said(config: &Config, at: &Path, problems: &mut Problems) -> Vec<Said> {
    match &config.targets {
        Targets::Here(list) => list.iter().map(|target| Said { target: target.clone(), place: None }).collect(),
        Targets::File(file) => {
            let read = file::read(file, &at.key("targets"), problems).into_iter();
            read.map(|(target, place)| Said { target, place: Some(place) }).collect()
        }
    }
}

/// Where targets come from: an address, or a source that is asked.
pub(super) enum Endpoint {
    Fixed {
        name: Box<str>,
        address: SocketAddr,
        asked: Box<str>,
        weight: u16,
        priority: u8,
        /// It was found in a file, and does not stand in the document itself.
        read: bool,
    },
    Found {
        source: Arc<Source>,
        label: Box<str>,
        lookup: Arc<Lookup>,
        weight: u16,
        priority: u8,
    },
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
    /// Everything that a pool is told to use.
    pub(super) fn all(pool: &Name, said: &[Said], config: &Config, shelves: &Shelves) -> Vec<Self> {
        let source = Source::of(&config.discover).map(|source| Self::found_by(pool, source, (1, 0), shelves));
        said.iter().filter_map(|said| Self::new(pool, said, shelves)).chain(source).collect()
    }

    fn new(pool: &Name, said: &Said, shelves: &Shelves) -> Option<Self> {
        let (name, read) = (said.target.at.to_string().into(), said.place.is_some());
        let (weight, priority) = (said.target.weight, said.target.group());
        Some(match &said.target.at {
            Address::Ip(ip) => Self::Fixed {
                name,
                address: SocketAddr::Inet(*ip),
                asked: ip.ip().to_string().into(),
                weight,
                priority,
                read,
            },
            Address::Unix(path) => {
                let address = std::os::unix::net::SocketAddr::from_pathname(path).ok()?;
                Self::Fixed {
                    name,
                    address: SocketAddr::Unix(address),
                    asked: "localhost".into(),
                    weight,
                    priority,
                    read,
                }
            }
            Address::Host { name: host, port } => {
                let source = Source::Host { name: host.clone(), port: *port, written: !read };
                Self::found_by(pool, source, (weight, priority), shelves)
            }
        })
    }

    fn found_by(pool: &Name, source: Source, (weight, priority): (u16, u8), shelves: &Shelves) -> Self {
        let label: Box<str> = source.label().into();
        let lookup = shelves.lookups.keep((pool.clone(), label.clone()), Lookup::default);
        Self::Found { source: Arc::new(source), label, lookup, weight, priority }
    }

    /// The addresses known now that may be used.
    pub(super) fn found(&self, terms: &Terms) -> Vec<Found> {
        match self {
            Self::Fixed { .. } if self.refused(terms).is_some() => Vec::new(),
            Self::Fixed { name, address, asked, weight, priority, .. } => {
                let (name, address, asked) = (name.clone(), address.clone(), asked.clone());
                vec![Found { name, address, asked, weight: *weight, priority: *priority }]
            }
            Self::Found { source, lookup, weight, priority, .. } => {
                let instances = lookup.instances();
                let may = |one: &Instance| terms.rule.refuses(source.written(), one.address).is_none();
                let groups: BTreeSet<_> = instances.iter().filter(|one| may(one)).map(|one| one.priority).collect();
                let group = |one: &Instance| groups.iter().take_while(|group| **group < one.priority).count();
                let one = |one: Instance| Found {
                    name: format!("{}/{}", source.family().unwrap_or(&one.host), one.address).into(),
                    address: SocketAddr::Inet(one.address),
                    weight: one.weight.saturating_mul(*weight),
                    priority: u8::try_from(group(&one)).unwrap_or(u8::MAX).max(*priority),
                    asked: one.host,
                };
                instances.into_iter().filter(may).map(one).collect()
            }
        }
    }

    /// Why an address that was read in a file is not used, if it is not.
    pub(super) fn refused(&self, terms: &Terms) -> Option<Refused> {
        match self {
            Self::Fixed { address: SocketAddr::Inet(address), read: true, .. } => {
                terms.rule.refuses("", *address).map(|why| Refused { address: *address, why })
            }
            _ => None,
        }
    }

    /// The source that is asked, as logs call it, and what is known of it.
    pub(super) fn asks(&self) -> Option<(&Arc<Source>, &str, &Arc<Lookup>)> {
        match self {
            Self::Found { source, label, lookup, .. } => Some((source, label, lookup)),
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
pub(super) fn complain(config: &Config, said: &[Said], at: &Path, problems: &mut Problems) {
    let at = at.key("targets");
    if said.is_empty() && config.targets.file().is_none() && !config.discover.is_source() {
        problems.error(at.clone(), "needs at least one address, e.g. [10.0.0.5:8080]");
    } else if !said.is_empty() && said.iter().all(|said| said.target.weight == 0) {
        problems.warn(at.clone(), "every target has weight 0: no request will be served");
    }
    let name = config.tls.as_ref().map(|tls| (tls.verify, tls.sni.is_some()));
    let mut places = BTreeMap::new();
    for (index, said) in said.iter().enumerate() {
        let target = &said.target;
        let mut wrong = |key: Option<&str>, sentence: String| match (&said.place, key) {
            (Some(place), _) => problems.error(at.clone(), format!("{place}: {sentence}")),
            (None, Some(key)) => problems.error(at.index(index).key(key), sentence),
            (None, None) => problems.error(at.index(index), sentence),
        };
        if target.weight > target::MAX_WEIGHT {
            wrong(Some("weight"), format!("`{}` is too heavy; at most 1000", target.weight));
        }
        if target.backup && target.priority > 0 {
            let sentence = "stands beside `priority`, and means `priority: 1`; say one of them";
            wrong(Some("backup"), sentence.to_owned());
        }
        if let Some(first) = places.insert(&target.at, index) {
            wrong(None, format!("`{}` is the same address as targets[{first}]", target.at));
        }
        match &target.at {
            Address::Ip(ip) if ip.ip().is_unspecified() || ip.ip().is_multicast() => {
                wrong(None, format!("`{ip}` cannot be connected to; name a host, e.g. 127.0.0.1:{}", ip.port()));
            }
            Address::Ip(ip) if ip.port() == 0 => wrong(None, "port 0 cannot be connected to".to_owned()),
            Address::Host { port: 0, .. } => wrong(None, "port 0 cannot be connected to".to_owned()),
            Address::Unix(_) if name == Some((true, false)) => {
                let sentence = "a unix socket has no name that its certificate could carry; say `tls: { sni: name }`";
                wrong(None, sentence.to_owned());
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
