//! Bodies that do not pass as they came: a request's before a target is chosen, an answer's on its way to the client, as the
//! target sent it or as the cache has kept it.
//!
//! An answer that changes as a whole keeps its head here until that is done: so its length is right, and what cannot be
//! changed is an error with a status, not an answer that breaks off. Pingora (0.9.1) has written a head once its filter has
//! run, but for informational ones that the session ignores: in its place goes one of those.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::response::rebuild;
use super::view::View;
use super::whole::{self, Then};
use crate::exchange::{Found, Refusal};
use crate::fault::Fault;
use crate::policy::compress::{self, Asked, Encoder};
use crate::policy::decode::Coded;
use crate::policy::transform::{Facts, Form, Side};
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

/// An answer that changes as a whole.
#[derive(Debug)]
struct Held {
    head: Box<ResponseHeader>,
    body: BytesMut,
    coded: Coded,
    form: Form,
}

/// Changes the body of a request before a target is chosen.
pub(super) async fn read(session: &mut Session, route: &Route, ctx: &mut Ctx) -> Result<()> {
    if route.bodies.response().is_some() {
        // A part of what will be changed is a part of nothing.
        session.req_header_mut().remove_header(&header::RANGE);
        session.req_header_mut().remove_header(&header::IF_RANGE);
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
    if head.status.is_informational() {
        return Ok(());
    }
    let mut steps = ctx.steps.take().unwrap_or_default();
    (steps.held, steps.line, steps.encoder) = (None, None, None);
    if let Some(side) = route.bodies.response()
        && hold(session, side, head, &mut steps, ctx)?
    {
        ctx.steps = Some(steps);
        return Ok(());
    }
    steps.encoder = encoder(session, &route, head, ctx)?;
    ctx.steps = Some(steps).filter(|steps| steps.sent || steps.line.is_some() || steps.encoder.is_some());
    Ok(())
}

/// Prepares for an answer that changes; whether its head stays here until its end.
fn hold(
    session: &mut Session,
    side: &Side,
    head: &mut ResponseHeader,
    steps: &mut Steps,
    ctx: &mut Ctx,
) -> Result<bool> {
    let form = form(session, side, head).map_err(|refusal| ctx.refuse(refusal))?;
    let Some((coded, form)) = form else { return Ok(false) };
    rebuild(head, |fields| {
        of_changed(side, fields);
        Ok(())
    })?;
    if session.req_header().method == Method::HEAD {
        return Ok(false);
    }
    if form == Form::Lines && coded == Coded::Plain {
        steps.line = Some(BytesMut::new());
        unframe(session, head)?;
        return Ok(false);
    }
    session.set_ignore_info_resp(true);
    let head = std::mem::replace(head, ResponseHeader::build(StatusCode::PROCESSING, Some(0))?);
    steps.held = Some(Held { head: Box::new(head), body: BytesMut::new(), coded, form });
    Ok(true)
}

/// How the body of this answer is read; nothing where it passes as it is.
fn form(session: &Session, side: &Side, head: &mut ResponseHeader) -> Result<Option<(Coded, Form)>, Refusal> {
    if head.status == StatusCode::NOT_MODIFIED {
        let mut weak = HeaderMap::new();
        if let Some(tag) = head.headers.get(header::ETAG) {
            weak.insert(header::ETAG, tag.clone());
            compress::still_the_same(&session.req_header().headers, &mut weak);
        }
        // A name that is known and a value that was one.
        let _ = weak.remove(header::ETAG).map(|tag| head.insert_header(header::ETAG, tag));
    }
    let length = compress::content_length(&head.headers);
    let empty = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) || length == Some(0);
    if !head.status.is_success() || empty {
        return Ok(None);
    }
    let Some(form) = side.form(head.headers.get(header::CONTENT_TYPE))? else { return Ok(None) };
    if head.status == StatusCode::PARTIAL_CONTENT {
        return Err(side.part());
    }
    let coded = Coded::of(&head.headers).map_err(|why| side.unreadable(why))?;
    if form == Form::Whole && length.is_some_and(|length| length > side.most() as u64) {
        return Err(side.too_large());
    }
    Ok(Some((coded, form)))
}

/// The head of an answer whose body is changed.
fn of_changed(side: &Side, fields: &mut HeaderMap) {
    fields.remove(header::CONTENT_LENGTH);
    fields.remove(header::CONTENT_ENCODING);
    compress::of_other_bytes(fields);
    if let Some(kind) = side.kind() {
        fields.insert(header::CONTENT_TYPE, kind.clone());
    }
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
        if held.body.len() + given.len() > side.most() {
            return Err(ctx.refuse(side.too_large()).into());
        }
        held.body.extend_from_slice(&given);
        if !end {
            return Ok(None);
        }
    }
    let made = if let Some(held) = steps.held.take() {
        let status = Some(held.head.status.as_u16());
        let made =
            changed(session, &route, side, status, ctx, |facts| side.whole(&held.body, held.coded, held.form, facts));
        let made = Bytes::from(made.map_err(|refusal| ctx.refuse(refusal))?);
        let mut head = *held.head;
        head.remove_header(&header::TRANSFER_ENCODING);
        head.insert_header(header::CONTENT_LENGTH, made.len())?;
        steps.encoder = encoder(session, &route, &mut head, ctx)?;
        say(session, head)?;
        made
    } else {
        lines(session, &route, side, steps, &given, end, ctx)?
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

/// Writes the head that was kept. Nothing was written before it, so that it goes into the socket at once; where it does not,
/// the answer ends here.
fn say(session: &mut Session, mut head: ResponseHeader) -> Result<()> {
    head.set_version(Version::HTTP_11);
    let written = session.downstream_session.write_response_header(Box::new(head)).now_or_never();
    written.unwrap_or_else(|| Err(Fault::ClientGone.into())).map_err(Error::into_down)
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
