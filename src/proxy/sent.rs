//! The body of a request on its way to the target, piece by piece.

use bytes::Bytes;
use pingora_error::{Error, Result};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::{Aside, copy, grpc_web, pace, whole};

/// Looks at a piece as it passes. A further try sends what came before once more: what was read counts, once.
pub(super) fn piece(
    session: &Session,
    piece: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
    aside: &Aside,
) -> Result<()> {
    whole::replace(piece, end, ctx);
    let bytes = session.body_bytes_read() as u64;
    let came = pace::check(bytes, session.is_http2(), ctx).and_then(|()| ctx.receive(bytes));
    let came = came.and_then(|()| ctx.look_at_body(piece, end, bytes, &session.req_header().method));
    let came = came.and_then(|()| grpc_web::sent(piece, end, ctx));
    if end {
        ctx.upstream.all_sent();
    }
    if came.is_ok() {
        copy::receive(session.req_header(), piece.as_ref(), end, ctx, aside);
    }
    // Pingora (0.9.1) would write an empty last piece as a chunk of no length, which ends the body, and then end it once
    // more: the target would take that for the next request on its connection.
    if end && piece.as_ref().is_some_and(Bytes::is_empty) {
        *piece = None;
    }
    // Said to be the client's: any other error waits for the answer of a target that speaks HTTP/2.
    came.map_err(|fault| Box::<Error>::from(fault).into_down())
}
