//! The last phase of a request: its figures, its line in the access log, and a word to the operator if he must act.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::{Version, header};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::{again, gather, span, why};
use crate::exchange::{Found, Refusal};
use crate::fault::Fault;
use crate::listener::Connection;
use crate::policy::auth::source;
use crate::policy::guard::Guards;
use crate::pool::Pool;
use crate::route::Route;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::access::{Entry, Timings, Tunnel};
use crate::telemetry::metrics::{CacheResult, PoolMetrics, RouteMetrics};

/// What is told of a request, wherever it lies at its end.
pub(super) struct Story<'a> {
    pub(super) request: &'a RequestHeader,
    pub(super) connection: &'a Connection,
    pub(super) route: Option<&'a str>,
    pub(super) pool: Option<&'a str>,
    /// Both with all that they say; nothing where the request has outlived them.
    pub(super) whole: (Option<&'a Route>, Option<&'a Pool>),
    /// What the paths of its route have in common, where the route is not there to say so.
    pub(super) pattern: Option<&'a str>,
    pub(super) query: Option<Cow<'a, str>>,
    pub(super) counted: Option<&'a RouteMetrics>,
    /// Nothing where the pool was told already.
    pub(super) pool_counted: Option<&'a PoolMetrics>,
    pub(super) status: u16,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// The time that counts, and the part of it that was spent waiting for targets.
    pub(super) took: (Duration, Duration),
    pub(super) tunnel: Option<Tunnel<'a>>,
}

/// Tells of a request that ends with its session; of one that was handed over there is nothing to tell here.
pub(super) fn of_session(live: &Live, session: &Session, ctx: &mut Ctx) {
    again::end(ctx);
    let left = ctx.left().filter(|_| ctx.fault.is_some());
    if let Some(fault) = left {
        // The end of its connection was only how it learned that.
        ctx.fault = Some(fault);
        ctx.why = Some("the batch that it is a part of waited no longer".to_owned());
    }
    let Some(connection) = ctx.connection.take() else { return };
    let (route, pool, snapshot) = (ctx.route.take(), ctx.pool.take(), live.load());
    let (request, counted) = (session.req_header(), route.as_ref().map_or(&snapshot.nowhere, |route| &route.counted));
    let refresh = ctx.cached.as_ref().is_some_and(|cached| cached.is_refresh());
    let story = Story {
        request,
        connection: &connection,
        route: route.as_ref().map(|route| route.name.as_str()),
        pool: pool.as_ref().map(|pool| pool.name().as_str()),
        whole: (route.as_deref(), pool.as_deref()),
        pattern: None,
        query: query(request, route.as_deref()),
        counted: counted.through(&connection.listener.name).map(|counted| &**counted).filter(|_| !refresh),
        pool_counted: pool.as_deref().and_then(Pool::counted).filter(|_| !ctx.upstream.by_call),
        status: left.map_or_else(|| status(session, ctx.fault), Fault::status),
        bytes_in: session.body_bytes_read() as u64,
        bytes_out: session.body_bytes_sent() as u64,
        took: times(ctx),
        tunnel: None,
    };
    tell(live, &snapshot, &story, ctx);
}

/// Counts the request, writes its line, and says what went wrong on our side or the target's.
pub(super) fn tell(live: &Live, snapshot: &Snapshot, story: &Story<'_>, ctx: &mut Ctx) {
    count(story, ctx);
    if snapshot.access.is_on() && !ctx.cached.as_ref().is_some_and(|cached| cached.is_refresh()) {
        line(snapshot, story, ctx);
    }
    if ctx.fault.is_some() || story.status >= 500 {
        why::keep(live, snapshot, story, ctx);
    }
    if let Some(traces) = snapshot.traces.as_deref().filter(|_| ctx.trace.is_told()) {
        span::leave(traces, story, ctx);
    }
    if let Some(fault) = ctx.fault {
        say(fault, story, ctx);
    }
    ctx.tell_target(ctx.fault, story.status);
    ctx.picked = None;
}

/// The whole, and the part of it that was spent waiting for targets, pauses between tries included.
pub(super) fn times(ctx: &Ctx) -> (Duration, Duration) {
    let now = Instant::now();
    let waited = ctx.upstream.first.map(|first| ctx.upstream.ended.unwrap_or(now).saturating_duration_since(first));
    (now.saturating_duration_since(ctx.started), waited.unwrap_or_default())
}

/// What of the query may stand in a log.
pub(super) fn query<'r>(request: &'r RequestHeader, route: Option<&Route>) -> Option<Cow<'r, str>> {
    let secret = route.and_then(|route| route.guards.as_deref()).map_or(&[][..], Guards::secret_params);
    request.uri.query().and_then(|query| shown(query, secret))
}

/// The status that was sent; where none was, the one that the fault stands for.
fn status(session: &Session, fault: Option<Fault>) -> u16 {
    let sent =
        session.response_written().map(|head| head.status.as_u16()).filter(|status| *status >= 200 || *status == 101);
    match (sent, fault) {
        (_, Some(Fault::ClientGone)) | (None, None) => Fault::ClientGone.status(),
        (Some(sent), _) => sent,
        (None, Some(fault)) => fault.status(),
    }
}

fn count(story: &Story<'_>, ctx: &Ctx) {
    let (total, upstream) = story.took;
    let overhead = total.saturating_sub(upstream).as_secs_f64();
    if let Some(counted) = story.counted {
        counted.count(&story.request.method, story.status, total.as_secs_f64(), overhead);
        if let Some(fault) = ctx.fault {
            counted.fault(fault);
        }
        if let Some(result) = ctx.cached.as_ref().and_then(|cached| cached.result()) {
            counted.cache(result);
        }
        for refusal in ctx.found.iter().flat_map(|found| &found.would_refuse) {
            counted.would_refuse(refusal.fault);
        }
    }
    if let (Some(counted), Some(asked)) = (story.pool_counted, ctx.upstream.asked) {
        let answered = ctx.upstream.answered.is_some().then_some(story.status);
        let before = ctx.upstream.first.map_or(Duration::ZERO, |first| asked.saturating_duration_since(first));
        counted.count(answered, upstream.saturating_sub(before).as_secs_f64());
    }
}

fn line(snapshot: &Snapshot, story: &Story<'_>, ctx: &Ctx) {
    let (request, connection) = (story.request, story.connection);
    let host = ctx.host(request);
    let client = ctx.intake.as_ref().map_or_else(|| connection.peer.ip().to_canonical(), |intake| intake.client);
    let said = |name| request.headers.get(name).map(header::HeaderValue::as_bytes);
    let called = || ctx.past.last().filter(|_| ctx.upstream.by_call).map(|past| past.target.name());
    let target = ctx.picked.as_ref().map(|picked| picked.target().name()).or_else(called);
    let first_byte = ctx.upstream.asked.zip(ctx.upstream.answered).map(|(asked, answered)| answered - asked);
    let found = ctx.found.as_deref();
    let would_refuse = found.filter(|found| !found.would_refuse.is_empty()).map(would_refuse);
    let calls = ctx.calls.as_ref().map(|calls| gather::told(&calls.all));
    let (total, upstream) = if story.tunnel.is_some() { times(ctx) } else { story.took };
    snapshot.access.write(&Entry {
        time: ctx.arrived,
        request_id: ctx.id(),
        part_of: ctx.part_of.as_ref().map(|part| &*part.request),
        trace_id: ctx.trace.id(),
        listener: connection.listener.name.as_str(),
        route: story.route,
        method: request.method.as_str(),
        host: host.as_deref().unwrap_or("-").as_bytes(),
        path: request.uri.path().as_bytes(),
        query: story.query.as_deref().map(str::as_bytes),
        protocol: protocol(request.version),
        status: story.status,
        bytes_in: story.bytes_in,
        bytes_out: story.bytes_out,
        user_agent: said(header::USER_AGENT),
        referer: said(header::REFERER),
        client,
        pool: story.pool,
        target,
        tries: ctx.upstream.tries,
        retried_after: ctx.further.after(),
        not_retried: ctx.further.not(),
        reason: ctx.fault.map(Fault::code),
        consumer: found.and_then(|found| found.identity.consumer.as_deref()),
        operation: found.and_then(|found| found.graphql.as_ref()).map(|asked| (asked.name.as_deref(), asked.kind)),
        rule: found.and_then(|found| found.refused.as_ref()).map(|refusal| &*refusal.rule),
        would_refuse: would_refuse.as_deref(),
        cache: ctx.cached.as_ref().and_then(|cached| cached.result()).map(CacheResult::word),
        tunnel: story.tunnel,
        calls: calls.as_deref(),
        detail: ctx.why.as_deref(),
        timings: Timings {
            total,
            queue: ctx.queued,
            connect: None,
            first_byte,
            upstream: ctx.upstream.asked.map(|_| upstream),
        },
    });
}

/// What of a query may stand in a log.
fn shown<'q>(query: &'q str, secret: &[Box<str>]) -> Option<Cow<'q, str>> {
    if secret.is_empty() { Some(query.into()) } else { source::without(query, secret).map(Cow::Owned) }
}

/// One after the other: what each watching guard would have said, and where it stands.
fn would_refuse(found: &Found) -> String {
    let one = |refusal: &Refusal| format!("{} by {}", refusal.fault, refusal.rule);
    found.would_refuse.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// Lines of the program's log about requests in one second, at most: the rest is in the access log and the metrics.
const MOST_WORDS: u64 = 20;

/// What an operator must know of; what a client did wrong is for the access log only.
fn say(fault: Fault, story: &Story<'_>, ctx: &Ctx) {
    static SECOND: AtomicU64 = AtomicU64::new(0);
    static SAID: AtomicU64 = AtomicU64::new(0);
    let level = fault.level();
    if level > log::Level::Warn {
        return;
    }
    let second = ctx.arrived.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if SECOND.swap(second, Relaxed) != second {
        SAID.store(0, Relaxed);
    }
    if SAID.fetch_add(1, Relaxed) >= MOST_WORDS {
        return;
    }
    log::log!(
        level,
        "{fault}: {} {} (route {}, pool {}, target {}, request {}): {}",
        story.request.method,
        story.request.uri.path(),
        story.route.unwrap_or("-"),
        story.pool.unwrap_or("-"),
        ctx.picked.as_ref().map_or("-", |picked| picked.target().name()),
        ctx.id(),
        ctx.why.as_deref().unwrap_or("no further cause"),
    );
}
