//! One request as one line of text, whatever its client sent.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::config::Format;
use super::escape;
use crate::telemetry::clock::Moment;

/// What a line tells of a request. Nothing here but names, sizes and times: no header that may carry a secret.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When the request began.
    pub time: SystemTime,
    pub request_id: &'a str,
    /// The request that it came with as a part of a batch.
    pub part_of: Option<&'a str>,
    /// Hexadecimal.
    pub trace_id: &'a str,
    pub listener: &'a str,
    pub route: Option<&'a str>,
    /// A token (RFC 9110 section 9.1).
    pub method: &'a str,
    pub host: &'a [u8],
    pub path: &'a [u8],
    /// Written only where the settings say so.
    pub query: Option<&'a [u8]>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'a str,
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub user_agent: Option<&'a [u8]>,
    /// Only in combined lines.
    pub referer: Option<&'a [u8]>,
    pub client: IpAddr,
    pub pool: Option<&'a str>,
    pub target: Option<&'a str>,
    pub tries: u32,
    /// What had failed before the last try; nothing where that was the first.
    pub retried_after: Option<&'a str>,
    /// Why a failure was not followed by another try.
    pub not_retried: Option<&'a str>,
    /// The code of the fault, if there was one.
    pub reason: Option<&'a str>,
    /// Who the client was found to be.
    pub consumer: Option<&'a str>,
    /// What it asks for by GraphQL: a name, if it has one, and a kind.
    pub operation: Option<(Option<&'a str>, &'a str)>,
    /// Which rule refused, and where it stands in the document.
    pub rule: Option<&'a str>,
    /// The codes of refusals that only would have been, with their rules.
    pub would_refuse: Option<&'a str>,
    /// What it got of the route's cache; nothing where that has none.
    pub cache: Option<&'static str>,
    /// How its WebSocket ended, if it became one.
    pub tunnel: Option<Tunnel<'a>>,
    /// The calls that it was answered with, a word each: `user 200 12.345ms, cart upstream.refused 0.310ms`.
    pub calls: Option<&'a str>,
    /// What the operator should know of it and the client should not, e.g. the nearest miss of a 404.
    pub detail: Option<&'a str>,
    pub timings: Timings,
}

/// How a WebSocket ended, and what went through it.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel<'a> {
    /// The code of the goodbye; nothing where there was none.
    pub close_code: Option<u16>,
    pub closed_by: &'a str,
    /// Messages of the client, and of the target.
    pub messages_in: u64,
    pub messages_out: u64,
}

/// How long what took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    pub total: Duration,
    /// In the queue of the pool.
    pub queue: Option<Duration>,
    /// A new connection to the target, TLS included.
    pub connect: Option<Duration>,
    /// From the request sent to the head of the answer.
    pub first_byte: Option<Duration>,
    /// All waiting for the upstream.
    pub upstream: Option<Duration>,
}

/// What a client may say about itself is cut there: a line is not its diary.
const LONGEST_WORD: usize = 1024;

impl Entry<'_> {
    /// Appends the line and its end.
    pub fn write(&self, to: &mut Vec<u8>, format: Format, query: bool) {
        match format {
            Format::Json => self.json(to, query),
            Format::Combined => self.combined(to, query),
        }
    }

    fn json(&self, to: &mut Vec<u8>, query: bool) {
        to.extend_from_slice(b"{\"timestamp\":\"");
        to.extend_from_slice(&Moment::of(self.time).rfc3339_micros());
        text(to, b"\",\"request_id\":\"", self.request_id.as_bytes());
        optional(to, b"\",\"part_of\":\"", self.part_of);
        plain(to, b"\",\"trace_id\":\"", self.trace_id);
        plain(to, b"\",\"listener\":\"", self.listener);
        if let Some(route) = self.route {
            plain(to, b"\",\"route\":\"", route);
        }
        plain(to, b"\",\"http.request.method\":\"", self.method);
        text(to, b"\",\"host\":\"", cut(self.host));
        text(to, b"\",\"url.path\":\"", self.path);
        if let Some(sent) = self.query.filter(|_| query) {
            text(to, b"\",\"url.query\":\"", sent);
        }
        plain(to, b"\",\"protocol\":\"", self.protocol);
        if let Some(agent) = self.user_agent {
            text(to, b"\",\"user_agent\":\"", cut(agent));
        }
        optional(to, b"\",\"consumer\":\"", self.consumer);
        if let Some((name, kind)) = self.operation {
            optional(to, b"\",\"graphql.operation.name\":\"", name);
            plain(to, b"\",\"graphql.operation.type\":\"", kind);
        }
        if let Some(pool) = self.pool {
            plain(to, b"\",\"pool\":\"", pool);
        }
        optional(to, b"\",\"target\":\"", self.target);
        optional(to, b"\",\"retried_after\":\"", self.retried_after);
        optional(to, b"\",\"not_retried\":\"", self.not_retried);
        optional(to, b"\",\"reason\":\"", self.reason);
        optional(to, b"\",\"rule\":\"", self.rule);
        optional(to, b"\",\"would_refuse\":\"", self.would_refuse);
        optional(to, b"\",\"cache\":\"", self.cache);
        optional(to, b"\",\"calls\":\"", self.calls);
        optional(to, b"\",\"detail\":\"", self.detail);
        if let Some(tunnel) = self.tunnel {
            plain(to, b"\",\"closed_by\":\"", tunnel.closed_by);
        }
        to.extend_from_slice(b"\",\"client.address\":\"");
        address(to, self.client);
        number(to, b"\",\"http.response.status_code\":", self.status.into());
        number(to, b",\"bytes_in\":", self.bytes_in);
        number(to, b",\"bytes_out\":", self.bytes_out);
        number(to, b",\"tries\":", self.tries.into());
        if let Some(tunnel) = self.tunnel {
            tunnel.json(to);
        }
        self.timings.json(to);
        to.extend_from_slice(b"}\n");
    }

    fn combined(&self, to: &mut Vec<u8>, query: bool) {
        address(to, self.client);
        to.extend_from_slice(b" - - [");
        to.extend_from_slice(&Moment::of(self.time).apache());
        to.extend_from_slice(b"] \"");
        escape::apache(to, self.method.as_bytes());
        to.push(b' ');
        escape::apache(to, self.path);
        if let Some(sent) = self.query.filter(|_| query) {
            to.push(b'?');
            escape::apache(to, sent);
        }
        to.push(b' ');
        escape::apache(to, self.protocol.as_bytes());
        to.extend_from_slice(b"\" ");
        digits(to, self.status.into());
        to.push(b' ');
        digits(to, self.bytes_out);
        to.extend_from_slice(b" \"");
        escape::apache(to, self.referer.map_or(b"-", |from| cut(if query { from } else { without_query(from) })));
        to.extend_from_slice(b"\" \"");
        escape::apache(to, self.user_agent.map_or(b"-", cut));
        to.extend_from_slice(b"\"\n");
    }
}

impl Tunnel<'_> {
    fn json(&self, to: &mut Vec<u8>) {
        if let Some(code) = self.close_code {
            number(to, b",\"close_code\":", code.into());
        }
        number(to, b",\"messages_in\":", self.messages_in);
        number(to, b",\"messages_out\":", self.messages_out);
    }
}

impl Timings {
    /// Milliseconds, exact to the microsecond.
    fn json(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(b",\"timings_ms\":{\"total\":");
        millis(to, self.total);
        let parts: [(&[u8], Option<Duration>); 4] = [
            (b",\"queue\":", self.queue),
            (b",\"connect\":", self.connect),
            (b",\"first_byte\":", self.first_byte),
            (b",\"upstream\":", self.upstream),
        ];
        for (name, time) in parts {
            if let Some(time) = time {
                to.extend_from_slice(name);
                millis(to, time);
            }
        }
        to.push(b'}');
    }
}

/// Where a page's address ends and its query, which may carry a secret, begins.
fn without_query(referer: &[u8]) -> &[u8] {
    referer.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

fn cut(word: &[u8]) -> &[u8] {
    word.get(..LONGEST_WORD).unwrap_or(word)
}

/// A field inside quotes: what leads up to it, closing the field before, and its value.
fn text(to: &mut Vec<u8>, lead: &[u8], value: &[u8]) {
    to.extend_from_slice(lead);
    escape::json(to, value);
}

/// The same for what can hold nothing to be escaped: names of the document, methods (RFC 9110 tokens), our own words.
fn plain(to: &mut Vec<u8>, lead: &[u8], value: &str) {
    to.extend_from_slice(lead);
    to.extend_from_slice(value.as_bytes());
}

fn optional(to: &mut Vec<u8>, lead: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        text(to, lead, value.as_bytes());
    }
}

fn number(to: &mut Vec<u8>, lead: &[u8], value: u64) {
    to.extend_from_slice(lead);
    digits(to, value);
}

fn digits(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn millis(to: &mut Vec<u8>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    digits(to, micros / 1000);
    let rest = micros % 1000;
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
    to.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

fn address(to: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            digits(to, a.into());
            for part in [b, c, d] {
                to.push(b'.');
                digits(to, part.into());
            }
        }
        // Writing into memory cannot fail.
        IpAddr::V6(address) => drop(write!(to, "{address}")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    pub(in super::super) fn entry<'a>() -> Entry<'a> {
        Entry {
            time: UNIX_EPOCH + Duration::from_micros(1_795_255_200_000_042),
            request_id: "019a9f2c-8d00-7000-8000-000000000001",
            part_of: None,
            trace_id: "0af7651916cd43dd8448eb211c80319c",
            listener: "edge",
            route: Some("orders"),
            method: "GET",
            host: b"api.example.com",
            path: b"/orders/42",
            query: Some(b"token=secret"),
            protocol: "HTTP/1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 1024,
            user_agent: Some(b"curl/8.5.0"),
            referer: Some(b"https://example.com/page?session=secret"),
            client: IpAddr::from([203, 0, 113, 7]),
            pool: Some("orders"),
            target: Some("10.0.0.11:8080"),
            tries: 1,
            retried_after: None,
            not_retried: None,
            reason: None,
            consumer: None,
            operation: None,
            rule: None,
            would_refuse: None,
            cache: None,
            tunnel: None,
            calls: None,
            detail: None,
            timings: Timings {
                total: Duration::from_micros(12_345),
                upstream: Some(Duration::from_micros(12_005)),
                ..Timings::default()
            },
        }
    }

    fn line(entry: &Entry<'_>, format: Format, query: bool) -> String {
        let mut to = Vec::new();
        entry.write(&mut to, format, query);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_json_line_tells_everything_but_the_query() {
        let line = line(&entry(), Format::Json, false);
        assert!(!line.contains("secret"));
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({
                "timestamp": "2026-11-21T10:00:00.000042Z",
                "request_id": "019a9f2c-8d00-7000-8000-000000000001",
                "trace_id": "0af7651916cd43dd8448eb211c80319c",
                "listener": "edge", "route": "orders",
                "http.request.method": "GET", "host": "api.example.com", "url.path": "/orders/42", "protocol": "HTTP/1.1",
                "http.response.status_code": 200, "bytes_in": 0, "bytes_out": 1024,
                "user_agent": "curl/8.5.0", "client.address": "203.0.113.7",
                "pool": "orders", "target": "10.0.0.11:8080", "tries": 1,
                "timings_ms": { "total": 12.345, "upstream": 12.005 },
            })
        );
    }

    #[test]
    fn the_query_is_told_where_the_settings_say_so() {
        assert!(line(&entry(), Format::Json, true).contains(r#""url.query":"token=secret""#));
        assert!(line(&entry(), Format::Combined, true).contains("/orders/42?token=secret HTTP/1.1"));
    }

    #[test]
    fn a_combined_line_is_apaches() {
        assert_eq!(
            line(&entry(), Format::Combined, false),
            "203.0.113.7 - - [21/Nov/2026:10:00:00 +0000] \"GET /orders/42 HTTP/1.1\" 200 1024 \"https://example.com/page\" \"curl/8.5.0\"\n"
        );
    }

    #[test]
    fn an_address_has_one_spelling() {
        let v6 = Entry { client: "::ffff:10.1.2.3".parse().unwrap(), ..entry() };
        assert!(line(&v6, Format::Combined, false).starts_with("10.1.2.3 "));
        let v6 = Entry { client: "2001:db8::1".parse().unwrap(), ..entry() };
        assert!(line(&v6, Format::Combined, false).starts_with("2001:db8::1 "));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_client_sends_is_one_valid_line(
            path: Vec<u8>, host: Vec<u8>, query: Vec<u8>, agent: Vec<u8>, method in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}",
        ) {
            let entry = Entry {
                path: &path, host: &host, query: Some(&query), user_agent: Some(&agent), referer: Some(&agent), method: &method,
                ..entry()
            };
            let json = line(&entry, Format::Json, true);
            prop_assert_eq!(json.matches('\n').count(), 1);
            prop_assert!(!json.trim_end_matches('\n').chars().any(char::is_control));
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["url.path"].as_str().unwrap(), String::from_utf8_lossy(&path));
            prop_assert_eq!(read["http.request.method"].as_str().unwrap(), &method);
            let combined = line(&entry, Format::Combined, true);
            prop_assert!(combined.trim_end_matches('\n').bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(combined.replace(r"\\", "").replace(r#"\""#, "").matches('"').count(), 6);
        }
    }
}
