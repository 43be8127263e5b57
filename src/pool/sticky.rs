//! Sticky sessions: a cookie that names the target which answered first, so that later requests come back to it.
//!
//! ```yaml
//! sticky: { name: orders-at, secret: file:/etc/yumen/sticky.key, max_age: 1h, same_site: lax }
//! ```
//!
//! Its value is an HMAC of the pool's and the target's name: it tells nobody where targets are, nobody can make one, and
//! every host with the same secret knows it, also after a restart.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Path, Problems};
use crate::units::{Duration, Name, Text};

/// How later requests of a client come back to the target that answered its first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PoolSticky")]
pub struct Config {
    /// The name of the cookie.
    pub name: String,
    /// What signs it, at least 16 bytes: the same for all hosts, and kept, so that it holds through restarts.
    pub secret: Text,
    /// How long the client keeps it; as long as its session, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// The path under which the client sends it.
    #[serde(default = "everywhere")]
    pub path: String,
    /// Whether the client sends it with requests that other sites cause.
    #[serde(default)]
    pub same_site: SameSite,
}

fn everywhere() -> String {
    "/".to_owned()
}

/// Whether a client sends the cookie with requests that other sites cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "PoolStickySameSite")]
pub enum SameSite {
    /// When its user follows a link.
    #[default]
    Lax,
    /// Never.
    Strict,
    /// Always, and over TLS only.
    None,
}

/// The shortest secret.
const SHORTEST: usize = 16;
/// How much of the HMAC is the cookie: 128 bits.
const LENGTH: usize = 16;

/// The cookie of one pool.
pub struct Sticky {
    name: Box<str>,
    pool: Name,
    key: hmac::Key,
    /// What follows the value, over plain HTTP and over TLS.
    rest: Box<str>,
    secure: Box<str>,
}

impl Sticky {
    pub(super) fn compile(config: &Config, pool: &Name, at: &Path, problems: &mut Problems) -> Self {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if config.name.is_empty() || !config.name.bytes().all(is_token) {
            problems.error(at.key("name"), format!("`{}` is not a name of a cookie, e.g. orders-at", config.name));
        }
        let plain = |b: u8| (0x20..0x7f).contains(&b) && b != b';';
        if !config.path.starts_with('/') || !config.path.bytes().all(plain) {
            problems.error(at.key("path"), format!("`{}` is not a path, e.g. /", config.path));
        }
        if config.max_age.is_some_and(|age| age.get().as_secs() == 0) {
            problems.error(at.key("max_age"), "must be at least one second");
        }
        let at = at.key("secret");
        if config.secret.is_literal() {
            let sentence = "a secret in the document is read by everyone who reads it; write file:/path or env:NAME";
            problems.warn(at.clone(), sentence);
        }
        let secret = match config.secret.resolve() {
            Ok(secret) if secret.len() < SHORTEST => {
                problems.error(at, format!("is too short; at least {SHORTEST} bytes, e.g. of `openssl rand -hex 32`"));
                secret
            }
            Ok(secret) => secret,
            Err(why) => {
                problems.error(at, why);
                String::new()
            }
        };
        let age = config.max_age.map(|age| format!("; Max-Age={}", age.get().as_secs())).unwrap_or_default();
        let site = match config.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        let secure = format!("; Path={}{age}; HttpOnly; SameSite={site}; Secure", config.path);
        let always = config.same_site == SameSite::None;
        let rest = if always { secure.clone() } else { secure.trim_end_matches("; Secure").to_owned() };
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self { name: config.name.as_str().into(), pool: pool.clone(), key, rest: rest.into(), secure: secure.into() }
    }

    /// The name of the cookie.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value that names a target of the pool.
    pub(super) fn value(&self, target: &str) -> Box<str> {
        let tag = hmac::sign(&self.key, format!("{}\0{target}", self.pool).as_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..LENGTH).unwrap_or_default()).into()
    }

    /// The field that gives the client this value.
    pub(super) fn set(&self, value: &str, https: bool) -> Option<HeaderValue> {
        let rest = if https { &self.secure } else { &self.rest };
        HeaderValue::try_from(format!("{}={value}{rest}", self.name)).ok()
    }

    /// Takes the cookie out of what the target gets: it is ours alone.
    pub fn hide(&self, fields: &mut HeaderMap) {
        let ours = |pair: &[u8]| {
            let rest = pair.trim_ascii().strip_prefix(self.name.as_bytes());
            rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
        };
        let says = |line: &HeaderValue| line.as_bytes().split(|byte| *byte == b';').any(ours);
        if !fields.get_all(header::COOKIE).iter().any(says) {
            return;
        }
        let lines: Vec<_> = fields.get_all(header::COOKIE).iter().cloned().collect();
        fields.remove(header::COOKIE);
        for line in lines {
            if !says(&line) {
                fields.append(header::COOKIE, line);
                continue;
            }
            let pairs = line.as_bytes().split(|byte| *byte == b';').filter(|pair| !ours(pair));
            let kept: Vec<_> = pairs.map(<[u8]>::trim_ascii).collect();
            if let (false, Ok(kept)) = (kept.is_empty(), HeaderValue::from_bytes(&kept.join(&b"; "[..]))) {
                fields.append(header::COOKIE, kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky(yaml: &str) -> (Sticky, Vec<String>) {
        of_pool(yaml, "orders")
    }

    fn of_pool(yaml: &str, pool: &str) -> (Sticky, Vec<String>) {
        let (mut problems, pool) = (Problems::default(), pool.parse().unwrap());
        let sticky = Sticky::compile(&serde_yaml::from_str(yaml).unwrap(), &pool, &Path::of(["sticky"]), &mut problems);
        (sticky, problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect())
    }

    #[test]
    fn a_value_is_the_same_in_every_process_and_another_for_every_target_pool_and_secret() {
        let (ours, _) = sticky("{ name: at, secret: 0123456789abcdef }");
        let (theirs, _) = sticky("{ name: at, secret: 0123456789abcdeF }");
        let (items, _) = of_pool("{ name: at, secret: 0123456789abcdef }", "items");
        assert_eq!(&*ours.value("10.0.0.1:80"), "mWZ2YTBuB0Js9kHt1G1caA");
        let values = [
            ours.value("10.0.0.1:80"),
            ours.value("10.0.0.2:80"),
            items.value("10.0.0.1:80"),
            theirs.value("10.0.0.1:80"),
        ];
        assert_eq!(values.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }

    #[test]
    fn the_cookie_says_who_may_read_it_and_for_how_long() {
        let set = |yaml: &str, https| sticky(yaml).0.set("x", https).unwrap().to_str().unwrap().to_owned();
        let usual = "{ name: at, secret: 0123456789abcdef }";
        assert_eq!(set(usual, false), "at=x; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(set(usual, true), "at=x; Path=/; HttpOnly; SameSite=Lax; Secure");
        let own = "{ name: at, secret: 0123456789abcdef, path: /a, max_age: 2h, same_site: none }";
        assert_eq!(set(own, false), "at=x; Path=/a; Max-Age=7200; HttpOnly; SameSite=None; Secure");
    }

    #[test]
    fn the_target_sees_the_other_cookies_only() {
        let (sticky, _) = sticky("{ name: at, secret: 0123456789abcdef }");
        for (sent, kept) in [
            (vec!["at=1"], vec![]),
            (vec!["a=1; at=2; b=3"], vec!["a=1; b=3"]),
            (vec!["a=1", "at=2; at=3", "b=4;at=5"], vec!["a=1", "b=4"]),
            (vec!["cat=1;  b=2"], vec!["cat=1;  b=2"]),
            (vec!["a=\u{fc}; at =2"], vec!["a=\u{fc}"]),
        ] {
            let mut fields = HeaderMap::new();
            for line in &sent {
                fields.append(header::COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            sticky.hide(&mut fields);
            let left: Vec<_> = fields
                .get_all(header::COOKIE)
                .iter()
                .map(|line| std::str::from_utf8(line.as_bytes()).unwrap())
                .collect();
            assert_eq!(left, kept, "{sent:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_a_problem() {
        let (_, problems) = sticky("{ name: 'a b', secret: short, path: x, max_age: 10ms }");
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[4].contains("at least 16 bytes"), "{problems:?}");
    }
}
