//! What is known of a client's connection, once it is established.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::protocols::Digest;

use super::Listener;

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

/// A verified certificate of a client.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The subject, e.g. `CN=orders, O=Example`.
    pub subject: Box<str>,
    /// SHA-256 of the certificate in lower-case hexadecimal.
    pub fingerprint: Box<str>,
}

/// The connection of a session, as the accept loop left it in Pingora's digest.
pub fn connection_of(digest: &Digest) -> Option<&Arc<Connection>> {
    digest.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}
