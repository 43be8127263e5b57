//! What is known of a client's connection, once it is established.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::HeaderValue;
use pingora::protocols::Digest;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Listener, Successor};
use crate::exchange::ClientCertificate;
use crate::fault::Fault;
use crate::telemetry::trace::RequestId;

/// One connection of a client: the same for all of its requests.
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
    /// Turns true when its socket closes, with its listener or the whole gateway.
    pub closing: watch::Receiver<bool>,
    successor: Mutex<Option<Box<dyn Successor>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("listener", &self.listener.name)
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub fn new(
        listener: Arc<Listener>,
        peer: SocketAddr,
        local: SocketAddr,
        tls: Option<TlsFacts>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        // An address is visible ASCII in every spelling.
        let address = HeaderValue::try_from(peer.ip().to_canonical().to_string());
        let address = address.unwrap_or(HeaderValue::from_static("unknown"));
        Self { listener, peer, local, tls, address, closing, successor: Mutex::default() }
    }

    /// Says who serves the connection when the present request is done.
    pub fn hand_over(&self, to: Box<dyn Successor>) {
        *self.successor.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }

    /// Who serves it from now on, if it was handed over.
    pub fn successor(&self) -> Option<Box<dyn Successor>> {
        self.successor.lock().unwrap_or_else(PoisonError::into_inner).take()
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

/// In place of a connection: what a part of a batch came with.
pub struct PartOf {
    pub connection: Arc<Connection>,
    /// The id of the request that it came with.
    pub request: Box<str>,
    /// Why it is none, as its connection would have found out; its head then only tells what it was.
    pub refused: Option<Fault>,
    /// Its own.
    pub id: RequestId,
    /// What of the document does not wait for it any longer.
    pub rule: Box<str>,
    /// What its sender was told, where its answer was not waited for.
    pub left: OnceLock<Fault>,
}

/// The connection of a session, as the accept loop left it in Pingora's digest.
pub fn connection_of(digest: &Digest) -> Option<&Arc<Connection>> {
    came_by(digest).map(|(connection, _)| connection)
}

/// The same, and for the part of a batch what it is.
pub fn came_by(digest: &Digest) -> Option<(&Arc<Connection>, Option<&Arc<PartOf>>)> {
    let data = digest.proxy_digest.as_ref()?.user_data.as_ref()?;
    match data.downcast_ref() {
        Some(connection) => Some((connection, None)),
        None => data.downcast_ref::<Arc<PartOf>>().map(|part| (&part.connection, Some(part))),
    }
}
