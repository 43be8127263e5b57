//! Admits who has shown a certificate in the TLS handshake that the listener's `client_ca` vouches for.
//!
//! ```yaml
//! auth: { certificate: { subject: ["CN=orders, O=Example"] }, forward: { x-client: consumer } }
//! ```

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::Denial;
use super::words::Words;
use crate::exchange::{Identity, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};

/// Client certificates: any that was verified, or only those that are listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Certificate")]
pub struct Config {
    /// Subjects that may enter, as the log shows them, e.g. `CN=orders, O=Example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Words>,
    /// SHA-256 of certificates that may enter, in hexadecimal, with or without colons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Words>,
}

/// Whose certificates are admitted; `None` means all.
#[derive(Debug)]
pub struct Certificates {
    subjects: Vec<Box<str>>,
    fingerprints: Vec<Box<str>>,
    everyone: bool,
}

impl Certificates {
    pub fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        let mut fingerprints = Vec::new();
        for text in config.fingerprint.iter().flat_map(Words::iter) {
            let plain = text.replace(':', "").to_ascii_lowercase();
            if plain.len() != 64 || !plain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                problems.error(at.key("fingerprint"), format!("`{text}` is not a SHA-256 in hexadecimal"));
            }
            fingerprints.push(plain.into());
        }
        (problems.errors() == before).then(|| Self {
            subjects: config.subject.iter().flat_map(Words::iter).map(Into::into).collect(),
            fingerprints,
            everyone: config.subject.is_none() && config.fingerprint.is_none(),
        })
    }

    /// Whose certificate the client has shown.
    pub fn ask(&self, request: &dyn Request) -> Result<Identity, Denial> {
        let certificate = request.certificate().ok_or(Denial::missing("no client certificate"))?;
        let listed =
            self.subjects.contains(&certificate.subject) || self.fingerprints.contains(&certificate.fingerprint);
        if !self.everyone && !listed {
            let why = format!("`{}` ({}) is not listed", certificate.subject, certificate.fingerprint);
            return Err(Denial::new(Fault::AuthCertificate, why));
        }
        let attributes = [("subject", &certificate.subject), ("fingerprint", &certificate.fingerprint)];
        let attributes: Map<_, _> =
            attributes.into_iter().map(|(name, text)| (name.to_owned(), (&**text).into())).collect();
        Ok(Identity {
            consumer: Some((&*certificate.subject).into()),
            attributes: Some(Arc::new(attributes)),
            claims: None,
        })
    }
}
