//! What is kept of an answer that a target has given.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheMeta, NoCacheReason, RespCacheable};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::super::ctx::Ctx;
use super::super::response;
use super::Cached;
use super::fill::was_too_large;
use crate::policy::cache::{Cache, merge, variance};
use crate::telemetry::metrics::CacheResult;

/// A 304 to a question of ours has come: its fields are put by, for what is kept is given them.
pub(in crate::proxy) fn renew(session: &Session, head: &ResponseHeader, ctx: &mut Ctx) {
    if head.status != StatusCode::NOT_MODIFIED || !session.cache.enabled() || session.cache.maybe_cache_meta().is_none()
    {
        return;
    }
    response::heard(head, ctx);
    let Some(cached) = &mut ctx.cached else { return };
    let mut fields = head.headers.clone();
    response::strip_hop_by_hop(&mut fields, false);
    // One client's cookies are that client's; what is kept stays without them.
    cached.cookies = fields.get_all(header::SET_COOKIE).iter().cloned().collect();
    fields.remove(header::SET_COOKIE);
    dated(&mut fields);
    cached.renewed = Some(fields);
    cached.result = Some(CacheResult::Revalidated);
}

/// Whether an answer is kept, and as what.
pub(in crate::proxy) fn judge(session: &Session, head: &ResponseHeader, ctx: &mut Ctx) -> Result<RespCacheable> {
    let (Some(route), Some(cached)) = (ctx.route.clone(), &mut ctx.cached) else {
        return Ok(RespCacheable::Uncacheable(NoCacheReason::NeverEnabled));
    };
    let Some(cache) = &route.cache else { return Ok(RespCacheable::Uncacheable(NoCacheReason::NeverEnabled)) };
    cached.judged = Some(head.status.as_u16());
    let not = |cached: &mut Cached, why| {
        cached.not = Some(why);
        Ok(RespCacheable::Uncacheable(NoCacheReason::Custom(why)))
    };
    let (status, mut fields) = match (cached.renewed.take(), session.cache.maybe_cache_meta()) {
        (Some(news), Some(kept)) => {
            let mut fields = kept.headers().clone();
            merge::renew(&mut fields, &news);
            (kept.response_header().status, fields)
        }
        _ if has_no_end(head) => return not(cached, "no end"),
        _ => {
            let mut fields = head.headers.clone();
            response::strip_hop_by_hop(&mut fields, false);
            dated(&mut fields);
            (head.status, fields)
        }
    };
    if length(&fields).is_some_and(|length| length > cache.longest()) {
        cached.not = Some("too large");
        return Ok(RespCacheable::Uncacheable(NoCacheReason::ResponseTooLarge));
    }
    let kept = match cache.judge(status, &fields, &session.req_header().headers, ctx.found.as_deref()) {
        Ok(kept) => kept,
        Err(why) => return not(cached, why),
    };
    if was_too_large(session) && !fields.contains_key(header::CONTENT_LENGTH) {
        cached.not = Some("too large");
    }
    let tags = take_off(cache, &mut fields);
    let mut clean = ResponseHeader::build_no_case(status, Some(fields.len() + ADDED))?;
    for (name, value) in &fields {
        clean.append_header(name, value)?;
    }
    let now = SystemTime::now();
    let mut meta = CacheMeta::new(kept.fresh_until, now, kept.while_fetched, kept.if_error, clean);
    meta.set_epoch_override(kept.born);
    if let Some(tags) = tags {
        meta.extensions_mut().insert(tags);
    }
    Ok(RespCacheable::Cacheable(meta))
}

/// Fields that each answer is given on top: with room for them from the start, what is kept need not grow each time.
const ADDED: usize = 8;

/// What does not say when it was made was made when it came (RFC 9110 section 6.6.1).
fn dated(fields: &mut HeaderMap) {
    if !fields.contains_key(header::DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        fields.insert(header::DATE, now);
    }
}

/// What no other client must get goes; the tags among it are told.
fn take_off(cache: &Cache, fields: &mut HeaderMap) -> Option<crate::policy::cache::store::Tags> {
    merge::clean(fields);
    cache.take_tags(fields).filter(|tags| !tags.0.is_empty())
}

/// A body that ends with its connection may have ended too early, and nobody would know (RFC 9112 section 8).
fn has_no_end(head: &ResponseHeader) -> bool {
    head.version < Version::HTTP_2
        && head.status != StatusCode::NO_CONTENT
        && !head.headers.contains_key(header::CONTENT_LENGTH)
        && !head.headers.contains_key(header::TRANSFER_ENCODING)
}

fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Which variant the request wants; asked for what is found, and once more for what is kept.
pub(in crate::proxy) fn vary(meta: &CacheMeta, request: &RequestHeader, ctx: &mut Ctx) -> Option<HashBinary> {
    if let Some(cached) = &mut ctx.cached {
        cached.saw |= cached.judged.is_none();
    }
    variance(meta.headers(), &request.headers, ctx.found.as_deref())
}
