//! One batch over gRPC: the call `TraceService/Export` on HTTP/2, framed as gRPC frames it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri, Version};
use pingora::protocols::http::v2::client::Http2Session;
use pingora_http::RequestHeader;
use prost::Message;

use super::verdict::{Again, Refused, Taken, short, taken};
use crate::client::service::Service;

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// No answer is longer.
const LONGEST: usize = 64 << 10;

/// Sends a batch and says what became of it; the receiver is told that nobody waits for longer than `deadline`.
pub(super) async fn send(
    service: &Service,
    fields: &HeaderMap,
    message: &[u8],
    deadline: Duration,
) -> Result<Taken, Refused> {
    let head = head(service, fields, deadline).map_err(Refused::for_good)?;
    let (mut session, address) = service.open_h2().await.map_err(Refused::lost)?;
    let answer = ask(&mut session, head, framed(message)).await.map_err(Refused::lost)?;
    service.keep_h2(session, address).await;
    judge(&answer)
}

/// What was answered: the status of HTTP, the fields that end the call, the message.
struct Answer {
    status: u16,
    end: HeaderMap,
    body: Vec<u8>,
}

async fn ask(session: &mut Http2Session, head: RequestHeader, body: Bytes) -> Result<Answer, String> {
    let wrong = |why: Box<pingora_error::Error>| why.etype().as_str().to_owned();
    session.write_request_header(Box::new(head), false).map_err(wrong)?;
    session.write_request_body(body, true).await.map_err(wrong)?;
    session.read_response_header().await.map_err(wrong)?;
    let head = session.response_header().ok_or("no answer")?;
    let (status, mut end) = (head.status.as_u16(), head.headers.clone());
    let mut body = Vec::new();
    while let Some(piece) = session.read_response_body().await.map_err(wrong)? {
        body.extend_from_slice(&piece);
        if body.len() > LONGEST {
            return Err(format!("more than {LONGEST} bytes"));
        }
    }
    // A call that ends with its head has no trailers.
    if !end.contains_key("grpc-status")
        && let Some(trailers) = session.read_trailers().await.map_err(wrong)?
    {
        end.extend(trailers);
    }
    Ok(Answer { status, end, body })
}

fn head(service: &Service, fields: &HeaderMap, deadline: Duration) -> Result<RequestHeader, String> {
    let url = service.url();
    let scheme = if url.tls { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(&*url.authority).path_and_query(METHOD).build();
    let wrong = |why: Box<pingora_error::Error>| why.etype().as_str().to_owned();
    let mut head = RequestHeader::build("POST", METHOD.as_bytes(), Some(5 + fields.len())).map_err(wrong)?;
    head.set_uri(uri.map_err(|why| format!("{url}: {why}"))?);
    head.set_version(Version::HTTP_2);
    let wait = HeaderValue::try_from(format!("{}m", deadline.as_millis().min(99_999_999)));
    let ours = [
        (USER_AGENT, HeaderValue::from_static(concat!("yumen/", env!("CARGO_PKG_VERSION")))),
        (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (TE, HeaderValue::from_static("trailers")),
        (http::HeaderName::from_static("grpc-timeout"), wait.map_err(|why| why.to_string())?),
    ];
    for (name, value) in ours {
        head.insert_header(name, value).map_err(wrong)?;
    }
    for (name, value) in fields {
        head.append_header(name, value).map_err(wrong)?;
    }
    Ok(head)
}

/// One message, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// Which ends of a call may change if we ask again: OTLP 1.10, "Failures".
fn judge(answer: &Answer) -> Result<Taken, Refused> {
    if answer.status != 200 {
        let why = format!("answered {}", answer.status);
        let again = if matches!(answer.status, 429 | 502 | 503 | 504) { Again::Soon } else { Again::Never };
        return Err(Refused { why, again });
    }
    let said = |name: &str| answer.end.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = said("grpc-status").and_then(|code| code.parse::<u16>().ok()) else {
        return Err(Refused::lost("broke off without a grpc-status"));
    };
    let why =
        || format!("grpc-status {code} {}", short(said("grpc-message").unwrap_or_default())).trim_end().to_owned();
    match code {
        0 => Ok(taken(answer.body.get(5..).unwrap_or_default())),
        1 | 4 | 10 | 11 | 14 | 15 => Err(Refused { why: why(), again: retry_info(&answer.end).into() }),
        // Out of room: only where it says when there will be some.
        8 => Err(Refused { why: why(), again: retry_info(&answer.end).map_or(Again::Never, Again::In) }),
        _ => Err(Refused::for_good(why())),
    }
}

/// `google.rpc.Status`, as far as we read it.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// When the receiver wants to be asked again, if it says so.
fn retry_info(end: &HeaderMap) -> Option<Duration> {
    let text = end.get("grpc-status-details-bin")?.as_bytes();
    let details = STANDARD_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok()?;
    let status = Status::decode(&*details).ok()?;
    let info = status.details.iter().find(|detail| detail.kind.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u16, fields: &[(&'static str, String)]) -> Answer {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Answer { status, end: fields.collect(), body: Vec::new() }
    }

    fn details(seconds: i64, nanos: i32) -> String {
        let value = RetryInfo { delay: Some(Delay { seconds, nanos }) }.encode_to_vec();
        let kind = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
        STANDARD_NO_PAD.encode(Status { details: vec![Detail { kind, value }] }.encode_to_vec())
    }

    #[test]
    fn what_may_help_is_tried_again_when_the_receiver_wants_it() {
        let wait = Duration::from_millis(1500);
        for (code, info, again) in [
            (14, None, Again::Soon),
            (14, Some(details(1, 500_000_000)), Again::In(wait)),
            (8, Some(details(1, 500_000_000)), Again::In(wait)),
            (8, None, Again::Never),
            (8, Some("no details".to_owned()), Again::Never),
            (14, Some(details(-1, 0)), Again::Soon),
            (3, None, Again::Never),
            (16, None, Again::Never),
        ] {
            let info = info.map(|info| ("grpc-status-details-bin", info));
            let fields: Vec<_> = [("grpc-status", code.to_string())].into_iter().chain(info).collect();
            let refused = judge(&ended(200, &fields)).unwrap_err();
            assert_eq!((refused.again, refused.why), (again, format!("grpc-status {code}")), "{code}");
        }
        assert!(judge(&ended(200, &[("grpc-status", "0".to_owned())])).is_ok());
        assert_eq!(judge(&ended(200, &[])).unwrap_err().again, Again::Soon);
        assert_eq!(judge(&ended(503, &[])).unwrap_err().again, Again::Soon);
        assert_eq!(judge(&ended(404, &[])).unwrap_err().again, Again::Never);
    }

    #[test]
    fn a_message_is_framed_by_its_length() {
        assert_eq!(&framed(&[7; 300])[..6], [0, 0, 0, 1, 44, 7]);
    }
}
