//! The answer as the client gets it: a target's, without what belongs to our connection to it, or the route's own.

use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header, response};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::intake::{connection_names, field, is_hop_by_hop};
use super::view::View;
use super::{bodies, cache, fail, reply};
use crate::fault::Fault;
use crate::policy::redirect::Redirect;
use crate::policy::respond::Respond;
use crate::pool::connection::habit;
use crate::pool::fallback::Answer;
use crate::snapshot::Live;

/// Informational answers before the answer, at most.
const MOST_INFORMED: u32 = 16;

/// Makes one client's answer of a head that was kept.
pub(super) async fn kept(live: &Live, session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let begun = cache::cleaned(session, head, ctx).and_then(|()| bodies::begin(session, head, ctx));
    if let Err(e) = &begun {
        // Before Pingora (0.9.1) answers by itself, without a word.
        fail::apologise(live, session, e, ctx).await;
    }
    begun
}

/// Cleans the head of a target's answer and applies the route's changes to it.
pub(super) fn forwarded(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return inform(head, ctx);
    }
    heard(head, ctx);
    if head.version < Version::HTTP_11 {
        // Such a target knows no chunks (RFC 9112 section 6.1), and its version is not ours (RFC 9110 section 2.5).
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(Fault::UpstreamProtocol.into());
        }
        head.set_version(Version::HTTP_11);
    }
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    if switching && !session.is_upgrade_req() {
        return Err(Fault::UpstreamUpgrade.into());
    }
    let (old_client, status) = (session.req_header().version == Version::HTTP_10, head.status);
    let unframed = rebuild(head, |fields| {
        check_coding(fields)?;
        strip_hop_by_hop(fields, switching);
        one_length(fields);
        bodiless(status, fields);
        fields.insert(field::X_REQUEST_ID, HeaderValue::from_str(ctx.id()).map_err(|_| Fault::GatewayInternal)?);
        Ok(old_client && fields.remove(header::TRANSFER_ENCODING).is_some())
    })?;
    if unframed {
        // No chunks for HTTP/1.0: such an answer ends with its connection.
        session.set_keepalive(None);
    }
    if let Some(guards) = ctx.route.as_ref().and_then(|route| route.guards.as_ref()) {
        guards.clean(head);
    }
    reply::say_found(head, ctx)?;
    if let (Some(picked), Some(intake)) = (&ctx.picked, &ctx.intake)
        && let Some(cookie) = picked.target().set_cookie(&View::of(session.req_header(), intake, &ctx.params))
    {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    if let Some(route) = &ctx.route {
        route.response.response(head);
    }
    Ok(())
}

/// An answer before the answer is passed on, without what belongs to the connection or would frame a body.
fn inform(head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    ctx.upstream.informed += 1;
    if ctx.upstream.informed > MOST_INFORMED {
        return Err(Fault::UpstreamProtocol.into());
    }
    rebuild(head, |fields| {
        strip_hop_by_hop(fields, false);
        fields.remove(header::TRANSFER_ENCODING);
        fields.remove(header::CONTENT_LENGTH);
        Ok(())
    })
}

/// Statuses without a body have no framing to tell (RFC 9110 section 8.6, RFC 9112 section 6.1).
fn bodiless(status: StatusCode, fields: &mut HeaderMap) {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        fields.remove(header::TRANSFER_ENCODING);
    }
    if status == StatusCode::NO_CONTENT {
        fields.remove(header::CONTENT_LENGTH);
    }
}

/// What may not stand behind a body: framing, what belongs to a connection, and what had to be known before it (RFC 9110
/// section 6.5.1).
pub(super) fn trailers(fields: &mut HeaderMap) {
    let refused = |name: &HeaderName| {
        is_hop_by_hop(name)
            || matches!(
                *name,
                header::CONTENT_LENGTH
                    | header::TRANSFER_ENCODING
                    | header::CONTENT_ENCODING
                    | header::CONTENT_TYPE
                    | header::CONTENT_RANGE
                    | header::HOST
                    | header::SET_COOKIE
                    | header::CACHE_CONTROL
                    | header::AUTHORIZATION
                    | header::WWW_AUTHENTICATE
            )
    };
    while let Some(gone) = fields.keys().find(|name| refused(name)).cloned() {
        fields.remove(gone);
    }
}

/// A target has answered: what is learned of it.
pub(super) fn heard(head: &ResponseHeader, ctx: &mut Ctx) {
    ctx.upstream.answered = Some(Instant::now());
    if let Some(errand) = &ctx.upstream.errand {
        errand.answer();
        if let Some(keeps) = head.headers.get(field::KEEP_ALIVE).and_then(|said| habit::told(said.to_str().ok()?)) {
            errand.told(keeps);
        }
    }
    let waited = ctx.waited();
    if let Some(picked) = &mut ctx.picked {
        picked.answered(head.status.as_u16(), waited);
    }
}

/// Changes the fields of `head` as a map, and leaves the target's spelling of their names (RFC 9110 section 5.1: it means
/// nothing): each change through Pingora's own type would read the name again and keep a second map of spellings.
pub(super) fn rebuild<T>(
    head: &mut ResponseHeader,
    change: impl FnOnce(&mut HeaderMap) -> Result<T, Fault>,
) -> Result<T> {
    let own = head.get_reason_phrase().filter(|said| Some(*said) != head.status.canonical_reason()).map(str::to_owned);
    let old = std::mem::replace(head, ResponseHeader::build_no_case(StatusCode::OK, Some(0))?);
    let mut parts = response::Parts::from(old);
    let changed = change(&mut parts.headers);
    *head = ResponseHeader::from(parts);
    if let Some(own) = own {
        head.set_reason_phrase(Some(&own))?;
    }
    Ok(changed?)
}

/// RFC 9110 section 7.6.1; the framing itself is Pingora's.
pub(super) fn strip_hop_by_hop(fields: &mut HeaderMap, switching: bool) {
    if !fields.keys().any(is_hop_by_hop) {
        return;
    }
    if fields.get_all(header::CONNECTION).iter().any(|said| said != "keep-alive" && said != "close") {
        for name in connection_names(fields) {
            let framing =
                name == header::UPGRADE || name == header::TRANSFER_ENCODING || name == header::CONTENT_LENGTH;
            if !framing && name != header::CONNECTION {
                fields.remove(&name);
            }
        }
    }
    let stays = |name: &HeaderName| match *name {
        // Trailers are passed on, and with them the word that they come.
        header::TRAILER => true,
        header::CONNECTION | header::UPGRADE => switching,
        _ => !is_hop_by_hop(name),
    };
    while let Some(gone) = fields.keys().find(|name| !stays(name)).cloned() {
        fields.remove(gone);
    }
}

/// A body coded in a way that the client was not asked about cannot be passed on as it is.
fn check_coding(fields: &HeaderMap) -> Result<(), Fault> {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Fault::UpstreamProtocol),
    }
}

/// One length, said once; different ones were refused when they were read.
fn one_length(fields: &mut HeaderMap) {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return };
    let said = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    if (lengths.next().is_some() || said.len() < first.len())
        && let Ok(only) = HeaderValue::from_bytes(said)
    {
        fields.insert(header::CONTENT_LENGTH, only);
    }
}

/// The listener's `redirect: https`: same host and path, on the port that is https's own.
pub(super) async fn redirect_https(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let Some(intake) = &ctx.intake else { return Err(Fault::GatewayInternal.into()) };
    let request = session.req_header();
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = ResponseHeader::build(StatusCode::PERMANENT_REDIRECT, Some(4))?;
    head.insert_header(header::LOCATION, format!("https://{}{target}", intake.host))?;
    reply::write(session, head, Bytes::new(), ctx).await?;
    Ok(true)
}

/// The route's `redirect`.
pub(super) async fn redirect(session: &mut Session, ctx: &mut Ctx, redirect: &Redirect) -> Result<bool> {
    let Some(intake) = &ctx.intake else { return Err(Fault::GatewayInternal.into()) };
    let location = redirect.location(&View::of(session.req_header(), intake, &ctx.params), &ctx.params)?;
    let mut head = ResponseHeader::build(redirect.status, Some(4))?;
    head.insert_header(header::LOCATION, location)?;
    own(session, ctx, head, Bytes::new()).await
}

/// The route's `respond`.
pub(super) async fn respond(session: &mut Session, ctx: &mut Ctx, respond: &Respond) -> Result<bool> {
    let mut head = ResponseHeader::build(respond.status, Some(4))?;
    if let Some(kind) = &respond.kind {
        head.insert_header(header::CONTENT_TYPE, kind.clone())?;
    }
    own(session, ctx, head, respond.body.clone()).await
}

/// What a pool answers while no target takes requests; `false` where one does.
pub(super) async fn instead(session: &mut Session, ctx: &mut Ctx, answer: Option<&Answer>) -> Result<bool> {
    let Some(answer) = answer else { return Ok(false) };
    let mut head = ResponseHeader::build(answer.status, Some(4))?;
    if let Some(kind) = &answer.kind {
        head.insert_header(header::CONTENT_TYPE, kind.clone())?;
    }
    if let (429 | 503, Some(wait)) = (answer.status, ctx.retry_after) {
        head.insert_header(header::RETRY_AFTER, wait.as_secs().saturating_add(1))?;
    }
    own(session, ctx, head, answer.body.clone()).await
}

/// A status, and what there is to say of it.
pub(super) async fn short(session: &mut Session, ctx: &mut Ctx, status: StatusCode, body: Bytes) -> Result<bool> {
    own(session, ctx, ResponseHeader::build(status, Some(4))?, body).await
}

/// The answer of a guard: its fields are among what guards found.
pub(super) async fn by_guard(session: &mut Session, ctx: &mut Ctx, status: u16) -> Result<bool> {
    unchanging(session, ctx, ResponseHeader::build(status, Some(8))?, Bytes::new()).await
}

/// An answer of the route's own, with the route's changes to the fields of answers.
pub(super) async fn own(session: &mut Session, ctx: &mut Ctx, head: ResponseHeader, body: Bytes) -> Result<bool> {
    cache::changed(session, &head, ctx).await;
    unchanging(session, ctx, head, body).await
}

/// The same where nothing came of the request.
async fn unchanging(session: &mut Session, ctx: &mut Ctx, mut head: ResponseHeader, body: Bytes) -> Result<bool> {
    if let Some(route) = &ctx.route {
        route.response.response(&mut head);
    }
    let body = bodies::own(session, &mut head, body, ctx)?;
    reply::write(session, head, body, ctx).await?;
    Ok(true)
}
