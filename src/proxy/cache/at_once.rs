//! A kept answer that serves as it is: given at once, without the phases for those about which there is something to decide.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_error::Result;
use pingora_proxy::Session;

use super::super::ctx::Ctx;
use super::super::reply;
use super::answer;
use super::seconds;
use crate::policy::cache::store::Object;
use crate::telemetry::metrics::CacheResult;

/// What asks for something else than the whole answer.
pub(super) fn is_condition(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::RANGE
            | header::IF_RANGE
            | header::IF_MATCH
            | header::IF_NONE_MATCH
            | header::IF_MODIFIED_SINCE
            | header::IF_UNMODIFIED_SINCE
    )
}

/// Answers with what is kept in memory; `false` where more has to be decided, or nothing is there.
pub(in crate::proxy) async fn answer(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let Some((object, now)) = find(session, ctx) else { return Ok(false) };
    if let Some(cached) = &mut ctx.cached {
        cached.left = seconds(object.times.fresh_until, now);
        cached.result = Some(CacheResult::Hit);
    }
    let mut head = object.head.clone();
    head.set_version(Version::HTTP_11);
    let age = now.duration_since(object.times.born).unwrap_or_default();
    if head.headers.contains_key(header::CONTENT_LENGTH) {
        head.insert_header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))?;
    }
    answer::of_age(session, &mut head, age, ctx)?;
    reply::pass(session, head, object.body.clone()).await?;
    Ok(true)
}

fn find(session: &Session, ctx: &Ctx) -> Option<(std::sync::Arc<Object>, SystemTime)> {
    let (route, named) = (ctx.route.as_ref()?, ctx.cached.as_ref()?.named.as_ref()?);
    let cache = route.cache.as_ref()?;
    let request = session.req_header();
    let is_plain = request.method == Method::GET && !request.headers.keys().any(is_condition);
    if !is_plain || cache.obey || route.bodies.change_answers() || ctx.web.is_some() {
        return None;
    }
    let (object, now) = (cache.in_memory(named)?, SystemTime::now());
    let serves = object.head.status == StatusCode::OK
        && object.times.fresh_until > now
        && object.variance.is_none()
        && !object.head.headers.contains_key(header::VARY);
    serves.then_some((object, now))
}
