//! HTTP/1: wait for a head, check it, let Pingora serve the request, take the connection back.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora::apps::{HttpPersistentSettings, HttpServerApp};
use pingora::protocols::http::ServerSession;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::head::{self, PREFACE};
use super::{Body, Conn};
use crate::fault::Fault;
use crate::gateway::listen::{Door, Seen};

/// How the wait for a request ended.
enum Next {
    Request,
    /// The client speaks HTTP/2 without having been asked.
    Preface,
    Refused(Fault),
    /// The client left, rested too long, or we are closing.
    Over,
}

/// The wait for one head.
struct Wait {
    /// When the client must have begun; it may be told off silently until then.
    begin: Instant,
    /// When the head must be whole, once it has begun.
    end: Option<Instant>,
    /// When the client must have begun because its socket has closed.
    leave: Option<Instant>,
    /// How much of the inbox was looked at.
    seen: usize,
    /// Whether an HTTP/2 preface may come.
    preface: bool,
}

/// Serves requests until the connection ends; gives it back if the client turns out to speak HTTP/2.
pub(in crate::gateway) async fn serve<A>(
    mut conn: Box<Conn>,
    app: &Arc<A>,
    door: &Arc<dyn Door>,
    shutdown: &watch::Receiver<bool>,
) -> Option<Box<Conn>>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let listener = conn.connection().listener.clone();
    let mut closing = pin!(closed(shutdown.clone()));
    let mut settings: Option<HttpPersistentSettings> = None;
    let mut leave = None;
    for served in 1..=listener.limits.requests {
        // The first request of a connection must come soon: whoever connects has something to say.
        let rest = if served == 1 { listener.timeout.head } else { listener.timeout.idle };
        // Under TLS a client says so beforehand, by ALPN (RFC 9113 section 3.2).
        let preface = served == 1 && listener.h2 && conn.connection().tls.is_none();
        let mut wait = Wait { begin: Instant::now() + rest.get(), end: None, leave, seen: 0, preface };
        let next = poll_fn(|cx| conn.poll_next(cx, &mut wait, closing.as_mut(), door)).await;
        leave = wait.leave;
        match next {
            Next::Request => {}
            Next::Preface => return Some(conn),
            Next::Refused(fault) => {
                Box::pin(refuse(conn, fault, door)).await;
                return None;
            }
            Next::Over => {
                conn.goodbye().await;
                return None;
            }
        }
        let mut session = ServerSession::new_http1(conn);
        if let Some(settings) = settings.take() {
            settings.apply_to_session(&mut session);
        }
        if served == listener.limits.requests || *shutdown.borrow() {
            session.set_keepalive_reuses_remaining(Some(0));
        }
        let (stream, kept) = app.process_new_http(session, shutdown).await?.consume();
        settings = kept;
        conn = stream.into_any().downcast().ok()?;
        if conn.out.may_switch()
            && let Some(successor) = conn.connection().successor()
        {
            successor.serve(conn).await;
            return None;
        }
        if !conn.is_reusable() {
            return None;
        }
    }
    None
}

/// Ends when the listener closes.
async fn closed(mut shutdown: watch::Receiver<bool>) {
    // Without a sender there is nobody left to close for.
    let _ = shutdown.wait_for(|closing| *closing).await;
}

impl Conn {
    /// Under TLS an end without a word looks like an attack.
    async fn goodbye(&mut self) {
        if self.connection().tls.is_some() && !self.eof {
            // The client may be gone already.
            let _ = self.shutdown().await;
        }
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        wait: &mut Wait,
        closing: Pin<&mut impl Future<Output = ()>>,
        door: &Arc<dyn Door>,
    ) -> Poll<Next> {
        loop {
            if let Some(next) = self.look(wait) {
                return Poll::Ready(next);
            }
            if self.eof {
                return Poll::Ready(Next::Over);
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => self.eof = true,
                Poll::Pending => break,
            }
        }
        // A request may be on its way at this moment: it is waited for, and its answer says that it was the last.
        if wait.leave.is_none() && closing.poll(cx).is_ready() {
            wait.leave = Some(Instant::now() + door.goodbye());
        }
        let begin = wait.leave.map_or(wait.begin, |leave| leave.min(wait.begin));
        let late = self.reading.poll(cx, wait.end.unwrap_or(begin)).is_ready();
        match late {
            false => Poll::Pending,
            true if self.inbox.is_empty() => Poll::Ready(Next::Over),
            true => Poll::Ready(Next::Refused(Fault::RequestTimeout)),
        }
    }

    /// What the inbox holds: a head, something wrong, or not enough yet.
    fn look(&mut self, wait: &mut Wait) -> Option<Next> {
        if self.inbox.is_empty() {
            return None;
        }
        let listener = &self.facts.connection.listener;
        if wait.preface {
            let begins = self.inbox.iter().zip(PREFACE).all(|(got, said)| got == said);
            if begins && self.inbox.len() >= PREFACE.len() {
                return Some(Next::Preface);
            }
            wait.preface = begins;
        }
        if !listener.h1 && !wait.preface {
            return Some(Next::Over);
        }
        if wait.end.is_none() {
            // A first request was given its time when the connection came.
            wait.end = Some((Instant::now() + listener.timeout.head.get()).min(wait.begin));
        }
        if wait.preface {
            return None;
        }
        match head::read(&self.inbox, wait.seen, (&listener.limits).into()) {
            Ok(Some(head)) => {
                self.begin(head);
                Some(Next::Request)
            }
            Ok(None) => {
                wait.seen = self.inbox.len();
                None
            }
            Err(fault) => Some(Next::Refused(fault)),
        }
    }
}

/// Answers a head that was refused, and closes.
async fn refuse(mut conn: Box<Conn>, fault: Fault, door: &Arc<dyn Door>) {
    let answer = door.refuse(fault, &Seen { connection: conn.connection(), protocol: "HTTP/1.1", head: &conn.inbox });
    conn.out.expect_answer(false);
    conn.body = Body::Broken(fault);
    // The client may be gone already; what it still sends is read while the connection lingers.
    if conn.write_all(&answer).await.is_ok() {
        let _ = conn.flush().await;
    }
}
