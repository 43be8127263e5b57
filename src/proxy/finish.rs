//! The last phase of a request: its figures, its line in the access log, and a word to the operator if he must act.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::{Version, header};
use pingora_proxy::Session;

use super::again;
use super::ctx::Ctx;
use crate::exchange::{Found, Refusal};
use crate::fault::Fault;
use crate::policy::auth::source;
use crate::policy::guard::Guards;
use crate::pool::Pool;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::access::{Entry, Timings};

/// Counts the request, writes its line, and says what went wrong on our side or the target's.
pub(super) fn tell(live: &Live, session: &Session, ctx: &mut Ctx) {
    let snapshot = live.load();
    let (total, upstream) = times(ctx);
    again::end(ctx);
    let status = status(session, ctx.fault);
    count(&snapshot, session, ctx, status, total, upstream);
    if snapshot.access.is_on() {
        line(&snapshot, session, ctx, status, total, upstream);
    }
    if let Some(fault) = ctx.fault {
        say(fault, session, ctx);
    }
    if let Some(mut picked) = ctx.picked.take() {
        picked.record(ctx.blamed(ctx.fault), status);
    }
}

/// The whole, and the part of it that was spent waiting for targets, pauses between tries included.
fn times(ctx: &Ctx) -> (Duration, Duration) {
    let now = Instant::now();
    let waited = ctx.upstream.first.map(|first| ctx.upstream.ended.unwrap_or(now).saturating_duration_since(first));
    (now.saturating_duration_since(ctx.started), waited.unwrap_or_default())
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

fn count(snapshot: &Snapshot, session: &Session, ctx: &Ctx, status: u16, total: Duration, upstream: Duration) {
    let overhead = total.saturating_sub(upstream).as_secs_f64();
    let method = &session.req_header().method;
    let Some(connection) = &ctx.connection else { return };
    let listener = &connection.listener.name;
    let counted = ctx.route.as_ref().map_or(&snapshot.nowhere, |route| &route.counted);
    if let Some(counted) = counted.through(listener) {
        counted.count(method, status, total.as_secs_f64(), overhead);
        if let Some(fault) = ctx.fault {
            counted.fault(fault);
        }
        for refusal in ctx.found.iter().flat_map(|found| &found.would_refuse) {
            counted.would_refuse(refusal.fault);
        }
    }
    if let (Some(counted), Some(asked)) = (ctx.pool.as_deref().and_then(Pool::counted), ctx.upstream.asked) {
        let answered = ctx.upstream.answered.is_some().then_some(status);
        let before = ctx.upstream.first.map_or(Duration::ZERO, |first| asked.saturating_duration_since(first));
        counted.count(answered, upstream.saturating_sub(before).as_secs_f64());
    }
}

fn line(snapshot: &Snapshot, session: &Session, ctx: &Ctx, status: u16, total: Duration, upstream: Duration) {
    let Some(connection) = &ctx.connection else { return };
    let request = session.req_header();
    let host = ctx.intake.as_ref().map_or(b"-".as_slice(), |intake| intake.host.as_bytes());
    let client = ctx.intake.as_ref().map_or_else(|| connection.peer.ip().to_canonical(), |intake| intake.client);
    let said = |name| request.headers.get(name).map(header::HeaderValue::as_bytes);
    let target = ctx.picked.as_ref().map(|picked| picked.target().name());
    let first_byte = ctx.upstream.asked.zip(ctx.upstream.answered).map(|(asked, answered)| answered - asked);
    let found = ctx.found.as_deref();
    let secret = ctx.route.as_ref().and_then(|route| route.guards.as_deref()).map_or(&[][..], Guards::secret_params);
    let query = request.uri.query().and_then(|query| shown(query, secret));
    let would_refuse = found.filter(|found| !found.would_refuse.is_empty()).map(would_refuse);
    snapshot.access.write(&Entry {
        time: ctx.arrived,
        request_id: ctx.id(),
        trace_id: ctx.trace.id(),
        listener: connection.listener.name.as_str(),
        route: ctx.route.as_ref().map(|route| route.name.as_str()),
        method: request.method.as_str(),
        host,
        path: request.uri.path().as_bytes(),
        query: query.as_deref().map(str::as_bytes),
        protocol: protocol(request.version),
        status,
        bytes_in: session.body_bytes_read() as u64,
        bytes_out: session.body_bytes_sent() as u64,
        user_agent: said(header::USER_AGENT),
        referer: said(header::REFERER),
        client,
        pool: ctx.pool.as_ref().map(|pool| pool.name().as_str()),
        target,
        tries: ctx.upstream.tries,
        retried_after: ctx.further.after(),
        not_retried: ctx.further.not(),
        reason: ctx.fault.map(Fault::code),
        consumer: found.and_then(|found| found.identity.consumer.as_deref()),
        rule: found.and_then(|found| found.refused.as_ref()).map(|refusal| &*refusal.rule),
        would_refuse: would_refuse.as_deref(),
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

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// Lines of the program's log about requests in one second, at most: the rest is in the access log and the metrics.
const MOST_WORDS: u64 = 20;

/// What an operator must know of; what a client did wrong is for the access log only.
fn say(fault: Fault, session: &Session, ctx: &Ctx) {
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
        session.req_header().method,
        session.req_header().uri.path(),
        ctx.route.as_ref().map_or("-", |route| route.name.as_str()),
        ctx.pool.as_ref().map_or("-", |pool| pool.name().as_str()),
        ctx.picked.as_ref().map_or("-", |picked| picked.target().name()),
        ctx.id(),
        ctx.why.as_deref().unwrap_or("no further cause"),
    );
}
