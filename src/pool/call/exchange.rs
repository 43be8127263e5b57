//! One try on the wire: a connection, the head and the body of a call, and the answer piece by piece, each step in time.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request};
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, timeout_at};

use super::attempt::Attempt;
use super::sending::{self, Sending, beside};
use super::{Body, Spans};
use crate::fault::Fault;
use crate::pool::{lost, timeout};

/// How long a connection of a call may rest: shorter than most targets keep one.
pub(super) const REST: Duration = Duration::from_secs(4);
/// Informational answers before the answer, at most.
const MOST_INFORMED: u32 = 16;
/// Which try of a call it is, for the target.
const X_YUMEN_ATTEMPT: HeaderName = HeaderName::from_static("x-yumen-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// After a target took no more of the body: how long its answer may still take.
const LAST_WORD: Duration = Duration::from_secs(1);

thread_local! {
    /// Connections belong to the runtime that opened them, and each worker has its own.
    static CONNECTOR: OnceCell<Arc<Connector<()>>> = const { OnceCell::new() };
}

fn connector() -> Arc<Connector<()>> {
    CONNECTOR.with(|mine| Arc::clone(mine.get_or_init(|| Arc::new(Connector::new(None)))))
}

/// How long the steps of one try may take.
pub(super) struct Limits {
    timeouts: timeout::Config,
    /// When the head of the answer must be here.
    head: Option<Instant>,
    /// When all of it must be.
    end: Option<Instant>,
}

impl Limits {
    /// Those of a try that begins now.
    pub(super) fn new(timeouts: timeout::Config, end: Option<std::time::Instant>) -> Self {
        let end = end.map(Instant::from);
        let head = timeouts.per_try.map(|limit| Instant::now() + limit.get()).into_iter().chain(end).min();
        Self { timeouts, head, end }
    }

    /// What is left of the time to the head.
    fn left(&self) -> Option<Duration> {
        self.head.map(|until| until.saturating_duration_since(Instant::now()))
    }

    fn first_byte(&self, limit: Duration) -> Instant {
        let until = Instant::now() + limit;
        self.head.map_or(until, |head| head.min(until))
    }

    fn idle(&self) -> Instant {
        let until = Instant::now() + self.timeouts.idle.get();
        self.end.map_or(until, |end| end.min(until))
    }
}

/// What a try asks for.
pub(super) struct Ask<'a> {
    pub(super) head: &'a RequestHeader,
    pub(super) spans: Option<Spans>,
    /// The first one is 1.
    pub(super) number: usize,
    /// No connection that was used before.
    pub(super) fresh: bool,
}

/// A request whose answer has begun.
pub(super) struct Exchange {
    session: HttpSession,
    peer: HttpPeer,
    connector: Arc<Connector<()>>,
    limits: Limits,
    sending: Option<Sending>,
    /// The target did not take all of the request.
    cut: bool,
}

/// What `until` brings to an end is called `fault`.
async fn within<T>(until: Option<Instant>, fault: Fault, work: impl Future<Output = Result<T>>) -> Result<T> {
    match until {
        Some(until) => timeout_at(until, work).await.unwrap_or_else(|_| Err(fault.into())),
        None => work.await,
    }
}

/// An error that is the caller's own, who gave the body.
fn is_own(why: &Error) -> bool {
    lost::own(why).is_some()
}

impl Exchange {
    /// Connects, sends, and reads the head of the answer.
    pub(super) async fn open(
        ask: &Ask<'_>,
        body: &mut Body,
        limits: Limits,
        attempt: &mut Attempt,
    ) -> Result<(Self, ResponseHeader)> {
        let connector = connector();
        let mut peer = attempt.picked.aside(&limits.timeouts, limits.left());
        let group = peer.group_key;
        if ask.fresh {
            // Nobody keeps a connection under a name that nobody else has.
            peer.group_key = crate::pool::chance::any();
        }
        // In a box, as it is most of a call's room and is needed for a moment only.
        let open = Box::pin(connector.get_http_session(&peer));
        let (session, reused) = within(limits.head, Fault::UpstreamConnectTimeout, open).await?;
        attempt.connected(reused, session.as_http2().is_some());
        let mut one = Self { session, peer, connector, limits, sending: None, cut: false };
        let head = one.head(ask, body, attempt)?;
        let answer = one.ask(head, body.take(), attempt).await;
        if let Err(why) = &answer
            && *why.etype() == ErrorType::H2Downgrade
        {
            one.connector.prefer_h1(&one.peer);
        }
        if one.session.as_http1().is_some() {
            one.peer.group_key = group;
        }
        answer.map(|answer| (one, answer))
    }

    /// Whether others use its connection at the same time.
    pub(super) fn is_shared(&self) -> bool {
        self.session.as_http2().is_some()
    }

    /// What the caller wants to say, and what belongs to this connection and this try.
    fn head(&self, ask: &Ask<'_>, body: &Body, attempt: &Attempt) -> Result<RequestHeader> {
        let mut parts = ask.head.as_owned_parts();
        let fields = &mut parts.headers;
        for name in [header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::EXPECT, header::CONNECTION] {
            fields.remove(name);
        }
        if ask.number > 1 {
            fields.insert(X_YUMEN_ATTEMPT, ask.number.into());
            if let Some(spans) = ask.spans
                && fields.get(TRACEPARENT).is_some_and(|said| said.as_bytes() == spans.traceparent(1))
                && let Ok(own) = HeaderValue::from_bytes(&spans.traceparent(ask.number))
            {
                fields.insert(TRACEPARENT, own);
            }
        }
        if let Some(sticky) = attempt.picked.target().sticky() {
            sticky.hide(fields);
        }
        self.tell_time(&mut parts);
        let fields = &mut parts.headers;
        let asks = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        match body {
            Body::Whole(bytes) if asks || !bytes.is_empty() => {
                fields.insert(header::CONTENT_LENGTH, bytes.len().into());
            }
            Body::Pieces(_) if !self.is_shared() => {
                fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            _ => {}
        }
        let host = match fields.get(header::HOST) {
            Some(host) => host.clone(),
            None => HeaderValue::try_from(attempt.picked.authority()).map_err(|_| Fault::GatewayInternal)?,
        };
        if self.is_shared() {
            fields.remove(header::HOST);
            let scheme = if self.peer.tls() { "https" } else { "http" };
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
            let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target).build();
            parts.uri = uri.or_err(ErrorType::InvalidHTTPHeader, "a call by HTTP/2")?;
            parts.version = Version::HTTP_2;
        } else {
            fields.remove(header::TE);
            fields.insert(header::HOST, host);
            parts.version = Version::HTTP_11;
        }
        Ok(RequestHeader::from(parts))
    }

    /// The target hears how long it is waited for.
    fn tell_time(&self, parts: &mut request::Parts) {
        let Some(end) = self.limits.end else { return };
        let asked = self.limits.timeouts.deadline_header.as_ref().map(timeout::Field::name);
        let name = if timeout::is_grpc(&parts.headers) { Some(&timeout::GRPC_TIMEOUT) } else { asked };
        let left = end.saturating_duration_since(Instant::now());
        if let Some((name, left)) = name.and_then(|name| Some((name, timeout::told(name, left)?))) {
            parts.headers.insert(name, left);
        }
    }

    /// Sends the request, and waits for the head of the answer.
    async fn ask(&mut self, head: RequestHeader, body: Body, attempt: &mut Attempt) -> Result<ResponseHeader> {
        let (until, late) = (self.limits.head, Fault::UpstreamTimeoutFirstByte);
        let patience = self.limits.timeouts.write.get();
        let mut broke = None;
        match &mut self.session {
            HttpSession::H1(session) => {
                session.write_timeout = Some(patience);
                within(until, late, session.write_request_header(Box::new(head))).await?;
                broke = within(until, late, sending::by_h1(session, body)).await.err();
            }
            HttpSession::H2(session) => {
                session.write_request_header(Box::new(head), body.is_empty())?;
                if !body.is_empty() {
                    let to = session.take_request_body_writer();
                    self.sending = to.map(|to| sending::by_h2(to, body, patience));
                }
            }
            HttpSession::Custom(()) => return Err(Fault::GatewayInternal.into()),
        }
        if let Some(sending) = &mut self.sending {
            let read = within(until, late, self.session.read_response_header());
            tokio::select! {
                biased;
                read = read => {
                    read?;
                    return self.answer();
                }
                sent = sending => broke = sent.err(),
            }
            self.sending = None;
        }
        self.last_word(broke, attempt).await
    }

    /// The head of the answer, once the request is out; or of a target that has taken only some of it, because it knew
    /// enough.
    async fn last_word(&mut self, broke: Option<Box<Error>>, attempt: &mut Attempt) -> Result<ResponseHeader> {
        let Some(broke) = broke else {
            attempt.sent();
            return self.wait(self.limits.timeouts.head().get()).await;
        };
        self.cut = true;
        if is_own(&broke) {
            return Err(broke);
        }
        self.wait(LAST_WORD).await.map_err(|_| broke)
    }

    async fn wait(&mut self, limit: Duration) -> Result<ResponseHeader> {
        let until = Some(self.limits.first_byte(limit));
        for _ in 0..=MOST_INFORMED {
            within(until, Fault::UpstreamTimeoutFirstByte, self.session.read_response_header()).await?;
            let head = self.answer()?;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Fault::UpstreamUpgrade.into());
            }
            if self.is_shared() || !head.status.is_informational() {
                return Ok(head);
            }
        }
        Err(Fault::UpstreamProtocol.into())
    }

    fn answer(&self) -> Result<ResponseHeader> {
        self.session.response_header().cloned().ok_or_else(|| Fault::GatewayInternal.into())
    }

    /// The next piece of the answer; what is left of the request goes on going out.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            let read = within(Some(self.limits.idle()), Fault::UpstreamTimeoutIdle, self.session.read_response_body());
            let (piece, broke) = beside(&mut self.sending, read).await;
            if let Some(broke) = broke {
                self.cut = true;
                if is_own(&broke) {
                    return Err(broke);
                }
            }
            match piece? {
                Some(empty) if empty.is_empty() => {}
                piece => return Ok(piece),
            }
        }
    }

    /// What came behind the last piece.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>> {
        let until = Some(self.limits.idle());
        match &mut self.session {
            HttpSession::H2(session) => within(until, Fault::UpstreamTimeoutIdle, session.read_trailers()).await,
            _ => Ok(None),
        }
    }

    /// The answer was read to its end: its connection may serve again.
    pub(super) async fn release(mut self, keep: Duration) {
        if self.cut || self.sending.is_some() {
            return self.session.shutdown().await;
        }
        let keep = if self.is_shared() { keep } else { keep.min(REST) };
        self.connector.release_http_session(self.session, &self.peer, Some(keep)).await;
    }
}
