//! Calls of clients that speak gRPC-Web, changed on their way to the target and back.

use bytes::Bytes;
use http::{HeaderMap, Method};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::response::rebuild;
use crate::fault::Fault;
use crate::policy::grpc_web::Web;

/// Whether the request is one of these; then it goes on as one.
pub(super) fn begin(request: &RequestHeader, ctx: &mut Ctx) {
    if ctx.route.as_ref().is_some_and(|route| route.bodies.grpc_web) && request.method == Method::POST {
        ctx.web = Web::of(&request.headers).map(Box::new);
    }
}

/// The head of a try.
pub(super) fn ask(out: &mut RequestHeader, ctx: &mut Ctx) {
    let Some(web) = &mut ctx.web else { return };
    let mut parts = out.as_owned_parts();
    web.ask(&mut parts.headers);
    *out = RequestHeader::from(parts);
}

/// A piece of the request.
pub(super) fn sent(piece: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<(), Fault> {
    let Some(web) = &mut ctx.web else { return Ok(()) };
    let changed = web.sent(piece.as_ref().unwrap_or(&Bytes::new()), end);
    let Some(changed) = changed else {
        ctx.why = Some("the body is not base64".to_owned());
        return Err(Fault::RequestMalformed);
    };
    if piece.is_some() || !changed.is_empty() {
        *piece = Some(changed);
    }
    Ok(())
}

/// The head of the answer.
pub(super) fn answered(head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    match &mut ctx.web {
        Some(web) if !head.status.is_informational() => rebuild(head, |fields| {
            web.answered(fields);
            Ok(())
        }),
        _ => Ok(()),
    }
}

/// A piece of the answer; behind the last one something has to say how it ended.
pub(super) fn received(piece: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) {
    let Some(web) = &mut ctx.web else { return };
    let changed = piece.as_ref().map(|piece| web.received(piece));
    let last = if end { web.cut(Fault::UpstreamProtocol.row().grpc, "the answer has no trailers") } else { None };
    *piece = match (changed, last) {
        (Some(changed), Some(last)) => Some([changed, last].concat().into()),
        (changed, last) => changed.or(last),
    };
}

/// What stands behind the answer goes into its body.
pub(super) fn trailers(trailers: &HeaderMap, ctx: &mut Ctx) -> Option<Bytes> {
    ctx.web.as_mut()?.trailers(trailers)
}

/// The last frame of an answer that breaks off; `false` where none can be written.
pub(super) async fn break_off(session: &mut Session, fault: Fault, ctx: &mut Ctx) -> bool {
    let Some(frame) = ctx.web.as_mut().and_then(|web| web.cut(fault.row().grpc, fault.code())) else { return false };
    session.write_response_body(Some(frame), true).await.is_ok()
}
