//! TLS towards the targets: which name is asked for, who is believed, and who we say that we are.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path as File, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Path, Problems};

/// TLS towards the targets; `tls: {}` verifies by the system's authorities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolTls")]
pub struct Config {
    /// The name that the certificate must carry; the target's host name or IP address when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// A PEM file of the authorities to believe instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A PEM file of our client certificate and its chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The PEM file of the key of `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whether the target's certificate is checked; without it anyone on the way can pose as the target.
    pub verify: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { sni: None, ca: None, cert: None, key: None, verify: true }
    }
}

/// How long before its end a certificate is complained about.
const SOON: Duration = Duration::from_hours(14 * 24);

/// TLS towards the targets, its files read.
#[derive(Default)]
pub struct Tls {
    name: Option<String>,
    ca: Option<Arc<CaType>>,
    client: Option<Arc<CertKey>>,
    unverified: bool,
    identity: u64,
}

impl Tls {
    /// Reads and checks the files; every complaint goes to `problems`.
    pub(super) fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Self {
        if !config.verify {
            let risk = "certificates of the targets are not checked: anyone on the way can pose as a target";
            problems.warn(at.key("verify"), risk);
            if config.ca.is_some() {
                problems.warn(at.key("ca"), "is not used: `verify: false` believes everyone");
            }
        }
        if let Some(name) = &config.sni
            && ServerName::try_from(name.as_str()).is_err()
        {
            problems.error(at.key("sni"), format!("`{name}` is not a host name or an IP address"));
        }
        let mut identity = DefaultHasher::new();
        let ca = config.ca.as_ref().and_then(|file| authorities(file, &at.key("ca"), problems));
        let client = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => client(cert, key, at, problems),
            (None, None) => None,
            (Some(_), None) => {
                problems.error(at.key("cert"), "needs its `key` beside it");
                None
            }
            (None, Some(_)) => {
                problems.error(at.key("key"), "needs its `cert` beside it");
                None
            }
        };
        (&ca, client.as_ref().map(|(chain, key)| (chain, key))).hash(&mut identity);
        Self {
            name: config.sni.clone(),
            ca: ca.map(|list| list.into_iter().map(|one| WrappedX509::new(one, parse_x509)).collect()),
            client: client.map(|(chain, key)| Arc::new(CertKey::new(chain, key))),
            unverified: !config.verify,
            identity: identity.finish(),
        }
    }
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    pub(super) fn verify(&self) -> bool {
        !self.unverified
    }
    pub(super) fn ca(&self) -> Option<Arc<CaType>> {
        self.ca.clone()
    }
    pub(super) fn client(&self) -> Option<Arc<CertKey>> {
        self.client.clone()
    }
    /// Tells these authorities and this client certificate from others (Pingora compares serial numbers only).
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }
}

/// The authorities in a file, once [`complain_of_authorities`] had nothing to say of it.
pub(super) fn believed(file: &File) -> Option<Arc<CaType>> {
    let certificates = authorities(file, &Path::default(), &mut Problems::default())?;
    Some(certificates.into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect())
}

pub(super) fn complain_of_authorities(file: &File, at: &Path, problems: &mut Problems) {
    authorities(file, at, problems);
}

/// The certificates in `file`, each one an authority that can be believed.
fn authorities(file: &File, at: &Path, problems: &mut Problems) -> Option<Vec<Vec<u8>>> {
    let chain = certificates(file, at, problems)?;
    let mut store = RootCertStore::empty();
    for certificate in &chain {
        if let Err(why) = store.add(certificate.clone()) {
            problems.error(at.clone(), format!("{} holds a certificate that cannot be used: {why}", file.display()));
            return None;
        }
    }
    Some(chain.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// The chain and the key, which belong together.
fn client(cert: &File, key: &File, at: &Path, problems: &mut Problems) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let chain = certificates(cert, &at.key("cert"), problems);
    let read = read(key).and_then(|pem| {
        PrivateKeyDer::from_pem_slice(&pem).map_err(|why| format!("{} holds no private key: {why}", key.display()))
    });
    let key_der = read.map_err(|why| problems.error(at.key("key"), why)).ok();
    let (chain, key_der) = (chain?, key_der?);
    let provider = aws_lc_rs::default_provider();
    if let Err(why) = CertifiedKey::from_der(chain.clone(), key_der.clone_key(), &provider) {
        problems.error(at.key("key"), format!("{} does not belong to {}: {why}", key.display(), cert.display()));
        return None;
    }
    Some((chain.into_iter().map(|certificate| certificate.to_vec()).collect(), key_der.secret_der().to_vec()))
}

/// Every certificate of a PEM file: at least one, all readable; one that ends soon is a warning.
fn certificates(file: &File, at: &Path, problems: &mut Problems) -> Option<Vec<CertificateDer<'static>>> {
    let parsed = read(file).and_then(|pem| {
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let list = list.map_err(|why| format!("{} is not PEM: {why}", file.display()))?;
        if list.is_empty() { Err(format!("{} holds no certificate", file.display())) } else { Ok(list) }
    });
    let list = parsed.map_err(|why| problems.error(at.clone(), why)).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for certificate in &list {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
            problems.error(at.clone(), format!("{} holds a certificate that cannot be read", file.display()));
            return None;
        };
        let end = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
        let left = Duration::from_secs(end).saturating_sub(now);
        if left.is_zero() {
            problems.warn(at.clone(), format!("a certificate in {} has ended", file.display()));
        } else if left < SOON {
            let days = left.as_secs() / 86_400;
            problems.warn(at.clone(), format!("a certificate in {} ends in {days} days", file.display()));
        }
    }
    Some(list)
}

fn read(file: &File) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|why| format!("cannot read {}: {why}", file.display()))
}
