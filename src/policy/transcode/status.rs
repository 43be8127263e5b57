//! The status of a call: its number, its name, what it is over HTTP, and what the service says of it in detail.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::{Any, Duration};
use serde_json::{Value, json};

use super::print::Print;

/// The names of `google.rpc.Code`, and the status over HTTP, by number.
const CODES: [(&str, u16); 17] = [
    ("OK", 200),
    ("CANCELLED", 499),
    ("UNKNOWN", 500),
    ("INVALID_ARGUMENT", 400),
    ("DEADLINE_EXCEEDED", 504),
    ("NOT_FOUND", 404),
    ("ALREADY_EXISTS", 409),
    ("PERMISSION_DENIED", 403),
    ("RESOURCE_EXHAUSTED", 429),
    ("FAILED_PRECONDITION", 400),
    ("ABORTED", 409),
    ("OUT_OF_RANGE", 400),
    ("UNIMPLEMENTED", 501),
    ("INTERNAL", 500),
    ("UNAVAILABLE", 503),
    ("DATA_LOSS", 500),
    ("UNAUTHENTICATED", 401),
];

const UNKNOWN: (&str, u16) = ("UNKNOWN", 500);

/// How a call ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub code: u32,
    pub message: String,
    details: Vec<Any>,
}

/// `google.rpc.Status`, in which details come.
#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct Retry {
    #[prost(message, optional, tag = "1")]
    wait: Option<Duration>,
}

impl Status {
    /// What trailers, or a head that is all of the answer, say; nothing where they say nothing.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let code = fields.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let message = fields.get("grpc-message").map(HeaderValue::as_bytes).map(decoded).unwrap_or_default();
        let details = fields.get("grpc-status-details-bin").and_then(|said| Rpc::decode(&*from_base64(said)?).ok());
        Some(Self { code, message, details: details.map(|said| said.details).unwrap_or_default() })
    }

    pub fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// `NOT_FOUND`.
    pub fn name(&self) -> &'static str {
        self.row().0
    }

    /// As `google.rpc.Code` maps it.
    pub fn http(&self) -> u16 {
        self.row().1
    }

    fn row(&self) -> (&'static str, u16) {
        CODES.get(self.code as usize).copied().unwrap_or(UNKNOWN)
    }

    /// In how many seconds another try makes sense, where the service says so.
    pub fn wait(&self) -> Option<u64> {
        let said = self.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let wait = Retry::decode(&*said.value).ok()?.wait?;
        let seconds = u64::try_from(wait.seconds).ok()?;
        Some(seconds + u64::from(wait.nanos > 0)).filter(|seconds| *seconds <= 86_400)
    }

    /// The problem document (RFC 9457) of a call that failed.
    pub fn problem(&self, pool: &DescriptorPool, print: &Print, request_id: &str) -> Value {
        let code = format!("grpc.{}", self.name().to_ascii_lowercase());
        let mut problem = json!({
            "type": format!("urn:yumen:problem:{code}"), "title": self.name(), "status": self.http(),
            "detail": self.message, "code": code, "grpc_status": self.code, "instance": request_id,
        });
        if let (Some(map), false) = (problem.as_object_mut(), self.details.is_empty()) {
            map.insert("details".to_owned(), self.details.iter().map(|detail| shown(detail, pool, print)).collect());
        }
        problem
    }
}

/// As JSON where its type is known and it is not too deep, else as it came.
fn shown(detail: &Any, pool: &DescriptorPool, print: &Print) -> Value {
    let known = print.any(&detail.type_url, &Bytes::copy_from_slice(&detail.value), pool);
    known.unwrap_or_else(|_| json!({ "@type": detail.type_url, "value": STANDARD.encode(&detail.value) }))
}

/// Binary metadata; with or without its padding.
fn from_base64(value: &HeaderValue) -> Option<Vec<u8>> {
    let text = value.as_bytes().trim_ascii_end();
    let unpadded = text.split(|byte| *byte == b'=').next()?;
    STANDARD_NO_PAD.decode(unpadded).ok()
}

/// A `grpc-message`: what is escaped is decoded, what is no escape stays.
fn decoded(message: &[u8]) -> String {
    let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut text, mut rest) = (Vec::with_capacity(message.len()), message);
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(high).zip(hex(low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        text.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(fields: &[(&'static str, &str)]) -> Option<Status> {
        let value = |value: &str| HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let fields = fields.iter().map(|(name, said)| (http::HeaderName::from_static(name), value(said)));
        Status::of(&fields.collect())
    }

    #[test]
    fn every_code_has_its_name_and_its_http_status() {
        let told: Vec<_> = (0..19).map(|code| Status { code, ..Status::default() }.http()).collect();
        assert_eq!(
            told,
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500, 500]
        );
        assert_eq!(Status { code: 16, ..Status::default() }.name(), "UNAUTHENTICATED");
        assert_eq!(Status { code: 4711, ..Status::default() }.name(), "UNKNOWN");
    }

    #[test]
    fn a_message_is_read_as_it_was_meant() {
        for (said, meant) in
            [("plain", "plain"), ("100%25 %E7%8E%89", "100% \u{7389}"), ("50% off %zz %", "50% off %zz %")]
        {
            assert_eq!(status(&[("grpc-status", "5"), ("grpc-message", said)]).unwrap().message, meant);
        }
        assert_eq!(status(&[("grpc-message", "x")]), None);
        assert_eq!(status(&[("grpc-status", "x")]), None);
    }

    #[test]
    fn details_that_cannot_be_read_are_left_out() {
        for said in ["!", "////", ""] {
            let status = status(&[("grpc-status", "3"), ("grpc-status-details-bin", said)]).unwrap();
            assert!(status.details.is_empty(), "{said}");
        }
    }
}
