//! What the client is told of a call: one document at its end, or every message at once.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::time::sleep;

use super::{lost, metadata, unless_gone};
use crate::fault::Fault;
use crate::policy::transcode::{Answer, Binding, Failed, Shape, Status, Transcode};
use crate::pool::call::Answering;
use crate::pool::timeout::is_grpc;
use crate::proxy::ctx::Ctx;
use crate::proxy::response::rebuild;
use crate::proxy::view::View;
use crate::proxy::{again, cache, reply, response};

/// How long the head of a stream waits for the first message, which may be an error in its place.
const HESITATION: Duration = Duration::from_millis(100);

/// One call and what becomes of its answer.
pub(super) struct Telling<'t> {
    transcode: &'t Transcode,
    answer: Answer<'t>,
    shape: Shape,
}

impl<'t> Telling<'t> {
    pub(super) fn new(transcode: &'t Transcode, binding: &'t Binding, out: &RequestHeader) -> Self {
        let lines = out.headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let answer = transcode.answer(binding, &lines.collect::<Vec<_>>());
        Self { transcode, shape: answer.shape(), answer }
    }

    pub(super) async fn tell(mut self, session: &mut Session, ctx: &mut Ctx, mut from: Answering) -> Result<bool> {
        let head = from.head().clone();
        if head.status.as_u16() != 200 || !is_grpc(&head.headers) {
            let status = head.status;
            from.leave();
            return Err(broken(ctx, format!("the target answers {status}, and not by gRPC")).into());
        }
        again::by_call(ctx, from.tries());
        let told = match self.shape {
            Shape::Document => self.document(session, ctx, &mut from, &head).await,
            _ => self.stream(session, ctx, &mut from, &head).await,
        };
        again::by_call(ctx, from.tries());
        told
    }

    /// The only message, once the call has ended well.
    async fn document(
        &mut self,
        session: &mut Session,
        ctx: &mut Ctx,
        from: &mut Answering,
        head: &ResponseHeader,
    ) -> Result<bool> {
        let mut message = None;
        while let Some(piece) = next(session, ctx, from).await? {
            self.answer.push(&piece);
            while let Some(next) = self.message(ctx)? {
                if message.replace(next).is_some() {
                    return Err(broken(ctx, "more than one message answers the call".to_owned()).into());
                }
            }
        }
        again::by_call(ctx, from.tries());
        let none = HeaderMap::new();
        let (head, trailers) = (&head.headers, from.trailers().unwrap_or(&none));
        let status = self.status(ctx, head, trailers)?;
        let mut answer = ResponseHeader::build(status.http(), Some(8))?;
        rebuild(&mut answer, |fields| {
            metadata(head, fields);
            metadata(trailers, fields);
            Ok(())
        })?;
        if !status.is_ok() {
            return self.problem(session, ctx, answer, &status).await;
        }
        let Some((kind, body)) = message else {
            return Err(broken(ctx, "the call ended well without a message".to_owned()).into());
        };
        answer.insert_header(header::CONTENT_TYPE, kind.as_deref().unwrap_or("application/json"))?;
        own(session, ctx, &mut answer)?;
        response::own(session, ctx, answer, body).await
    }

    /// How the call has ended.
    fn status(&self, ctx: &mut Ctx, head: &HeaderMap, trailers: &HeaderMap) -> Result<Status> {
        if self.answer.is_inside() {
            return Err(broken(ctx, "the answer ends inside a message".to_owned()).into());
        }
        let status = Status::of(trailers).or_else(|| Status::of(head));
        status.ok_or_else(|| broken(ctx, "the answer ends without a status".to_owned()).into())
    }

    async fn problem(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        mut answer: ResponseHeader,
        status: &Status,
    ) -> Result<bool> {
        ctx.why = Some(format!("the service says {}", status.name()));
        let body = self.transcode.problem(status, ctx.id()).to_string() + "\n";
        answer.insert_header(header::CONTENT_TYPE, "application/problem+json")?;
        if let Some(wait) = status.wait() {
            answer.insert_header(header::RETRY_AFTER, wait)?;
        }
        own(session, ctx, &mut answer)?;
        response::own(session, ctx, answer, body.into()).await
    }

    fn message(&mut self, ctx: &mut Ctx) -> Result<Option<(Option<String>, Bytes)>> {
        self.answer.message().map_err(|why: Failed| broken(ctx, why.to_string()).into())
    }

    /// Every message at once.
    async fn stream(
        &mut self,
        session: &mut Session,
        ctx: &mut Ctx,
        from: &mut Answering,
        head: &ResponseHeader,
    ) -> Result<bool> {
        let only_head = session.req_header().method == Method::HEAD;
        let (mut begun, mut piece) = self.hesitate(session, ctx, from, head).await?;
        loop {
            if begun && only_head {
                return Ok(true);
            }
            match piece {
                Ok(Some(piece)) => self.answer.push(&piece),
                Ok(None) => break,
                Err(why) => return self.break_off(session, ctx, begun, why).await,
            }
            while let Some((kind, text)) = match self.message(ctx) {
                Ok(message) => message,
                Err(why) => return self.break_off(session, ctx, begun, why).await,
            } {
                if !std::mem::replace(&mut begun, true) {
                    self.begin(session, ctx, head, kind.as_deref()).await?;
                }
                if !only_head {
                    session.write_response_body(Some(text), false).await?;
                }
            }
            piece = next(session, ctx, from).await;
        }
        let trailers = from.trailers().cloned().unwrap_or_default();
        self.end(session, ctx, &trailers, head, begun).await
    }

    /// All messages are out: says how the call has ended.
    async fn end(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        trailers: &HeaderMap,
        head: &ResponseHeader,
        begun: bool,
    ) -> Result<bool> {
        let status = match self.status(ctx, &head.headers, trailers) {
            Ok(status) => status,
            Err(why) => return self.break_off(session, ctx, begun, why).await,
        };
        if !begun && !status.is_ok() {
            let mut answer = ResponseHeader::build(status.http(), Some(8))?;
            rebuild(&mut answer, |fields| {
                metadata(&head.headers, fields);
                metadata(trailers, fields);
                Ok(())
            })?;
            return self.problem(session, ctx, answer, &status).await;
        }
        if !begun {
            self.begin(session, ctx, head, None).await?;
        }
        if session.req_header().method == Method::HEAD {
            return Ok(true);
        }
        if !status.is_ok() {
            ctx.why = Some(format!("the service says {} in the middle of a stream", status.name()));
            let last = self.answer.failed(&self.transcode.problem(&status, ctx.id()));
            session.write_response_body(last, false).await?;
        }
        session.write_response_body(None, true).await?;
        Ok(true)
    }

    /// Waits a moment for the first piece; then the head goes out without it. Whether it has, and the piece.
    async fn hesitate(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        from: &mut Answering,
        head: &ResponseHeader,
    ) -> Result<(bool, Result<Option<Bytes>>)> {
        let mut first = Box::pin(from.piece());
        let at_once = unless_gone(session, async {
            tokio::select! {
                biased;
                piece = &mut first => Some(piece),
                () = sleep(HESITATION) => None,
            }
        });
        let (begun, piece) = if let Some(piece) = at_once.await? {
            (false, piece)
        } else {
            self.begin(session, ctx, head, None).await?;
            (true, unless_gone(session, first).await?)
        };
        Ok((begun, piece.map_err(|failed| lost(ctx, failed).into())))
    }

    /// The head of a stream goes out.
    async fn begin(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        from: &ResponseHeader,
        kind: Option<&str>,
    ) -> Result<()> {
        let mut answer = ResponseHeader::build(200, Some(8))?;
        rebuild(&mut answer, |fields| {
            metadata(&from.headers, fields);
            Ok(())
        })?;
        let kind = match self.shape {
            Shape::Events => "text/event-stream",
            Shape::Raw => kind.unwrap_or("application/octet-stream"),
            Shape::Document | Shape::Lines => "application/x-ndjson",
        };
        answer.insert_header(header::CONTENT_TYPE, kind)?;
        if !answer.headers.contains_key(header::CACHE_CONTROL) {
            answer.insert_header(header::CACHE_CONTROL, "no-store")?;
        }
        own(session, ctx, &mut answer)?;
        if let Some(route) = &ctx.route {
            route.response.response(&mut answer);
        }
        cache::changed(session, &answer, ctx).await;
        reply::begin(session, answer, ctx).await
    }

    /// Behind the beginning of an answer an error is its last word.
    async fn break_off(&self, session: &mut Session, ctx: &mut Ctx, begun: bool, why: Box<Error>) -> Result<bool> {
        if !begun {
            return Err(why);
        }
        let fault = crate::proxy::fail::fault_of(&why, true, false);
        if fault == Fault::ClientGone {
            return Err(why);
        }
        (ctx.fault, ctx.cut) = (Some(fault), true);
        let problem = serde_json::json!({
            "status": fault.status(), "code": fault.code(), "grpc_status": fault.row().grpc, "instance": ctx.id(),
        });
        let Some(last) = self.answer.failed(&problem) else { return Err(why) };
        session.write_response_body(Some(last), true).await?;
        Ok(true)
    }
}

/// What the answer gets besides metadata: without what only guards say, and with the cookie of its target.
fn own(session: &Session, ctx: &Ctx, answer: &mut ResponseHeader) -> Result<()> {
    if let Some(guards) = ctx.route.as_ref().and_then(|route| route.guards.as_ref()) {
        guards.clean(answer);
    }
    if let (Some(tried), Some(intake)) = (ctx.past.last(), &ctx.intake)
        && let Some(cookie) = tried.target.set_cookie(&View::of(session.req_header(), intake, &ctx.params))
    {
        answer.append_header(header::SET_COOKIE, cookie)?;
    }
    Ok(())
}

/// The next piece of the answer.
async fn next(session: &mut Session, ctx: &mut Ctx, from: &mut Answering) -> Result<Option<Bytes>> {
    unless_gone(session, from.piece()).await?.map_err(|failed| lost(ctx, failed).into())
}

/// The target does not answer as a service of gRPC does.
fn broken(ctx: &mut Ctx, why: String) -> Fault {
    ctx.why = Some(why);
    Fault::UpstreamProtocol
}
