//! What is known of a client's connection, once it is established.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use pingora::protocols::Digest;

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Listener;
use crate::exchange::ClientCertificate;

/// One connection of a client: the same for all of its requests.
#[derive(Debug)]
pub struct Connection {
    /// The listener as it was when the connection came.
    pub listener: Arc<Listener>,
    /// The client, or who a trusted PROXY header says it is; `127.0.0.1:0` on a unix socket.
    pub peer: SocketAddr,
    /// Our end of it; `127.0.0.1:0` on a unix socket.
    pub local: SocketAddr,
    /// Nothing on a plain connection.
    pub tls: Option<TlsFacts>,
    /// The address of `peer`, as targets are told of it.
    pub address: HeaderValue,
}

impl Connection {
    pub fn new(listener: Arc<Listener>, peer: SocketAddr, local: SocketAddr, tls: Option<TlsFacts>) -> Self {
        // An address is visible ASCII in every spelling.
        let address = HeaderValue::try_from(peer.ip().to_canonical().to_string());
        Self { listener, peer, local, tls, address: address.unwrap_or(HeaderValue::from_static("unknown")) }
    }
}

/// What the TLS handshake told.
#[derive(Debug)]
pub struct TlsFacts {
    /// The name that the client asked for, lower case.
    pub name: Option<Box<str>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    pub cipher: &'static str,
    /// Whether ALPN chose HTTP/2.
    pub h2: bool,
    /// The client's certificate, if it showed one; it was verified.
    pub client: Option<ClientCertificate>,
}

impl TlsFacts {
    /// Read from a connection whose handshake is complete.
    pub fn of(tls: &rustls::ServerConnection) -> Self {
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        Self {
            name: tls.server_name().map(|name| name.to_ascii_lowercase().into()),
            version,
            cipher: tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            h2: tls.alpn_protocol() == Some(b"h2"),
            client: tls.peer_certificates().and_then(|chain| chain.first()).and_then(|der| certificate_of(der)),
        }
    }
}

/// Nothing where it cannot be read; it was verified all the same.
fn certificate_of(der: &[u8]) -> Option<ClientCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let sha256 = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?.common.hash_provider;
    let digest = sha256.hash(der);
    let mut fingerprint = String::with_capacity(64);
    for byte in digest.as_ref() {
        write!(fingerprint, "{byte:02x}").ok()?;
    }
    let subject = certificate.subject().to_string().into();
    let mut known = ClientCertificate { subject, fingerprint: fingerprint.into(), ..ClientCertificate::default() };
    let names = certificate.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let (list, name) = match name {
            GeneralName::DNSName(name) => (&mut known.dns, name.to_ascii_lowercase()),
            GeneralName::URI(name) => (&mut known.uri, (*name).to_owned()),
            GeneralName::RFC822Name(name) => (&mut known.email, (*name).to_owned()),
            _ => continue,
        };
        // What is no plain name could look like another one in a log or a field.
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) {
            list.push(name.into());
        }
    }
    Some(known)
}

/// The connection of a session, as the accept loop left it in Pingora's digest.
pub fn connection_of(digest: &Digest) -> Option<&Arc<Connection>> {
    digest.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}
