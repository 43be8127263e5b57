//! HTTP/2: one connection, many requests, bounded in every direction.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest, Stream};
use pingora_error::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Conn;
use super::frames::Meter;
use crate::deadline::Deadline;
use crate::fault::Fault;
use crate::gateway::listen::{Door, Seen};
use crate::listener::Listener;

type Connection = h2::server::Connection<Stream, Bytes>;

/// Malformed requests after which a connection is not worth having.
const MALFORMED: u32 = 32;
/// How long a client may take to answer our goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

fn options(listener: &Listener) -> H2Options {
    let limits = &listener.limits;
    let mut options = default_h2_options();
    options.max_concurrent_streams(limits.streams);
    options.max_header_list_size(u32::try_from(limits.head.bytes()).unwrap_or(u32::MAX));
    // Wide enough for an upload over a long line, narrow enough that what a client can make us hold stays small.
    options.initial_window_size(128 << 10);
    options.initial_connection_window_size(1 << 20);
    options.max_send_buffer_size(128 << 10);
    // Rapid resets, and requests that are wrong on purpose so that we reset them.
    options.max_concurrent_reset_streams(64);
    options.max_pending_accept_reset_streams(32);
    options.max_local_error_reset_streams(Some(256));
    options
}

/// Serves the streams of a connection until it ends.
pub(in crate::gateway) async fn serve<A>(
    mut conn: Box<Conn>,
    app: Arc<A>,
    door: &Arc<dyn Door>,
    shutdown: watch::Receiver<bool>,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let connection = conn.connection().clone();
    let listener = connection.listener.clone();
    let proxy_digest = conn.get_proxy_digest();
    let digest = Arc::new(Digest { proxy_digest, socket_digest: conn.get_socket_digest(), ..Digest::default() });
    let meter = Arc::new(Mutex::new(Meter::new()));
    conn.open();
    conn.frames = Some(meter.clone());
    let shaken = timeout(listener.timeout.handshake.get(), handshake(conn, Some(options(&listener)))).await;
    let Ok(Ok(mut h2)) = shaken else { return };

    let mut closing = shutdown.clone();
    let mut closing = pin!(async move { closing.wait_for(|closing| *closing).await.is_ok() });
    let mut watch = Watch::new(listener, meter);
    let mut served = 0;
    loop {
        let next = {
            let mut accept = pin!(HttpSession::from_h2_conn(&mut h2, digest.clone()));
            poll_fn(|cx| match accept.as_mut().poll(cx) {
                Poll::Ready(Ok(Some(H2Accept::Session(session)))) => Poll::Ready(Next::Session(Box::new(session))),
                Poll::Ready(Ok(Some(H2Accept::Rejected))) => Poll::Ready(Next::Malformed),
                Poll::Ready(Err(why)) if is_broken(&why) => Poll::Ready(Next::Broken),
                Poll::Ready(_) => Poll::Ready(Next::Over),
                Poll::Pending => watch.poll(cx, closing.as_mut()),
            })
            .await
        };
        match next {
            Next::Session(mut session) => {
                served += 1;
                session.set_write_timeout(Some(watch.listener.timeout.write.get()));
                let (app, shutdown, busy) = (app.clone(), shutdown.clone(), watch.activity.begin());
                tokio::spawn(async move {
                    app.process_new_http(ServerSession::new_http2(*session), &shutdown).await;
                    drop(busy);
                });
                if served >= watch.listener.limits.requests {
                    watch.leave(&mut h2);
                }
            }
            Next::Malformed => {
                tell(door, &connection);
                watch.malformed(&mut h2);
            }
            Next::Leave => watch.leave(&mut h2),
            Next::Abuse => watch.throw_out(&mut h2),
            Next::Broken => return tell(door, &connection),
            Next::Over => return,
        }
    }
}

/// Counts and logs a request that Pingora and its HTTP/2 have answered themselves: of what it was they tell nothing.
fn tell(door: &Arc<dyn Door>, connection: &Arc<crate::listener::Connection>) {
    drop(door.refuse(Fault::RequestMalformed, &Seen { connection, protocol: "HTTP/2", head: b"" }));
}

/// Whether the client broke the rules of HTTP/2, so that we have said goodbye to it.
fn is_broken(why: &Error) -> bool {
    let cause = why.cause.as_deref().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_library() && cause.reason() != Some(Reason::ENHANCE_YOUR_CALM))
}

enum Next {
    Session(Box<HttpSession>),
    /// A request was wrong and has been refused by the HTTP/2 layer.
    Malformed,
    /// The client broke the rules: the connection has ended.
    Broken,
    /// Say goodbye: the client rests too long, had its share, or we are closing.
    Leave,
    /// The client does what no client needs to.
    Abuse,
    Over,
}

/// What is kept an eye on while nothing happens.
struct Watch {
    listener: Arc<Listener>,
    meter: Arc<Mutex<Meter>>,
    activity: Arc<Activity>,
    resting: Deadline,
    heading: Deadline,
    malformed: u32,
    /// Since when a goodbye has been on its way.
    leaving: Option<Instant>,
    thrown_out: bool,
}

impl Watch {
    fn new(listener: Arc<Listener>, meter: Arc<Mutex<Meter>>) -> Self {
        Self {
            listener,
            meter,
            activity: Arc::new(Activity::new()),
            resting: Deadline::default(),
            heading: Deadline::default(),
            malformed: 0,
            leaving: None,
            thrown_out: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, closing: Pin<&mut impl Future<Output = bool>>) -> Poll<Next> {
        let (flood, open) = {
            let meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
            (meter.is_flood(), meter.open())
        };
        if !self.thrown_out {
            let head = self.listener.timeout.head.get();
            let late = open.is_some_and(|open| self.heading.poll(cx, open + head).is_ready());
            if flood || late {
                return Poll::Ready(Next::Abuse);
            }
        }
        if self.leaving.is_none() && closing.poll(cx).is_ready() {
            return Poll::Ready(Next::Leave);
        }
        // The first request must come soon: whoever connects has something to say.
        let timeout = &self.listener.timeout;
        let rest = if self.activity.is_new() { timeout.head } else { timeout.idle };
        let until = match self.leaving {
            Some(since) => self.activity.resting_since().max(since) + GOODBYE,
            None => self.activity.resting_since() + rest.get(),
        };
        if self.resting.poll(cx, until).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(if self.leaving.is_some() { Next::Over } else { Next::Leave })
    }

    fn leave(&mut self, h2: &mut Connection) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now());
            h2.graceful_shutdown();
        }
    }

    fn malformed(&mut self, h2: &mut Connection) {
        self.malformed += 1;
        if self.malformed >= MALFORMED {
            self.throw_out(h2);
        }
    }

    fn throw_out(&mut self, h2: &mut Connection) {
        if !self.thrown_out {
            log::info!("HTTP/2 connection ended: frames without use or heads without end");
            self.thrown_out = true;
            self.leaving = Some(Instant::now());
            h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }
}

/// Requests in flight, and since when there have been none.
struct Activity {
    start: Instant,
    running: AtomicUsize,
    /// Milliseconds after `start` at which the last request ended; 0 before the first.
    rested: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), running: AtomicUsize::new(0), rested: AtomicU64::new(0) }
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.running.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    fn is_new(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0 && self.rested.load(Ordering::Relaxed) == 0
    }

    fn resting_since(&self) -> Instant {
        if self.running.load(Ordering::Relaxed) > 0 {
            return Instant::now();
        }
        self.start + Duration::from_millis(self.rested.load(Ordering::Relaxed))
    }
}

/// One request in flight.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let rested = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.0.rested.store(rested, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
