//! Writes a response of our own: a redirect, a fixed answer, or an apology.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::graphql;
use super::grpc_web;
use super::intake::field;
use crate::answer::{Answers, Asked};
use crate::fault::Fault;
use crate::policy::grpc_web::{Web, is_web};
use crate::pool::timeout::is_grpc_kind;

/// What every answer of our own carries.
pub(super) fn own_fields(head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    head.insert_header(field::X_REQUEST_ID, ctx.id())?;
    say_found(head, ctx)
}

/// Writes `head` and `body`, with what every answer carries; a HEAD request gets no body.
pub(super) async fn write(session: &mut Session, mut head: ResponseHeader, body: Bytes, ctx: &Ctx) -> Result<()> {
    own_fields(&mut head, ctx)?;
    // RFC 9110 section 8.6: neither has a length to tell.
    if !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    let body = if session.req_header().method == Method::HEAD { Bytes::new() } else { body };
    send(session, head, body).await
}

/// The head of an answer that comes piece by piece.
pub(super) async fn begin(session: &mut Session, mut head: ResponseHeader, ctx: &Ctx) -> Result<()> {
    head.insert_header(field::X_REQUEST_ID, ctx.id())?;
    say_found(&mut head, ctx)?;
    if session.req_header().version == Version::HTTP_10 {
        // No chunks for HTTP/1.0: such an answer ends with its connection.
        session.set_keepalive(None);
    } else if !session.is_http2() {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    let silent = session.req_header().method == Method::HEAD;
    head_out(session, head, silent).await?;
    // Over HTTP/2 an answer without a body needs its end said too.
    if silent && session.is_http2() { piece_out(session, None, true).await } else { Ok(()) }
}

/// Writes a head; whoever does not take it is gone.
pub(super) async fn head_out(session: &mut Session, head: ResponseHeader, end: bool) -> Result<()> {
    session.write_response_header(Box::new(head), end).await.map_err(Error::into_down)
}

/// The same with what follows.
pub(super) async fn piece_out(session: &mut Session, piece: Option<Bytes>, end: bool) -> Result<()> {
    session.write_response_body(piece, end).await.map_err(Error::into_down)
}

/// What guards add to every answer, and to a refusal of their own.
pub(super) fn say_found(head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let Some(found) = &ctx.found else { return Ok(()) };
    for (name, value) in found.answer.iter().chain(found.refused.iter().flat_map(|refusal| &refusal.fields)) {
        if [header::VARY, header::WWW_AUTHENTICATE, header::SET_COOKIE].contains(name) {
            head.append_header(name, value)?;
        } else {
            head.insert_header(name, value)?;
        }
    }
    Ok(())
}

/// Writes an answer of our own that has all that it needs.
pub(super) async fn send(session: &mut Session, mut head: ResponseHeader, body: Bytes) -> Result<()> {
    // Browsers see no trailers: there the head says it all.
    let web = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| is_web(kind.as_bytes()));
    let trailers = if session.is_http2() && !web { grpc_trailers(&mut head) } else { None };
    put(session, head, body, trailers).await
}

/// The same for an answer of a target: its fields stay where that has put them.
pub(super) async fn pass(session: &mut Session, head: ResponseHeader, body: Bytes) -> Result<()> {
    put(session, head, body, None).await
}

async fn put(session: &mut Session, head: ResponseHeader, body: Bytes, trailers: Option<HeaderMap>) -> Result<()> {
    if !session.is_body_empty() && !session.downstream_session.is_body_done() {
        // What is left of the request is not read: the connection ends with this answer.
        session.set_keepalive(None);
    }
    let silent = body.is_empty() && trailers.is_none();
    head_out(session, head, silent).await?;
    match trailers {
        Some(trailers) => session.downstream_session.write_response_trailers(trailers).await.map_err(Error::into_down),
        // Over HTTP/2 an answer without a body needs its end said too.
        None if !silent || session.is_http2() => piece_out(session, Some(body), true).await,
        None => Ok(()),
    }
}

/// What gRPC clients look for behind the answer: the status and its text.
fn grpc_trailers(head: &mut ResponseHeader) -> Option<HeaderMap> {
    let names = [HeaderName::from_static("grpc-status"), HeaderName::from_static("grpc-message")];
    let trailers: HeaderMap =
        names.into_iter().filter_map(|name| head.remove_header(&name).map(|value| (name, value))).collect();
    (!trailers.is_empty()).then_some(trailers)
}

/// Answers with what the one table says of `fault`, in the client's language. Nothing is written after a response
/// has begun: the connection or stream is cut instead, so that the client sees that the answer is not whole.
pub(super) async fn apologise(session: &mut Session, fault: Fault, answers: &Answers, ctx: &mut Ctx) -> Result<()> {
    ctx.cut = session.response_written().is_some_and(|written| !written.status.is_informational());
    if ctx.cut || fault == Fault::ClientGone {
        session.set_keepalive(None);
        if fault != Fault::ClientGone {
            // Who speaks gRPC-Web can be told in the body.
            grpc_web::break_off(session, fault, ctx).await;
        }
        return Ok(());
    }
    let request = session.req_header();
    let accept = request.headers.get(header::ACCEPT_LANGUAGE).and_then(|languages| languages.to_str().ok());
    let kind = request.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let grpc = kind.is_some_and(is_grpc_kind);
    let asked = Asked {
        request_id: ctx.id(),
        accept_language: accept,
        head: request.method == Method::HEAD,
        grpc,
        allow: ctx.allow.as_deref(),
        retry_after: ctx.retry_after,
        cause: Some((fault, ctx.why.as_deref())),
        errors: ctx.found.as_ref().and_then(|found| found.refused.as_ref()).map_or(&[], |refusal| &refusal.errors),
    };
    let answer = answers.answer(fault.outside(), &asked);
    let mut head = answer.header()?;
    if let Some(web) = Web::of(&request.headers).filter(|_| request.method == Method::POST) {
        head.insert_header(header::CONTENT_TYPE, web.own_kind())?;
        head.insert_header(header::CONTENT_LENGTH, 0)?;
    }
    say_found(&mut head, ctx)?;
    let body = graphql::shape(request, fault, &mut head, answer.body, ctx)?;
    send(session, head, body).await
}
