//! Bodies that do not pass as they came: a request's before a target is chosen, an answer's on its way to the client, as the
//! target sent it or as the cache has kept it.
//!
//! An answer that changes as a whole keeps its head here until that is done: so its length is right, and what cannot be
//! changed is an error with a status, not an answer that breaks off. Pingora (0.9.1) has written a head once its filter has
//! run, but for informational ones that the session ignores: in its place goes one of those.

mod held;
mod tags;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use self::held::Held;
use super::ctx::Ctx;
use super::response::rebuild;
use super::view::View;
use super::whole::{self, Then};
use crate::exchange::{Found, Refusal};
use crate::fault::Fault;
use crate::policy::compress::{self, Asked, Encoder};
use crate::policy::decode::Coded;
use crate::policy::transform::{Facts, Side};
use crate::route::Route;

/// What is done with the bodies of one request.
#[derive(Debug, Default)]
pub struct Steps {
    /// The target gets another body than the client sent.
    sent: bool,
    /// The answer waits here for its end.
    held: Option<Held>,
    /// The line of the answer that has not ended yet.
    line: Option<BytesMut>,
    encoder: Option<Encoder>,
}

/// Changes the body of a request before a target is chosen.
pub(super) async fn read(session: &mut Session, route: &Route, ctx: &mut Ctx) -> Result<()> {
    if let Some(side) = route.bodies.response() {
        // A part of what will be changed is a part of nothing.
        session.req_header_mut().remove_header(&header::RANGE);
        session.req_header_mut().remove_header(&header::IF_RANGE);
        tags::ask(session, route, side, ctx);
    }
    let Some(side) = route.bodies.request() else { return Ok(()) };
    if session.is_body_empty() || session.is_upgrade_req() {
        return Ok(());
    }
    let request = session.req_header();
    let form = side.form(request.headers.get(header::CONTENT_TYPE)).map_err(|refusal| ctx.refuse(refusal))?;
    let Some(form) = form else { return Ok(()) };
    let coded = Coded::of(&request.headers).map_err(|why| ctx.refuse(side.unreadable(why)))?;
    if compress::content_length(&request.headers).is_some_and(|length| length > side.most() as u64) {
        return Err(ctx.refuse(side.too_large()).into());
    }
    Box::pin(whole::read(session, side.most(), Then::Forward, ctx)).await?;
    let Some(body) = ctx.whole.clone().filter(|body| !body.is_empty()) else { return Ok(()) };
    // What is validated is what the client sent.
    let (mut piece, bytes) = (Some(body.clone()), session.body_bytes_read() as u64);
    ctx.look_at_body(&mut piece, true, bytes, &session.req_header().method)?;
    if let Some(found) = &mut ctx.found {
        found.shape = None;
    }
    let made = changed(session, route, side, None, ctx, |facts| side.whole(&body, coded, form, facts));
    ctx.whole = Some(made.map_err(|refusal| ctx.refuse(refusal))?.into());
    ctx.steps.get_or_insert_default().sent = true;
    Ok(())
}

/// What the target is told of the bodies: that of the request is another one, that of the answer is read here.
pub(super) fn ask(out: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let Some(route) = ctx.route.as_ref().filter(|route| route.bodies.transform.is_some()) else { return Ok(()) };
    if let Some(side) = route.bodies.request().filter(|_| ctx.steps.as_ref().is_some_and(|steps| steps.sent)) {
        for name in ["content-encoding", "content-md5", "digest", "content-digest", "repr-digest"] {
            out.remove_header(name);
        }
        if let Some(kind) = side.kind() {
            out.insert_header(header::CONTENT_TYPE, kind)?;
        }
    }
    if route.bodies.response().is_some() {
        out.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    }
    Ok(())
}

/// Does it with all that is known of the request.
fn changed<T>(
    session: &Session,
    route: &Route,
    side: &Side,
    status: Option<u16>,
    ctx: &Ctx,
    deed: impl FnOnce(&Facts<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let Some(intake) = &ctx.intake else { return Err(side.part()) };
    let request = session.req_header();
    let view = View::of(request, intake, &ctx.params);
    let params = ctx.params.all(request.uri.path());
    let identity = ctx.found.as_ref().map(|found| &found.identity);
    deed(&Facts { request: &view, identity, params: &params, route: route.name.as_str(), status })
}

/// The head of an answer goes to the client: decides what becomes of its body.
pub(super) fn begin(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(route) = ctx.route.clone().filter(|route| route.bodies.change_answers()) else { return Ok(()) };
    // Nobody reads what is only fetched to be kept.
    if head.status.is_informational() || ctx.cached.as_ref().is_some_and(|cached| cached.is_refresh()) {
        return Ok(());
    }
    let mut steps = ctx.steps.take().unwrap_or_default();
    (steps.held, steps.line, steps.encoder) = (None, None, None);
    if let Some(side) = route.bodies.response()
        && held::hold(session, &route, side, head, &mut steps, ctx)?
    {
        ctx.steps = Some(steps);
        return Ok(());
    }
    steps.encoder = encoder(session, &route, head, ctx)?;
    ctx.steps = Some(steps).filter(|steps| steps.sent || steps.line.is_some() || steps.encoder.is_some());
    Ok(())
}

/// What makes the answer smaller; its head says so from then on.
fn encoder(session: &mut Session, route: &Route, head: &mut ResponseHeader, ctx: &Ctx) -> Result<Option<Encoder>> {
    let Some(compress) = &route.bodies.compress else { return Ok(None) };
    let (status, had_length) = (head.status, head.headers.contains_key(header::CONTENT_LENGTH));
    let request = session.req_header();
    let asked = Asked { method: &request.method, headers: &request.headers, shown: shown(ctx) };
    let encoder = rebuild(head, |fields| Ok(compress.begin(&asked, status, fields)))?;
    if had_length && !head.headers.contains_key(header::CONTENT_LENGTH) {
        unframe(session, head)?;
    }
    Ok(encoder)
}

/// Whether the client was known by what its browser shows to all.
fn shown(ctx: &Ctx) -> bool {
    let tls = ctx.connection.as_ref().and_then(|connection| connection.tls.as_ref());
    tls.is_some_and(|tls| tls.client.is_some())
}

/// An answer whose length is not known beforehand: in chunks, or as long as its connection lasts.
fn unframe(session: &mut Session, head: &mut ResponseHeader) -> Result<()> {
    let request = session.req_header();
    let bodiless = request.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
    if request.version == Version::HTTP_10 {
        session.set_keepalive(None);
    } else if !bodiless {
        head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    Ok(())
}

/// A piece of it goes to the client.
pub(super) fn piece(session: &mut Session, piece: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    let Some(mut steps) = ctx.steps.take() else { return Ok(()) };
    let given = piece.take().unwrap_or_default();
    if given.is_empty() && !end {
        ctx.steps = Some(steps);
        return Ok(());
    }
    *piece = through(session, &mut steps, given, end, ctx)?;
    ctx.steps = Some(steps);
    Ok(())
}

fn through(session: &mut Session, steps: &mut Steps, given: Bytes, end: bool, ctx: &mut Ctx) -> Result<Option<Bytes>> {
    let Some(route) = ctx.route.clone() else { return Ok(Some(given)) };
    let Some(side) = route.bodies.response().filter(|_| steps.held.is_some() || steps.line.is_some()) else {
        return coded(steps, given, end).map(Some);
    };
    if let Some(held) = &mut steps.held {
        held.take(&given, side).map_err(|refusal| ctx.refuse(refusal))?;
        if !end {
            return Ok(None);
        }
    }
    let made = match steps.held.take() {
        Some(held) => held.change(session, &route, side, steps, ctx)?,
        None => lines(session, &route, side, steps, &given, end, ctx)?,
    };
    if made.is_empty() && !end { Ok(None) } else { coded(steps, made, end).map(Some) }
}

fn coded(steps: &mut Steps, given: Bytes, end: bool) -> Result<Bytes> {
    match &mut steps.encoder {
        Some(encoder) => encoder.piece(&given, end).map_err(|_| Fault::GatewayInternal.into()),
        None => Ok(given),
    }
}

/// The lines that have ended, changed; what begins another one waits.
fn lines(
    session: &Session,
    route: &Route,
    side: &Side,
    steps: &mut Steps,
    given: &[u8],
    end: bool,
    ctx: &mut Ctx,
) -> Result<Bytes> {
    let Some(waiting) = &mut steps.line else { return Ok(Bytes::new()) };
    let made = changed(session, route, side, None, ctx, |facts| {
        let (mut made, mut rest) = (Vec::new(), given);
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at_checked(at + 1).unwrap_or((rest, &[]));
            waiting.extend_from_slice(line);
            side.line(&waiting.split(), facts, &mut made)?;
            rest = after;
        }
        waiting.extend_from_slice(rest);
        if end || waiting.len() > side.most() {
            side.line(&waiting.split(), facts, &mut made)?;
        }
        Ok(made)
    });
    Ok(made.map_err(|refusal| ctx.refuse(refusal))?.into())
}

/// What is still owed where an answer ends with trailers; they are lost with it.
pub(super) fn rest(session: &mut Session, ctx: &mut Ctx) -> Result<Option<Bytes>> {
    if ctx.steps.as_ref().is_none_or(|steps| steps.held.is_none() && steps.line.is_none() && steps.encoder.is_none()) {
        return Ok(None);
    }
    let mut owed = None;
    piece(session, &mut owed, true, ctx)?;
    Ok(owed)
}

/// An answer of the route's own, whose body is here as a whole; to HEAD its head is as to GET.
pub(super) fn own(session: &Session, head: &mut ResponseHeader, body: Bytes, ctx: &Ctx) -> Result<Bytes> {
    let compress = ctx.route.as_ref().and_then(|route| route.bodies.compress.as_ref());
    let Some(compress) = compress.filter(|_| !body.is_empty()) else { return Ok(body) };
    let cookie = |found: &Found| found.answer.iter().any(|(name, _)| *name == header::SET_COOKIE);
    let cookie = ctx.found.as_deref().is_some_and(cookie);
    let request = session.req_header();
    let asked = Asked { method: &Method::GET, headers: &request.headers, shown: shown(ctx) || cookie };
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    let status = head.status;
    let encoder = rebuild(head, |fields| Ok(compress.begin(&asked, status, fields)))?;
    let Some(mut encoder) = encoder else { return Ok(body) };
    encoder.piece(&body, true).map_err(|_| Fault::GatewayInternal.into())
}
