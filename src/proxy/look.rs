//! The first look at a request: it is made safe, and its route is found.

use http::{HeaderValue, Version};
use pingora_error::Result;
use pingora_proxy::Session;

use super::ctx::{self, Ctx};
use super::intake::{self, field};
use super::view::View;
use crate::fault::Fault;
use crate::listener::came_by;
use crate::route::{Found, Params};
use crate::snapshot::Live;
use crate::telemetry::metrics::RouteMetrics;
use crate::telemetry::trace::Trace;

/// What the rest of its way needs to know of it; never answers.
pub(super) fn look(live: &Live, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let snapshot = live.load();
    ctx.generation = snapshot.generation;
    let mut refused = None;
    if let Some((connection, part)) = session.digest().and_then(came_by) {
        ctx.connection = Some(connection.clone());
        if let Some(part) = part {
            refused = part.refused;
            ctx.become_part(part);
        }
    }
    let Some(connection) = &ctx.connection else { return Err(Fault::GatewayInternal.into()) };
    // HTTP/1.0 knows no answers before the answer.
    let old = session.req_header().version == Version::HTTP_10;
    session.set_ignore_info_resp(old);
    let request = session.req_header_mut();
    ctx.trace = Trace::of(request.headers.get(field::TRACEPARENT).map(HeaderValue::as_bytes));
    let safe = match refused {
        Some(fault) => Err(fault),
        None => intake::make_safe(request, connection, &snapshot.client_ip),
    };
    if let Some(traces) = &snapshot.traces {
        traces.begin(&mut ctx.trace, None, safe.as_ref().is_ok_and(|intake| intake.trusted));
    }
    let intake = ctx.intake.insert(safe?);
    if intake.trusted {
        ctx.carried_id = ctx::carried_id(&request.headers);
    }
    if connection.listener.redirect.is_some() {
        return Ok(());
    }
    let mut params = Params::default();
    match snapshot.table.find(&View::of(request, intake, &ctx.params), &mut params) {
        Found::Route(route) => {
            ctx.in_flight = route.counted.through(&connection.listener.name).map(RouteMetrics::begin);
            if let (Some(traces), Some(sample)) = (&snapshot.traces, route.trace) {
                traces.begin(&mut ctx.trace, Some(sample.rate), intake.trusted);
            }
            ctx.route = Some(route.clone());
            ctx.params = params;
            let refused = if live.is_short() { Some(Fault::ShedMemory) } else { ctx.left() };
            refused.map_or(Ok(()), |fault| Err(fault.into()))
        }
        Found::Method { allow, nearest } => {
            ctx.allow = Some(allow);
            ctx.why = Some(nearest.to_string());
            ctx.nearest = Some(nearest.route.clone());
            Err(Fault::RouteMethod.into())
        }
        Found::Nothing { nearest } => {
            ctx.why = nearest.as_ref().map(ToString::to_string);
            ctx.nearest = nearest.map(|nearest| nearest.route.clone());
            Err(Fault::RouteNone.into())
        }
    }
}
