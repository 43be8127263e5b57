//! A request becomes a tunnel: its connection leaves Pingora, and what is told at the end is all that is kept of it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::closing::Closing;
use super::frame::Frames;
use super::handshake;
use super::lane::Lane;
use super::target::Answering;
use super::tunnel::{End, Tunnel};
use super::watch::{Limits, Watch};
use crate::deadline::Deadline;
use crate::fault::Fault;
use crate::listener::{Client, Successor};
use crate::policy::websocket::Recheck;
use crate::pool::Pool;
use crate::proxy::ctx::Ctx;
use crate::proxy::finish::{self, Story};
use crate::proxy::{response, time};
use crate::route::Route;
use crate::snapshot::Live;
use crate::telemetry::access;
use crate::telemetry::metrics::Tunnelled;
use crate::units::Name;

/// What a tunnel begins with, and what it tells at its end.
struct Handover {
    live: Arc<Live>,
    ctx: Box<Ctx>,
    request: RequestHeader,
    route: Name,
    pool: Option<Name>,
    /// Where a receiver of traces is told of it.
    pattern: Option<String>,
    query: Option<Box<str>>,
    counted: Option<Arc<crate::telemetry::metrics::RouteMetrics>>,
    tunnelled: Option<Tunnelled>,
    /// From the request to the 101, and what of it the target took.
    took: (Duration, Duration),
    head: Vec<u8>,
    answering: Answering,
    up: Frames,
    down: Frames,
    strict: bool,
    limits: Limits,
    write: Duration,
}

/// Leaves the tunnel for whoever gets the connection back.
pub(super) fn hand_over(
    live: &Arc<Live>,
    session: &mut Session,
    ctx: &mut Box<Ctx>,
    answering: Answering,
    mut head: ResponseHeader,
) -> Result<bool> {
    response::forwarded(session, &mut head, ctx)?;
    let mut ctx = std::mem::take(ctx);
    let (Some(route), Some(connection)) = (ctx.route.take(), ctx.connection.clone()) else {
        return Err(Fault::GatewayInternal.into());
    };
    let took = finish::times(&ctx);
    settle(&mut ctx, took.1);
    let counted = route.counted.through(&connection.listener.name).cloned();
    let reserved = handshake::reserved(&head.headers);
    let kept = route.websocket.as_deref();
    let most = kept.and_then(|kept| kept.max_message);
    let timeouts = ctx.picked.as_ref().map(|picked| picked.timeouts(route.timeout.as_ref()).into_owned());
    let timeouts = timeouts.unwrap_or_default();
    let handover = Handover {
        live: live.clone(),
        request: what_is_told(session.req_header()),
        route: route.name.clone(),
        pool: ctx.pool.take().map(|pool| pool.name().clone()),
        pattern: ctx.trace.is_told().then(|| route.pattern()),
        query: finish::query(session.req_header(), Some(&route)).map(Into::into),
        tunnelled: counted.as_ref().map(|counted| counted.websockets().open()),
        counted,
        took,
        head: rendered(&head),
        answering,
        up: Frames::new(true, reserved, most),
        down: Frames::new(false, reserved, most),
        strict: kept.is_some(),
        limits: limits(&route, &ctx, timeouts.idle.get()),
        write: timeouts.write.get(),
        ctx,
    };
    connection.hand_over(Box::new(handover));
    // Pingora gives back what it believes to be ready for another request.
    session.set_keepalive(Some(60));
    session.set_keepalive_reuses_remaining(None);
    Ok(true)
}

/// The target has done what it was asked for: what it may do later is another matter.
fn settle(ctx: &mut Ctx, upstream: Duration) {
    if let Some(picked) = &mut ctx.picked {
        picked.record(None, 101);
    }
    if let Some(counted) = ctx.pool.as_deref().and_then(Pool::counted) {
        counted.count(Some(101), upstream.as_secs_f64());
    }
    ctx.tried = Vec::new();
    if !ctx.trace.is_told() {
        ctx.past = Vec::new();
    }
    ctx.params = crate::route::Params::default();
    if let Some(found) = &mut ctx.found {
        found.forward = Vec::new();
        found.answer = Vec::new();
        found.identity.claims = None;
        found.identity.attributes = None;
    }
}

fn limits(route: &Route, ctx: &Ctx, idle: Duration) -> Limits {
    let kept = route.websocket.as_deref();
    let rechecks = kept.is_none_or(|kept| kept.recheck == Recheck::Expiry);
    let ends = ctx.found.as_ref().and_then(|found| found.identity.ends).filter(|_| rechecks);
    let left = ends.map(|ends| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        Duration::try_from_secs_f64((ends - now).max(0.0)).unwrap_or(time::FOREVER).min(time::FOREVER)
    });
    Limits {
        idle: kept.and_then(|kept| kept.idle).unwrap_or(idle),
        ping: kept.and_then(|kept| kept.ping),
        expires: left.map(|left| Instant::now() + left),
    }
}

/// The part of a request that its line tells of, without the buffers that it was read into.
fn what_is_told(request: &RequestHeader) -> RequestHeader {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = request.method.clone();
    parts.version = request.version;
    parts.uri = request.uri.path().parse().unwrap_or_default();
    for name in [header::USER_AGENT, header::REFERER] {
        let copy = request.headers.get(&name).and_then(|said| header::HeaderValue::from_bytes(said.as_bytes()).ok());
        if let Some(copy) = copy {
            parts.headers.insert(name, copy);
        }
    }
    RequestHeader::from(parts)
}

/// A 101 as bytes; nothing in it may say how long it is.
fn rendered(head: &ResponseHeader) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in &head.headers {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

impl Successor for Handover {
    fn serve(self: Box<Self>, client: Client) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.run(client))
    }
}

impl Handover {
    async fn run(self: Box<Self>, mut client: Client) {
        let Self { live, mut ctx, request, route, pool, pattern, query, counted, tunnelled, took, .. } = *self;
        let (head, answering, limits, write) = (self.head, self.answering, self.limits, self.write);
        let Some(connection) = ctx.connection.clone() else { return };
        let (target, first) = answering.switch();
        let sent = async {
            client.write_all(&head).await?;
            client.flush().await
        };
        // A client that has gone meanwhile shows when it is read from.
        let _ = sent.await;
        drop(head);
        let mut tunnel = Tunnel {
            client,
            target,
            up: Lane::new(self.up, self.strict, Vec::new()),
            down: Lane::new(self.down, self.strict, first),
            watch: Watch::new(limits, Instant::now()),
            closing: Closing::new(live.clone(), connection.closing.clone()),
            counted: counted.as_ref().map(|counted| counted.websockets().clone()),
            write,
            timer: Deadline::default(),
            word: None,
            end: None,
            told: [0; 4],
        };
        let End { by, code, fault, why } = tunnel.run().await;
        if let Some(counted) = &tunnel.counted {
            counted.closed(code, by);
        }
        drop(tunnelled);
        ctx.fault = fault;
        ctx.why = why.map(str::to_owned);
        let story = Story {
            request: &request,
            connection: &connection,
            route: Some(route.as_str()),
            whole: (None, None),
            pool: pool.as_ref().map(Name::as_str),
            pattern: pattern.as_deref(),
            query: query.as_deref().map(Into::into),
            counted: counted.as_deref(),
            pool_counted: None,
            status: 101,
            bytes_in: tunnel.up.bytes,
            bytes_out: tunnel.down.bytes,
            took,
            tunnel: Some(access::Tunnel {
                close_code: code,
                closed_by: by.word(),
                messages_in: tunnel.up.messages(),
                messages_out: tunnel.down.messages(),
            }),
        };
        finish::tell(&live, &live.load(), &story, &mut ctx);
    }
}
