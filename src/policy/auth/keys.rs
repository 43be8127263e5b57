//! The keys of a scheme: a secret, a public key, or a set that lies here or is fetched.

use std::path::Path as File;
use std::sync::Arc;

use super::jwks::Jwks;
use super::jwt::{Config, Keys};
use super::key::{Algorithm, Key};
use super::remote::{Origin, Remote};
use super::{Follow, jwk, pem};
pub(super) use crate::client::authorities::authorities;
use crate::policy::guard::Tools;
use crate::problem::{Path, Problems, Step};
use crate::units::Text;

/// The keys, and what they were made of. Nothing is fetched here.
pub fn read(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> (Option<Keys>, String) {
    let fixed = |key: Option<Key>| key.map(|key| Keys::Fixed(vec![key]));
    match (&config.secret, &config.key, &config.jwks) {
        (Some(secret), None, None) => {
            let (key, text) = shared(secret, config.algorithm, &at.key("secret"), problems);
            (fixed(key), text)
        }
        (None, Some(file), None) => {
            let key = pem::read(file).and_then(|public| {
                Key::public(&public, config.algorithm).map_err(|why| format!("the key in {} {why}", file.display()))
            });
            let key = key.map_err(|why| problems.error(at.key("key"), why)).ok();
            (fixed(key), std::fs::read_to_string(file).unwrap_or_default())
        }
        (None, None, Some(jwks)) => {
            let at = at.key("jwks");
            match (&jwks.file, &jwks.url, jwks.discover) {
                (Some(file), None, false) => set(config, file, &at, problems),
                (None, Some(_), false) | (None, None, true) => {
                    (fetched(config, jwks, &at, tools, problems), String::new())
                }
                _ => {
                    problems.error(at, "takes exactly one of `file`, `url` and `discover: true`");
                    (None, String::new())
                }
            }
        }
        _ => {
            problems.error(at.clone(), "takes exactly one of `secret`, `key` and `jwks`");
            (None, String::new())
        }
    }
}

fn shared(secret: &Text, algorithm: Option<Algorithm>, at: &Path, problems: &mut Problems) -> (Option<Key>, String) {
    if secret.is_literal() {
        let sentence = "a secret in the document is read by everyone who reads it; write file:/path or env:NAME";
        problems.warn(at.clone(), sentence);
    }
    let text = match secret.resolve() {
        Ok(text) => text,
        Err(why) => {
            problems.error(at.clone(), why);
            return (None, String::new());
        }
    };
    let key = Key::secret(text.as_bytes(), algorithm.unwrap_or(Algorithm::HS256));
    (key.map_err(|why| problems.error(at.clone(), why)).ok(), text)
}

fn set(config: &Config, file: &File, at: &Path, problems: &mut Problems) -> (Option<Keys>, String) {
    let show = file.display();
    let text = match pem::whole(file) {
        Ok(text) => text,
        Err(why) => {
            problems.error(at.clone(), why);
            return (None, String::new());
        }
    };
    let set = match jwk::read(&text, config.algorithm) {
        Ok(set) => set,
        Err(why) => {
            problems.error(at.clone(), format!("{show} {why}"));
            return (None, text);
        }
    };
    for why in &set.left_out {
        problems.warn(at.clone(), format!("{show}: {why}; it is left out"));
    }
    if set.keys.is_empty() {
        problems.error(at.clone(), format!("{show} has no key that could verify a token"));
    }
    (Some(Keys::Fixed(set.keys)), text)
}

fn fetched(config: &Config, jwks: &Jwks, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Keys> {
    let before = problems.errors();
    let discovers = config.issuer.as_deref().filter(|_| jwks.discover);
    let url = match (&jwks.url, discovers) {
        (Some(url), _) => Some(url.clone()),
        (None, Some(issuer)) => {
            let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')).parse();
            url.map_err(|_| problems.error(at.clone(), format!("the issuer `{issuer}` is no URL that could be asked")))
                .ok()
        }
        (None, None) => {
            problems.error(at.clone(), "asks the issuer, so `issuer` has to name it");
            None
        }
    };
    if url.as_ref().is_some_and(|url: &crate::client::url::Url| !url.is_safe()) && !jwks.plain_http {
        problems.error(at.clone(), "anyone on the way could answer over http:; use https:, or say `plain_http: true`");
    }
    let ca = jwks.ca.as_ref().and_then(|file| authorities(file, &at.key("ca"), problems));
    let url = url.filter(|_| problems.errors() == before)?;
    let origin = Origin {
        url,
        discovers: discovers.map(Into::into),
        algorithm: config.algorithm,
        plain: jwks.plain_http,
        ca: jwks.ca.clone(),
        terms: Origin::terms(ca),
    };
    let name = realm(at);
    let counted = tools.metrics.map(|metrics| Arc::new(metrics.jwks(&name)));
    let follow = Follow { name, remote: Remote::keep(&origin, tools.state), counted };
    Some(Keys::Fetched { follow, keep: jwks.keep_if_down.get().as_secs_f64(), pause: jwks.refetch_unknown_kid.get() })
}

/// The name of the scheme, or of the route that has one of its own.
pub(super) fn realm(at: &Path) -> Arc<str> {
    let name = at.steps().get(1);
    name.and_then(|step| if let Step::Key(name) = step { Some(&**name) } else { None }).unwrap_or("-").into()
}
