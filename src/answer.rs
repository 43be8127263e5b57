//! Answers of our own: problem details (RFC 9457) or a gRPC status, and why, for the proxies in between (RFC 9209).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use pingora_http::ResponseHeader;

use crate::fault::Fault;
use crate::messages::{Detail, Messages, Text};

/// The start of each problem's `type`; its code follows.
const TYPE: &str = "urn:yumen:problem:";

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What is the same in every answer to a fault in one language.
#[derive(Debug)]
struct Prepared {
    /// The JSON document up to the id of the request.
    start: Box<[u8]>,
    grpc_message: HeaderValue,
}

/// Every answer in every language, all but the id of the request written beforehand.
#[derive(Debug)]
pub struct Answers {
    messages: Messages,
    detail: Detail,
    /// One list a language, in the order of `Fault::ALL`.
    prepared: Vec<(HeaderValue, Vec<Prepared>)>,
    /// In the order of `Fault::ALL`; empty where the gateway sends no answer.
    proxy_status: Vec<HeaderValue>,
}

/// What an answer depends on besides the fault.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    pub request_id: &'a str,
    pub accept_language: Option<&'a str>,
    /// For HEAD: the header of the answer, without its body.
    pub head: bool,
    /// The client speaks gRPC: its errors are trailers of a successful response.
    pub grpc: bool,
    /// The methods that a 405 allows.
    pub allow: Option<&'a str>,
    /// What is wrong where in the request: JSON pointer or parameter, and a sentence.
    pub errors: &'a [(Box<str>, Box<str>)],
    /// When it is worth another try, where that is known.
    pub retry_after: Option<Duration>,
    /// What only the log knows of the cause.
    pub cause: Option<(Fault, Option<&'a str>)>,
}

/// An answer, ready to be sent.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Empty for HEAD and gRPC.
    pub body: Bytes,
}

impl Answers {
    pub fn new(messages: Messages, detail: Detail) -> Arc<Self> {
        let prepared = messages.languages().iter().map(|language| {
            let texts = language.texts().map(|(fault, text)| Prepared::new(fault, text)).collect();
            (value(language.tag.as_bytes()), texts)
        });
        let proxy_status = Fault::ALL.iter().map(|fault| value(proxy_status(*fault).as_bytes())).collect();
        Arc::new(Self { prepared: prepared.collect(), proxy_status, messages, detail })
    }

    pub fn messages(&self) -> &Messages {
        &self.messages
    }

    /// The answer to a request that ends in a fault.
    pub fn answer(&self, fault: Fault, asked: &Asked<'_>) -> Answer {
        let mut headers = Vec::with_capacity(10);
        headers.extend(HeaderValue::try_from(asked.request_id).map(|id| (REQUEST_ID, id)));
        let proxy_status = self.proxy_status.get(fault as usize).filter(|status| !status.is_empty());
        headers.extend(proxy_status.map(|status| (PROXY_STATUS, status.clone())));
        headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        let language = self.prepared.get(self.messages.choose(asked.accept_language));
        let prepared = language.and_then(|(tag, texts)| Some((tag, texts.get(fault as usize)?)));
        let Some((tag, prepared)) = prepared else {
            return Answer { status: fault.status(), headers, body: Bytes::new() };
        };
        if asked.grpc {
            return prepared.grpc(fault, headers);
        }
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        headers.push((header::CONTENT_LANGUAGE, tag.clone()));
        headers.push((header::VARY, HeaderValue::from_static("Accept-Language")));
        if fault.retry_after() {
            // Whole seconds, rounded up: who comes too early comes in vain.
            let seconds = asked.retry_after.map_or(1, |wait| wait.as_millis().div_ceil(1000).clamp(1, 86_400));
            headers.push((header::RETRY_AFTER, HeaderValue::from(u32::try_from(seconds).unwrap_or(1))));
        }
        headers.extend(asked.allow.and_then(|allow| Some((header::ALLOW, HeaderValue::try_from(allow).ok()?))));
        let body = prepared.body(asked, self.detail);
        headers.push((header::CONTENT_LENGTH, HeaderValue::from(body.len())));
        Answer { status: fault.status(), headers, body: if asked.head { Bytes::new() } else { body } }
    }
}

/// As RFC 9457 section 3 shows them: a JSON pointer into the body (`#/items/0`), or the name of a parameter.
fn errors(errors: &[(Box<str>, Box<str>)]) -> serde_json::Value {
    let one = |(at, detail): &(Box<str>, Box<str>)| {
        let key = if at.starts_with('#') { "pointer" } else { "parameter" };
        serde_json::json!({ "detail": detail, key: at })
    };
    errors.iter().map(one).collect()
}

impl Prepared {
    fn new(fault: Fault, text: &Text) -> Self {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let (code, status) = (fault.code(), fault.status());
        let (title, detail) = (quoted(&text.title), quoted(&text.detail));
        let start = format!(
            "{{\"type\":\"{TYPE}{code}\",\"title\":{title},\"status\":{status},\"detail\":{detail},\"code\":\"{code}\",\"instance\":"
        );
        Self { start: start.into_bytes().into(), grpc_message: value(percent_encoded(&text.detail).as_bytes()) }
    }

    fn body(&self, asked: &Asked<'_>, detail: Detail) -> Bytes {
        let request_id = asked.request_id;
        let mut body = BytesMut::with_capacity(self.start.len() + request_id.len() + 8);
        body.extend_from_slice(&self.start);
        if request_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            body.put_u8(b'"');
            body.extend_from_slice(request_id.as_bytes());
            body.put_u8(b'"');
        } else {
            // An id that a trusted proxy has given may be anything.
            body.extend_from_slice(serde_json::Value::from(request_id).to_string().as_bytes());
        }
        if !asked.errors.is_empty() {
            body.extend_from_slice(b",\"errors\":");
            body.extend_from_slice(errors(asked.errors).to_string().as_bytes());
        }
        if let (Detail::Full, Some((fault, why))) = (detail, asked.cause) {
            body.extend_from_slice(b",\"reason\":\"");
            body.extend_from_slice(fault.code().as_bytes());
            body.extend_from_slice(b"\",\"why\":");
            body.extend_from_slice(serde_json::Value::from(why).to_string().as_bytes());
        }
        body.extend_from_slice(b"}\n");
        body.freeze()
    }

    /// "Trailers-Only" of the gRPC protocol: the response is its trailers.
    fn grpc(&self, fault: Fault, mut headers: Vec<(HeaderName, HeaderValue)>) -> Answer {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")));
        headers.push((GRPC_STATUS, HeaderValue::from(u16::from(fault.row().grpc))));
        headers.push((GRPC_MESSAGE, self.grpc_message.clone()));
        Answer { status: 200, headers, body: Bytes::new() }
    }
}

impl Answer {
    /// The header in Pingora's form.
    pub fn header(&self) -> pingora_error::Result<ResponseHeader> {
        let mut response = ResponseHeader::build(self.status, Some(self.headers.len()))?;
        for (name, value) in &self.headers {
            response.append_header(name, value)?;
        }
        Ok(response)
    }

    /// The whole answer as bytes of HTTP/1.1, after which the connection closes; for what happens before Pingora reads.
    pub fn render_h1(&self, now: SystemTime) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(640 + self.body.len());
        bytes.extend_from_slice(b"HTTP/1.1 ");
        bytes.extend_from_slice(itoa::Buffer::new().format(self.status).as_bytes());
        bytes.push(b' ');
        let status = http::StatusCode::from_u16(self.status).ok();
        bytes.extend_from_slice(status.and_then(|status| status.canonical_reason()).unwrap_or_default().as_bytes());
        bytes.extend_from_slice(b"\r\nDate: ");
        bytes.extend_from_slice(httpdate::fmt_http_date(now).as_bytes());
        for (name, value) in &self.headers {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// What the other proxies on the way are told: `yumen;error=destination_not_found;details="route.none"`.
fn proxy_status(fault: Fault) -> String {
    let row = fault.row();
    let (Ok(error), Ok(details)) = (sfv::TokenRef::from_str(row.proxy_status), sfv::StringRef::from_str(row.code))
    else {
        return String::new();
    };
    let mut list = sfv::ListSerializer::new();
    let item = list.bare_item(sfv::token_ref("yumen"));
    let _ = item.parameter(sfv::key_ref("error"), error).parameter(sfv::key_ref("details"), details).finish();
    list.finish().unwrap_or_default()
}

/// As the gRPC protocol writes a message: printable ASCII but `%` stands for itself.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut to = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => to.push(byte.into()),
            // Writing into memory cannot fail.
            byte => drop(write!(to, "%{byte:02X}")),
        }
    }
    to
}

/// A header value of a text of ours; an impossible one is left empty.
fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;
    use crate::messages::Config;
    use crate::problem::{self, Problems};

    const ID: &str = "019a9f2c-8d00-7000-8000-000000000001";

    fn answers() -> Arc<Answers> {
        let mut problems = Problems::default();
        let at = problem::Path::of(["errors"]);
        Answers::new(Messages::compile(&Config::default(), Path::new(""), &at, &mut problems), Detail::default())
    }

    fn header(answer: &Answer, name: &str) -> Option<String> {
        let header = answer.header().unwrap();
        header.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_fault_is_a_problem_document() {
        let answer = answers().answer(Fault::RouteNone, &Asked { request_id: ID, ..Asked::default() });
        assert_eq!(
            serde_json::from_slice::<Value>(&answer.body).unwrap(),
            json!({
                "type": "urn:yumen:problem:route.none", "title": "Not found", "status": 404,
                "detail": "Nothing is served at this address.", "code": "route.none", "instance": ID,
            })
        );
        for (name, value) in [
            ("content-type", "application/problem+json"),
            ("content-language", "en"),
            ("vary", "Accept-Language"),
            ("cache-control", "no-store"),
            ("proxy-status", r#"yumen;error=destination_not_found;details="route.none""#),
            ("x-request-id", ID),
            ("content-length", &answer.body.len().to_string()),
        ] {
            assert_eq!(header(&answer, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(header(&answer, "retry-after"), None);
    }

    #[test]
    fn every_fault_in_every_language_is_valid() {
        let answers = answers();
        for fault in Fault::ALL {
            for accept_language in [None, Some("zh-CN")] {
                let asked = Asked { request_id: ID, accept_language, ..Asked::default() };
                let answer = answers.answer(*fault, &asked);
                let body: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(body["code"], fault.code());
                assert_eq!(header(&answer, "content-language").as_deref(), Some(accept_language.unwrap_or("en")));
                assert_eq!(header(&answer, "proxy-status").is_some(), *fault != Fault::ClientGone);
                assert_eq!(header(&answer, "retry-after").is_some(), matches!(fault.status(), 429 | 503));
            }
        }
    }

    #[test]
    fn head_has_the_header_of_get_and_no_body() {
        let asked = Asked { request_id: ID, allow: Some("GET, HEAD"), ..Asked::default() };
        let get = answers().answer(Fault::RouteMethod, &asked);
        let head = answers().answer(Fault::RouteMethod, &Asked { head: true, ..asked });
        assert_eq!(get.headers, head.headers);
        assert_eq!(header(&head, "allow").as_deref(), Some("GET, HEAD"));
        assert!(head.body.is_empty() && !get.body.is_empty());
    }

    #[test]
    fn grpc_gets_its_status_as_trailers_only() {
        let asked = Asked { request_id: ID, grpc: true, accept_language: Some("zh"), ..Asked::default() };
        let answer = answers().answer(Fault::PoolNoHealthy, &asked);
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(header(&answer, "content-type").as_deref(), Some("application/grpc"));
        assert_eq!(header(&answer, "grpc-status").as_deref(), Some("14"));
        assert!(header(&answer, "grpc-message").unwrap().starts_with("%E8%AF%A5"));
        assert_eq!(percent_encoded("100 %\n"), "100 %25%0A");
    }

    #[test]
    fn an_id_cannot_break_the_document() {
        let answer = answers().answer(Fault::RouteNone, &Asked { request_id: "a\",\"b\":\"\\", ..Asked::default() });
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap()["instance"], "a\",\"b\":\"\\");
    }

    #[test]
    fn bytes_of_http_say_when_they_end() {
        let answer = answers().answer(Fault::RequestMalformed, &Asked { request_id: ID, ..Asked::default() });
        let bytes = answer.render_h1(UNIX_EPOCH + Duration::from_hours(498_682));
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        assert_eq!(body.as_bytes(), &answer.body[..]);
        assert!(text.contains("\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\n"));
        assert!(text.contains(&format!("\r\ncontent-length: {}\r\n", answer.body.len())));
        assert!(text.contains("\r\nConnection: close\r\n"));
    }
}
