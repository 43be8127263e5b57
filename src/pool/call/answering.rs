//! The answer to a call, as a whole or piece by piece.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use pingora_error::Error;
use pingora_http::ResponseHeader;

use super::attempt::Attempt;
use super::exchange::Exchange;
use super::running::Clock;
use super::{Failed, Tried};
use crate::fault::Fault;
use crate::pool::{fallback, lost};

/// An answer whose head is here. Dropped before its end, it ends the call.
pub struct Answering {
    head: ResponseHeader,
    trailers: Option<HeaderMap>,
    /// The tries before the one that answered; once that has ended, all of them.
    tries: Vec<Tried>,
    source: Source,
}

/// Where the body comes from.
enum Source {
    Live(Box<Live>),
    Ready(Bytes),
    Ended,
}

pub(super) struct Live {
    pub(super) exchange: Exchange,
    pub(super) attempt: Attempt,
    pub(super) clock: Clock,
}

/// An answer that is here as a whole.
pub struct Answer {
    pub head: ResponseHeader,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    pub tries: Vec<Tried>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }
}

impl Answering {
    pub(super) fn live(head: ResponseHeader, live: Live, tries: Vec<Tried>) -> Self {
        Self { head, trailers: None, tries, source: Source::Live(Box::new(live)) }
    }

    /// What a pool answers while no target takes requests.
    pub(super) fn instead(answer: &fallback::Answer) -> Result<Self, Box<Error>> {
        let mut head = ResponseHeader::build(answer.status, Some(1))?;
        if let Some(kind) = &answer.kind {
            head.insert_header(header::CONTENT_TYPE, kind.clone())?;
        }
        Ok(Self { head, trailers: None, tries: Vec::new(), source: Source::Ready(answer.body.clone()) })
    }

    pub fn head(&self) -> &ResponseHeader {
        &self.head
    }

    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Every try so far, the one that answered among them.
    pub fn tries(&self) -> Vec<Tried> {
        let mut tries = self.tries.clone();
        if let Source::Live(live) = &self.source {
            tries.push(live.attempt.tried(None));
        }
        tries
    }

    /// The next piece, never empty; nothing at the end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Failed> {
        match &mut self.source {
            Source::Live(live) => {
                let next = match live.exchange.piece().await {
                    Ok(None) => live.exchange.trailers().await.map(|trailers| {
                        self.trailers = trailers;
                        None
                    }),
                    next => next,
                };
                match next {
                    Ok(Some(piece)) => Ok(Some(piece)),
                    Ok(None) => {
                        self.end().await;
                        Ok(None)
                    }
                    Err(why) => Err(self.broke(&why)),
                }
            }
            Source::Ready(body) => {
                let body = std::mem::take(body);
                self.source = Source::Ended;
                Ok(Some(body).filter(|body| !body.is_empty()))
            }
            Source::Ended => Ok(None),
        }
    }

    /// The fields behind the last piece, once that was read; only by HTTP/2.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The rest as a whole; one of more than `most` bytes is given up.
    pub async fn whole(mut self, most: usize) -> Result<Answer, Failed> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > most {
                return Err(self.too_large(most));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { head: self.head, body: body.freeze(), trailers: self.trailers, tries: self.tries })
    }

    /// Nobody needs the rest: the target did what it was asked for.
    pub fn leave(mut self) {
        self.let_go();
    }

    fn let_go(&mut self) {
        if let Source::Live(mut live) = std::mem::replace(&mut self.source, Source::Ended) {
            live.attempt.end(None);
            self.tries.push(live.attempt.tried(None));
        }
    }

    async fn end(&mut self) {
        let Source::Live(live) = std::mem::replace(&mut self.source, Source::Ended) else { return };
        let Live { exchange, mut attempt, .. } = *live;
        attempt.end(None);
        self.tries.push(attempt.tried(None));
        Box::pin(exchange.release(attempt.picked.keep())).await;
    }

    /// It has broken off.
    fn broke(&mut self, why: &Error) -> Failed {
        let mut fault = lost::fault_of(why, true, false);
        if let Source::Live(live) = std::mem::replace(&mut self.source, Source::Ended) {
            let Live { mut attempt, clock, .. } = *live;
            fault = clock.told(fault);
            attempt.end(Some(clock.blamed(fault, true)));
            self.tries.push(attempt.tried(Some(fault)));
        }
        self.failed(fault, lost::why(why).unwrap_or_else(|| "in the middle of the answer".to_owned()))
    }

    fn too_large(&mut self, most: usize) -> Failed {
        self.let_go();
        self.failed(Fault::UpstreamTooLarge, format!("an answer of more than {most} bytes"))
    }

    fn failed(&mut self, fault: Fault, why: String) -> Failed {
        Failed { fault, why, wait: None, tries: std::mem::take(&mut self.tries), not_retried: None }
    }
}
