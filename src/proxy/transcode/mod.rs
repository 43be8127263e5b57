//! Requests in JSON as calls of gRPC: found by their rule, read as a whole, sent to the pool; what comes of it is told in
//! JSON again.

mod answer;

use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora_error::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use self::answer::Telling;
use super::ctx::Ctx;
use super::gone::unless_gone;
use super::trial::Refused;
use super::whole::{self, Then};
use super::{again, forward, response, time};
use crate::fault::Fault;
use crate::policy::transcode::{Binding, Found, Miss, Parts, Transcode};
use crate::pool::call::{Answering, Body, Call, Failed, Spans};
use crate::pool::retry::{Methods, Retry, Rule};
use crate::pool::timeout::is_grpc;
use crate::route::{Params, Route};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What belongs to the request over HTTP and not to the call; all else is metadata.
const STAYS: [HeaderName; 13] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::EXPECT,
];

/// Whether it is one of these: the route knows calls, and the client does not make one itself.
pub(super) fn wanted(route: &Route, request: &RequestHeader) -> bool {
    route.bodies.transcode.is_some() && !is_grpc(&request.headers)
}

/// The call that a request would be, and its rule, or why it would be none; nothing where it goes another way.
pub(super) fn foresee(route: &Route, request: &RequestHeader, params: &Params) -> Option<Result<String, Refused>> {
    let transcode = route.bodies.transcode.as_deref().filter(|_| wanted(route, request))?;
    let path = rewritten(route, request, params)?;
    Some(match transcode.find(&request.method, &path) {
        Ok(Found { binding, .. }) => Ok(format!("{} by {binding}", binding.method.name)),
        Err(miss) => Err(Refused {
            fault: fault(&miss),
            rule: Some((&*transcode.rule().name).into()),
            why: Some(miss.why().into()),
        }),
    })
}

/// The path of the call that a request has been.
pub(super) fn path_of<'r>(route: &'r Route, request: &RequestHeader, params: &Params) -> Option<&'r str> {
    let transcode = route.bodies.transcode.as_deref().filter(|_| wanted(route, request))?;
    let path = rewritten(route, request, params)?;
    let found = transcode.find(&request.method, &path).ok()?;
    Some(found.binding.method.path.as_str())
}

fn rewritten(route: &Route, request: &RequestHeader, params: &Params) -> Option<String> {
    match &route.rewrite {
        Some(rewrite) => rewrite.apply(request.uri.path(), params).ok(),
        None => Some(request.uri.path().to_owned()),
    }
}

const fn fault(miss: &Miss<'_>) -> Fault {
    match miss {
        Miss::Method { .. } => Fault::RouteMethod,
        Miss::Path { .. } => Fault::RouteNone,
    }
}

/// Answers the request; always answered, or an error.
pub(super) async fn serve(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let Some(route) = ctx.route.clone() else { return Err(Fault::GatewayInternal.into()) };
    let Some(transcode) = route.bodies.transcode.as_deref() else { return Err(Fault::GatewayInternal.into()) };
    let mut out = session.req_header().clone();
    out.set_version(Version::HTTP_2);
    forward::request(&mut out, session.req_header().version, ctx)?;
    let found = find(transcode, &out, ctx)?;
    check_kind(found.binding, session, ctx)?;
    whole::read(session, transcode.most_body(found.binding), Then::Answer, ctx).await?;
    let messages = messages(transcode, &found, session, &out, ctx)?;
    let instead = ctx.choose(session.req_header()).await?;
    if response::instead(session, ctx, instead.as_deref()).await? {
        return Ok(true);
    }
    let asked = call(&out, found.binding);
    let telling = Telling::new(transcode, found.binding, &out);
    match open(session, ctx, &route, asked, messages).await? {
        Ok(answering) => telling.tell(session, ctx, answering).await,
        Err(failed) => Err(lost(ctx, failed).into()),
    }
}

fn find<'t, 'o>(transcode: &'t Transcode, out: &'o RequestHeader, ctx: &mut Ctx) -> Result<Found<'t, 'o>, Fault> {
    transcode.find(&out.method, out.uri.path()).map_err(|miss| {
        ctx.why = Some(miss.why());
        let fault = fault(&miss);
        if let Miss::Method { allow, .. } = miss {
            ctx.allow = Some(allow);
        }
        fault
    })
}

/// Bodies are JSON, where one is taken at all; no page of another origin can send that unasked.
fn check_kind(binding: &Binding, session: &mut Session, ctx: &mut Ctx) -> Result<(), Fault> {
    let empty = session.is_body_empty();
    let fields = &session.req_header().headers;
    let kind = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let coded = fields.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if empty || (!coded && binding.takes_kind(kind.unwrap_or_default())) {
        return Ok(());
    }
    ctx.why = Some("the body is not JSON by its content type, or it is compressed".to_owned());
    ctx.found.get_or_insert_default().answer.push((header::ACCEPT, HeaderValue::from_static("application/json")));
    Err(Fault::BodyType)
}

/// The messages of the call on the wire.
fn messages(
    transcode: &Transcode,
    found: &Found<'_, '_>,
    session: &Session,
    out: &RequestHeader,
    ctx: &mut Ctx,
) -> Result<Bytes, Fault> {
    let body = ctx.whole.take().unwrap_or_default();
    ctx.look_at_body(&mut Some(body.clone()), true, body.len() as u64, &session.req_header().method)?;
    let kind = out.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let parts = Parts { path: "", query: out.uri.query(), content_type: kind, body: &body };
    transcode.messages(found, &parts).map_err(|(at, why)| {
        let mut refusal = transcode.rule().refuse(Fault::RequestInvalid, format!("{at}: {why}"));
        refusal.errors.push((at, why));
        ctx.refuse(refusal)
    })
}

/// The head of the call: what the target would have got, less what was about JSON.
fn call(out: &RequestHeader, binding: &Binding) -> RequestHeader {
    let mut parts = out.as_owned_parts();
    let fields = &mut parts.headers;
    for name in &STAYS {
        fields.remove(name);
    }
    // Names that begin so are gRPC's own.
    let reserved = |name: &&HeaderName| name.as_str().starts_with("grpc-") && name.as_str() != "grpc-timeout";
    let own: Vec<HeaderName> = fields.keys().filter(reserved).cloned().collect();
    for name in own {
        fields.remove(name);
    }
    fields.insert(header::CONTENT_TYPE, GRPC);
    fields.insert(header::TE, HeaderValue::from_static("trailers"));
    parts.method = Method::POST;
    parts.uri = binding.method.path.clone().into();
    RequestHeader::from(parts)
}

/// Sends the call, and waits for the head of its answer as long as the client does.
async fn open(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    mut head: RequestHeader,
    messages: Bytes,
) -> Result<Result<Answering, Failed>> {
    let (Some(pool), Some(picked)) = (ctx.pool.clone(), ctx.picked.take()) else {
        return Err(Fault::GatewayInternal.into());
    };
    let end = time::end(&picked.timeouts(route.timeout.as_ref()), &head, ctx.started);
    let rule = Rule { pool: pool.retry(), route: route.retry.as_ref() };
    let request = session.req_header();
    let admits = rule.admits(&request.method, false);
    let retry = route.retry.clone().unwrap_or_default();
    head.remove_header("grpc-timeout");
    let mut call = Call::new(pool, head);
    call.client = ctx.intake.as_ref().map_or(call.client, |intake| intake.client);
    call.body = Body::Whole(messages);
    call.timeout = route.timeout.clone();
    // A call is a POST, whatever the request was: what may be repeated is decided by that.
    call.retry = Some(Retry { methods: Some(if admits { Methods::All } else { Methods::Idempotent }), ..retry });
    call.deadline = end.as_ref().filter(|end| end.by_client).map(|end| end.at);
    call.spans = Some(Spans { trace: ctx.trace, first: 1 });
    ctx.upstream.end = end;
    ctx.upstream.first = Some(Instant::now());
    if ctx.is_over() {
        return Err(Fault::UpstreamTimeoutTotal.into());
    }
    unless_gone(session, call.open_at(picked)).await
}

/// Tells of a call without an answer.
fn lost(ctx: &mut Ctx, failed: Failed) -> Fault {
    ctx.why = Some(failed.why);
    ctx.retry_after = failed.wait;
    again::by_call(ctx, failed.tries);
    failed.fault
}

/// What of the target's fields the client gets: metadata, without what is the call's own.
fn metadata(from: &HeaderMap, to: &mut HeaderMap) {
    const OWN: [HeaderName; 4] =
        [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRANSFER_ENCODING];
    for (name, value) in from {
        let own = OWN.contains(name) || super::intake::is_hop_by_hop(name) || name.as_str().starts_with("grpc-");
        if !own {
            to.append(name, value.clone());
        }
    }
}
