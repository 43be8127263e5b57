//! Compresses answers for clients that take them so.
//!
//! ```yaml
//! compress: on
//! compress: [br, gzip]
//! compress: { with: [zstd, br, gzip], level: small, min: 1KiB, types: [application/json, "text/*"], secrets: compress }
//! ```
//!
//! An answer stays as it is where it is coded already, is a part of something, says `no-transform`, or may bear a secret
//! together with what a foreign page made a browser ask for (BREACH): how much such an answer shrinks would tell the secret.
//! What a target has sent never waits here for more: each piece reaches the client in full.

mod accept;
mod coding;
mod config;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

pub use self::accept::Wanted;
pub(super) use self::accept::weighed;
pub use self::coding::{Coding, Encoder};
pub use self::config::{Config, Level, Secrets};
use super::guard::Tools;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::CompressMetrics;

/// What is compressed, and how; decided once.
#[derive(Debug)]
pub struct Compress {
    with: Box<[Coding]>,
    level: Level,
    min: u64,
    types: Box<[Box<str>]>,
    secrets: Secrets,
    counted: Option<Arc<CompressMetrics>>,
}

/// Media types that shrink, unless the document names others.
const TYPES: [&str; 16] = [
    "text/*",
    "*+json",
    "*+xml",
    "*+text",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/yaml",
    "application/wasm",
    "application/graphql",
    "application/x-javascript",
    "application/vnd.ms-fontobject",
    "font/ttf",
];

/// Fields that tell of the bytes as they were.
const OF_THE_BYTES: [&str; 5] = ["accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"];

impl Compress {
    /// `at` is `routes.NAME.compress`; nothing where it is off.
    pub fn compile(
        config: &Config,
        route: &str,
        at: &Path,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Box<Self>> {
        let before = problems.errors();
        config.fits(at, problems);
        if problems.errors() > before || config.with.is_empty() {
            return None;
        }
        let types: Box<[Box<str>]> = if config.types.is_empty() {
            TYPES.map(Box::from).into()
        } else {
            config.types.iter().map(|kind| kind.to_ascii_lowercase().into()).collect()
        };
        Some(Box::new(Self {
            with: config.with.clone().into(),
            level: config.level,
            min: config.min.bytes(),
            types,
            secrets: config.secrets,
            counted: tools.metrics.map(|metrics| Arc::new(metrics.compress(route))),
        }))
    }

    /// What is made of an answer: its head is changed at once, its body by what comes back, if anything does.
    pub fn begin(&self, asked: &Asked<'_>, status: StatusCode, head: &mut HeaderMap) -> Option<Encoder> {
        if status == StatusCode::NOT_MODIFIED {
            still_the_same(asked.headers, head);
            vary(head);
            return None;
        }
        let length = content_length(head);
        if !self.could(status, head) {
            // A part varies as the whole does.
            if status == StatusCode::PARTIAL_CONTENT && self.could_all(head) {
                vary(head);
            }
            return None;
        }
        let wanted = Wanted::by(asked.headers, &self.with);
        let large_enough = length.is_none_or(|length| length >= self.min.max(1));
        if !large_enough && (wanted.takes_plain || length == Some(0)) {
            return None;
        }
        vary(head);
        let coding = wanted.coding?;
        if self.secrets == Secrets::Plain && bears_a_secret(asked, head) {
            return None;
        }
        head.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.word()));
        head.remove(header::CONTENT_LENGTH);
        of_other_bytes(head);
        (*asked.method != Method::HEAD).then(|| Encoder::new(coding, self.level, length, self.counted.clone()))?
    }

    /// Whether an answer of this kind is compressed for anyone.
    fn could(&self, status: StatusCode, head: &HeaderMap) -> bool {
        let whole = !status.is_informational()
            && !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT)
            && !head.contains_key(header::CONTENT_RANGE);
        whole && self.could_any(head)
    }

    fn could_any(&self, head: &HeaderMap) -> bool {
        let is_free = !head.contains_key(header::TRAILER) && !says(head, "no-transform");
        is_free && is_plain(head) && self.shrinks(head)
    }

    /// Whether the whole is compressed of which this is a part; of several parts nobody can tell.
    fn could_all(&self, head: &HeaderMap) -> bool {
        let said = head.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let Some((_, length)) = said.and_then(|said| said.rsplit_once('/')) else { return true };
        self.could_any(head) && length.parse::<u64>().map_or(true, |length| length >= self.min.max(1))
    }

    fn shrinks(&self, head: &HeaderMap) -> bool {
        let said = head.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let said = said.split(';').next().unwrap_or_default().trim();
        self.types.iter().any(|kind| fits(kind, said))
    }
}

impl std::fmt::Display for Compress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = self.with.iter().map(|coding| coding.word()).collect();
        f.write_str(&words.join(", "))
    }
}

/// What is known of a request when its answer comes.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a Method,
    /// As the client sent them.
    pub headers: &'a HeaderMap,
    /// The client was known by what its browser shows to everyone who makes it ask: a certificate.
    pub shown: bool,
}

/// `text/*`, `*+json`, or the type itself.
fn fits(kind: &str, said: &str) -> bool {
    if let Some(end) = kind.strip_prefix('*') {
        let start = said.len().saturating_sub(end.len());
        return said.get(start..).is_some_and(|said| said.eq_ignore_ascii_case(end));
    }
    match kind.strip_suffix('*') {
        Some(main) => said.get(..main.len()).is_some_and(|start| start.eq_ignore_ascii_case(main)),
        None => said.eq_ignore_ascii_case(kind),
    }
}

/// Whether no coding was applied yet.
fn is_plain(head: &HeaderMap) -> bool {
    let mut codings = head.get_all(header::CONTENT_ENCODING).iter();
    codings.all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

pub fn content_length(head: &HeaderMap) -> Option<u64> {
    head.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Whether `Cache-Control` says this word.
fn says(head: &HeaderMap, word: &str) -> bool {
    let lines = head.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

/// A browser shows cookies, passwords of `Basic` and certificates to whom they belong, whoever made it ask; a token in a
/// field is added by the page alone. Browsers tell where what made them ask came from (W3C Fetch Metadata): a page of the
/// same origin, or the user himself, may ask for anything.
fn bears_a_secret(asked: &Asked<'_>, head: &HeaderMap) -> bool {
    if head.contains_key(header::SET_COOKIE) {
        return true;
    }
    let scheme = asked.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let by_browser = scheme.is_some_and(|said| {
        let scheme = said.split(|byte| *byte == b' ').next().unwrap_or_default();
        !scheme.eq_ignore_ascii_case(b"bearer") && !scheme.eq_ignore_ascii_case(b"dpop")
    });
    if !by_browser && !asked.shown && !asked.headers.contains_key(header::COOKIE) {
        return false;
    }
    let site = asked.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    !matches!(site, Some(b"same-origin" | b"none"))
}

/// Who is asked the same by somebody else may answer otherwise.
fn vary(head: &mut HeaderMap) {
    vary_by(head, "accept-encoding");
}

/// Says that an answer goes by this field, unless that was said.
pub fn vary_by(head: &mut HeaderMap, by: &str) {
    let lines = head.get_all(header::VARY).iter().filter_map(|line| line.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case(by))
        && let Ok(by) = HeaderValue::from_str(by)
    {
        head.append(header::VARY, by);
    }
}

/// The same thing in other bytes: what told of the bytes goes, a strong `ETag` (RFC 9110 section 8.8.1) becomes a weak one.
pub fn of_other_bytes(head: &mut HeaderMap) {
    for name in OF_THE_BYTES {
        head.remove(name);
    }
    let strong = head.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    if let Some(weak) = strong.and_then(weak) {
        head.insert(header::ETAG, weak);
    }
}

fn weak(strong: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat()).ok()
}

/// Who has the weak tag is told that it still holds, not another one (RFC 9111 section 4.3.4).
pub fn still_the_same(asked: &HeaderMap, head: &mut HeaderMap) {
    let Some(weak) = head.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).and_then(weak) else {
        return;
    };
    let has = |line: &HeaderValue| line.as_bytes().windows(weak.len()).any(|part| part == weak.as_bytes());
    if asked.get_all(header::IF_NONE_MATCH).iter().any(has) {
        head.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests;
