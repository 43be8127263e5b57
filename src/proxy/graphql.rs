//! GraphQL is looked at once it is known who asks, and before anything is counted: limits may go by the operation.

use bytes::Bytes;
use http::{HeaderValue, Uri, header};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::view::View;
use super::whole::{self, Then};
use crate::fault::Fault;
use crate::policy::compress;
use crate::policy::graphql::{Graphql, Instead};
use crate::policy::guard::{Half, Mode};
use crate::route::Route;

/// Asks the guards of a route, those of GraphQL in their middle. A status is their answer.
pub(super) async fn pass(session: &mut Session, route: &Route, body: bool, ctx: &mut Ctx) -> Result<Option<u16>> {
    let Some(graphql) = route.bodies.graphql.as_deref().filter(|_| !session.is_upgrade_req()) else {
        return Ok(ctx.pass_guards(session.req_header(), body, Half::Both).await?);
    };
    if let Some(status) = ctx.pass_guards(session.req_header(), body, Half::Who).await? {
        return Ok(Some(status));
    }
    Box::pin(check(session, graphql, ctx)).await?;
    Ok(ctx.pass_guards(session.req_header(), body, Half::HowOften).await?)
}

async fn check(session: &mut Session, graphql: &Graphql, ctx: &mut Ctx) -> Result<()> {
    let length = compress::content_length(&session.req_header().headers);
    let too_large = length.is_some_and(|length| length > graphql.most() as u64);
    if graphql.rule().mode == Mode::Shadow && (too_large || (length.is_none() && !session.is_body_empty())) {
        // What cannot be read without being refused passes unread.
        ctx.found.get_or_insert_default().would_refuse.push(graphql.too_large());
        return Ok(());
    }
    if too_large {
        return Err(ctx.refuse(graphql.too_large()).into());
    }
    whole::read(session, graphql.most(), Then::Forward, ctx).await?;
    let body = ctx.whole.clone().unwrap_or_default();
    let Some(intake) = &ctx.intake else { return Err(Fault::GatewayInternal.into()) };
    let view = View::of(session.req_header(), intake, &ctx.params);
    let said = graphql.check(&view, &body, ctx.found.get_or_insert_default());
    match said.map_err(|refusal| ctx.refuse(refusal))? {
        None => {}
        Some(Instead::Body(body)) => ctx.whole = Some(body),
        Some(Instead::Parameter(parameter)) => ctx.parameter = Some(parameter),
    }
    Ok(())
}

/// The target is told the text whose hash the client said.
pub(super) fn ask(out: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let Some(parameter) = &ctx.parameter else { return Ok(()) };
    let target = out.uri.path_and_query().map_or("/", |target| target.as_str());
    let separator = if target.contains('?') { '&' } else { '?' };
    let uri: Uri = format!("{target}{separator}{parameter}").parse().map_err(|_| Fault::RequestUriTooLong)?;
    out.set_uri(uri);
    Ok(())
}

/// The media type in which GraphQL says errors with a status of their own (GraphQL over HTTP, section 6.4).
const SHAPE: &str = "application/graphql-response+json";

/// Errors in the shape that a client of GraphQL has asked for.
pub(super) fn shape(
    request: &RequestHeader,
    fault: Fault,
    head: &mut ResponseHeader,
    body: Bytes,
    ctx: &Ctx,
) -> Result<Bytes> {
    let lines = request.headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let asked = lines.flat_map(|line| line.split([',', ';'])).any(|kind| kind.trim().eq_ignore_ascii_case(SHAPE));
    if !asked || body.is_empty() || !matches!(fault, Fault::GraphqlInvalid | Fault::GraphqlRefused) {
        return Ok(body);
    }
    let refused = ctx.found.as_ref().and_then(|found| found.refused.as_ref());
    let message = refused.and_then(|refusal| refusal.errors.first()).map(|(at, why)| match &**at {
        "#" => format!("the request {why}"),
        at => format!("{at}: {why}"),
    });
    let not_found = message.as_ref().is_some_and(|message| message.ends_with("PersistedQueryNotFound"));
    let message = if not_found { Some("PersistedQueryNotFound".to_owned()) } else { message };
    let error = serde_json::json!({
        "message": message.as_deref().unwrap_or(fault.code()),
        "extensions": { "code": fault.code(), "request_id": ctx.id() },
    });
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(SHAPE))?;
    let body = serde_json::json!({ "errors": [error] }).to_string();
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    Ok(body.into())
}
