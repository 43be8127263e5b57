//! What went wrong: Pingora's error told in the words of the one table.

use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::ctx::Ctx;
use super::reply;
use crate::broken::broken;
use crate::fault::Fault;
use crate::pool::lost;
use crate::pool::lost::why;
use crate::snapshot::Live;

/// Tells the client, the target and the log of an error; once, where it comes by several ways.
pub(super) async fn apologise(live: &Live, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
    if let Some(told) = ctx.fault {
        return FailToProxy { error_code: told.status(), can_reuse_downstream: false };
    }
    let fault = ctx.told(fault_of(e, ctx.upstream.answered.is_some(), ctx.upstream.reused));
    let fault = owed(fault, session, ctx);
    ctx.fault = Some(fault);
    if ctx.why.is_none() {
        ctx.why = why(e);
    }
    // Before the client hears of it: its next request finds the target as this one left it.
    ctx.tell_target(Some(fault), 0);
    if ctx.upstream.tries > 0 {
        // Pingora ends the connection then: the client has to know before it sends the next request.
        session.set_keepalive(None);
    }
    let answers = live.load().answers.clone();
    let sent = reply::apologise(session, fault, &answers, ctx).await;
    FailToProxy { error_code: fault.status(), can_reuse_downstream: sent.is_ok() && ctx.upstream.tries == 0 }
}

/// The same where nobody was told of it yet: Pingora (0.9.1) says nothing of what failed while it gave what is kept, and ends
/// the connection.
pub(super) async fn unless_told(live: &Live, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
    if let Some(e) = e.filter(|_| ctx.fault.is_none()) {
        session.set_keepalive(None);
        apologise(live, session, e, ctx).await;
    }
}

/// The same where trailers come: Pingora (0.9.1) goes on as if nothing had happened.
pub(super) async fn at_the_end(live: &Live, session: &mut Session, e: &Error, ctx: &mut Ctx) {
    apologise(live, session, e, ctx).await;
    if ctx.cut {
        session.downstream_session.shutdown().await;
    }
}

/// The fault behind an error. `answered`: the target's head had come; `reused`: on a connection used before.
pub(super) fn fault_of(error: &Error, answered: bool, reused: bool) -> Fault {
    if let Some(fault) = lost::own(error).or_else(|| broken(error)) {
        return fault;
    }
    match error.esource() {
        ErrorSource::Upstream => lost::upstream(error, answered, reused),
        ErrorSource::Downstream => downstream(error.etype()),
        ErrorSource::Internal | ErrorSource::Unset => Fault::GatewayInternal,
    }
}

/// A target that still waits for the rest of the request is not to blame for its silence. Over HTTP/1 the connection has
/// seen to it before.
pub(super) fn owed(fault: Fault, session: &Session, ctx: &Ctx) -> Fault {
    let owes = fault == Fault::UpstreamTimeoutFirstByte && session.is_http2() && !ctx.upstream.sent;
    if owes { Fault::RequestTimeout } else { fault }
}

fn downstream(what: &ErrorType) -> Fault {
    match what {
        ErrorType::ReadTimedout => Fault::RequestTimeout,
        ErrorType::InvalidHTTPHeader => Fault::RequestMalformed,
        _ => Fault::ClientGone,
    }
}
