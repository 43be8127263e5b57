//! Public keys from PEM files: a public key, or a certificate that holds one.

use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::key::Public;
pub(super) use crate::client::authorities::whole;

/// The key in a file. The error is a sentence.
pub(super) fn read(file: &Path) -> Result<Public, String> {
    let text = whole(file)?;
    parse(text.as_bytes()).map_err(|why| format!("{} {why}", file.display()))
}

fn parse(pem: &[u8]) -> Result<Public, String> {
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
        let (_, info) = SubjectPublicKeyInfo::from_der(&key).map_err(|_| "holds no key that can be read")?;
        return public(&info);
    }
    if let Ok(certificate) = CertificateDer::from_pem_slice(pem) {
        let (_, certificate) =
            X509Certificate::from_der(&certificate).map_err(|_| "holds no certificate that can be read")?;
        return public(certificate.public_key());
    }
    let private = pem.windows(12).any(|window| window == b"PRIVATE KEY-");
    Err(if private { "holds a private key; give its public half" } else { "holds no public key in PEM" }.to_owned())
}

fn public(info: &SubjectPublicKeyInfo<'_>) -> Result<Public, String> {
    let curve =
        || info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok()).map(|oid| oid.to_id_string());
    let bytes = || info.subject_public_key.data.to_vec();
    if info.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return Ok(Public::Ed25519(bytes()));
    }
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let plain = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
            Ok(Public::Rsa { modulus: plain(key.modulus), exponent: plain(key.exponent) })
        }
        Ok(PublicKey::EC(_)) => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7") => Ok(Public::P256(bytes())),
            Some("1.3.132.0.34") => Ok(Public::P384(bytes())),
            _ => Err("holds a key of another curve than P-256, P-384 and Ed25519".to_owned()),
        },
        _ => Err("holds a key of a kind that signs no tokens here".to_owned()),
    }
}
