//! TLS of a listener: versions, certificates, client certificates, session tickets.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::certs::{Certificates, Expiry, certificates};
use super::config::{ClientCa, ClientCaMode, Protocol, Tls, TlsVersion};
use super::tickets::{self, Ticketer};
use crate::problem::{Path, Problems};
use crate::units::Name;

/// What TLS needs at run time.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) server: Arc<ServerConfig>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) expiries: Vec<Expiry>,
    /// Holds the ticket keys on their shelf.
    _tickets: Arc<Ticketer>,
}

/// Reads certificates and keys; `None` when a problem was found.
pub(super) fn compile(
    name: &Name,
    tls: &Tls,
    protocols: &[Protocol],
    at: &Path,
    problems: &mut Problems,
) -> Option<Compiled> {
    let before = problems.errors();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificates = Certificates::read(&tls.certs, &at.key("certs"), &provider, problems);
    let client = tls.client_ca.as_ref().map(|ca| verifier(ca, &provider));
    let client = client.transpose().map_err(|why| problems.error(at.key("client_ca").key("file"), why));
    if problems.errors() > before {
        return None;
    }
    let versions: &[&SupportedProtocolVersion] = match tls.min {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let builder = builder.map_err(|why| problems.error(at.clone(), why.to_string())).ok()?;
    let (verifier, ca) = client.ok()?.unzip();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let expiries = certificates.expiries.clone();
    let certificates = Arc::new(certificates);
    let mut server = builder.with_cert_resolver(certificates.clone());
    server.alpn_protocols = protocols.iter().rev().map(|protocol| alpn(*protocol).to_vec()).collect();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    let tickets = tickets::keep(name, &ca.unwrap_or_default());
    if tls.tickets {
        server.ticketer = Arc::<Ticketer>::clone(&tickets);
    } else {
        server.send_tls13_tickets = 0;
    }
    Some(Compiled { server: Arc::new(server), certificates, expiries, _tickets: tickets })
}

fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::H1 => b"http/1.1",
        Protocol::H2 => b"h2",
    }
}

/// The verifier of client certificates, and what tells it from others.
fn verifier(ca: &ClientCa, provider: &Arc<CryptoProvider>) -> Result<(Arc<dyn ClientCertVerifier>, Vec<u8>), String> {
    let mut roots = RootCertStore::empty();
    let mut mark = vec![u8::from(ca.mode == ClientCaMode::Required)];
    for certificate in certificates(&ca.file)? {
        mark.extend_from_slice(&certificate);
        roots.add(certificate).map_err(|why| format!("{} is not a CA: {why}", ca.file.display()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match ca.mode {
        ClientCaMode::Required => builder,
        ClientCaMode::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|why| format!("{}: {why}", ca.file.display()))?;
    Ok((verifier, mark))
}
