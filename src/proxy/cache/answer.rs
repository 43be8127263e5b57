//! An answer from the store as one client gets it, and what every client is told of where its answer came from.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderValue, header};
use pingora_cache::CachePhase;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use sfv::key_ref;

use super::super::ctx::Ctx;
use super::super::intake::field;
use super::super::reply;
use super::super::view::View;
use super::Cached;
use super::fill::is_part;
use crate::fault::Fault;
use crate::policy::cache::store::Spot;
use crate::telemetry::metrics::CacheResult;

const CACHE_STATUS: header::HeaderName = header::HeaderName::from_static("cache-status");

/// Whether the head that is about to go out was kept, not just received.
pub(in crate::proxy) fn is_kept(session: &Session, head: &ResponseHeader, ctx: &Ctx) -> bool {
    ctx.cached.is_some()
        && !head.status.is_informational()
        && matches!(
            session.cache.phase(),
            CachePhase::Hit
                | CachePhase::Stale
                | CachePhase::StaleUpdating
                | CachePhase::Revalidated
                | CachePhase::RevalidatedNoCache(_)
        )
}

/// Adds to a kept head what belongs to this answer alone.
pub(in crate::proxy) fn cleaned(session: &Session, head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    of_age(session, head, session.cache.cache_meta().age(), ctx)
}

/// The same for an answer of this age.
pub(super) fn of_age(session: &Session, head: &mut ResponseHeader, age: Duration, ctx: &Ctx) -> Result<()> {
    let (Some(route), Some(cached)) = (&ctx.route, &ctx.cached) else { return Err(Fault::GatewayInternal.into()) };
    head.insert_header(field::X_REQUEST_ID, ctx.id())?;
    head.insert_header(header::AGE, age.as_secs())?;
    if let Some(guards) = &route.guards {
        guards.clean(head);
    }
    reply::say_found(head, ctx)?;
    for cookie in &cached.cookies {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    if let (Some(picked), Some(intake)) = (&ctx.picked, &ctx.intake)
        && let Some(cookie) = picked.target().set_cookie(&View::of(session.req_header(), intake, &ctx.params))
    {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    route.response.response(head);
    sign(session, head, ctx)
}

/// `Cache-Status` (RFC 9211): whether the answer was kept, or why it was fetched and what became of it.
pub(in crate::proxy) fn sign(session: &Session, head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let (Some(cached), Some(result)) = (&ctx.cached, ctx.cached.as_ref().and_then(|cached| cached.result)) else {
        return Ok(());
    };
    if let Some(cache) = ctx.route.as_ref().and_then(|route| route.cache.as_ref()) {
        cache.hide_tags(head);
    }
    if matches!(result, CacheResult::Hit | CacheResult::Stale) && ctx.upstream.tries == 0 {
        head.append_header(CACHE_STATUS, hit(cached.left))?;
        return Ok(());
    }
    let item = sfv::ItemSerializer::new().bare_item(sfv::token_ref("yumen"));
    let said = match result {
        CacheResult::Hit | CacheResult::Stale | CacheResult::Revalidated => {
            item.parameter(key_ref("fwd"), sfv::token_ref(reason(cached, session, result))).finish()
        }
        _ => {
            let item = item.parameter(key_ref("fwd"), sfv::token_ref(reason(cached, session, result)));
            let status = cached.judged.unwrap_or(head.status.as_u16());
            let item = item.parameter(key_ref("fwd-status"), number(status.into()));
            match cached.not {
                _ if !is_part(session.req_header()) && session.cache.maybe_cache_key().is_some_and(Spot::is_sure) => {
                    item.parameter(key_ref("stored"), true).finish()
                }
                Some(why) => item.parameter(key_ref("detail"), sfv::string_ref(why)).finish(),
                None => item.finish(),
            }
        }
    };
    head.append_header(CACHE_STATUS, HeaderValue::try_from(said).map_err(|_| Fault::GatewayInternal)?)?;
    Ok(())
}

/// The most frequent value, which needs no serializer: `yumen;hit;ttl=60`.
fn hit(left: i64) -> HeaderValue {
    const HIT: &[u8] = b"yumen;hit;ttl=";
    let (most, mut digits) = (i64::from(i32::MAX), itoa::Buffer::new());
    let left = digits.format(left.clamp(-most, most)).as_bytes();
    let mut said = BytesMut::with_capacity(HIT.len() + left.len());
    said.extend_from_slice(HIT);
    said.extend_from_slice(left);
    HeaderValue::from_maybe_shared(said.freeze()).unwrap_or(HeaderValue::from_static("yumen;hit"))
}

/// Why the request went to a target.
fn reason(cached: &Cached, session: &Session, result: CacheResult) -> &'static str {
    use http::Method;
    match result {
        CacheResult::Bypass if !matches!(session.req_header().method, Method::GET | Method::HEAD) => "method",
        CacheResult::Bypass => "bypass",
        _ if cached.asked => "request",
        CacheResult::Miss if cached.saw => "vary-miss",
        CacheResult::Miss => "uri-miss",
        _ => "stale",
    }
}

fn number(number: i64) -> sfv::Integer {
    let most = i64::from(i32::MAX);
    sfv::Integer::try_from(number.clamp(-most, most)).unwrap_or(sfv::Integer::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_written_as_the_serializer_would() {
        for left in [0, 1, 59, 3600, -7, i64::MAX, i64::MIN] {
            let item = sfv::ItemSerializer::new().bare_item(sfv::token_ref("yumen"));
            let item = item.parameter(key_ref("hit"), true).parameter(key_ref("ttl"), number(left));
            assert_eq!(hit(left), item.finish());
        }
    }
}
