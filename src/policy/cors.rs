//! Tells browsers which pages of other origins may read what this route answers.
//!
//! ```yaml
//! cors:
//!   origins: [https://app.example.com, "https://*.example.org", { regex: "https://pr-[0-9]+\\.example\\.net" }]
//!   methods: [GET, POST, PUT]
//!   headers: [authorization, content-type]
//!   expose: [x-total]
//!   credentials: true
//!   max_age: 1h
//! ```
//!
//! A preflight is answered here, before anyone is asked who he is: 204 with what is allowed, or 403 to an origin that is
//! not listed. Every other request goes on, whatever its origin: without the fields the browser keeps the answer from
//! the page. What the target itself says of origins is replaced. A preflight goes to the route of the method that it
//! asks for, also where that route does not list OPTIONS; it carries no fields and cookies of the later request.

use std::str::FromStr;

use http::{HeaderName, HeaderValue, Method, header};
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::grpc_web;
use super::guard::{Mode, Rule, Tools};
use super::headers::Field;
use super::pattern::Pattern;
use crate::exchange::{Found, Request, Stop};
use crate::fault::Fault;
use crate::problem::{Path, Problems, nearest};
use crate::units::{Duration, or_short, short_form};

/// Which pages of other origins may read the answers, and what they may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cors")]
pub struct Config {
    /// Origins that may read: `https://app.example.com`, `https://*.example.com`, `{ regex: .. }`, or `*` for all.
    pub origins: Vec<Origin>,
    /// Methods that a preflight allows; those of the route's match when left out, all where that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<Box<str>>>,
    /// Fields that a page may send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Field>,
    /// Fields of the answer that a page may read, beside those that every page may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<Field>,
    /// Whether cookies and client certificates may come with the request; not for `*`.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    #[serde(default = "ten_minutes")]
    pub max_age: Duration,
    /// `shadow` only counts and logs whose preflight would be refused, and answers none.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

/// One origin, or many of a kind; exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(transform = or_short)]
pub struct Origin {
    /// Exactly this, everything below `*.`, or `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Box<str>>,
    /// Like this, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Pattern>,
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { is: Some(text.into()), regex: None })
    }
}

short_form!(Origin, "an origin, e.g. https://app.example.com, or { regex }");

/// Origins, decided once.
#[derive(Debug)]
enum Allowed {
    Any,
    Exactly(Box<str>),
    /// `https://`, and what follows the first label: `.example.com`.
    Below(Box<str>, Box<str>),
    Like(Pattern),
}

impl Allowed {
    fn compile(origin: &Origin) -> Result<Self, String> {
        let text = match (&origin.is, &origin.regex) {
            (Some(text), None) => text,
            (None, Some(pattern)) => return Ok(Self::Like(pattern.clone())),
            _ => return Err("takes exactly one of `is` and `regex`".to_owned()),
        };
        if &**text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || {
            format!(
                "`{text}` is not an origin: a scheme and a host as browsers write them, e.g. https://app.example.com"
            )
        };
        let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
        let is_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
        let named = host.strip_prefix("*.").unwrap_or(host);
        // A browser leaves out the port that is the scheme's own.
        let own_port =
            matches!(scheme, "http" if named.ends_with(":80")) || matches!(scheme, "https" if named.ends_with(":443"));
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) || named.is_empty() || own_port {
            return Err(wrong());
        }
        if !named.bytes().all(|b| is_host(b) || matches!(b, b':' | b'[' | b']')) {
            return Err(wrong());
        }
        match host.strip_prefix('*') {
            Some(below) => Ok(Self::Below(format!("{scheme}://").into(), below.into())),
            None => Ok(Self::Exactly(text.clone())),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(text) => **text == *origin,
            Self::Below(scheme, below) => {
                let labels = origin.strip_prefix(&**scheme).and_then(|host| host.strip_suffix(&**below));
                let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_host);
                labels.is_some_and(|labels| labels.split('.').all(is_label))
            }
            Self::Like(pattern) => pattern.matches(origin),
        }
    }

    /// Whether it lets in whoever asks: no list can hold these.
    fn is_everyone(&self) -> bool {
        const NOBODY: [&str; 3] = ["https://a7f3.invalid", "https://nobody.invalid", "http://b81c.invalid:8217"];
        NOBODY.iter().any(|origin| self.allows(origin))
    }
}

fn is_host(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.')
}

/// What is said of origins, decided once.
#[derive(Debug)]
pub struct Cors {
    origins: Box<[Allowed]>,
    credentials: bool,
    /// What a preflight is told.
    preflight: Vec<(HeaderName, HeaderValue)>,
    /// What every other request is told.
    other: Vec<(HeaderName, HeaderValue)>,
    rule: Rule,
}

/// What only this guard says, of the target's answers too.
const OURS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl Cors {
    /// What gRPC-Web sends and reads need not be listed where the route speaks it; `taken` are the methods of its match.
    pub fn compile(
        config: &Config,
        grpc_web: bool,
        taken: &[&str],
        at: &Path,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        let origins = origins(config, &at.key("origins"), problems);
        let methods = methods(config, taken, &at.key("methods"), problems);
        let fields = |fields: &[Field], web: &[&'static str]| {
            let said = || fields.iter().map(Field::as_str);
            let more = web.iter().copied().filter(|name| grpc_web && !said().any(|said| said == *name));
            said().chain(more).collect::<Vec<_>>().join(", ")
        };
        let said = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods.join(", ")),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, fields(&config.headers, &grpc_web::SENT)),
            (header::ACCESS_CONTROL_MAX_AGE, config.max_age.get().as_secs().to_string()),
        ];
        let other = [(header::ACCESS_CONTROL_EXPOSE_HEADERS, fields(&config.expose, &grpc_web::READ))];
        (problems.errors() == before).then(|| Self {
            origins: origins.into(),
            credentials: config.credentials,
            preflight: values(said),
            other: values(other),
            rule: Rule::new(at, config.mode, tools),
        })
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Whether preflights are answered here.
    pub fn answers(&self) -> bool {
        self.rule.mode == Mode::Enforce
    }

    /// Answers a preflight; says what the page of any other request may read.
    pub fn check(&self, request: &dyn Request, found: &mut Found) -> Result<(), Stop> {
        let preflight = asked_method(request);
        if self.answers() {
            found.answer.push((header::VARY, HeaderValue::from_static("Origin")));
        }
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
        if !self.allows(request) {
            let why = "the preflight's origin is in none of `origins`";
            return if preflight.is_some() { Err(self.rule.refuse(Fault::CorsRefused, why).into()) } else { Ok(()) };
        }
        if !self.answers() {
            return Ok(());
        }
        let any = !self.credentials && self.origins.iter().any(|allowed| matches!(allowed, Allowed::Any));
        let origin = if any { HeaderValue::from_static("*") } else { origin.clone() };
        found.answer.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin));
        if self.credentials {
            found.answer.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        let said = if preflight.is_some() { &self.preflight } else { &self.other };
        found.answer.extend(said.iter().cloned());
        if preflight.is_some() { Err(Stop::Reply(204)) } else { Ok(()) }
    }

    fn allows(&self, request: &dyn Request) -> bool {
        let mut said = request.headers().get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (said.next(), said.next()) else { return false };
        origin.to_str().is_ok_and(|origin| self.origins.iter().any(|allowed| allowed.allows(origin)))
    }

    /// Takes away what the target says of origins.
    pub fn clean(&self, head: &mut ResponseHeader) {
        if self.answers() {
            for name in &OURS {
                head.remove_header(name);
            }
        }
    }
}

/// The method that a preflight asks for; `None` where the request is no preflight.
pub fn asked_method(request: &dyn Request) -> Option<Method> {
    if *request.method() != Method::OPTIONS || !request.headers().contains_key(header::ORIGIN) {
        return None;
    }
    let method = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

/// Those that are said, or those that are taken.
fn methods<'c>(config: &'c Config, taken: &[&'c str], at: &Path, problems: &mut Problems) -> Vec<&'c str> {
    let Some(said) = &config.methods else {
        let usual = METHODS.into_iter().filter(|method| *method != "OPTIONS");
        return if taken.is_empty() { usual.collect() } else { taken.to_vec() };
    };
    if said.is_empty() {
        problems.error(at.clone(), "needs at least one method, e.g. [GET, POST]");
    }
    for (index, method) in said.iter().enumerate().filter(|(_, method)| !METHODS.contains(&&***method)) {
        let near = nearest(&method.to_ascii_uppercase(), METHODS);
        let hint = near.map(|near| format!(". Did you mean `{near}`?")).unwrap_or_default();
        problems.error(at.index(index), format!("`{method}` is not a method that is forwarded{hint}"));
    }
    said.iter().map(|method| &**method).collect()
}

fn origins(config: &Config, at: &Path, problems: &mut Problems) -> Vec<Allowed> {
    if config.origins.is_empty() {
        problems.error(at.clone(), "needs at least one origin, e.g. [https://app.example.com]");
    }
    let mut read = |(index, origin): (usize, &Origin)| {
        let allowed = Allowed::compile(origin).map_err(|why| problems.error(at.index(index), why)).ok()?;
        if config.credentials && allowed.is_everyone() {
            let sentence = "with `credentials` every page of the web could act for your users; list the origins";
            problems.error(at.index(index), sentence);
        }
        Some(allowed)
    };
    config.origins.iter().enumerate().filter_map(&mut read).collect()
}

/// Fields that have something to say.
fn values<const N: usize>(said: [(HeaderName, String); N]) -> Vec<(HeaderName, HeaderValue)> {
    let said = said.into_iter().filter(|(_, text)| !text.is_empty());
    said.filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(yaml: &str) -> Result<Cors, String> {
        let mut problems = Problems::default();
        let place = |_: &Path| "y:1:1".to_owned();
        let auth = std::collections::BTreeMap::new();
        let tools = Tools::alone(&place, &auth);
        let config: Config = serde_yaml::from_str(yaml).map_err(|e| e.to_string())?;
        let made = Cors::compile(&config, false, &[], &Path::of(["cors"]), &tools, &mut problems);
        made.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn an_origin_is_listed_or_it_is_not() {
        let cors = cors(
            "origins: [https://a.example, 'https://*.b.example', 'http://*.c.example:8080', { regex: 'https://pr-[0-9]+\\.d\\.example' }, 'app://here']",
        )
        .unwrap();
        let allows = |origin: &str| cors.origins.iter().any(|allowed| allowed.allows(origin));
        for origin in [
            "https://a.example",
            "https://x.b.example",
            "https://x.y.b.example",
            "http://x.c.example:8080",
            "https://pr-17.d.example",
            "app://here",
        ] {
            assert!(allows(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "*",
            "http://a.example",
            "https://a.example:8443",
            "https://a.example.evil",
            "https://b.example",
            "https://.b.example",
            "https://xb.example",
            "https://evil/.b.example",
            "https://evil#.b.example",
            "https://evil:1.b.example",
            "https://u@x.b.example",
            "https://x.b.example.evil",
            "http://x.c.example",
            "https://pr-17.d.example.evil",
            "https://evil?https://pr-17.d.example",
            "https://pr-17xd.example",
        ] {
            assert!(!allows(origin), "{origin}");
        }
    }

    #[test]
    fn everyone_with_credentials_is_refused_however_it_is_written() {
        for origin in ["'*'", "{ regex: '.*' }", "{ regex: 'https?://.+' }", "{ regex: 'https://[a-z0-9.]+' }"] {
            let why = cors(&format!("{{ origins: [{origin}], credentials: true }}")).unwrap_err();
            assert!(why.starts_with("cors.origins[0]: with `credentials` every page"), "{origin}: {why}");
            assert!(cors(&format!("{{ origins: [{origin}] }}")).is_ok());
        }
    }

    #[test]
    fn what_no_browser_would_write_is_a_mistake() {
        for origin in
            ["app.example.com", "https://a.example/", "https://A.example", "https://a.example:443", "https://*", "null"]
        {
            assert!(
                cors(&format!("{{ origins: ['{origin}'] }}")).unwrap_err().contains("is not an origin"),
                "{origin}"
            );
        }
        assert!(cors("{ origins: [] }").unwrap_err().contains("at least one origin"));
        assert!(cors("{ origins: [{ is: a, regex: b }] }").unwrap_err().contains("exactly one"));
        assert!(cors("{ origins: ['*'], methods: [gte] }").unwrap_err().contains("Did you mean `GET`?"));
    }
}
