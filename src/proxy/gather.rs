//! The route's `gather`: what it needs of the request is collected, its calls are made, one answer goes out.

use std::fmt::Write;

use http::{HeaderMap, Version, header};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use serde_json::Value;

use super::ctx::Ctx;
use super::gone::unless_gone;
use super::intake::field;
use super::view::View;
use super::whole::{self, Then};
use super::{forward, response, time};
use crate::exchange::Identity;
use crate::fault::Fault;
use crate::policy::gather::Gather;
use crate::policy::gather::run::{Asked, Called, Ended, Ran};
use crate::pool::timeout;
use crate::telemetry::recent;
use crate::units::Name;

/// The largest body of a request that calls are made of.
const MOST_BODY: usize = 8 << 20;
/// What calls are told of the request's own fields.
const PASSED: [header::HeaderName; 6] = [
    header::ACCEPT_LANGUAGE,
    header::HOST,
    header::VIA,
    header::FORWARDED,
    field::X_FORWARDED_FOR,
    field::X_FORWARDED_HOST,
];

/// What became of the calls of a request.
pub(super) struct Calls {
    pub(super) all: Vec<Called>,
    /// The one for which it was refused.
    pub(super) failed: Option<Name>,
}

/// Answers with what the calls bring.
pub(super) async fn answer(session: &mut Session, ctx: &mut Ctx, gather: &Gather) -> Result<bool> {
    let body = if gather.wants_body() { body(session, ctx).await? } else { None };
    let request = session.req_header().clone();
    let calls = run(&request, ctx, gather, body.as_deref());
    let Ran { answer, called } = unless_gone(session, calls).await??;
    let failed = answer.as_ref().err().and_then(|refused| refused.call.clone());
    ctx.calls = Some(Calls { all: called, failed });
    match answer {
        Ok((body, kind)) => {
            let mut head = ResponseHeader::build(200, Some(4))?;
            head.insert_header(header::CONTENT_TYPE, kind)?;
            response::own(session, ctx, head, body).await
        }
        Err(refused) => {
            ctx.why = Some(refused.why);
            ctx.retry_after = refused.wait;
            Err(refused.fault.into())
        }
    }
}

/// The request's body as it is written; nothing where there is none.
async fn body(session: &mut Session, ctx: &mut Ctx) -> Result<Option<String>> {
    whole::read(session, MOST_BODY, Then::Answer, ctx).await?;
    let Some(whole) = ctx.whole.as_ref().filter(|whole| !whole.is_empty()) else { return Ok(None) };
    match serde_json::from_slice::<Value>(whole) {
        Ok(_) => Ok(std::str::from_utf8(whole).ok().map(|text| text.trim_ascii().to_owned())),
        Err(why) => {
            ctx.why = Some(format!("calls are made of its body, which is no JSON: {why}"));
            Err(Fault::BodyInvalid.into())
        }
    }
}

async fn run(request: &RequestHeader, ctx: &Ctx, gather: &Gather, body: Option<&str>) -> Result<Ran> {
    let (Some(intake), Some(route)) = (&ctx.intake, &ctx.route) else { return Err(Fault::GatewayInternal.into()) };
    let base = base(&request.headers, request.version, ctx)?;
    let nobody = Identity::default();
    let limits = route.timeout.as_ref().map(|timeout| timeout.over(&timeout::Config::default()));
    let end = limits.and_then(|limits| time::end(&limits, request, ctx.started));
    let asked = Asked {
        request: &View::of(request, intake, &ctx.params),
        identity: ctx.found.as_ref().map_or(&nobody, |found| &found.identity),
        body,
        client: intake.client,
        base: &base,
        trace: ctx.trace,
        fields: &route.request,
        timeout: route.timeout.as_ref(),
        retry: route.retry.as_ref(),
        deadline: end.map(|end| end.at),
    };
    Ok(Box::pin(gather.run(&asked)).await)
}

/// Fields of every call: who asks for whom, which request and which trace it belongs to, and what guards have found out.
fn base(said: &HeaderMap, version: Version, ctx: &Ctx) -> Result<HeaderMap> {
    let (Some(intake), Some(connection), Some(route)) = (&ctx.intake, &ctx.connection, &ctx.route) else {
        return Err(Fault::GatewayInternal.into());
    };
    let mut fields = HeaderMap::with_capacity(16);
    for name in PASSED {
        for value in said.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    forward::hops(&mut fields, version, intake, connection)?;
    fields.remove(header::HOST);
    if let Some(host) = route.host.set() {
        fields.insert(header::HOST, forward::value(host)?);
    }
    fields.insert(field::X_REQUEST_ID, forward::value(ctx.id())?);
    if let (true, Some(state)) = (ctx.trace.is_continued(), said.get(field::TRACESTATE)) {
        fields.insert(field::TRACESTATE, state.clone());
    }
    for (name, said) in ctx.found.iter().flat_map(|found| &found.forward) {
        match said {
            Some(said) => drop(fields.insert(name, said.clone())),
            None => drop(fields.remove(name)),
        }
    }
    Ok(fields)
}

/// The calls in a few words each, for the access line.
pub(super) fn told(calls: &[Called]) -> String {
    let mut text = String::new();
    for call in calls {
        let between = if text.is_empty() { "" } else { ", " };
        let end = match call.end {
            Ended::Answered(status) => status.to_string(),
            Ended::Failed(fault) => fault.to_string(),
            Ended::Unmade => "unmade".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "{between}{} {end} {:.3}ms", call.name, call.took.as_secs_f64() * 1e3);
    }
    text
}

/// One of them, for who wants to know why.
pub(super) fn page(call: &Called) -> recent::Call<'_> {
    let end = match call.end {
        Ended::Answered(status) => Some(recent::End::Status(status)),
        Ended::Failed(fault) => Some(recent::End::Code(fault)),
        Ended::Unmade => None,
    };
    let (name, pool) = (call.name.as_str(), call.pool.as_str());
    recent::Call { name, pool, end, took_ms: recent::Said(call.took), tries: call.tries.len() }
}
