//! Admits who has shown a certificate in the TLS handshake that the listener's `client_ca` vouches for.
//!
//! ```yaml
//! auth: { certificate: { uri: "spiffe://example.com/ns/orders/*" }, forward: { x-client: consumer.uri } }
//! ```
//!
//! One rule that fits is enough. What is known of the client is its subject, or its first other name where that is empty,
//! as `consumer`, and `consumer.subject`, `.fingerprint`, `.dns`, `.uri` and `.email`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Denial;
use super::words::Words;
use crate::exchange::{ClientCertificate, Identity, Request};
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
    /// Hosts that may enter, by the alternative names of the certificate; `*.example.com` is each one directly below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Words>,
    /// URIs that may enter, by the alternative names; `spiffe://example.com/ns/*` is each one below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<Words>,
    /// Mail addresses that may enter, by the alternative names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Words>,
}

/// Whose certificates are admitted.
#[derive(Debug)]
pub struct Certificates {
    rules: Vec<Rule>,
    everyone: bool,
}

/// One name that may enter.
#[derive(Debug)]
enum Rule {
    Subject(Box<str>),
    Fingerprint(Box<str>),
    Host(Box<str>),
    /// With the dot.
    HostsBelow(Box<str>),
    Uri(Box<str>),
    /// With the slash.
    UrisBelow(Box<str>),
    Email(Box<str>),
}

impl Rule {
    fn fingerprint(text: &str) -> Result<Self, String> {
        let plain = text.replace(':', "").to_ascii_lowercase();
        if plain.len() != 64 || !plain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("`{text}` is not a SHA-256 in hexadecimal"));
        }
        Ok(Self::Fingerprint(plain.into()))
    }

    fn host(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        let (rest, below) = name.strip_prefix('*').map_or((&*name, false), |rest| (rest, true));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let whole = rest.trim_start_matches('.');
        if whole.is_empty() || !rest.bytes().all(plain) || below != rest.starts_with('.') {
            return Err(format!("`{text}` is no host, e.g. orders.example.com or *.example.com"));
        }
        Ok(if below { Self::HostsBelow(rest.into()) } else { Self::Host(rest.into()) })
    }

    fn uri(text: &str) -> Result<Self, String> {
        let below = text.strip_suffix('*').filter(|rest| rest.ends_with('/'));
        let rest = below.unwrap_or(text);
        let host = rest.split_once("://").map(|(_, rest)| rest.trim_start_matches('/'));
        let too_wide = below.is_some() && host.is_none_or(|host| !host.contains('/'));
        if !rest.contains(':') || rest.contains('*') || too_wide {
            return Err(format!("`{text}` is no URI, e.g. spiffe://example.com/orders or spiffe://example.com/ns/*"));
        }
        Ok(if below.is_some() { Self::UrisBelow(rest.into()) } else { Self::Uri(rest.into()) })
    }

    fn email(text: &str) -> Result<Self, String> {
        match text.rsplit_once('@') {
            Some((name, host)) if !name.is_empty() && !host.is_empty() => Ok(Self::Email(text.into())),
            _ => Err(format!("`{text}` is no mail address, e.g. ann@example.com")),
        }
    }

    fn fits(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Subject(subject) => *subject == certificate.subject,
            Self::Fingerprint(fingerprint) => *fingerprint == certificate.fingerprint,
            Self::Host(host) => certificate.dns.contains(host),
            Self::HostsBelow(end) => certificate.dns.iter().any(|name| {
                name.strip_suffix(&**end).is_some_and(|label| !label.is_empty() && !label.contains(['.', '*']))
            }),
            Self::Uri(uri) => certificate.uri.contains(uri),
            Self::UrisBelow(start) => certificate.uri.iter().any(|uri| {
                // What climbs or hides its letters could mean a place that is not below.
                let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['%', '\\']);
                uri.strip_prefix(&**start).is_some_and(|rest| rest.split('/').all(plain))
            }),
            Self::Email(address) => certificate.email.iter().any(|email| same_address(email, address)),
        }
    }
}

/// The host of an address knows no case, what stands before it may.
fn same_address(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((name, host)), Some((other, there))) => name == other && host.eq_ignore_ascii_case(there),
        _ => false,
    }
}

impl Certificates {
    pub fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        let Config { subject, fingerprint, dns, uri, email } = config;
        let mut rules = Vec::new();
        let mut take = |words: &Option<Words>, key, rule: fn(&str) -> Result<Rule, String>| {
            for text in words.iter().flat_map(Words::iter) {
                match rule(text) {
                    Ok(rule) => rules.push(rule),
                    Err(why) => problems.error(at.key(key), why),
                }
            }
        };
        take(subject, "subject", |text| Ok(Rule::Subject(text.into())));
        take(fingerprint, "fingerprint", Rule::fingerprint);
        take(dns, "dns", Rule::host);
        take(uri, "uri", Rule::uri);
        take(email, "email", Rule::email);
        let everyone = [subject, fingerprint, dns, uri, email].iter().all(|words| words.is_none());
        (problems.errors() == before).then_some(Self { rules, everyone })
    }

    /// Whose certificate the client has shown.
    pub fn ask(&self, request: &dyn Request) -> Result<Identity, Denial> {
        let certificate = request.certificate().ok_or(Denial::missing("no client certificate"))?;
        let ClientCertificate { subject, fingerprint, dns, uri, email } = certificate;
        if !self.everyone && !self.rules.iter().any(|rule| rule.fits(certificate)) {
            let others = uri.iter().chain(dns).chain(email).map(|name| &**name).collect::<Vec<_>>().join(" ");
            let why = format!("`{subject}` ({fingerprint}) is not listed, known as `{others}`");
            return Err(Denial::new(Fault::AuthCertificate, why));
        }
        let mut attributes = Map::new();
        for (name, text) in [("subject", subject), ("fingerprint", fingerprint)] {
            attributes.insert(name.to_owned(), (&**text).into());
        }
        for (name, list) in [("dns", dns), ("uri", uri), ("email", email)].into_iter().filter(|(_, l)| !l.is_empty()) {
            let list = list.iter().map(|text| Value::from(&**text)).collect::<Vec<_>>();
            attributes.insert(name.to_owned(), list.into());
        }
        let other = || uri.iter().chain(dns).chain(email).next();
        let consumer = Some(subject).filter(|subject| !subject.is_empty()).or_else(other);
        let consumer = consumer.map(|name| Arc::from(&**name));
        Ok(Identity { consumer, attributes: Some(Arc::new(attributes)), ..Identity::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> ClientCertificate {
        ClientCertificate {
            subject: "CN=orders".into(),
            dns: vec!["a.example.com".into(), "*.wild.com".into()],
            uri: vec!["spiffe://x.y/ns/a/sa/b".into(), "spiffe://x.y/ns/c/../d".into(), "spiffe://x.y/ns/e%2F".into()],
            email: vec!["Ann@Example.com".into()],
            ..ClientCertificate::default()
        }
    }

    #[test]
    fn a_rule_fits_whole_names_only() {
        for (rule, fits) in [
            (Rule::host("A.example.com"), true),
            (Rule::host("example.com"), false),
            (Rule::host("*.example.com"), true),
            (Rule::host("*.com"), false),
            (Rule::host("*.wild.com"), false),
            (Rule::uri("spiffe://x.y/ns/a/sa/b"), true),
            (Rule::uri("spiffe://x.y/ns/a"), false),
            (Rule::uri("spiffe://x.y/ns/a/*"), true),
            (Rule::uri("spiffe://x.y/ns/a/sa/b/*"), false),
            (Rule::uri("spiffe://x.y/ns/c/*"), false),
            (Rule::uri("spiffe://x.y/ns/e/*"), false),
            (Rule::email("Ann@example.COM"), true),
            (Rule::email("ann@example.com"), false),
        ] {
            let rule = rule.unwrap();
            assert_eq!(rule.fits(&shown()), fits, "{rule:?}");
        }
        for wrong in ["", "*", "*.", "*x.com", "a.*.com", "a b", "https://a"] {
            assert!(Rule::host(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "orders", "spiffe://*", "spiffe://x.y*", "spiffe://*/a", "*"] {
            assert!(Rule::uri(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "ann", "@example.com", "ann@"] {
            assert!(Rule::email(wrong).is_err(), "{wrong}");
        }
    }
}
