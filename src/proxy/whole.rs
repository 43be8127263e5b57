//! The body of a request, read as a whole before a target is chosen: some policies must see it, some answers are made of it.
//!
//! Pingora (0.9.1) sends a body that was read before only from its own buffer of 64 KiB, so the end of the body goes through
//! that buffer; what the target gets is ours. A body that does not say its length has no end that can be told beforehand.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use pingora_error::{Error, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use tokio::time::timeout_at;

use super::ctx::Ctx;
use super::pace;
use crate::fault::Fault;

/// What Pingora's buffer holds.
const BUFFERED: usize = 64 << 10;

/// What becomes of the body that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes to a target, changed or not.
    Forward,
    /// The request is answered without Pingora's way to a target.
    Answer,
}

/// Reads the whole body into [`Ctx::whole`], `most` bytes at most; a body that was read already stays as it is.
pub(super) async fn read(session: &mut Session, most: usize, then: Then, ctx: &mut Ctx) -> Result<()> {
    if ctx.whole.is_some() {
        return Ok(());
    }
    if session.is_body_empty() {
        ctx.whole = Some(Bytes::new());
        return Ok(());
    }
    let announced = announced(session.req_header());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large(ctx, format!("more than the {most} bytes that are read as a whole")).into());
    }
    if session.req_header().headers.contains_key(header::EXPECT) && !session.is_http2() {
        session.write_continue_response().await.map_err(Error::into_down)?;
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or_default().min(BUFFERED));
    let begun = Instant::now();
    loop {
        // No piece is longer than the buffer: of a known length, its end always fits.
        if then == Then::Forward && announced.is_none_or(|length| length - body.len().min(length) <= BUFFERED) {
            session.enable_retry_buffering();
        }
        let Some(piece) = piece(session, body.len(), begun, ctx).await? else { break };
        body.extend_from_slice(&piece);
        ctx.receive(session.body_bytes_read() as u64)?;
        if body.len() > most {
            return Err(too_large(ctx, format!("more than the {most} bytes that are read as a whole")).into());
        }
        if then == Then::Forward && session.as_ref().retry_buffer_truncated() {
            return Err(too_large(ctx, format!("more than {BUFFERED} bytes without a content-length")).into());
        }
    }
    ctx.whole = Some(body.freeze());
    Ok(())
}

/// The next piece, which must not be too long in coming.
async fn piece(session: &mut Session, so_far: usize, begun: Instant, ctx: &Ctx) -> Result<Option<Bytes>> {
    let Some(connection) = &ctx.connection else { return Err(Fault::GatewayInternal.into()) };
    let until = begun + pace::allowed(so_far as u64, connection.listener.limits.body_rate.bytes_per_second());
    match timeout_at(until.into(), session.read_request_body()).await {
        Ok(piece) => piece.map_err(Error::into_down),
        Err(_) => Err(Fault::RequestTimeout.into()),
    }
}

fn announced(request: &RequestHeader) -> Option<usize> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(ctx: &mut Ctx, why: String) -> Fault {
    ctx.why = Some(why);
    Fault::BodyTooLarge
}

/// What the target is told of a body that was read as a whole: its length, and that nobody waits to be asked for it.
pub(super) fn frame(out: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let Some(whole) = ctx.whole.as_ref().filter(|whole| !whole.is_empty()) else { return Ok(()) };
    out.remove_header(&header::TRANSFER_ENCODING);
    out.remove_header(&header::EXPECT);
    out.insert_header(header::CONTENT_LENGTH, HeaderValue::from(whole.len()))
}

/// In place of what Pingora has kept of it, the target gets the whole.
pub(super) fn replace(piece: &mut Option<Bytes>, end: bool, ctx: &Ctx) {
    if let Some(whole) = ctx.whole.as_ref().filter(|whole| !whole.is_empty()) {
        *piece = Some(if end { whole.clone() } else { Bytes::new() });
    }
}
