//! One message to its pool: what its answer means for the message.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use pingora_http::{RequestHeader, ResponseHeader};

use super::queue::Entry;
use super::tray::Outcome;
use crate::pool::Pool;
use crate::pool::call::{Body, Call};
use crate::units::Name;

/// What of an answer is read, for the sake of its connection.
const MOST_ANSWER: usize = 1 << 20;

/// Sends a message, by all the rules of its pool.
pub(super) async fn send(forward: &Name, pool: Arc<Pool>, head: RequestHeader, entry: &Entry) -> Outcome {
    let mut call = Call::new(pool, head);
    call.body = Body::Whole(entry.payload.clone());
    let answering = match call.open().await {
        Ok(answering) => answering,
        Err(failed) => {
            log::debug!("forward {forward}: {} is not delivered: {failed:?}", entry.id);
            return Outcome::Again(failed.wait);
        }
    };
    // What a pool answers while no target takes requests is no delivery.
    if answering.tries().is_empty() {
        return Outcome::Again(None);
    }
    let outcome = judge(answering.head());
    if let Err(why) = answering.whole(MOST_ANSWER).await {
        log::debug!("forward {forward}: the answer to {} broke off: {why:?}", entry.id);
    }
    outcome
}

/// 2xx has taken it, and any other 4xx than 408 and 429 never will.
fn judge(head: &ResponseHeader) -> Outcome {
    match head.status.as_u16() {
        200..=299 => Outcome::Delivered,
        408 | 429 | 503 => Outcome::Again(told(head)),
        status @ 400..=499 => Outcome::Dead(status),
        _ => Outcome::Again(None),
    }
}

fn told(head: &ResponseHeader) -> Option<Duration> {
    head.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_becomes_of_the_message() {
        let of = |status: u16| {
            let mut head = ResponseHeader::build(status, None).unwrap();
            head.insert_header(header::RETRY_AFTER, "7").unwrap();
            judge(&head)
        };
        let wait = Outcome::Again(Some(Duration::from_secs(7)));
        for (status, outcome) in [
            (200, Outcome::Delivered),
            (204, Outcome::Delivered),
            (302, Outcome::Again(None)),
            (400, Outcome::Dead(400)),
            (422, Outcome::Dead(422)),
            (408, wait),
            (429, wait),
            (500, Outcome::Again(None)),
            (503, wait),
        ] {
            assert_eq!(of(status), outcome, "{status}");
        }
    }
}
