//! The authorities that a side call believes, from a PEM file.

use std::path::Path as File;
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::problem::{Path, Problems};

/// What is larger than this is no key and no list of authorities.
pub const LARGEST: u64 = 1 << 20;

/// A file that is small enough to be meant, as text. The error is a sentence.
pub fn whole(file: &File) -> Result<String, String> {
    let failed = |why: std::io::Error| format!("cannot read {}: {why}", file.display());
    let length = file.metadata().map_err(failed)?.len();
    if length > LARGEST {
        return Err(format!("{} is too large: {length} bytes, at most {LARGEST}", file.display()));
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// The authorities in a PEM file.
pub fn authorities(file: &File, at: &Path, problems: &mut Problems) -> Option<Arc<CaType>> {
    let read = || -> Result<Vec<Vec<u8>>, String> {
        let text = whole(file)?;
        let all = CertificateDer::pem_slice_iter(text.as_bytes()).map(|one| one.map(|one| one.to_vec()));
        let all = all.collect::<Result<Vec<_>, _>>().map_err(|why| format!("{}: {why}", file.display()))?;
        // The type that takes them panics at what is no certificate.
        let good = |one: &Vec<u8>| x509_parser::parse_x509_certificate(one).is_ok();
        if all.is_empty() || !all.iter().all(good) {
            return Err(format!("{} holds something else than certificates", file.display()));
        }
        Ok(all)
    };
    let all = read().map_err(|why| problems.error(at.clone(), why)).ok()?;
    Some(all.into_iter().map(|one| WrappedX509::new(one, parse_x509)).collect())
}
