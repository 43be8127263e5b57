//! TLS towards a store: whom we believe, and who we say that we are.

use std::path::{Path as File, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsConnector;

use crate::problem::{Path, Problems};
use crate::units::Address;

/// TLS towards a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StoreTls")]
pub struct Config {
    /// A PEM file of the authorities to believe.
    pub ca: PathBuf,
    /// A PEM file of our client certificate and its chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The PEM file of the key of `cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name that the certificate must carry; the host name or IP address of the store when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

impl Config {
    pub(in crate::client) fn files(&self) -> impl Iterator<Item = PathBuf> {
        std::iter::once(&self.ca).chain(&self.cert).chain(&self.key).cloned()
    }
}

/// TLS towards a store, its files read.
#[derive(Clone)]
pub(in crate::client) struct Tls {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl Tls {
    pub(in crate::client) fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&config.ca, &at.key("ca"), problems) {
            if let Err(why) = roots.add(certificate) {
                problems.error(at.key("ca"), format!("holds a certificate that cannot be used: {why}"));
            }
        }
        let name = config.sni.as_ref().map(|sni| ServerName::try_from(sni.clone()));
        if let Some(Err(_)) = name {
            problems.error(at.key("sni"), "is no name of a host");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().ok()?.with_root_certificates(roots);
        let made = match (&config.cert, &config.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, &at.key("cert"), problems);
                let key = private_key(key).map_err(|why| problems.error(at.key("key"), why)).ok()?;
                let made = builder.with_client_auth_cert(chain, key);
                made.map_err(|why| problems.error(at.key("key"), format!("does not belong to `cert`: {why}"))).ok()?
            }
            _ => {
                problems.error(at.clone(), "`cert` and `key` belong together");
                return None;
            }
        };
        let connector = TlsConnector::from(Arc::new(made));
        (problems.errors() == before).then(|| Self { connector, name: name.and_then(Result::ok) })
    }

    pub(in crate::client) fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    /// The name that the certificate of this address must carry.
    pub(in crate::client) fn name(&self, address: &Address) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| match address {
            Address::Ip(ip) => Some(ServerName::from(ip.ip())),
            Address::Host { name, .. } => ServerName::try_from(name.to_string()).ok(),
            Address::Unix(_) => None,
        })
    }
}

/// Every certificate of a PEM file, at least one.
fn certificates(file: &File, at: &Path, problems: &mut Problems) -> Vec<CertificateDer<'static>> {
    let read = read(file).and_then(|pem| {
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let list = list.map_err(|why| format!("{} is not PEM: {why}", file.display()))?;
        if list.is_empty() { Err(format!("{} holds no certificate", file.display())) } else { Ok(list) }
    });
    read.map_err(|why| problems.error(at.clone(), why)).unwrap_or_default()
}

fn private_key(file: &File) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|why| format!("{} holds no private key: {why}", file.display()))
}

fn read(file: &File) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|why| format!("cannot read {}: {why}", file.display()))
}
