//! One batch over HTTP: a POST of protobuf.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method};

use super::verdict::{Refused, Taken, taken};
use crate::client::service::{Answer, Question, Service};

/// Sends a batch and says what became of it; nothing here ends by itself.
pub(super) async fn send(service: &Service, fields: &HeaderMap, message: &[u8]) -> Result<Taken, Refused> {
    let mut fields = fields.clone();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let question = Question { method: Method::POST, fields, body: message.to_vec() };
    judge(&service.ask(&question).await.map_err(Refused::lost)?)
}

/// Which answers may change if we ask again: OTLP 1.10, "Failures".
fn judge(answer: &Answer) -> Result<Taken, Refused> {
    let why = format!("answered {}", answer.status);
    match answer.status {
        200..=299 => Ok(taken(&answer.body)),
        429 | 502 | 503 | 504 => {
            let wanted = answer.fields.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            Err(Refused { why, again: wanted.map(Duration::from_secs).into() })
        }
        _ => Err(Refused::for_good(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Again;
    use super::*;

    fn answer(status: u16, wait: Option<&'static str>, body: &[u8]) -> Answer {
        let fields = wait.map(|wait| (RETRY_AFTER, HeaderValue::from_static(wait)));
        Answer { status, fields: fields.into_iter().collect(), body: body.to_vec() }
    }

    #[test]
    fn what_may_help_is_tried_again() {
        let taken = judge(&answer(200, None, &[])).unwrap();
        assert_eq!(taken.rejected, 0);
        // ExportTraceServiceResponse { partial_success: { rejected_spans: 3, error_message: "x" } }
        let taken = judge(&answer(200, None, &[10, 5, 8, 3, 18, 1, b'x'])).unwrap();
        assert_eq!((taken.rejected, taken.why.as_str()), (3, "x"));
        for (status, wait, again) in [
            (503, None, Again::Soon),
            (429, Some("7"), Again::In(Duration::from_secs(7))),
            (429, Some("soon"), Again::Soon),
            (400, Some("7"), Again::Never),
            (401, None, Again::Never),
            (500, None, Again::Never),
        ] {
            let refused = judge(&answer(status, wait, &[])).unwrap_err();
            assert_eq!((refused.again, refused.why), (again, format!("answered {status}")), "{status}");
        }
    }
}
