//! What a receiver of traces is told of a request: one span for it, and one for each try at a target.
//!
//! Everything is taken from what the request carries anyway, at its end: one whose trace is not kept costs nothing here.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use http::{Method, Version, header};

use super::again::Past;
use super::ctx::Ctx;
use super::finish::Story;
use super::intake::field;
use super::transcode::path_of;
use crate::client::otlp::Otlp;
use crate::fault::{Fault, Whose};
use crate::policy::gather::run::{Called, Ended};
use crate::pool::Target;
use crate::pool::call::Tried;
use crate::pool::retry::End;
use crate::route::Route;
use crate::telemetry::spans::{Draft, Span};
use crate::telemetry::trace::Trace;

/// A copy is no try: its number is beyond those of all tries.
pub(super) const COPY: u32 = u32::MAX;

/// Leaves the spans of a request that has ended, if its trace is kept or it went wrong on our side or the target's.
pub(super) fn leave(traces: &Otlp, story: &Story<'_>, ctx: &Ctx) {
    let went_wrong = story.status >= 500 || ctx.fault.is_some_and(|fault| fault.row().whose != Whose::Client);
    if !ctx.trace.is_sampled() && !went_wrong {
        return;
    }
    let tries = ctx.upstream.tries as usize;
    let calls = || ctx.calls.iter().flat_map(|calls| &calls.all);
    let many = 1 + tries + calls().map(|call| call.tries.len()).sum::<usize>();
    if !traces.has_room(many) {
        return;
    }
    let now = Instant::now();
    let mut spans = Vec::with_capacity(many);
    spans.push(request(story, ctx, now));
    let (method, path) = way(story, ctx);
    // A try that was to be followed by another one, and was not, is the last one, too; a call of our own tells of all.
    let earlier = if ctx.upstream.by_call { tries } else { tries.saturating_sub(1) };
    spans.extend(ctx.past.iter().zip(1..).take(earlier).map(|(past, number)| {
        let (began, ended) = (past.began, past.ended);
        let one = Part { number, method, target: &past.target, path: &path, began, ended };
        one.span(story, ctx, &Said::of(past))
    }));
    if let (Some(picked), Some(began)) = (&ctx.picked, ctx.upstream.asked) {
        let ended = ctx.upstream.ended.unwrap_or(now);
        let (number, target) = (ctx.upstream.tries, picked.target());
        let answered = (ctx.upstream.answered.is_some() || story.tunnel.is_some()).then_some(story.status);
        let said = Said { status: answered, fault: ctx.fault, pool: story.pool };
        spans.push(Part { number, method, target, path: &path, began, ended }.span(story, ctx, &said));
    }
    spans.extend(calls().flat_map(|call| called(call, ctx)));
    traces.leave(spans);
}

/// The tries of one of several calls that the answer is made of; one that was never sent has none.
fn called<'c>(call: &'c Called, ctx: &'c Ctx) -> impl Iterator<Item = Span> + 'c {
    let last = call.tries.len().saturating_sub(1);
    call.tries.iter().zip(0..).map(move |(tried, again): (&Tried, u32)| {
        // What the call came to is what its last try came to.
        let end = if again as usize == last { call.end } else { Ended::from(tried.end) };
        try_of(call, tried, again, end, ctx)
    })
}

fn try_of(call: &Called, tried: &Tried, again: u32, end: Ended, ctx: &Ctx) -> Span {
    let (method, took) = (&call.method, tried.ended.saturating_duration_since(tried.began));
    let name = format!("{} {}", word(method).unwrap_or("HTTP"), call.name);
    let mut draft = Draft::client(&ctx.trace, call.first + again, name, moment(ctx, tried.began), took);
    put_method(&mut draft, method);
    put_target(&mut draft, &tried.target, "");
    draft.text("yumen.pool", call.pool.as_str());
    draft.text("yumen.call", call.name.as_str());
    if again > 0 {
        draft.number("http.request.resend_count", again.into());
    }
    match end {
        Ended::Answered(status) => {
            draft.number("http.response.status_code", status.into());
            if status >= 400 {
                wrong(&mut draft, None, status);
            }
        }
        Ended::Failed(fault) => wrong(&mut draft, Some(fault), 0),
        Ended::Unmade => {}
    }
    draft.done()
}

/// The request, as its client sees it.
fn request(story: &Story<'_>, ctx: &Ctx, now: Instant) -> Span {
    let request = story.request;
    let pattern = story.whole.0.map(Route::pattern).or_else(|| story.pattern.map(str::to_owned));
    let method = word(&request.method);
    let name = match &pattern {
        Some(pattern) => format!("{} {pattern}", method.unwrap_or("HTTP")),
        None => method.unwrap_or("HTTP").to_owned(),
    };
    let took = now.saturating_duration_since(ctx.started);
    let mut draft = Draft::server(&ctx.trace, name, ctx.arrived, took);
    if let Some(state) = request.headers.get(field::TRACESTATE).filter(|_| ctx.trace.is_continued()) {
        draft.state(state.as_bytes());
    }
    put_method(&mut draft, &request.method);
    draft.bytes("url.path", request.uri.path().as_bytes());
    let tls = story.connection.tls.is_some();
    let https = ctx.intake.as_ref().map_or(tls, |intake| intake.https);
    draft.text("url.scheme", if https { "https" } else { "http" });
    if let Some(intake) = &ctx.intake {
        draft.text("server.address", &intake.host);
        draft.number("server.port", intake.port.unwrap_or(if https { 443 } else { 80 }).into());
    }
    let peer = story.connection.peer;
    draft.address("client.address", ctx.intake.as_ref().map_or(peer.ip().to_canonical(), |intake| intake.client));
    draft.address("network.peer.address", peer.ip().to_canonical());
    draft.text("network.protocol.version", version(request.version));
    draft.number("http.response.status_code", story.status.into());
    if let Some(pattern) = &pattern {
        draft.text("http.route", pattern);
    }
    if let Some(agent) = request.headers.get(header::USER_AGENT) {
        draft.bytes("user_agent.original", agent.as_bytes());
    }
    draft.text("yumen.listener", story.connection.listener.name.as_str());
    if let Some(route) = story.route {
        draft.text("yumen.route", route);
    }
    draft.text("yumen.request_id", ctx.id());
    if let Some(fault) = ctx.fault {
        draft.text("yumen.reason", fault.code());
    }
    if story.status >= 500 || ctx.fault.is_some_and(|fault| fault.row().whose != Whose::Client) {
        wrong(&mut draft, ctx.fault, story.status);
    }
    draft.done()
}

/// One request to a target.
struct Part<'a> {
    number: u32,
    method: &'a Method,
    target: &'a Target,
    path: &'a str,
    began: Instant,
    ended: Instant,
}

/// What came of it.
struct Said<'a> {
    status: Option<u16>,
    fault: Option<Fault>,
    pool: Option<&'a str>,
}

impl Said<'_> {
    fn of(past: &Past) -> Self {
        match past.end {
            End::Lost(fault) => Self { status: None, fault: Some(fault), pool: None },
            End::Answered { status, .. } => Self { status: Some(status), fault: None, pool: None },
        }
    }
}

impl Part<'_> {
    fn span(&self, story: &Story<'_>, ctx: &Ctx, said: &Said<'_>) -> Span {
        let (method, began) = (self.method, moment(ctx, self.began));
        let took = self.ended.saturating_duration_since(self.began);
        let name = word(method).unwrap_or("HTTP").to_owned();
        let mut draft = Draft::client(&ctx.trace, self.number, name, began, took);
        put_method(&mut draft, method);
        put_target(&mut draft, self.target, self.path);
        if let Some(status) = said.status {
            draft.number("http.response.status_code", status.into());
        }
        if self.number > 1 {
            draft.number("http.request.resend_count", i64::from(self.number) - 1);
        }
        if let Some(pool) = said.pool.or(story.pool) {
            draft.text("yumen.pool", pool);
        }
        if said.fault.is_some() || said.status.is_none_or(|status| status >= 400) {
            wrong(&mut draft, said.fault, said.status.unwrap_or(0));
        }
        draft.done()
    }
}

/// The span of a copy, whose trace is kept.
pub(super) fn copy(
    trace: &Trace,
    (method, path): (&Method, &str),
    (target, pool): (&Target, &str),
    (began, took): (SystemTime, Duration),
    (fault, status): (Option<Fault>, u16),
) -> Span {
    let mut draft = Draft::client(trace, COPY, format!("{} copy", word(method).unwrap_or("HTTP")), began, took);
    put_method(&mut draft, method);
    put_target(&mut draft, target, path);
    draft.text("yumen.pool", pool);
    if fault.is_none() {
        draft.number("http.response.status_code", status.into());
    }
    if fault.is_some() || status >= 400 {
        wrong(&mut draft, fault, status);
    }
    draft.done()
}

fn put_target(draft: &mut Draft, target: &Target, path: &str) {
    let scheme = if target.is_tls() { "https" } else { "http" };
    draft.text("url.full", &format!("{scheme}://{}{path}", target.name()));
    match target.name().rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => {
            draft.text("server.address", host.trim_start_matches('[').trim_end_matches(']'));
            draft.number("server.port", port.into());
        }
        None => draft.text("server.address", target.name()),
    }
}

/// What is wrong: the word that is the same everywhere, or the status.
fn wrong(draft: &mut Draft, fault: Option<Fault>, status: u16) {
    match fault {
        Some(fault) => draft.failed(fault.code()),
        None => draft.failed(&status.to_string()),
    }
}

fn put_method(draft: &mut Draft, method: &Method) {
    draft.text("http.request.method", word(method).unwrap_or("_OTHER"));
    if word(method).is_none() {
        draft.text("http.request.method_original", method.as_str());
    }
}

/// A method that everyone knows.
fn word(method: &Method) -> Option<&'static str> {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    known.into_iter().find(|known| method.as_str() == *known)
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// The method and the path as targets see them.
fn way<'s>(story: &Story<'s>, ctx: &Ctx) -> (&'s Method, Cow<'s, str>) {
    let (method, path, route) = (&story.request.method, story.request.uri.path(), story.whole.0);
    if let Some(call) =
        route.filter(|_| ctx.upstream.by_call).and_then(|route| path_of(route, story.request, &ctx.params))
    {
        return (&Method::POST, call.into());
    }
    let rewrite = route.and_then(|route| route.rewrite.as_ref());
    (method, rewrite.and_then(|rewrite| rewrite.apply(path, &ctx.params).ok()).map_or(path.into(), Into::into))
}

/// The time of day of a moment in the life of a request.
pub(super) fn moment(ctx: &Ctx, at: Instant) -> SystemTime {
    ctx.arrived + at.saturating_duration_since(ctx.started)
}
