//! An answer on its way into a store: nobody waits for one that will not be kept, and one that its client has had enough of
//! comes all the same.

use http::{Method, StatusCode, header};
use pingora_cache::{CachePhase, NoCacheReason};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::super::Aside;
use super::super::ctx::Ctx;
use super::at_once::is_condition;
use super::refresh;
use crate::fault::Fault;
use crate::policy::cache::store::{Filling, Spot};
use crate::policy::compress::content_length;

/// Whether a request asks for something else than the whole answer: it may end before all of that has come.
pub(super) fn is_part(request: &RequestHeader) -> bool {
    request.method == Method::HEAD || request.headers.keys().any(is_condition)
}

fn filling(session: &Session) -> Filling {
    session.cache.maybe_cache_key().map(Spot::filling).unwrap_or_default()
}

/// A request is about to be sent whose last answer was too large: this one is kept if it tells that it is not.
pub(in crate::proxy) fn expect(session: &mut Session, ctx: &Ctx) {
    let cache = ctx.route.as_ref().filter(|_| ctx.cached.is_some()).and_then(|route| route.cache.as_ref());
    if let Some(cache) = cache.filter(|_| was_too_large(session)) {
        session.cache.set_max_file_size_bytes(usize::try_from(cache.longest()).unwrap_or(usize::MAX));
    }
}

/// Whether the request passes the store by because the last answer was too large.
pub(super) fn was_too_large(session: &Session) -> bool {
    session.cache.phase() == CachePhase::Bypass
        && session.cache.predicted_uncacheable_reason() == Some(NoCacheReason::ResponseTooLarge)
}

/// A piece of the answer has passed: where it will not be kept, those who wait for it go their own way.
pub(in crate::proxy) fn passed(session: &mut Session, ctx: &Ctx) {
    let is_new = ctx.cached.as_ref().is_some_and(|cached| cached.judged.is_some());
    if !is_new || !session.cache.enabled() {
        return;
    }
    let why = match filling(session) {
        Filling::TooLarge => NoCacheReason::ResponseTooLarge,
        Filling::NoRoom => NoCacheReason::Custom("no room"),
        _ => return,
    };
    if why == NoCacheReason::ResponseTooLarge {
        session.cache.response_became_uncacheable(why);
    }
    session.cache.disable(why);
}

/// The request has ended: what it has begun to fetch and did not need itself is fetched beside it.
pub(in crate::proxy) fn go_on(session: &mut Session, ctx: &Ctx, aside: &Aside) {
    let Some(cached) = ctx.cached.as_ref().filter(|cached| cached.judged.is_some()) else { return };
    if filling(session) != Filling::Begun {
        return;
    }
    if session.cache.enabled() {
        session.cache.disable(NoCacheReason::Deferred);
    }
    if !cached.refresh && is_part(session.req_header()) && has_enough(session, ctx) {
        refresh::begin(session, ctx, aside);
    }
}

/// Whether the client has all that it has asked for, though it may have gone since.
fn has_enough(session: &Session, ctx: &Ctx) -> bool {
    let Some(head) = session.response_written() else { return false };
    let bodiless = session.req_header().method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
    matches!(ctx.fault, None | Some(Fault::ClientGone))
        && (bodiless || content_length(&head.headers) == Some(session.body_bytes_sent() as u64))
}

/// Makes a request one for the whole answer.
pub(super) fn ask_for_all(request: &mut RequestHeader) {
    request.set_method(Method::GET);
    for name in [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ] {
        request.remove_header(&name);
    }
}
