//! An answer that is past its time is served once more, and fetched anew beside the request: once for all who get it.

use http::Version;
use pingora_cache::key::CacheHashKey;
use pingora_proxy::Session;
use pingora_proxy::subrequest::Ctx as Sub;

use super::super::Aside;
use super::super::ctx::Ctx;
use super::{Cached, fill};
use crate::exchange::Found;
use crate::policy::cache::store::Turn;

/// What the guards found out about the request that began it: the one beside it is not asked again.
pub(in crate::proxy) struct Seed {
    found: Found,
    /// Ends with it.
    _turn: Turn,
}

/// Begins to fetch what was found, unless someone is at it.
pub(super) fn begin(session: &mut Session, ctx: &Ctx, aside: &Aside) {
    let Some(turn) = session.cache.maybe_cache_key().and_then(|key| Turn::take(key.combined_bin())) else { return };
    let Some(spawner) = session.subrequest_spawner.take() else { return };
    let mut found = Found::default();
    if let Some(known) = &ctx.found {
        found.identity = known.identity.clone();
        found.forward.clone_from(&known.forward);
        found.hidden_params.clone_from(&known.hidden_params);
    }
    let sub = Sub::builder().user_ctx(Box::new(Seed { found, _turn: turn })).build();
    // Pingora (0.9.1) spells the request as HTTP/1.1, and would not read the version of another one again.
    let version = session.req_header().version;
    session.req_header_mut().set_version(Version::HTTP_11);
    let (prepared, answer) = spawner.create_subrequest(session.as_ref(), sub);
    session.req_header_mut().set_version(version);
    session.subrequest_spawner = Some(spawner);
    aside(Box::pin(async move {
        answer.drain_tasks();
        prepared.run().await;
    }));
}

/// Whether this is such a request.
pub(in crate::proxy) fn is_refresh(session: &Session) -> bool {
    session.subrequest_ctx.as_ref().and_then(|sub| sub.user_ctx()).is_some_and(|seed| seed.is::<Seed>())
}

/// Takes up what is known of the client, and asks for the whole answer, whatever he has asked for.
pub(in crate::proxy) fn seed(session: &mut Session, ctx: &mut Ctx) {
    fill::ask_for_all(session.req_header_mut());
    let seed = session.subrequest_ctx.as_mut().and_then(|sub| sub.user_ctx_mut());
    if let Some(seed) = seed.and_then(|seed| seed.downcast_mut::<Seed>()) {
        ctx.found = Some(Box::new(std::mem::take(&mut seed.found)));
    }
    ctx.cached = Some(Box::new(Cached { refresh: true, ..Cached::default() }));
}
