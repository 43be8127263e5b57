//! Keeps what was decided about a request that went wrong: everything here is known already, nothing was kept for it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use pingora_http::RequestHeader;

use super::again::Past;
use super::ctx::Ctx;
use super::finish::{Story, protocol, times};
use super::gather;
use super::time;
use super::view::View;
use crate::exchange::{Found, Refusal};
use crate::fault::Fault;
use crate::policy::guard::Guards;
use crate::pool::{Pool, retry};
use crate::route::Route;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::recent::{Attempt, End, Guard, Named, Out, Page, Said, Times};

/// Of a pool without a target for a request, so many targets are told of.
const FEW: usize = 8;
/// The longest word of a client that is kept.
const LONGEST: usize = 1024;

#[cold]
pub(super) fn keep(live: &Live, snapshot: &Snapshot, story: &Story<'_>, ctx: &Ctx) {
    let (route, pool) = story.whole;
    let found = ctx.found.as_deref();
    let rule = rule(snapshot, story, ctx);
    let written = |section: &str, name: &str| current(snapshot, ctx)?.written.place(&format!("{section}.{name}"));
    let listener = story.connection.listener.name.as_str();
    let mut named = story.route.map(|name| Named { name, place: place(snapshot, name, ctx), by: None });
    if let (Some(named), Some(route)) = (&mut named, route) {
        named.place = Some(&route.place);
        named.by = taken_by(snapshot, route, story.request, ctx);
    }
    let asked = route.and_then(|route| route.guards.as_deref());
    let (of_clients, host) = (ctx.intake.as_ref(), ctx.host(story.request));
    let peer = story.connection.peer.ip().to_canonical();
    live.recent.keep(&Page {
        request_id: ctx.id(),
        trace_id: ctx.trace.id(),
        time: Said(ctx.arrived),
        generation: ctx.generation,
        status: story.status,
        fault: ctx.fault,
        rule: rule.as_deref().map(Cow::Borrowed),
        detail: ctx.why.as_deref().map(cut),
        listener: Named { name: listener, place: written("listeners", listener), by: None },
        client: of_clients.map_or(peer, |intake| intake.client),
        protocol: protocol(story.request.version),
        method: story.request.method.as_str(),
        host: host.as_deref().map_or("-", cut).into(),
        path: cut(story.request.uri.path()).into(),
        query: story.query.as_deref().filter(|_| snapshot.access.config().query).map(|query| cut(query).into()),
        consumer: found.and_then(|found| found.identity.consumer.as_deref()),
        route: named,
        guards: asked.map_or_else(Vec::new, |all| guards(all, found, story.pool.is_some())),
        pool: story.pool.map(|name| Named { name, place: written("pools", name), by: None }),
        targets: pool.filter(|_| ctx.fault.is_some_and(is_pools)).map_or_else(Vec::new, targets),
        attempts: attempts(story, ctx),
        not_retried: ctx.further.not(),
        calls: ctx.calls.iter().flat_map(|calls| &calls.all).map(gather::page).collect(),
        cut: ctx.cut && story.tunnel.is_none(),
        bytes_in: story.bytes_in,
        bytes_out: story.bytes_out,
        timings_ms: took(story, ctx),
    });
}

/// The snapshot, if the request came under it: in another one the same name may mean something else.
fn current<'s>(snapshot: &'s Snapshot, ctx: &Ctx) -> Option<&'s Snapshot> {
    Some(snapshot).filter(|snapshot| snapshot.generation == ctx.generation)
}

/// Where the route of a request stands that has outlived it.
fn place<'s>(snapshot: &'s Snapshot, name: &str, ctx: &Ctx) -> Option<&'s str> {
    let route = current(snapshot, ctx)?.routes.iter().find(|route| route.name.as_str() == name)?;
    Some(&route.place)
}

/// What decided, with its place.
fn rule(snapshot: &Snapshot, story: &Story<'_>, ctx: &Ctx) -> Option<String> {
    if let Some(part) = ctx.part_of.as_ref().filter(|part| part.left.get().is_some()) {
        return Some(part.rule.to_string());
    }
    let found = ctx.found.as_deref();
    if let Some(refused) = found.and_then(|found| found.refused.as_ref()) {
        return Some(refused.rule.to_string());
    }
    if let Some(nearest) = &ctx.nearest {
        return Some(format!("routes.{} ({})", nearest.name, nearest.place));
    }
    let fault = ctx.fault?;
    if let (Some(calls), Some(route)) = (&ctx.calls, story.route) {
        let call = calls.failed.as_ref().map(|call| format!(".{call}")).unwrap_or_default();
        let at = format!("routes.{route}.gather{call}");
        return Some(current(snapshot, ctx).map_or(at.clone(), |snapshot| snapshot.written.rule(&at)));
    }
    if let (Fault::CacheNothing, Some(route)) = (fault, story.route) {
        return Some(snapshot.written.rule(&format!("routes.{route}.cache")));
    }
    let by_route = matches!(fault, Fault::RequestUpgrade | Fault::MqttUnavailable | Fault::RequireRefused);
    if let (true, Some(route)) = (by_route, story.whole.0) {
        return Some(format!("routes.{} ({})", route.name, route.place));
    }
    if fault == Fault::ShedMemory {
        return Some(snapshot.written.rule("runtime.memory"));
    }
    let name = |section: &str, name: &str| format!("{section}.{name}");
    let listener = name("listeners", story.connection.listener.name.as_str());
    let at = match (listeners(fault), pools(fault), story.pool) {
        (Some(key), _, _) => listener + key,
        (_, Some(key), Some(pool)) => {
            let key = waited_for(fault, story, ctx).map_or_else(|| key.to_owned(), |time| format!(".timeout.{time}"));
            let by_route = key.strip_prefix(".timeout.").is_some_and(|time| says(story.whole.0, time));
            let of = if by_route { name("routes", story.route.unwrap_or("-")) } else { name("pools", pool) };
            // Only times are built in; what else nobody wrote down is a matter of the pool as a whole.
            let is_written = key.starts_with(".timeout.") || snapshot.written.place(&format!("{of}{key}")).is_some();
            if is_written { of + &key } else { of }
        }
        _ => return None,
    };
    Some(match current(snapshot, ctx) {
        Some(snapshot) => snapshot.written.rule(&at),
        None => at,
    })
}

/// What of a listener refuses.
fn listeners(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::RequestHeaderTooLarge | Fault::RequestUriTooLong => Some(".limits"),
        Fault::RequestTimeout => Some(".limits.body_rate"),
        Fault::RequestMisdirected => Some(".tls.certs"),
        Fault::RequestMalformed
        | Fault::RequestHost
        | Fault::RequestTarget
        | Fault::RequestFraming
        | Fault::RequestMethodUnknown
        | Fault::RequestExpect
        | Fault::RequestLoop
        | Fault::RouteNone
        | Fault::RouteMethod => Some(""),
        _ => None,
    }
}

/// What of a pool fails.
fn pools(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::PoolNoHealthy => Some(".health"),
        Fault::PoolEmpty => Some(".targets"),
        Fault::PoolQueueFull | Fault::PoolQueueTimeout => Some(".max_in_flight"),
        Fault::BreakerOpen => Some(".breaker"),
        Fault::UpstreamTls => Some(".tls"),
        Fault::UpstreamConnectTimeout
        | Fault::UpstreamTimeoutFirstByte
        | Fault::UpstreamTimeoutIdle
        | Fault::UpstreamTimeoutTotal
        | Fault::UpstreamConnect
        | Fault::UpstreamRefused
        | Fault::UpstreamReset
        | Fault::UpstreamResetReused
        | Fault::UpstreamProtocol
        | Fault::UpstreamHeaderTooLarge
        | Fault::UpstreamTooLarge
        | Fault::UpstreamUpgrade => Some(""),
        _ => None,
    }
}

fn is_pools(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::PoolNoHealthy | Fault::PoolEmpty | Fault::PoolQueueFull | Fault::PoolQueueTimeout | Fault::BreakerOpen
    )
}

/// Which of the limits on time has ended it.
fn waited_for(fault: Fault, story: &Story<'_>, ctx: &Ctx) -> Option<&'static str> {
    let (route, pool) = story.whole;
    let times = pool?.timeouts(route.and_then(|route| route.timeout.as_ref()));
    let first_byte = times.first_byte.unwrap_or(times.idle);
    match fault {
        Fault::UpstreamConnectTimeout => Some("connect"),
        Fault::UpstreamTimeoutFirstByte if times.per_try.is_some_and(|limit| limit <= first_byte) => Some("per_try"),
        Fault::UpstreamTimeoutFirstByte if times.first_byte.is_some() && ctx.upstream.sent => Some("first_byte"),
        Fault::UpstreamTimeoutIdle if times.stream_idle.is_some() && time::is_stream(story.request) => {
            Some("stream_idle")
        }
        Fault::UpstreamTimeoutFirstByte | Fault::UpstreamTimeoutIdle => Some("idle"),
        Fault::UpstreamTimeoutTotal if ctx.upstream.end.as_ref().is_some_and(|end| end.by_client) => {
            Some("deadline_header")
        }
        Fault::UpstreamTimeoutTotal => Some("total"),
        _ => None,
    }
}

/// Whether the route says this limit in place of its pool.
fn says(route: Option<&Route>, time: &str) -> bool {
    let Some(times) = route.and_then(|route| route.timeout.as_ref()) else { return false };
    match time {
        "connect" => times.connect.is_some(),
        "first_byte" => times.first_byte.is_some(),
        "per_try" => times.per_try.is_some(),
        "idle" => times.idle.is_some(),
        "stream_idle" => times.stream_idle.is_some(),
        "total" => times.total.is_some(),
        "deadline_header" => times.deadline_header.is_some(),
        _ => false,
    }
}

/// Which match of the route took the request.
fn taken_by(snapshot: &Snapshot, route: &Route, request: &RequestHeader, ctx: &Ctx) -> Option<String> {
    if let [only] = &*route.matches {
        return Some(only.to_string());
    }
    let view = View::of(request, ctx.intake.as_ref()?, &ctx.params);
    let (chosen, one) = snapshot.table.explain(&view).chosen?;
    std::ptr::eq(&raw const **chosen, route).then(|| one.to_string())
}

/// What each guard said: those before the one that refused let the request pass. One that has `passed_all` of them can
/// still be refused while its body comes.
fn guards<'a>(all: &'a Guards, found: Option<&'a Found>, passed_all: bool) -> Vec<Guard<'a>> {
    let refused = found.and_then(|found| found.refused.as_ref());
    let is = |refusal: &Refusal, name: &str| *refusal.rule == *name;
    let rules = all.rules();
    let mut stopped = false;
    let mut say = |name: &'a str| {
        let shadow = found.and_then(|found| found.would_refuse.iter().find(|refusal| is(refusal, name)));
        let own = refused.filter(|refusal| is(refusal, name));
        let (said, refusal) = match (own, shadow) {
            (Some(refusal), _) => ("refused", Some(refusal)),
            _ if stopped => ("not asked", None),
            (None, Some(refusal)) => ("would refuse", Some(refusal)),
            (None, None) => ("passed", None),
        };
        stopped = stopped || (own.is_some() && !passed_all);
        Guard {
            rule: name,
            said,
            code: refusal.map(|refusal| refusal.fault),
            detail: refusal.map(|refusal| cut(&refusal.why)),
        }
    };
    rules.into_iter().map(|rule| say(&rule.name)).collect()
}

/// Why none of the pool's targets took it.
fn targets(pool: &Pool) -> Vec<Out> {
    let out = |target: crate::pool::status::TargetStatus| {
        let breaker = target.breaker.and_then(|breaker| breaker.cause);
        let ejected = target.ejection.filter(|ejection| ejection.out).map(|ejection| ejection.cause);
        let out = target.out.unwrap_or("in rotation");
        let detail = match out {
            "breaker" => target.reason.or(breaker),
            "ejected" => ejected,
            _ => target.reason,
        };
        Out { target: target.address, out, detail }
    };
    pool.outs(FEW).into_iter().map(out).collect()
}

/// Every try, the last one last.
fn attempts<'a>(story: &Story<'_>, ctx: &'a Ctx) -> Vec<Attempt<'a>> {
    let mut before: Option<Instant> = None;
    let waited = |before: &mut Option<Instant>, began: Instant, ended: Instant| {
        let waited = before.map_or(Duration::ZERO, |before| began.saturating_duration_since(before));
        *before = Some(ended);
        Said(waited)
    };
    let mut all: Vec<_> =
        ctx.past.iter().map(|past| of_past(past, waited(&mut before, past.began, past.ended))).collect();
    if let (Some(picked), Some(began)) = (&ctx.picked, ctx.upstream.asked) {
        let ended = ctx.upstream.ended.unwrap_or_else(Instant::now);
        let head = ctx.upstream.answered.map(|answered| Said(answered.saturating_duration_since(began)));
        all.push(Attempt {
            target: picked.target().name(),
            reused: ctx.upstream.reused,
            end: ctx.fault.map_or(End::Status(story.status), End::Code),
            waited_ms: waited(&mut before, began, ended),
            took_ms: Said(ended.saturating_duration_since(began)),
            first_byte_ms: head,
        });
    }
    all
}

fn of_past(past: &Past, waited: Said<Duration>) -> Attempt<'_> {
    let end = match past.end {
        retry::End::Lost(fault) => End::Code(fault),
        retry::End::Answered { status, .. } => End::Status(status),
    };
    let took = past.ended.saturating_duration_since(past.began);
    let target = past.target.name();
    Attempt { target, reused: past.reused, end, waited_ms: waited, took_ms: Said(took), first_byte_ms: None }
}

fn took(story: &Story<'_>, ctx: &Ctx) -> Times {
    let (total, upstream) = if story.tunnel.is_some() { times(ctx) } else { story.took };
    let first_byte = ctx.upstream.asked.zip(ctx.upstream.answered);
    Times {
        total: Said(total),
        queue: ctx.queued.map(Said),
        first_byte: first_byte.map(|(asked, answered)| Said(answered.saturating_duration_since(asked))),
        upstream: ctx.upstream.asked.map(|_| Said(upstream)),
    }
}

fn cut(word: &str) -> &str {
    word.get(..word.floor_char_boundary(LONGEST)).unwrap_or(word)
}
