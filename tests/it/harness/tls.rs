//! A certificate authority for a test, and TLS clients that trust it.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned};

use super::wire::{self, Connection, Stream};
use super::{PATIENCE, Setup};

/// A certificate and its key, as PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Pair {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).map(Result::unwrap).collect()
    }
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
    pub fn issue(&self, names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names.join(" "));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
    /// For who is known by other names than a subject: a mail address, a URI, or else a host.
    pub fn issue_nameless(&self, names: &[&str]) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = |name: &&str| match *name {
            mail if mail.contains('@') => SanType::Rfc822Name(mail.try_into().unwrap()),
            uri if uri.contains(':') => SanType::URI(uri.try_into().unwrap()),
            host => SanType::DnsName(host.try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
    /// What a client needs to trust this authority.
    pub fn client(&self) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Client { roots, identity: None, versions: rustls::ALL_VERSIONS.to_vec(), alpn: Vec::new() }
    }
}

impl Setup {
    /// Writes `NAME.pem` and `NAME.key`.
    pub fn pair(self, name: &str, pair: &Pair) -> Self {
        self.file(&format!("{name}.pem"), &pair.cert).file(&format!("{name}.key"), &pair.key)
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct Client {
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
}

impl Client {
    pub fn showing(mut self, pair: &Pair) -> Self {
        self.identity = Some((pair.chain(), Arc::new(pair.private_key())));
        self
    }
    pub fn only(mut self, version: &'static rustls::SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }
    pub fn config(self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&self.versions).unwrap();
        let builder = builder.with_root_certificates(self.roots);
        let mut config = match self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn;
        Arc::new(config)
    }
    /// A finished handshake with this name, or why there is none.
    pub fn connect(self, address: &str, sni: &str) -> Result<Secured, String> {
        handshake(&self.config(), address, sni)
    }
}

/// A client connection after its handshake.
pub struct Secured {
    pub connection: Connection,
    pub version: ProtocolVersion,
    pub alpn: String,
    pub resumed: bool,
    /// The server's certificate.
    pub server: CertificateDer<'static>,
}

pub fn handshake(config: &Arc<ClientConfig>, address: &str, sni: &str) -> Result<Secured, String> {
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let session = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = StreamOwned::new(session, wire::tcp(address));
    stream.sock.patience(PATIENCE);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|e| e.to_string())?;
    }
    let session = &stream.conn;
    let server = session.peer_certificates().unwrap()[0].clone().into_owned();
    let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let version = session.protocol_version().unwrap();
    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    Ok(Secured { connection: Connection::over(stream), version, alpn, resumed, server })
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn finish(&mut self) {
        self.conn.send_close_notify();
        let _ = self.conn.complete_io(&mut self.sock);
    }
    fn patience(&mut self, patience: Duration) {
        self.sock.patience(patience);
    }
}
