//! How requests come in: addresses, protocols, certificates and limits of one listener, compiled.

mod certs;
mod config;
mod connection;
pub mod rules;
mod successor;
pub mod tickets;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;

pub use certs::Expiry;
pub use config::{
    Binds, Cert, ClientCa, ClientCaMode, Config, Limits, Protocol, ProxyProtocol, Redirect, Timeout, Tls, TlsVersion,
};
pub use connection::{Connection, PartOf, TlsFacts, came_by, connection_of};
pub use successor::{Client, Duplex, Successor};

use crate::problem::{Path, Problems};
use crate::units::{Address, Name, Network};

/// The name of the admin listener that only the user of the gateway can open.
pub const CONTROL: &str = "control";

/// A listener as the accept loop and the proxy use it.
#[derive(Debug)]
pub struct Listener {
    pub name: Name,
    pub binds: Vec<Address>,
    pub h1: bool,
    pub h2: bool,
    pub redirect: Option<Redirect>,
    /// Networks that must speak the PROXY protocol.
    pub proxied: Vec<Network>,
    pub timeout: Timeout,
    pub limits: Limits,
    tls: Option<tls::Compiled>,
    files: Vec<PathBuf>,
}

impl Listener {
    /// Reads certificates and keys and checks what serde cannot; `None` when an error was found.
    pub fn compile(name: &Name, config: &Config, at: &Path, problems: &mut Problems) -> Option<Arc<Self>> {
        let before = problems.errors();
        check(config, at, problems);
        let compiled =
            config.tls.as_ref().map(|tls| tls::compile(name, tls, &config.protocols, &at.key("tls"), problems));
        if problems.errors() > before {
            return None;
        }
        Some(Arc::new(Self {
            name: name.clone(),
            binds: config.bind.0.clone(),
            h1: config.protocols.contains(&Protocol::H1),
            h2: config.protocols.contains(&Protocol::H2),
            redirect: config.redirect,
            proxied: config.proxy_protocol.as_ref().map(|proxy| proxy.trust.clone()).unwrap_or_default(),
            timeout: config.timeout.clone(),
            limits: config.limits.clone(),
            tls: compiled.flatten(),
            files: config.tls.as_ref().map(files).unwrap_or_default(),
        }))
    }

    /// What the TLS handshake needs; nothing on a plain listener.
    pub fn tls(&self) -> Option<&Arc<rustls::ServerConfig>> {
        self.tls.as_ref().map(|tls| &tls.server)
    }

    /// Whether a client that asked for `name` in its handshake may ask for `host` on the same connection: both have the
    /// same certificate here (RFC 9110 section 7.4). Always on a plain listener.
    pub fn serves(&self, name: Option<&str>, host: &str) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.certificates.same(name, host))
    }

    /// When each certificate ends.
    pub fn expiries(&self) -> &[Expiry] {
        self.tls.as_ref().map_or(&[], |tls| &tls.expiries)
    }

    /// The files that were read: when one changes, the listener must be compiled again.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

fn files(tls: &Tls) -> Vec<PathBuf> {
    let pairs = tls.certs.iter().flat_map(|cert| [&cert.cert, &cert.key]);
    pairs.chain(tls.client_ca.iter().map(|ca| &ca.file)).cloned().collect()
}

/// What only the whole listener shows.
fn check(config: &Config, at: &Path, problems: &mut Problems) {
    if config.bind.0.is_empty() {
        problems.error(at.key("bind"), "a listener needs at least one address");
    }
    for (index, bind) in config.bind.0.iter().enumerate() {
        if let Address::Host { name, port } = bind {
            let sentence = format!(
                "`{bind}` is a host name; listen on an address: 0.0.0.0:{port} for all, {name} is not resolved"
            );
            problems.error(at.key("bind").index(index), sentence);
        }
        if config.bind.0.iter().take(index).any(|other| other == bind) {
            problems.error(at.key("bind").index(index), format!("`{bind}` stands here twice"));
        }
    }
    if config.protocols.is_empty() {
        problems.error(at.key("protocols"), "a listener needs at least one protocol: h1, h2");
    }
    if config.proxy_protocol.as_ref().is_some_and(|proxy| proxy.trust.is_empty()) {
        problems.error(at.key("proxy_protocol"), "name the networks whose PROXY header is believed, e.g. [10.0.0.0/8]");
    }
    if config.tls.is_some() && config.redirect == Some(Redirect::Https) {
        problems.error(at.key("redirect"), "this listener already speaks https: the redirect would go in circles");
    }
    sizes(&config.limits, &at.key("limits"), problems);
    times(&config.timeout, &at.key("timeout"), problems);
}

fn sizes(limits: &Limits, at: &Path, problems: &mut Problems) {
    let mut between = |key: &str, value: usize, least: usize, most: usize| {
        if value < least || value > most {
            problems.error(at.key(key), format!("{value} is out of range: {least} to {most}"));
        }
    };
    between("connections", limits.connections, 1, 10_000_000);
    between("per_address", limits.per_address, 1, 10_000_000);
    between("requests", limits.requests as usize, 1, u32::MAX as usize);
    between("streams", limits.streams as usize, 1, 100_000);
    // Pingora reads 256 fields and 1 MiB of head at most; the gateway adds a few fields of its own.
    between("fields", limits.fields, 1, 250);
    between("head", limits.head.len(), 256, 1 << 20);
    between("uri", limits.uri.len(), 16, 1 << 16);
}

fn times(timeout: &Timeout, at: &Path, problems: &mut Problems) {
    let all =
        [("handshake", timeout.handshake), ("head", timeout.head), ("idle", timeout.idle), ("write", timeout.write)];
    for (key, value) in all {
        if value.get().is_zero() {
            problems.error(at.key(key), "0s would end every connection at once; leave it out for the default");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(json: serde_json::Value) -> (Option<Arc<Listener>>, Vec<String>) {
        let config: Config = serde_json::from_value(json).unwrap();
        let mut problems = Problems::default();
        let at = Path::of(["listeners", "edge"]);
        let listener = Listener::compile(&"edge".parse().unwrap(), &config, &at, &mut problems);
        (listener, problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect())
    }

    #[test]
    fn a_plain_listener_needs_only_an_address() {
        let (listener, problems) = compile(serde_json::json!({ "bind": "127.0.0.1:0" }));
        let listener = listener.unwrap();
        assert!(problems.is_empty() && listener.tls().is_none() && listener.files().is_empty());
        assert!(listener.h1 && listener.h2);
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let (listener, problems) = compile(serde_json::json!({
            "bind": ["localhost:80", "0.0.0.0:80", "0.0.0.0:80"], "protocols": [], "proxy_protocol": [],
            "redirect": "https", "tls": { "certs": [], "client_ca": { "file": "/nowhere/ca.pem" } },
            "limits": { "requests": 0, "head": "1B", "fields": 300 }, "timeout": { "idle": "0s" },
        }));
        assert!(listener.is_none());
        let expected = [
            "listeners.edge.bind[0]: `localhost:80` is a host name",
            "listeners.edge.bind[2]: `0.0.0.0:80` stands here twice",
            "listeners.edge.protocols:",
            "listeners.edge.proxy_protocol:",
            "listeners.edge.redirect:",
            "listeners.edge.limits.requests: 0 is out of range",
            "listeners.edge.limits.fields: 300",
            "listeners.edge.limits.head: 1",
            "listeners.edge.timeout.idle:",
            "listeners.edge.tls.certs:",
            "listeners.edge.tls.client_ca.file: cannot read /nowhere/ca.pem",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (said, expected) in problems.iter().zip(expected) {
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
