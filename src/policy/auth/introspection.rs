//! Asks the issuer what a token says (RFC 7662), for tokens that nobody else can read.
//!
//! ```yaml
//! auth:
//!   introspection:
//!     url: https://id.example.com/introspect
//!     client_id: gateway
//!     client_secret: file:/run/credentials/yumen.service/introspection
//!   forward: { x-user: jwt.sub }
//! ```
//!
//! What the issuer says is `jwt.NAME` for `forward`, `require` and `limits`, as if it stood in the token.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asked::{self, Asked, Reach};
use super::cache::Verified;
use super::claims::Claims;
use super::flight::Flights;
use super::memory::{Mark, Memory};
use super::source::{self, Source};
use super::token::{self, LONGEST};
use super::words::Words;
use super::{Denial, jwt};
use crate::client::service::{Answer, Question};
use crate::client::url::Url;
use crate::exchange::{Identity, Request};
use crate::fault::Fault;
use crate::policy::guard::Tools;
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::units::{Duration, Text};

/// Tokens that their issuer is asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Introspection")]
pub struct Config {
    /// Where the issuer answers.
    pub url: Url,
    /// As whom we ask.
    pub client_id: String,
    /// The secret that proves it, as `file:/path` or `env:NAME`.
    pub client_secret: Text,
    /// What `iss` must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Of what `aud` must name at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Words>,
    /// What the answer must say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// Where the token lies; it must not lie in two of these places.
    #[serde(default = "jwt::bearer", rename = "in")]
    pub sources: Vec<Source>,
    /// How long an answer is believed, never beyond its `exp`; a token that is taken back is believed for so long. `0s`: every request asks.
    #[serde(default = "half_minute")]
    pub cache: Duration,
    /// How long a request waits for the answer.
    #[serde(default = "asked::timeout")]
    pub timeout: Duration,
    /// Questions at once at most; further requests wait for their turn, no longer than `timeout`.
    #[serde(default = "asked::in_flight")]
    pub in_flight: u32,
    /// A PEM file of the authorities to believe instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether tokens and our secret may travel over `http:` to elsewhere than this machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

impl Config {
    /// Files whose change changes whom we ask.
    fn files(&self) -> Vec<PathBuf> {
        let secret = match &self.client_secret {
            Text::File(path) => Some(PathBuf::from(&**path)),
            _ => None,
        };
        self.ca.iter().cloned().chain(secret).collect()
    }
}

fn half_minute() -> Duration {
    Duration::from_secs(30)
}

const MOST_CACHE: std::time::Duration = std::time::Duration::from_hours(1);
/// How long a token that is none is remembered, so that it costs its issuer one question.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(5);
/// Seconds by which clocks may differ.
const LEEWAY: f64 = 5.0;
/// Bytes of good tokens, and of others: these come from whoever likes to send them.
const GOOD: usize = 16 << 20;
const BAD: usize = 1 << 20;

type Verdict = Result<Arc<Verified>, Denial>;

/// Tokens by all that the verdict on them depends on; they outlive a reload that changes none of it.
static TOKENS: LazyLock<Shelf<Mark, Tokens>> = LazyLock::new(Shelf::default);

/// What is known of tokens, and which of them are being asked about.
struct Tokens {
    good: Memory<Arc<Verified>>,
    bad: Memory<Denial>,
    asking: Flights<Verdict>,
}

/// The issuer, and what its answer must say.
pub struct Introspection {
    asked: Asked,
    credentials: HeaderValue,
    claims: Claims,
    pub sources: Vec<Source>,
    cache: std::time::Duration,
    tokens: Arc<Tokens>,
    files: Vec<PathBuf>,
}

impl std::fmt::Debug for Introspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspection").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Introspection {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.sources.is_empty() {
            problems.error(at.key("in"), "names no place, so nobody could come in");
        }
        if config.cache.get() > MOST_CACHE {
            problems.error(at.key("cache"), "a token that is taken back would be believed for more than an hour");
        }
        if !config.url.is_safe() && !config.plain_http {
            let sentence = "tokens and our secret would travel in the clear; use https:, or say `plain_http: true`";
            problems.error(at.key("url"), sentence);
        }
        if config.client_secret.is_literal() {
            let sentence = "a secret in the document is read by everyone who reads it; write file:/path or env:NAME";
            problems.warn(at.key("client_secret"), sentence);
        }
        let secret = config.client_secret.resolve();
        let secret = secret.map_err(|why| problems.error(at.key("client_secret"), why)).unwrap_or_default();
        let ca = config.ca.as_deref();
        let reach = Reach { url: &config.url, timeout: config.timeout, in_flight: config.in_flight, ca };
        let asked = Asked::compile(&reach, at, tools, problems);
        // RFC 6749 section 2.3.1 has both written as in a form.
        let credentials = STANDARD.encode(format!("{}:{}", form(&config.client_id), form(&secret)));
        let mut credentials = HeaderValue::try_from(format!("Basic {credentials}")).ok()?;
        credentials.set_sensitive(true);
        let settings = serde_json::to_string(config).unwrap_or_default();
        let tokens = TOKENS.keep(Mark::of([settings.as_bytes(), secret.as_bytes()]), Tokens::default);
        let made = Self {
            asked: asked?,
            credentials,
            claims: Claims {
                issuer: config.issuer.as_deref().map(Into::into),
                audience: config.audience.iter().flat_map(Words::iter).map(Into::into).collect(),
                required: config.claims.iter().map(|name| name.as_str().into()).collect(),
                leeway: LEEWAY,
                endless: true,
            },
            sources: config.sources.clone(),
            cache: config.cache.get(),
            tokens,
            files: config.files(),
        };
        (problems.errors() == before).then_some(made)
    }

    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The token of a request, and what is known of it already.
    pub fn recall<'r>(&self, request: &'r dyn Request) -> Result<Result<Identity, &'r str>, Denial> {
        let token = source::find(&self.sources, "bearer", request)?.ok_or(Denial::missing("no token"))?;
        if token.len() > LONGEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Denial::new(Fault::AuthMalformed, "what no token looks like"));
        }
        let (mark, now) = (Mark::of([token.as_bytes()]), Instant::now());
        if let Some(known) = self.tokens.good.get(&mark, now) {
            self.asked.remembered();
            return Ok(Ok(identity(&known)));
        }
        match self.tokens.bad.get(&mark, now) {
            Some(denial) => {
                self.asked.remembered();
                Err(denial)
            }
            None => Ok(Err(token)),
        }
    }

    /// Asks about a token; who comes with the same one meanwhile gets the same answer.
    pub async fn ask(&self, token: &str) -> Result<Identity, Denial> {
        let mark = Mark::of([token.as_bytes()]);
        let asking = async { Ok(self.tokens.asking.once(mark, Box::pin(self.fetch(token, mark))).await) };
        let answer = self.asked.wait(asking).await;
        let (verdict, _) = answer.map_err(|why| Denial::new(Fault::AuthUnavailable, why))?;
        verdict.as_ref().map(|known| identity(known)).map_err(Denial::clone)
    }

    async fn fetch(&self, token: &str, mark: Mark) -> Verdict {
        let mut fields = HeaderMap::with_capacity(3);
        fields.insert(header::AUTHORIZATION, self.credentials.clone());
        fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let body = format!("token={}&token_type_hint=access_token", form(token)).into_bytes();
        let question = Question { method: http::Method::POST, fields, body };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let verdict = self.asked.ask(&question, |answer| self.judge(answer, now)).await;
        let verdict = verdict.unwrap_or_else(|why| Err(Denial::new(Fault::AuthUnavailable, why)));
        let end = |time: std::time::Duration| Instant::now().checked_add(time);
        match &verdict {
            Ok(known) => {
                let time = believed(self.cache, known.ends - now);
                if !time.is_zero() {
                    let weight = known.claims.iter().map(|(name, value)| name.len() + size(value) + 64).sum();
                    self.tokens.good.put(mark, Arc::clone(known), end(time), weight);
                }
            }
            Err(denial) if denial.fault != Fault::AuthUnavailable && !self.cache.is_zero() => {
                self.tokens.bad.put(mark, denial.clone(), end(REFUSED.min(self.cache)), denial.why.len());
            }
            Err(_) => {}
        }
        verdict
    }

    /// What the issuer says; an answer that says nothing is an error.
    fn judge(&self, answer: &Answer, now: f64) -> Result<Verdict, String> {
        if answer.status != 200 {
            return Err(format!("the issuer answered {}", answer.status));
        }
        let claims = token::object(&answer.body).map_err(|why| format!("the issuer answered {why}"))?;
        match claims.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => {
                return Ok(Err(Denial::new(Fault::AuthInvalid, "the issuer says that the token is not active")));
            }
            _ => return Err("the issuer did not say whether the token is active".to_owned()),
        }
        let ends = match self.claims.check(&claims, now) {
            Ok(ends) => ends - LEEWAY,
            Err(denial) => return Ok(Err(denial)),
        };
        let names = ["sub", "username", "client_id"];
        let consumer = names.iter().find_map(|name| claims.get(*name)?.as_str()).map(Into::into);
        Ok(Ok(Arc::new(Verified { claims: Arc::new(claims), consumer, ends, generation: 0 })))
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self { good: Memory::new(GOOD), bad: Memory::new(BAD), asking: Flights::default() }
    }
}

/// For how long an answer is believed that ends in `left` seconds.
fn believed(most: std::time::Duration, left: f64) -> std::time::Duration {
    std::time::Duration::try_from_secs_f64(left.min(most.as_secs_f64())).unwrap_or_default()
}

fn identity(known: &Verified) -> Identity {
    let ends = known.ends.is_finite().then_some(known.ends);
    let (consumer, claims) = (known.consumer.clone(), Some(Arc::clone(&known.claims)));
    Identity { consumer, claims, ends, ..Identity::default() }
}

/// What a value takes in memory, about.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 32,
        Value::Array(list) => list.iter().map(size).sum::<usize>() + 32,
        Value::Object(map) => map.iter().map(|(name, value)| name.len() + size(value) + 64).sum::<usize>() + 32,
        _ => 32,
    }
}

/// As in a form: what could mean something there is written in hexadecimal.
fn form(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            written.push(byte.into());
        } else {
            let digit = |number: u8| char::from_digit(number.into(), 16).unwrap_or('0').to_ascii_uppercase();
            written.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_never_believed_beyond_its_end() {
        let (most, seconds) = (std::time::Duration::from_secs(30), std::time::Duration::from_secs);
        for (left, time) in [(100.0, 30), (7.0, 7), (0.0, 0), (-3.0, 0), (f64::INFINITY, 30), (1e300, 30)] {
            assert_eq!(believed(most, left), seconds(time), "{left}");
        }
    }

    #[test]
    fn a_form_says_every_byte() {
        assert_eq!(form("aZ09-._~"), "aZ09-._~");
        assert_eq!(form("a b+c&d=é:/\0"), "a%20b%2Bc%26d%3D%C3%A9%3A%2F%00");
    }
}
