//! The body of an answer on its way to the client, as the target sent it or as the cache has kept it: what the route makes
//! of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::response::rebuild;
use crate::exchange::Found;
use crate::fault::Fault;
use crate::policy::compress::{Asked, Encoder};
use crate::route::Route;

/// What is done with the pieces of one answer.
#[derive(Debug, Default)]
pub struct Steps {
    encoder: Option<Encoder>,
}

/// The head of an answer goes to the client: decides what becomes of its body.
pub(super) fn begin(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(route) = ctx.route.clone().filter(|route| route.bodies.change_answers()) else { return Ok(()) };
    if head.status.is_informational() {
        return Ok(());
    }
    let (status, had_length) = (head.status, head.headers.contains_key(header::CONTENT_LENGTH));
    let request = session.req_header();
    let asked = Asked { method: &request.method, headers: &request.headers, shown: shown(ctx) };
    ctx.steps = rebuild(head, |fields| Ok(decide(&route, &asked, status, fields)))?;
    if had_length && !head.headers.contains_key(header::CONTENT_LENGTH) {
        unframe(session, head)?;
    }
    Ok(())
}

fn decide(route: &Route, asked: &Asked<'_>, status: StatusCode, fields: &mut HeaderMap) -> Option<Box<Steps>> {
    let encoder = route.bodies.compress.as_ref()?.begin(asked, status, fields)?;
    Some(Box::new(Steps { encoder: Some(encoder) }))
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
pub(super) fn piece(piece: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    let Some(steps) = &mut ctx.steps else { return Ok(()) };
    let given = piece.take().unwrap_or_default();
    if given.is_empty() && !end {
        return Ok(());
    }
    *piece = Some(match &mut steps.encoder {
        Some(encoder) => encoder.piece(&given, end).map_err(|_| Fault::GatewayInternal)?,
        None => given,
    });
    Ok(())
}

/// What is still owed where an answer ends with trailers; they are lost with it.
pub(super) fn rest(ctx: &mut Ctx) -> Result<Option<Bytes>> {
    if ctx.steps.is_none() {
        return Ok(None);
    }
    let mut owed = None;
    piece(&mut owed, true, ctx)?;
    Ok(owed)
}

/// An answer of the route's own, whose body is here as a whole; to HEAD its head is as to GET.
pub(super) fn own(session: &Session, head: &mut ResponseHeader, body: Bytes, ctx: &Ctx) -> Result<Bytes> {
    let Some(route) = ctx.route.as_ref().filter(|route| route.bodies.compress.is_some() && !body.is_empty()) else {
        return Ok(body);
    };
    let cookie = |found: &Found| found.answer.iter().any(|(name, _)| *name == header::SET_COOKIE);
    let cookie = ctx.found.as_deref().is_some_and(cookie);
    let request = session.req_header();
    let asked = Asked { method: &Method::GET, headers: &request.headers, shown: shown(ctx) || cookie };
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    let status = head.status;
    let steps = rebuild(head, |fields| Ok(decide(route, &asked, status, fields)))?;
    let Some(mut encoder) = steps.and_then(|steps| steps.encoder) else { return Ok(body) };
    encoder.piece(&body, true).map_err(|_| Fault::GatewayInternal.into())
}
