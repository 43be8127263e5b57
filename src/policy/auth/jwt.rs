//! Admits who shows a JSON web token that a known key has signed.
//!
//! ```yaml
//! auth:
//!   jwt: { issuer: "https://id.example.com/", audience: [orders, admin], key: ./idp.pem }
//!   forward: { x-user: jwt.sub }
//! ```
//!
//! The key decides on the algorithm, never the token. What a token says of keys (`jku`, `x5u`, `jwk`, `x5c`) is ignored.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cache::{Cache, Verified};
use super::claims::Claims;
use super::jwks::Jwks;
use super::key::{Algorithm, Key};
use super::remote::Remote;
use super::source::{self, Source};
use super::token::{self, LONGEST, Token};
use super::words::Words;
use super::{Denial, Follow, keys};
use crate::exchange::{Identity, Request};
use crate::fault::Fault;
use crate::policy::guard::Tools;
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::units::{Duration, Text};

/// JSON web tokens: who signs them, and what they must say. Takes one of `secret`, `key` and `jwks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Jwt")]
pub struct Config {
    /// What `iss` must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Of what `aud` must name at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Words>,
    /// The secret that issuer and gateway share, as `file:/path` or `env:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Text>,
    /// A PEM file with the issuer's public key, or with a certificate that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// A set of keys: a file, a URL, or `discover`, which asks the issuer where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// The algorithm of a key that does not tell it: HS256 for a secret, RS256 for RSA when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// Where the token lies; it must not lie in two of these places.
    #[serde(default = "bearer", rename = "in")]
    pub sources: Vec<Source>,
    /// By how much clocks may differ.
    #[serde(default = "leeway")]
    pub leeway: Duration,
    /// Claims that a token must have besides `exp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
}

impl Config {
    /// Files whose change changes the keys.
    fn files(&self) -> Vec<PathBuf> {
        let secret = match &self.secret {
            Some(Text::File(path)) => Some(PathBuf::from(&**path)),
            _ => None,
        };
        let set = self.jwks.iter().flat_map(|jwks| [&jwks.file, &jwks.ca]).flatten();
        self.key.iter().chain(set).cloned().chain(secret).collect()
    }
}

pub(super) fn bearer() -> Vec<Source> {
    vec![Source::Header(http::header::AUTHORIZATION)]
}

fn leeway() -> Duration {
    Duration::from_secs(5)
}

const MOST_LEEWAY: std::time::Duration = std::time::Duration::from_mins(10);

/// Verified tokens of one issuer, in bytes.
const CACHED: usize = 16 << 20;

/// Verified tokens by all that they were verified with: settings and keys. They outlive a reload that changes neither.
static CACHES: LazyLock<Shelf<[u8; 32], Cache>> = LazyLock::new(Shelf::default);

/// Where the keys come from.
#[derive(Debug)]
pub enum Keys {
    /// They are read with the document.
    Fixed(Vec<Key>),
    Fetched {
        follow: Follow,
        /// Seconds for which they are believed.
        keep: f64,
        /// How often at most an unknown name makes us fetch.
        pause: std::time::Duration,
    },
}

/// Keys, rules and the tokens that were found good.
#[derive(Debug)]
pub struct Jwt {
    keys: Keys,
    claims: Claims,
    pub sources: Vec<Source>,
    files: Vec<PathBuf>,
    cache: Arc<Cache>,
}

impl Jwt {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.leeway.get() > MOST_LEEWAY {
            problems.error(at.key("leeway"), "clocks that differ by more than 10m are wrong");
        }
        if config.sources.is_empty() {
            problems.error(at.key("in"), "names no place, so nobody could come in");
        }
        let (keys, material) = keys::read(config, at, tools, problems);
        let settings = serde_json::to_vec(config).unwrap_or_default();
        let stamp =
            digest(&SHA256, &[&*settings, b"\0", at.to_string().as_bytes(), b"\0", material.as_bytes()].concat());
        let mut name = [0; 32];
        name.copy_from_slice(stamp.as_ref());
        let made = Self {
            keys: keys?,
            claims: Claims {
                issuer: config.issuer.as_deref().map(Into::into),
                audience: config.audience.iter().flat_map(Words::iter).map(Into::into).collect(),
                required: config.claims.iter().map(|name| name.as_str().into()).collect(),
                leeway: config.leeway.get().as_secs_f64(),
                endless: false,
            },
            sources: config.sources.clone(),
            files: config.files(),
            cache: CACHES.keep(name, || Cache::new(CACHED)),
        };
        (problems.errors() == before).then_some(made)
    }

    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The keys, if they are fetched.
    pub fn fetched(&self) -> Option<&Follow> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Fetched { follow, .. } => Some(follow),
        }
    }

    /// Who the request comes from, as its token says.
    pub fn ask(&self, request: &dyn Request) -> Result<Identity, Denial> {
        let text = source::find(&self.sources, "bearer", request)?.ok_or(Denial::missing("no token"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let verified = self.verify(text, now)?;
        Ok(Identity {
            consumer: verified.consumer.clone(),
            claims: Some(Arc::clone(&verified.claims)),
            ends: verified.ends.is_finite().then_some(verified.ends),
            ..Identity::default()
        })
    }

    /// Keys that are being fetched because a token has named one that is unknown.
    pub fn coming(&self) -> Option<&Remote> {
        self.fetched().map(|follow| &*follow.remote).filter(|remote| remote.is_coming())
    }

    /// What a token says, if it holds at `now`, in seconds since 1970.
    pub fn verify(&self, text: &str, now: f64) -> Result<Arc<Verified>, Denial> {
        let (follow, keep, pause) = match &self.keys {
            Keys::Fixed(keys) => return self.by(keys, 0, text, now),
            Keys::Fetched { follow, keep, pause } => (follow, keep, pause),
        };
        let current = follow.remote.current();
        if current.at.is_none_or(|at| now > at + keep) {
            return Err(Denial::new(Fault::AuthUnavailable, "there are no keys yet, or they are too old"));
        }
        let verdict = self.by(&current.keys, current.generation, text, now);
        if verdict.as_ref().is_err_and(|denial| denial.fault == Fault::AuthKeyUnknown) {
            follow.remote.miss(*pause);
        }
        verdict
    }

    fn by(&self, keys: &[Key], generation: u64, text: &str, now: f64) -> Result<Arc<Verified>, Denial> {
        if text.len() <= LONGEST
            && let Some(verified) = self.cache.get(text, generation, now)
        {
            return Ok(verified);
        }
        let token = Token::read(text)?;
        verify(keys, &token)?;
        let not_claims = |why| Denial::new(Fault::AuthMalformed, why);
        let claims = token::object(&token.payload).map_err(not_claims)?;
        let ends = self.claims.check(&claims, now)?;
        let consumer = claims.get("sub").and_then(Value::as_str).map(Into::into);
        let verified = Arc::new(Verified { claims: Arc::new(claims), consumer, ends, generation });
        self.cache.put(text, &verified);
        Ok(verified)
    }
}

/// Whether the one key that a token can mean has signed it.
pub fn verify(keys: &[Key], token: &Token<'_>) -> Result<(), Denial> {
    let key = choose(keys, token)?;
    if key.algorithm != token.algorithm {
        let (said, needed) = (token.algorithm.word(), key.algorithm.word());
        return Err(Denial::new(Fault::AuthAlgorithm, format!("says {said}, and the key is for {needed}")));
    }
    if !key.verifies(token.message.as_bytes(), token.signature) {
        return Err(Denial::new(Fault::AuthSignature, "the signature is not the key's"));
    }
    Ok(())
}

/// By name; where the key has no name or the token says none, the only one of its algorithm.
fn choose<'k>(keys: &'k [Key], token: &Token<'_>) -> Result<&'k Key, Denial> {
    if let [only] = keys
        && only.id.is_none()
    {
        return Ok(only);
    }
    let named = |key: &&Key| token.kid.is_some() && key.id == token.kid;
    if let Some(key) = keys.iter().find(named) {
        return Ok(key);
    }
    let fits = |key: &&Key| key.algorithm == token.algorithm && (token.kid.is_none() || key.id.is_none());
    let mut fitting = keys.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        _ if token.kid.is_some() => Err(Denial::new(Fault::AuthKeyUnknown, "no key has the name that the token says")),
        _ => Err(Denial::new(Fault::AuthKeyUnknown, "the token does not say which key signed it")),
    }
}
