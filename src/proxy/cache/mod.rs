//! Answers that are remembered: Pingora's cache phases, each a few lines.
//!
//! A request for a route with a cache chooses no target before it is clear that one is needed. What is kept is the answer
//! without anything that belongs to one exchange; what belongs to each answer (its id, the fields of guards, `Age`) is
//! added whenever it is given.

mod answer;
mod at_once;
mod fill;
mod keep;
mod refresh;
mod touch;

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, Method, header};
use pingora_cache::{CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, NoCacheReason};
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::view::View;
use super::{Aside, fail, response};
use crate::exchange::{Exchange, Found};
use crate::fault::Fault;
use crate::policy::cache::directives::Directives;
use crate::policy::cache::store::{PREDICTOR, SHIM, lock};
use crate::policy::cache::{Cache, Named, Origin};
use crate::telemetry::metrics::CacheResult;

use self::answer::sign;
pub(super) use self::answer::{cleaned, is_kept};
pub(super) use self::at_once::answer as at_once;
pub(super) use self::fill::{expect, go_on, passed as weigh};
pub(super) use self::keep::{judge, renew, vary};
pub(super) use self::refresh::{is_refresh, seed};
use self::touch::{may_touch, touch};

/// What becomes of a request on a route with a cache.
#[derive(Default)]
pub struct Cached {
    named: Option<Named>,
    /// A target is chosen only if there is no answer yet.
    deferred: bool,
    /// Why none could be chosen, while an older answer may still serve.
    unchosen: Option<Fault>,
    result: Option<CacheResult>,
    /// Another variant of the answer was found.
    saw: bool,
    /// For how many seconds the answer that was found is fresh, or was.
    left: i64,
    /// The client has asked for a newer one.
    asked: bool,
    /// It only fetches an answer anew; nobody waits for it.
    refresh: bool,
    /// Whether the answer is kept was decided, and what its status was before the client's conditions.
    judged: Option<u16>,
    /// Why the answer is not kept.
    not: Option<&'static str>,
    /// The fields of a 304, and those that are for this client alone.
    renewed: Option<HeaderMap>,
    cookies: Vec<http::HeaderValue>,
}

impl Cached {
    /// For metrics and log; nothing where nobody asked.
    pub(super) fn result(&self) -> Option<CacheResult> {
        self.result.filter(|_| !self.refresh)
    }

    pub(super) fn is_refresh(&self) -> bool {
        self.refresh
    }
}

/// Fields by which some services are told another method or path than the request line does.
const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Finds the name of the answer; whether the choice of a target has to wait for what the store says.
pub(super) fn begin(session: &mut Session, ctx: &mut Ctx) -> bool {
    let Some(route) = ctx.route.clone() else { return false };
    let Some(cache) = &route.cache else { return false };
    let is_bare = session.is_body_empty() && !session.is_upgrade_req();
    let request = session.req_header();
    let mut cached = ctx.cached.take().unwrap_or_default();
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    if is_read && is_bare && !is_unclear(request, cache) {
        cached.named = name(request, cache, route.name.as_str(), ctx);
    }
    cached.deferred = cached.named.is_some();
    if !cached.deferred {
        cached.result = Some(CacheResult::Bypass);
    }
    let deferred = cached.deferred;
    ctx.cached = Some(cached);
    deferred
}

fn is_unclear(request: &RequestHeader, cache: &Cache) -> bool {
    // Once through the few names that came costs less than a look for each of these.
    let overrides = |name: &HeaderName| name.as_str().starts_with("x-") && OVERRIDES.contains(&name.as_str());
    request.headers.keys().any(overrides) || (cache.obey && Directives::of(&request.headers).no_store)
}

fn name(request: &RequestHeader, cache: &Cache, route: &str, ctx: &mut Ctx) -> Option<Named> {
    let intake = ctx.intake.as_ref()?;
    let forwarded = request.headers.get(super::intake::field::X_FORWARDED_HOST).filter(|_| intake.trusted);
    let forwarded_host = forwarded.map(header::HeaderValue::as_bytes);
    let view = View::of(request, intake, &ctx.params);
    let (mut nothing, found) = (Found::default(), ctx.found.as_deref_mut());
    let exchange = Exchange { request: &view, found: found.unwrap_or(&mut nothing) };
    let split = ctx.route.as_ref().and_then(|route| route.split()).filter(|split| !split.is_blind());
    let pool = split.and_then(|split| split.decided(&exchange, route)).map(|pool| pool.name().as_str());
    let origin = Origin { https: intake.https, port: intake.port, forwarded_host, pool };
    cache.name(&exchange, route, origin)
}

/// Pingora looks into the store where there is a name.
pub(super) fn enable(session: &mut Session, ctx: &Ctx) {
    let is_named = ctx.cached.as_ref().is_some_and(|cached| cached.named.is_some());
    let (true, Some(cache)) = (is_named, ctx.route.as_ref().and_then(|route| route.cache.as_ref())) else { return };
    let mut settings = CacheOptionOverrides::default();
    settings.wait_timeout = Some(cache.wait);
    session.cache.enable(&SHIM, None, Some(&PREDICTOR), Some(lock()), Some(settings));
}

pub(super) fn key(session: &Session, ctx: &mut Ctx) -> Result<CacheKey> {
    let named = ctx.cached.as_mut().and_then(|cached| cached.named.take());
    let (Some(named), Some(route), Some(intake)) = (named, &ctx.route, &ctx.intake) else {
        return Err(Fault::GatewayInternal.into());
    };
    let cache = route.cache.as_ref().ok_or(Fault::GatewayInternal)?;
    let view = View::of(session.req_header(), intake, &ctx.params);
    Ok(cache.key(named, &view, ctx.found.as_deref(), route.name.as_str()))
}

/// Nothing was found. What could not be kept the last time is asked for as the client asks for it.
pub(super) fn missed(session: &mut Session) {
    if session.cache.phase() == CachePhase::CacheKey && PREDICTOR.is_lost(session.cache.cache_key()) {
        session.cache.release_write_lock(NoCacheReason::OriginNotCache);
        session.cache.bypass();
    } else {
        session.cache.cache_miss();
    }
}

/// Something was found: whether it serves, and how.
pub(super) fn found(
    session: &mut Session,
    meta: &CacheMeta,
    fresh: bool,
    ctx: &mut Ctx,
    aside: &Aside,
) -> Option<ForcedFreshness> {
    let now = SystemTime::now();
    let left = seconds(meta.fresh_until(), now);
    let obey = ctx.route.as_ref().and_then(|route| route.cache.as_ref()).is_some_and(|cache| cache.obey);
    let cached = ctx.cached.as_mut()?;
    (cached.left, cached.asked) = (left, false);
    if cached.refresh {
        return None;
    }
    if obey && let Some(forced) = demand(session.req_header(), meta, left) {
        cached.asked = matches!(forced, ForcedFreshness::ForceExpired);
        cached.result = Some(if fresh { CacheResult::Hit } else { CacheResult::Stale });
        return Some(forced);
    }
    if fresh {
        cached.result = Some(CacheResult::Hit);
        return None;
    }
    if meta.serve_stale_while_revalidate(now) {
        cached.result = Some(CacheResult::Stale);
        refresh::begin(session, ctx, aside);
        return Some(ForcedFreshness::ForceFresh);
    }
    None
}

/// From one moment to the other, less than nothing where it has passed.
fn seconds(to: SystemTime, from: SystemTime) -> i64 {
    let whole = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    to.duration_since(from).map_or_else(|past| -whole(past.duration()), whole)
}

/// What the client asks for by `Cache-Control` (RFC 9111 section 5.2.1).
fn demand(request: &RequestHeader, meta: &CacheMeta, left: i64) -> Option<ForcedFreshness> {
    let said = Directives::of(&request.headers);
    let pragma = !request.headers.contains_key(header::CACHE_CONTROL)
        && request.headers.get(header::PRAGMA).is_some_and(|said| said == "no-cache");
    let age = meta.age().as_secs();
    let newer = said.no_cache
        || pragma
        || said.max_age.is_some_and(|most| age > most.into() || most == 0)
        || said.min_fresh.is_some_and(|least| left < least.into());
    if newer {
        return Some(ForcedFreshness::ForceExpired);
    }
    let kept = Directives::of(meta.headers());
    let must = kept.must_revalidate || kept.proxy_revalidate || kept.no_cache || kept.s_maxage.is_some();
    let old_will_do = left < 0 && !must && said.max_stale.is_some_and(|most| -left <= most.into());
    old_will_do.then_some(ForcedFreshness::ForceFresh)
}

/// No answer of the store serves: a target is chosen now. `false` where the request was answered otherwise.
pub(super) async fn miss(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let Some(cached) = &mut ctx.cached else { return Ok(true) };
    if !cached.deferred {
        return Ok(true);
    }
    cached.result = Some(match session.cache.phase() {
        CachePhase::Bypass => CacheResult::Bypass,
        CachePhase::Stale => CacheResult::Expired,
        _ => CacheResult::Miss,
    });
    if Directives::of(&session.req_header().headers).only_if_cached {
        return Err(Fault::CacheNothing.into());
    }
    let stale = session.cache.can_serve_stale_error();
    let fault = match ctx.choose(session.req_header()).await {
        Ok(None) => return Ok(true),
        Ok(Some(instead)) if !stale => {
            response::instead(session, ctx, Some(&instead)).await?;
            return Ok(false);
        }
        Ok(Some(_)) => Fault::PoolEmpty,
        Err(fault) if !stale => return Err(fault.into()),
        Err(fault) => fault,
    };
    if let Some(cached) = &mut ctx.cached {
        cached.unchosen = Some(fault);
    }
    Ok(true)
}

/// A target's answer passes: what it makes void is asked for anew, and the client is told that it was not remembered.
pub(super) async fn passed(session: &Session, head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    changed(session, head, ctx).await;
    if ctx.cached.is_some() { sign(session, head, ctx) } else { Ok(()) }
}

/// An answer is about to go out, whoever gives it: what its request has changed is asked for anew.
pub(super) async fn changed(session: &Session, head: &ResponseHeader, ctx: &Ctx) {
    if may_touch(session, head, ctx) {
        Box::pin(touch(session, head, ctx)).await;
    }
}

/// Why there is no target.
pub(super) fn unchosen(ctx: &Ctx) -> Option<Fault> {
    ctx.cached.as_ref()?.unchosen
}

/// Whether an older answer may stand in for one that has failed. While one is fetched beside the request is our business.
pub(super) fn may_stand_in(ctx: &mut Ctx, error: Option<&Error>) -> bool {
    let Some(error) = error else { return false };
    if let ErrorType::HTTPStatus(status) = error.etype() {
        ctx.upstream.answered = Some(std::time::Instant::now());
        ctx.tell_target(None, *status);
    } else {
        let fault = ctx.told(fail::fault_of(error, ctx.upstream.answered.is_some(), ctx.upstream.reused));
        if fault == Fault::ClientGone || (*error.esource() == ErrorSource::Downstream) || fault.status() < 500 {
            return false;
        }
        ctx.why.get_or_insert_with(|| format!("an older answer in place of {fault}"));
        ctx.tell_target(Some(fault), 0);
    }
    if let Some(cached) = &mut ctx.cached {
        cached.result = Some(CacheResult::Stale);
        return !cached.refresh;
    }
    false
}
