//! Asks a service of your own whether a request may come in, as NGINX's `auth_request` and Traefik's `forwardAuth` do.
//!
//! ```yaml
//! auth:
//!   ext:
//!     url: http://auth.internal:4181/check
//!     timeout: 500ms
//!     send: [authorization, cookie]
//!     to_target: [x-user]
//!     to_client: [set-cookie]
//! ```
//!
//! 2xx admits, 401 and 403 refuse, a redirection that is listed goes to the client (a login needs that). Anything else,
//! and no answer in time, means that the service is down.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asked::{self, Asked, Reach};
use super::flight::Flights;
use super::memory::{Mark, Memory};
use super::scheme::Pass;
use super::{Denial, forward};
use crate::client::service::{Answer, Question};
use crate::client::url::Url;
use crate::exchange::Request;
use crate::fault::Fault;
use crate::policy::guard::Tools;
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::units::Duration;

/// A service that decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ext")]
pub struct Config {
    /// What is asked for, whatever the request's path is; the service reads that in `x-forwarded-uri`.
    pub url: Url,
    /// The method of the question; it never has a body.
    #[serde(default)]
    pub method: Method,
    /// How long a request waits for the answer.
    #[serde(default = "asked::timeout")]
    pub timeout: Duration,
    /// Fields of the request that the service sees.
    #[serde(default = "credentials")]
    pub send: Vec<String>,
    /// Fields of an answer that admits which the target sees; what the client sends under these names is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_target: Vec<String>,
    /// Fields of the answer which the client sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_client: Vec<String>,
    /// The field of an answer that admits which names the consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Redirections that go to the client, with `location` and the fields of `to_client`.
    #[serde(default = "redirects")]
    pub redirects: Vec<u16>,
    /// What becomes of requests while the service is down.
    #[serde(default)]
    pub if_down: IfDown,
    /// How long at most an answer is remembered that says `cache-control: max-age`; nothing is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Duration>,
    /// Questions at once at most; further requests wait for their turn, no longer than `timeout`.
    #[serde(default = "asked::in_flight")]
    pub in_flight: u32,
    /// A PEM file of the authorities to believe instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// How the service is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
}

/// What becomes of requests while the service is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfDown {
    /// They are refused: 503.
    #[default]
    Closed,
    /// They go on, counted and logged, and the target is told of nobody.
    Open,
}

fn credentials() -> Vec<String> {
    vec!["authorization".to_owned(), "cookie".to_owned()]
}

fn redirects() -> Vec<u16> {
    vec![302, 303, 307]
}

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const OURS: [HeaderName; 5] =
    [X_FORWARDED_METHOD, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_URI, X_FORWARDED_FOR];

/// Bytes of answers of one service.
const REMEMBERED: usize = 8 << 20;

type Verdict = Result<Pass, Denial>;

/// A verdict for all who have asked the same, and for how long it holds; for no time: it is for one request alone.
type Shared = (Arc<Verdict>, std::time::Duration);

/// Answers by all that they depend on; they outlive a reload that changes none of it.
static MEMORIES: LazyLock<Shelf<String, Memory<Arc<Verdict>>>> = LazyLock::new(Shelf::default);

/// The service, and what of its answers is passed on.
#[derive(Debug)]
pub struct Ext {
    asked: Asked,
    method: http::Method,
    pub send: Vec<HeaderName>,
    pub to_target: Vec<HeaderName>,
    to_client: Vec<HeaderName>,
    consumer: Option<HeaderName>,
    redirects: Vec<u16>,
    if_down: IfDown,
    memory: Option<(Arc<Memory<Arc<Verdict>>>, std::time::Duration)>,
    asking: Flights<Result<Shared, String>>,
    ca: Option<PathBuf>,
}

impl Ext {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        let names = |list: &[String], key: &str, problems: &mut Problems| -> Vec<HeaderName> {
            let each = list.iter().enumerate().filter_map(|(index, name)| {
                let wrong = |why| problems.error(at.key(key).index(index), why);
                forward::field(name).map_err(wrong).ok()
            });
            each.collect()
        };
        let send = names(&config.send, "send", problems);
        let (to_target, to_client) =
            (names(&config.to_target, "to_target", problems), names(&config.to_client, "to_client", problems));
        let consumer = config.consumer.as_deref().map(forward::field);
        let consumer = consumer.transpose().map_err(|why| problems.error(at.key("consumer"), why)).ok()?;
        if let Some(index) = send.iter().position(|name| OURS.contains(name)) {
            problems.error(at.key("send").index(index), "is said by the gateway itself, whatever the client says");
        }
        if config.redirects.iter().any(|status| !(300..400).contains(status) || *status == 304) {
            problems.error(at.key("redirects"), "lists what is no redirection, e.g. 302");
        }
        if config.if_down == IfDown::Open {
            problems.warn(at.key("if_down"), "whoever can bring the service down, or slow it down, comes in");
        }
        let ca = config.ca.as_deref();
        let reach = Reach { url: &config.url, timeout: config.timeout, in_flight: config.in_flight, ca };
        let asked = Asked::compile(&reach, at, tools, problems)?;
        let longest = config.cache.map(Duration::get).filter(|longest| !longest.is_zero());
        let settings = serde_json::to_string(config).unwrap_or_default();
        let memory = longest.map(|longest| (MEMORIES.keep(settings, || Memory::new(REMEMBERED)), longest));
        let method = match config.method {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
            Method::Post => http::Method::POST,
        };
        let (redirects, if_down) = (config.redirects.clone(), config.if_down);
        let made = Self {
            asked,
            method,
            send,
            to_target,
            to_client,
            consumer,
            redirects,
            if_down,
            memory,
            asking: Flights::default(),
            ca: config.ca.clone(),
        };
        (problems.errors() == before).then_some(made)
    }

    pub fn files(&self) -> &[PathBuf] {
        self.ca.as_slice()
    }

    /// What the service says of a request.
    pub async fn ask(&self, request: &dyn Request) -> Verdict {
        let (fields, shows) = self.fields(request)?;
        let mark = Mark::of(fields.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]));
        let question = Question { method: self.method.clone(), fields, body: Vec::new() };
        let verdict = match self.remembered(&mark) {
            Some(verdict) => Ok(verdict),
            // Without a memory each request is asked about, as the document says.
            None if self.memory.is_none() => self.question(&question, shows).await.map(|(verdict, _)| verdict),
            None => self.asked.wait(Box::pin(self.together(mark, &question, shows))).await,
        };
        match verdict {
            Ok(verdict) => Arc::unwrap_or_clone(verdict),
            Err(why) if self.if_down == IfDown::Open => {
                let forward = self.to_target.iter().map(|name| (name.clone(), None)).collect();
                Ok(Pass { forward, unasked: Some(why.into()), ..Pass::default() })
            }
            Err(why) => Err(Denial::new(Fault::AuthUnavailable, why)),
        }
    }

    fn remembered(&self, mark: &Mark) -> Option<Arc<Verdict>> {
        let (memory, _) = self.memory.as_ref()?;
        memory.get(mark, Instant::now()).inspect(|_| self.asked.remembered())
    }

    /// Asks once for all who ask the same at the same time, if the answer may be given to all of them.
    async fn together(&self, mark: Mark, question: &Question, shows: bool) -> Result<Arc<Verdict>, String> {
        let asking = Box::pin(async {
            // Another one may have been answered since it was looked for.
            if let Some(verdict) = self.memory.as_ref().and_then(|(memory, _)| memory.get(&mark, Instant::now())) {
                return Ok((verdict, std::time::Duration::MAX));
            }
            let (verdict, fresh) = self.question(question, shows).await?;
            self.remember(mark, &verdict, fresh);
            Ok((verdict, fresh))
        });
        let (answer, mine) = self.asking.once(mark, asking).await;
        match answer {
            Ok((verdict, _)) if mine => Ok(verdict),
            Ok((verdict, fresh)) if !fresh.is_zero() => {
                self.asked.remembered();
                Ok(verdict)
            }
            Ok(_) => self.question(question, shows).await.map(|(verdict, _)| verdict),
            Err(why) => Err(why),
        }
    }

    async fn question(&self, question: &Question, shows: bool) -> Result<Shared, String> {
        let answer = self.asked.ask(question, |answer| self.judge(answer, shows)).await;
        answer.map(|(verdict, fresh)| (Arc::new(verdict), fresh))
    }

    /// What the service is told, and whether the client has shown anything.
    fn fields(&self, request: &dyn Request) -> Result<(HeaderMap, bool), Denial> {
        let malformed = || Denial::new(Fault::AuthMalformed, "more than one of what the service is sent");
        let mut fields = HeaderMap::with_capacity(self.send.len() + OURS.len());
        for name in &self.send {
            let lines: Vec<_> = request.headers().get_all(name).iter().map(HeaderValue::as_bytes).collect();
            if lines.len() > 1 && *name != header::COOKIE {
                // The service could read another one than the target.
                return Err(malformed());
            }
            if !lines.is_empty() {
                fields.insert(name, HeaderValue::from_bytes(&lines.join(&b"; "[..])).map_err(|_| malformed())?);
            }
        }
        let shows = !fields.is_empty();
        let text = |text: &str| HeaderValue::from_str(text).map_err(|_| malformed());
        let uri = request.query().map_or_else(|| request.path().into(), |query| format!("{}?{query}", request.path()));
        let host = request.headers().get(header::HOST).cloned().map_or_else(|| text(request.host()), Ok)?;
        // So that a service that asks us again, and so on for ever, is noticed.
        let hops = request.headers().get_all(header::VIA).iter().filter_map(|line| line.to_str().ok());
        fields.insert(header::VIA, text(&hops.chain(["1.1 yumen"]).collect::<Vec<_>>().join(", "))?);
        fields.insert(X_FORWARDED_METHOD, text(request.method().as_str())?);
        fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if request.is_https() { "https" } else { "http" }));
        fields.insert(X_FORWARDED_HOST, host);
        fields.insert(X_FORWARDED_URI, text(&uri)?);
        fields.insert(X_FORWARDED_FOR, text(&request.client().to_string())?);
        Ok((fields, shows))
    }

    /// The verdict and for how long it holds; an answer that is none of these is an error.
    fn judge(&self, answer: &Answer, shows: bool) -> Result<(Verdict, std::time::Duration), String> {
        let fresh = answer.fresh();
        let taken = |names: &[HeaderName]| -> Vec<(HeaderName, HeaderValue)> {
            let each = names
                .iter()
                .flat_map(|name| answer.fields.get_all(name).iter().map(move |value| (name.clone(), value.clone())));
            each.collect()
        };
        let mut to_client = taken(&self.to_client);
        let refused = if shows { Fault::AuthExternal } else { Fault::AuthMissing };
        let verdict = match answer.status {
            200..=299 => Ok(self.admit(answer, to_client)),
            401 => {
                to_client.extend(taken(&[header::WWW_AUTHENTICATE]));
                Err(Denial { fields: to_client, ..Denial::new(refused, "the service answered 401") })
            }
            403 => Err(Denial { fields: to_client, ..Denial::new(Fault::RequireRefused, "the service answered 403") }),
            status if self.redirects.contains(&status) && answer.fields.contains_key(header::LOCATION) => {
                to_client.extend(taken(&[header::LOCATION]));
                let denial = Denial::new(refused, format!("the service answered {status}"));
                let fresh = std::time::Duration::ZERO;
                return Ok((Err(Denial { fields: to_client, reply: Some(status), ..denial }), fresh));
            }
            status => return Err(format!("the service answered {status}")),
        };
        // What sets a cookie is meant for this one request.
        let once = answer.fields.contains_key(header::SET_COOKIE);
        Ok((verdict, if once { std::time::Duration::ZERO } else { fresh }))
    }

    fn admit(&self, answer: &Answer, to_client: Vec<(HeaderName, HeaderValue)>) -> Pass {
        let mut pass = Pass { answer: to_client, ..Pass::default() };
        for name in &self.to_target {
            // Several lines become one, as RFC 9110 section 5.3 has it.
            let lines: Vec<_> = answer.fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            let joined = HeaderValue::from_bytes(&lines.join(&b", "[..])).ok().filter(|_| !lines.is_empty());
            pass.forward.push((name.clone(), joined));
        }
        let consumer = self.consumer.as_ref().and_then(|name| answer.fields.get(name)?.to_str().ok());
        pass.identity.consumer = consumer.filter(|name| !name.is_empty()).map(Into::into);
        pass
    }

    fn remember(&self, mark: Mark, verdict: &Arc<Verdict>, fresh: std::time::Duration) {
        let Some((memory, longest)) = self.memory.as_ref().filter(|_| !fresh.is_zero()) else { return };
        let size = |value: &HeaderValue| value.len() + 128;
        let weight = 256
            + match &**verdict {
                Ok(pass) => {
                    pass.forward.iter().filter_map(|(_, value)| value.as_ref()).map(size).sum::<usize>()
                        + pass.answer.iter().map(|(_, value)| size(value)).sum::<usize>()
                }
                Err(denial) => denial.fields.iter().map(|(_, value)| size(value)).sum(),
            };
        let ends = Instant::now().checked_add(fresh.min(*longest));
        if ends.is_some() {
            memory.put(mark, Arc::clone(verdict), ends, weight);
        }
    }
}
