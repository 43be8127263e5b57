//! Asks a target by the health protocol of gRPC, `grpc.health.v1`, over HTTP/2.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri};
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use super::why;

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// No answer is longer: it is one small number.
const LONGEST: usize = 1024;

/// Which service is asked about.
pub(super) struct Ask {
    /// Nothing: the server as a whole.
    pub(super) service: String,
    pub(super) host: Option<String>,
}

impl Ask {
    /// One call on a connection of its own; `authority` is the host where the settings name none.
    pub(super) async fn ask(&self, connector: &Connector, peer: &HttpPeer, authority: &str) -> Result<(), String> {
        let host = self.host.as_deref().unwrap_or(authority);
        let (session, _) = connector.get_http_session(peer).await.map_err(|error| why(&error))?;
        let HttpSession::H2(mut session) = session else { return Err("does not speak HTTP/2".to_owned()) };
        session.write_request_header(Box::new(request(peer, host)?), false).map_err(|error| why(&error))?;
        session.write_request_body(message(&self.service), true).await.map_err(|error| why(&error))?;
        session.read_response_header().await.map_err(|error| why(&error))?;
        let head = session.response_header().ok_or("no answer")?;
        if head.status != 200 {
            return Err(format!("status {}", head.status.as_u16()));
        }
        call_failed(&head.headers)?;
        let body = whole(&mut session).await?;
        if let Some(trailers) = session.read_trailers().await.map_err(|error| why(&error))? {
            call_failed(&trailers)?;
        }
        verdict(&body)
    }
}

fn request(peer: &HttpPeer, host: &str) -> Result<RequestHeader, String> {
    let scheme = if peer.is_tls() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(METHOD).build();
    let wrong = |error: Box<pingora_error::Error>| why(&error);
    let mut request = RequestHeader::build("POST", METHOD.as_bytes(), Some(4)).map_err(wrong)?;
    request.set_uri(uri.map_err(|error| format!("host `{host}`: {error}"))?);
    request.set_version(http::Version::HTTP_2);
    let agent = HeaderValue::from_static(concat!("yumen/", env!("CARGO_PKG_VERSION"), " (health)"));
    request.insert_header(USER_AGENT, agent).map_err(wrong)?;
    request.insert_header(CONTENT_TYPE, "application/grpc").map_err(wrong)?;
    request.insert_header(TE, "trailers").map_err(wrong)?;
    Ok(request)
}

async fn whole(session: &mut Http2Session) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(part) = session.read_response_body().await.map_err(|error| why(&error))? {
        body.extend_from_slice(&part);
        if body.len() > LONGEST {
            return Err("an answer that is no health".to_owned());
        }
    }
    Ok(body)
}

/// What the call itself came to, if that is not `ok`.
fn call_failed(fields: &HeaderMap) -> Result<(), String> {
    match fields.get("grpc-status").map(HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(b"5") => Err("the target knows no such service (grpc-status 5)".to_owned()),
        Some(b"12") => Err("the target does not offer grpc.health.v1 (grpc-status 12)".to_owned()),
        Some(other) => {
            Err(format!("grpc-status {}", String::from_utf8_lossy(other).chars().take(20).collect::<String>()))
        }
    }
}

/// A `HealthCheckRequest` of this service in its frame.
fn message(service: &str) -> Bytes {
    let mut text = Vec::new();
    if !service.is_empty() {
        text.push(0x0a);
        let mut left = service.len();
        while left >= 0x80 {
            text.push(u8::try_from(left & 0x7f).unwrap_or_default() | 0x80);
            left >>= 7;
        }
        text.push(u8::try_from(left).unwrap_or_default());
        text.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], &text].concat().into()
}

/// What a `HealthCheckResponse` in its frame says.
fn verdict(body: &[u8]) -> Result<(), String> {
    let odd = || "an answer that is no health".to_owned();
    let Some(([0, length @ ..], text)) = body.split_first_chunk::<5>() else { return Err(odd()) };
    if usize::try_from(u32::from_be_bytes(*length)).ok() != Some(text.len()) {
        return Err(odd());
    }
    match status(text).ok_or_else(odd)? {
        0 => Err("UNKNOWN".to_owned()),
        1 => Ok(()),
        2 => Err("NOT_SERVING".to_owned()),
        3 => Err("SERVICE_UNKNOWN".to_owned()),
        other => Err(format!("serving status {other}")),
    }
}

/// The first field of the message, which is 0 unless it is said; others are passed over.
fn status(mut text: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !text.is_empty() {
        let (tag, rest) = varint(text)?;
        text = match tag & 7 {
            0 => {
                let (value, rest) = varint(rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                rest
            }
            1 => rest.get(8..)?,
            2 => {
                let (length, rest) = varint(rest)?;
                rest.get(usize::try_from(length).ok()?..)?
            }
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    Some(status)
}

/// A number of seven bits a byte, the lowest first, and what follows it.
fn varint(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = text.split_at_checked(end + 1)?;
    let add = |sum: u64, byte: &u8| sum.checked_shl(7).map(|sum| sum | u64::from(byte & 0x7f));
    Some((number.iter().rev().try_fold(0, add)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_asked_for_by_its_name() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn only_serving_is_well() {
        let said = |text: &[u8]| {
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            verdict(&[&[0], &length[..], text].concat())
        };
        assert_eq!(said(&[8, 1]), Ok(()));
        assert_eq!(
            said(&[18, 2, 9, 9, 8, 1, 33, 1, 2, 3, 4, 5, 6, 7, 8, 45, 1, 2, 3, 4]),
            Ok(()),
            "others are passed over"
        );
        for (text, why) in [
            (&[][..], "UNKNOWN"),
            (&[8, 0], "UNKNOWN"),
            (&[8, 2], "NOT_SERVING"),
            (&[8, 3], "SERVICE_UNKNOWN"),
            (&[8, 0xac, 2], "serving status 300"),
            (&[8], "an answer that is no health"),
            (&[18, 9, 1], "an answer that is no health"),
            (&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "an answer that is no health"),
        ] {
            assert_eq!(said(text).unwrap_err(), why, "{text:?}");
        }
        for body in [&b""[..], &[0, 0, 0, 0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 9, 8, 1]] {
            assert!(verdict(body).is_err(), "{body:?}");
        }
    }
}
