//! A target is asked for a WebSocket, on a connection of its own: its answer's head, and what comes behind.

use std::time::Duration;

use futures_util::FutureExt;
use http::StatusCode;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, timeout, timeout_at};

use crate::fault::Fault;
use crate::pool::Picked;
use crate::pool::timeout::Config as Timeouts;

/// Informational answers before the answer, at most.
const MOST_INFORMED: usize = 16;

/// How long the target may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    connect: Option<Duration>,
    /// To the head of its answer.
    head: Duration,
    try_ends: Option<Instant>,
    idle: Duration,
    write: Duration,
}

impl Patience {
    /// `end` is when the request has to be answered.
    pub(super) fn new(timeouts: &Timeouts, end: Option<std::time::Instant>) -> Self {
        let now = Instant::now();
        let per_try = timeouts.per_try.map(|limit| now + limit.get());
        Self {
            connect: end.map(|end| end.saturating_duration_since(now.into())),
            head: timeouts.head().get(),
            try_ends: per_try.into_iter().chain(end.map(Instant::from)).min(),
            idle: timeouts.idle.get(),
            write: timeouts.write.get(),
        }
    }

    fn head_until(&self) -> Instant {
        let until = Instant::now() + self.head;
        self.try_ends.map_or(until, |ends| ends.min(until))
    }
}

/// A target that has answered.
pub(super) struct Answering {
    session: HttpSession,
}

/// Opens a connection.
pub(super) async fn connect(
    connector: &TransportConnector,
    picked: &Picked,
    timeouts: &Timeouts,
    patience: Patience,
) -> Result<Stream> {
    let peer = picked.tunnel(timeouts, patience.connect);
    let open = connector.new_stream(&peer);
    let opened = match patience.try_ends {
        Some(until) => timeout_at(until, open).await.unwrap_or_else(|_| Err(Fault::UpstreamConnectTimeout.into())),
        None => open.await,
    };
    opened.map_err(Error::into_up)
}

/// Sends the request and reads the head of the answer; nothing of the client goes with it.
pub(super) async fn ask(
    stream: Stream,
    request: RequestHeader,
    patience: Patience,
) -> Result<(Answering, ResponseHeader)> {
    let mut session = HttpSession::new(stream);
    session.write_timeout = Some(patience.write);
    session.read_timeout = Some(patience.idle);
    match timeout_at(patience.head_until(), exchange(&mut session, request)).await {
        Ok(Ok(head)) => Ok((Answering { session }, head)),
        Ok(Err(why)) => Err(why.into_up()),
        Err(_) => Err(Fault::UpstreamTimeoutFirstByte.into()),
    }
}

async fn exchange(session: &mut HttpSession, request: RequestHeader) -> Result<ResponseHeader> {
    session.write_request_header(Box::new(request)).await?;
    for _ in 0..=MOST_INFORMED {
        let head = session.read_resp_header_parts().await?;
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(*head);
        }
    }
    Err(Fault::UpstreamProtocol.into())
}

impl Answering {
    /// The next piece of its answer.
    pub(super) async fn piece(&mut self, patience: Patience) -> Result<Option<bytes::Bytes>> {
        match timeout(patience.idle, self.session.read_body_bytes()).await {
            Ok(piece) => piece.map_err(Error::into_up),
            Err(_) => Err(Fault::UpstreamTimeoutIdle.into()),
        }
    }

    /// Its connection, and what came right behind the head.
    pub(super) fn switch(mut self) -> (Stream, Vec<u8>) {
        let first = self.session.read_body_bytes().now_or_never();
        let first = first.and_then(Result::ok).flatten().unwrap_or_default();
        (self.session.into_inner(), first.to_vec())
    }
}
