//! Certificates of a listener: read with their keys, checked, chosen by the name that a client asks for.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path as File, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::config::Cert;
use crate::problem::{Path, Problems};

/// When a certificate ends, for warnings and the metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    pub file: PathBuf,
    /// The names that it is good for.
    pub names: Vec<Box<str>>,
    /// Seconds since 1970.
    pub ends: i64,
}

/// The certificates of one listener by name.
pub(super) struct Certificates {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what follows `*`: `.example.com`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
    pub(super) expiries: Vec<Expiry>,
}

impl Certificates {
    /// Reads every certificate; what is wrong with one is a problem at its place.
    pub(super) fn read(certs: &[Cert], at: &Path, provider: &CryptoProvider, problems: &mut Problems) -> Self {
        let mut all = Self { exact: HashMap::new(), wildcard: HashMap::new(), first: None, expiries: Vec::new() };
        if certs.is_empty() {
            problems.error(at.clone(), "a listener with `tls` needs at least one certificate");
        }
        for (index, cert) in certs.iter().enumerate() {
            all.add(cert, &at.index(index), provider, problems);
        }
        all
    }

    fn add(&mut self, cert: &Cert, at: &Path, provider: &CryptoProvider, problems: &mut Problems) {
        let chain = certificates(&cert.cert).map_err(|why| problems.error(at.key("cert"), why));
        let key = private_key(&cert.key).map_err(|why| problems.error(at.key("key"), why));
        let (Ok(chain), Ok(key)) = (chain, key) else { return };
        let file = cert.cert.display();
        let Some(leaf) = chain.first().and_then(|der| X509Certificate::from_der(der).ok()) else {
            return problems.error(at.key("cert"), format!("{file} is not an X.509 certificate"));
        };
        let ends = leaf.1.validity().not_after.timestamp();
        let names = names(&leaf.1);
        let day = leaf.1.validity().not_after.to_datetime().date().to_string();
        if let Some(warning) = ending(&cert.cert, &day, ends - now()) {
            problems.warn(at.key("cert"), warning);
        }
        let certified = match CertifiedKey::from_der(chain, key, provider) {
            Ok(certified) => Arc::new(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let sentence = format!("{} is not the key of {file}", cert.key.display());
                return problems.error(at.key("key"), sentence);
            }
            Err(why) => return problems.error(at.key("key"), format!("{}: {why}", cert.key.display())),
        };
        self.expiries.push(Expiry { file: cert.cert.clone(), names: names.clone(), ends });
        self.first.get_or_insert_with(|| certified.clone());
        for name in names {
            let (map, name) = match name.strip_prefix('*') {
                Some(suffix) => (&mut self.wildcard, suffix.into()),
                None => (&mut self.exact, name),
            };
            map.entry(name).or_insert_with(|| certified.clone());
        }
    }

    /// Whether clients that ask for either name get the same certificate.
    pub(super) fn same(&self, one: Option<&str>, other: &str) -> bool {
        self.expiries.len() < 2
            || self.choose(one).zip(self.choose(Some(other))).is_none_or(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Exact name, then wildcard over one label, then the first certificate.
    fn choose(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let exact = name.as_deref().and_then(|name| self.exact.get(name));
        let parent = || self.wildcard.get(name.as_deref()?.get(name.as_deref()?.find('.')?..)?);
        exact.or_else(parent).or(self.first.as_ref())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.exact.keys()).entries(self.wildcard.keys()).finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).cloned()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A sentence when the certificate has ended or ends within two weeks; `left` in seconds.
fn ending(file: &File, day: &str, left: i64) -> Option<String> {
    const DAY: i64 = 86_400;
    let file = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    match left {
        ..0 => Some(format!("certificate {file} has ended ({day})")),
        0..DAY => Some(format!("certificate {file} ends today ({day})")),
        _ if left < 14 * DAY => Some(format!("certificate {file} ends in {} days ({day})", left / DAY)),
        _ => None,
    }
}

/// The names a certificate is good for, lower case; the common name only where there are no others.
fn names(leaf: &X509Certificate<'_>) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for extension in leaf.extensions() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension.parsed_extension() {
            for name in &alternatives.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.push(name.to_ascii_lowercase().into());
                }
            }
        }
    }
    if names.is_empty() {
        let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(|name| name.to_ascii_lowercase().into()));
    }
    names
}

/// Every certificate of a PEM file, at least one.
pub(super) fn certificates(file: &File) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|why| format!("{} is not PEM: {why}", file.display()))?;
    if found.is_empty() { Err(format!("{} holds no certificate", file.display())) } else { Ok(found) }
}

fn private_key(file: &File) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|why| match why {
        rustls::pki_types::pem::Error::NoItemsFound => format!("{} holds no private key", file.display()),
        other => format!("{} is not a private key in PEM: {other}", file.display()),
    })
}

pub(super) fn read(file: &File) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|why| format!("cannot read {}: {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &File, name: &str, names: &[&str]) -> Cert {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let (cert, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Cert { cert, key }
    }

    #[test]
    fn the_nearest_certificate_is_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let certs = [("a", ["a.example"]), ("wild", ["*.a.example"]), ("exact", ["b.a.example"])]
            .map(|(file, names)| make(dir.path(), file, &names));
        let mut problems = Problems::default();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let all = Certificates::read(&certs, &Path::default(), &provider, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(all.expiries.len(), 3);
        let pick = |name: Option<&str>| {
            let chosen = all.choose(name).unwrap();
            certs.iter().position(|cert| certificates(&cert.cert).unwrap() == chosen.cert).unwrap()
        };
        assert_eq!(pick(None), 0);
        assert_eq!(pick(Some("a.example")), 0);
        assert_eq!(pick(Some("x.a.example")), 1);
        assert_eq!(pick(Some("B.a.example")), 2);
        assert_eq!(pick(Some("x.y.a.example")), 0);
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (make(dir.path(), "one", &["a"]), make(dir.path(), "two", &["b"]));
        let wrong = [
            Cert { cert: one.cert.clone(), key: two.key.clone() },
            Cert { cert: dir.path().join("missing.crt"), key: one.key.clone() },
            Cert { cert: one.key.clone(), key: one.key.clone() },
            Cert { cert: one.cert.clone(), key: one.cert.clone() },
        ];
        let mut problems = Problems::default();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Certificates::read(&wrong, &Path::of(["certs"]), &provider, &mut problems);
        let said: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect();
        for (said, words) in said.iter().zip(["is not the key of", "cannot read", "no certificate", "no private key"]) {
            assert!(said.contains(words), "{said}");
        }
        assert!(said[0].starts_with("certs[0].key:"));
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn an_end_that_is_near_is_said() {
        let file = File::new("/etc/certs/api.crt");
        let day = 86_400;
        let in_six = ending(file, "2026-12-01", 6 * day + 5);
        assert_eq!(in_six.unwrap(), "certificate api.crt ends in 6 days (2026-12-01)");
        assert!(ending(file, "2026-12-01", -1).unwrap().contains("has ended"));
        assert_eq!(ending(file, "2026-12-01", 15 * day), None);
    }
}
