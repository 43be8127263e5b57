//! Answers many requests that come as one: a JSON array of them, each on its own way through the gateway.
//!
//! ```yaml
//! batch: { max: 20, parallel: 5, timeout: 30s, answer: 1MiB }
//! ```
//!
//! A part is `{ id, method, path, headers, body }`, of which only `method` and `path` must be there. A body that is a text is
//! sent as it is, any other one as JSON. The part has the fields of the request that it came with, unless it says its own;
//! from which page it comes, a browser says of the whole batch, and no part of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::problem::{Path, Problems};
use crate::units::{Duration, Size};

/// Many requests that come as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Batch")]
pub struct Config {
    /// Requests in one batch, at most; 1 to 100.
    pub max: NonZeroU16,
    /// How many of them run at the same time.
    pub parallel: NonZeroU16,
    /// How long all of them may take; what has not ended then is answered with 504.
    pub timeout: Duration,
    /// Bytes of the body of each answer, at most.
    pub answer: Size,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max: NonZeroU16::MIN.saturating_add(19),
            parallel: NonZeroU16::MIN.saturating_add(4),
            timeout: Duration::from_secs(30),
            answer: Size::from_bytes(1 << 20),
        }
    }
}

const MOST: u16 = 100;
const MOST_ANSWER: Size = Size::from_bytes(16 << 20);

/// How batches are answered, decided once.
#[derive(Debug)]
pub struct Batch {
    max: usize,
    pub parallel: usize,
    pub timeout: std::time::Duration,
    /// Bytes of the body of each answer, at most.
    pub answer: usize,
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answers batches of up to {} requests, {} at a time", self.max, self.parallel)
    }
}

/// One request of a batch, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    /// Comes back with the answer, as it was written.
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    /// GET, POST, ...
    method: String,
    /// The path, and the query if there is one.
    path: String,
    /// Fields in place of those that the batch came with.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text as it is, anything else as JSON.
    #[serde(default, borrow)]
    body: Option<&'a RawValue>,
}

/// One request of a batch.
pub struct Part {
    pub id: Option<Box<RawValue>>,
    pub head: RequestHeader,
    pub body: Bytes,
}

/// What is wrong with a batch: a JSON pointer, and a sentence.
pub type Wrong = (Box<str>, Box<str>);

/// What every part has of the request that it came with.
pub struct Base<'a> {
    pub fields: &'a HeaderMap,
    /// Somebody whom we trust speaks for its client: a part may not say what only they may.
    pub trusted: bool,
}

impl Batch {
    pub fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.max.get() > MOST {
            problems.error(at.key("max"), format!("`{}` is too many; at most {MOST}", config.max));
        }
        if config.timeout.get().is_zero() {
            problems.error(at.key("timeout"), "must be more than zero");
        }
        if config.answer > MOST_ANSWER || config.answer.is_empty() {
            problems.error(at.key("answer"), format!("`{}` is not from 1B to {MOST_ANSWER}", config.answer));
        }
        (problems.errors() == before).then(|| Self {
            max: config.max.get().into(),
            parallel: config.parallel.get().into(),
            timeout: config.timeout.get(),
            answer: config.answer.len(),
        })
    }

    /// The requests of a batch, or all that is wrong with them.
    pub fn read(&self, body: &[u8], base: &Base<'_>) -> Result<Vec<Part>, Vec<Wrong>> {
        let wrong = |sentence: String| vec![(Box::from("#"), Box::from(sentence))];
        let all: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| {
            wrong("is not a JSON array of requests, e.g. [{\"method\":\"GET\",\"path\":\"/\"}]".to_owned())
        })?;
        if all.len() > self.max {
            return Err(wrong(format!("{} requests are too many for one batch; at most {}", all.len(), self.max)));
        }
        let (mut parts, mut wrongs) = (Vec::with_capacity(all.len()), Vec::new());
        for (at, raw) in all.into_iter().enumerate() {
            match part(raw, base) {
                Ok(part) => parts.push(part),
                Err((key, sentence)) => wrongs.push((format!("#/{at}{key}").into(), sentence)),
            }
        }
        if wrongs.is_empty() { Ok(parts) } else { Err(wrongs) }
    }
}

fn part(raw: &RawValue, base: &Base<'_>) -> Result<Part, Wrong> {
    let sent: Sent<'_> = serde_json::from_str(raw.get()).map_err(|why| (Box::from(""), why.to_string().into()))?;
    let wrong = |key: &str, sentence: &str| (Box::from(key), Box::from(sentence));
    if !sent.path.starts_with('/') {
        return Err(wrong("/path", "is not a path, e.g. /orders/7"));
    }
    if sent.path.contains('#') {
        return Err(wrong("/path", "has a `#`, which no request carries"));
    }
    let method =
        Method::from_bytes(sent.method.as_bytes()).map_err(|_| wrong("/method", "is not a method, e.g. GET"))?;
    let head = RequestHeader::build_no_case(method, sent.path.as_bytes(), Some(base.fields.len() + 8));
    let mut head = head.map_err(|_| wrong("/path", "is not a path of a request"))?;
    for (name, value) in base.fields.iter().filter(|(name, _)| is_passed(name)) {
        let _ = head.append_header(name.clone(), value.clone());
    }
    for (name, value) in &sent.headers {
        let at = || format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
        let known = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| may_say(name, base.trusted));
        let known = known.ok_or_else(|| wrong(&at(), "is not a field that a request of a batch may say"))?;
        let value = HeaderValue::from_str(value).map_err(|_| wrong(&at(), "is not the value of a field"))?;
        let _ = head.insert_header(known, value);
    }
    let text = sent.body.map(|raw| serde_json::from_str::<String>(raw.get()).map_err(|_| raw.get()));
    let body = match text {
        None => Bytes::new(),
        Some(Ok(text)) => text.into(),
        Some(Err(json)) => {
            if !head.headers.contains_key(header::CONTENT_TYPE) {
                let _ = head.insert_header(header::CONTENT_TYPE, "application/json");
            }
            Bytes::copy_from_slice(json.as_bytes())
        }
    };
    if !body.is_empty() || sent.method == "POST" {
        let _ = head.insert_header(header::CONTENT_LENGTH, body.len());
    }
    Ok(Part { id: sent.id.map(RawValue::to_owned), head, body })
}

/// What belongs to one request and one connection only.
fn is_own(name: &HeaderName) -> bool {
    const OWN: [&str; 12] = [
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    OWN.contains(&name.as_str())
}

/// Whether a part has the field of the request that it came with: what is about that one's body or answer stays there.
fn is_passed(name: &HeaderName) -> bool {
    let about_it = name.as_str().starts_with("content-") || name.as_str().starts_with("if-");
    let own = ["range", "accept-encoding", "idempotency-key", "x-request-id"];
    !about_it && !own.contains(&name.as_str()) && !is_own(name)
}

/// What a browser says of the page that asks, and a page cannot; what stands for that where a service looks at nothing else.
fn is_of_page(name: &str) -> bool {
    matches!(name, "origin" | "referer" | "x-requested-with")
        || name.starts_with("sec-")
        || name.starts_with("access-control-")
}

/// Whether a part may say the field: never for whom it comes, on what way and from which page; where a hop that is trusted
/// speaks for clients, nothing that such a hop would have looked at.
fn may_say(name: &HeaderName, trusted: bool) -> bool {
    const OF_HOPS: [&str; 5] = ["forwarded", "via", "x-real-ip", "x-request-id", "accept-encoding"];
    const OF_CLIENTS: [header::HeaderName; 12] = [
        header::ACCEPT,
        header::ACCEPT_LANGUAGE,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::RANGE,
        header::USER_AGENT,
        HeaderName::from_static("idempotency-key"),
    ];
    let text = name.as_str();
    let ours = text.starts_with("x-forwarded-") || text.starts_with("x-yumen-") || OF_HOPS.contains(&text);
    !ours && !is_own(name) && !is_of_page(text) && (!trusted || OF_CLIENTS.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, trusted: bool) -> Result<Vec<Part>, Vec<(String, String)>> {
        let mut fields = HeaderMap::new();
        for (name, value) in [("host", "a.example"), ("cookie", "s=1"), ("content-type", "x/y"), ("if-match", "\"1\"")]
        {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let batch = Batch::compile(&Config::default(), &Path::default(), &mut Problems::default()).unwrap();
        let read = batch.read(text.as_bytes(), &Base { fields: &fields, trusted });
        read.map_err(|wrong| wrong.iter().map(|(at, what)| (at.to_string(), what.to_string())).collect())
    }

    #[test]
    fn a_part_is_a_request_with_the_fields_of_the_batch_or_its_own() {
        let parts = read(
            r#"[{"method":"GET","path":"/a?b"},{"id":[7.50],"method":"POST","path":"/c","headers":{"Cookie":"t=2"},"body":{"n":1.50}},
               {"method":"PUT","path":"/d","body":"a text"}]"#,
            false,
        )
        .unwrap();
        let said = |at: usize, name: &str| parts[at].head.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!((said(0, "host"), said(0, "cookie"), said(0, "if-match")), (Some("a.example"), Some("s=1"), None));
        assert_eq!((said(0, "content-type"), said(0, "content-length")), (None, None));
        assert_eq!((said(1, "cookie"), said(1, "content-type")), (Some("t=2"), Some("application/json")));
        assert_eq!((&parts[1].body[..], said(1, "content-length")), (&br#"{"n":1.50}"#[..], Some("10")));
        assert_eq!((&parts[2].body[..], said(2, "content-type")), (&b"a text"[..], None));
        let id = parts[1].id.as_ref().map(|id| id.get());
        assert_eq!((id, parts[0].head.uri.to_string()), (Some("[7.50]"), "/a?b".to_owned()));
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_place() {
        let told = |text: &str, trusted| read(text, trusted).map(|parts| parts.len()).unwrap_err();
        let places = |text: &str, trusted| told(text, trusted).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(places("{}", false), ["#"]);
        let many = format!("[{}]", vec![r#"{"method":"GET","path":"/"}"#; 21].join(","));
        assert_eq!(told(&many, false)[0].1, "21 requests are too many for one batch; at most 20");
        let wrong = r#"[{"method":"GET"},{"method":"GET","path":"a"},{"method":"GET","path":"/","x":1},7]"#;
        assert_eq!(places(wrong, false), ["#/0", "#/1/path", "#/2", "#/3"]);
        let wrong = r#"[{"method":"G T","path":"/"},{"method":"GET","path":"/a?b#c"},{"method":"GET","path":"/ "}]"#;
        assert_eq!(places(wrong, false), ["#/0/method", "#/1/path", "#/2/path"]);
        let of_hops =
            ["X-Forwarded-For", "forwarded", "via", "x-request-id", "connection", "content-length", "upgrade", "a b"];
        let of_pages = ["Origin", "referer", "Sec-Fetch-Site", "x-requested-with", "access-control-request-method"];
        for name in of_hops.into_iter().chain(of_pages) {
            let text = format!(r#"[{{"method":"GET","path":"/","headers":{{"{name}":"1"}}}}]"#);
            assert_eq!(places(&text, false), [format!("#/0/headers/{name}")], "{name}");
        }
        for name in ["host", "x-user", "traceparent"] {
            let text = format!(r#"[{{"method":"GET","path":"/","headers":{{"{name}":"1"}}}}]"#);
            assert_eq!((read(&text, false).is_ok(), read(&text, true).is_ok()), (true, false), "{name}");
        }
    }
}
