//! Once more: a failed try is told of, and followed by another one where the rule, the budget and the pool allow it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora_error::{Error, ErrorType, Result, RetryType};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::fail;
use super::intake::field;
use crate::pool::call::Tried;
use crate::pool::retry::further::{self, FailedTry, Next};
use crate::pool::retry::{Asked, End, Failed, Not, Rule, Trouble};
use crate::pool::{Picked, Target};

/// What one request knows of its further tries.
#[derive(Default)]
pub struct Further {
    /// What had failed before the present try.
    after: Option<Trouble>,
    /// It is a further one, and nobody was told yet how it ended.
    open: bool,
    /// It has taken its right from the budget.
    paid: bool,
    /// How long to wait before it.
    pause: Duration,
    /// The head of an answer was thrown away for it.
    instead: bool,
    not: Option<Not>,
}

/// A try that was followed by another one.
pub struct Past {
    pub target: Arc<Target>,
    pub end: End,
    pub began: Instant,
    pub ended: Instant,
    pub reused: bool,
}

impl Further {
    pub(super) fn after(&self) -> Option<&'static str> {
        self.after.map(Trouble::word)
    }
    pub(super) fn not(&self) -> Option<&'static str> {
        self.not.map(Not::word)
    }
}

/// The request went as a call of our own, and these were its tries; nothing where they were told already.
pub(super) fn by_call(ctx: &mut Ctx, tries: Vec<Tried>) {
    let Some(last) = tries.last() else { return };
    let upstream = &mut ctx.upstream;
    (upstream.by_call, upstream.sent, upstream.reused) = (true, true, last.reused);
    (upstream.asked, upstream.answered, upstream.ended) = (Some(last.began), last.answered, Some(last.ended));
    upstream.tries = u32::try_from(tries.len()).unwrap_or(u32::MAX);
    ctx.past = tries.into_iter().map(Past::from).collect();
}

impl From<Tried> for Past {
    fn from(tried: Tried) -> Self {
        let Tried { target, end, began, ended, reused, .. } = tried;
        Self { target, end, began, ended, reused }
    }
}

/// Waits as long as the rule has it.
pub(super) async fn pause(ctx: &mut Ctx) {
    let pause = std::mem::take(&mut ctx.further.pause);
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// A try begins: nothing of the one before holds for it.
pub(super) fn begin(ctx: &mut Ctx, now: Instant) {
    let upstream = &mut ctx.upstream;
    upstream.tries += 1;
    (upstream.answered, upstream.ended, upstream.reused, upstream.sent) = (None, None, false, false);
    upstream.asked = Some(now);
    upstream.sent_at = None;
    upstream.timed = ctx.picked.as_ref().is_some_and(Picked::is_timed);
    ctx.held.clear();
    if upstream.first.is_none() {
        upstream.first = Some(now);
        if let Some(rule) = rule(ctx).filter(|rule| rule.attempts() > 0) {
            let share = rule.pool.budget;
            if let Some(pool) = &ctx.pool {
                pool.budget().pay(share, now);
            }
        }
    }
}

/// Whether to try again, where no connection could be opened.
pub(super) fn after_no_connection(session: &Session, ctx: &mut Ctx, error: &Error) -> bool {
    let fault = ctx.told(fail::fault_of(error, false, false));
    once_more(session, ctx, &Failed::lost(fault))
}

/// Whether to try again, where the exchange with a target has failed.
pub(super) fn after_a_loss(session: &Session, ctx: &mut Ctx, error: &Error) -> bool {
    if std::mem::take(&mut ctx.further.instead) {
        return true;
    }
    let fault = ctx.told(fail::fault_of(error, ctx.upstream.answered.is_some(), ctx.upstream.reused));
    // Pingora says so of streams that the target has refused, or that were behind its farewell (RFC 9113 section 8.7).
    let unread = matches!(error.retry, RetryType::Decided(true))
        && matches!(error.etype(), ErrorType::H2Error | ErrorType::H2Downgrade);
    once_more(session, ctx, &Failed { refused: unread, ..Failed::lost(fault) })
}

/// The head of an answer has come: an error that asks for another try in its place, or it goes its way.
pub(super) fn or_this(session: &Session, ctx: &mut Ctx, head: &ResponseHeader) -> Result<()> {
    let Some(rule) = rule(ctx) else { return Ok(()) };
    if head.status.is_informational() || (rule.attempts() == 0 && !ctx.further.open) {
        return Ok(());
    }
    let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    let looks = ctx.further.open || rule.names_calls();
    let grpc = if looks { head.headers.get(field::GRPC_STATUS).and_then(number) } else { None };
    let status = head.status.as_u16();
    let end = End::Answered { status, grpc };
    if rule.trouble(end).is_some() {
        let failed = Failed { end, refused: false, wait: further::wanted_wait(head) };
        if once_more(session, ctx, &failed) {
            ctx.further.instead = true;
            return Error::e_explain(ErrorType::HTTPStatus(status), "tried again");
        }
    } else {
        tell(ctx, status < 500 && grpc.unwrap_or(0) == 0);
    }
    Ok(())
}

/// The request has ended: a further try that nobody heard of has failed.
pub(super) fn end(ctx: &mut Ctx) {
    tell(ctx, false);
}

fn rule(ctx: &Ctx) -> Option<Rule<'_>> {
    let (pool, route) = (ctx.pool.as_deref()?, ctx.route.as_deref()?);
    Some(Rule { pool: pool.retry(), route: route.retry.as_ref() })
}

/// How the present try ended, if it is a further one: told once. One that went well leaves its right to the next.
fn tell(ctx: &mut Ctx, well: bool) {
    let further = &mut ctx.further;
    let (Some(pool), Some(after), true) = (&ctx.pool, further.after, std::mem::take(&mut further.open)) else { return };
    if let Some(counted) = pool.counted() {
        counted.retried(after.word(), well);
    }
    if well && std::mem::take(&mut further.paid) {
        pool.budget().give_back(Instant::now());
    }
}

/// Decides on a further try, and prepares it.
fn once_more(session: &Session, ctx: &mut Ctx, failed: &Failed) -> bool {
    tell(ctx, false);
    let request = session.req_header();
    let asked = Asked {
        method: &request.method,
        keyed: request.headers.get(field::IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty()),
        whole: !session.as_ref().retry_buffer_truncated(),
        begun: session.response_written().is_some() || ctx.upstream.answered.is_some(),
        tries: ctx.upstream.tries,
    };
    let Some(rule) = rule(ctx) else { return false };
    let (verdict, pause) = (rule.again(failed, &asked), rule.some_pause(asked.tries, failed.wait));
    let in_time = |trouble| if ctx.has_left(pause) { Ok(trouble) } else { Err(Some(Not::Late)) };
    match verdict.and_then(in_time).and_then(|trouble| Ok((trouble, prepare(session, ctx, failed)?))) {
        Ok((trouble, at_once)) => {
            let pause = if at_once { Duration::ZERO } else { pause };
            ctx.further = Further { after: Some(trouble), open: true, paid: !at_once, pause, ..Further::default() };
            true
        }
        Err(not) => {
            ctx.further.not = not;
            false
        }
    }
}

/// Tells everyone of the failed try, and takes a target for the next one; whether that begins at once and for nothing.
fn prepare(session: &Session, ctx: &mut Ctx, failed: &Failed) -> Result<bool, Not> {
    let (Some(pool), Some(mut last)) = (ctx.pool.clone(), ctx.picked.take()) else { return Err(Not::Nobody) };
    let mut tried = std::mem::take(&mut ctx.tried);
    let before = tried.len();
    let blamed = |fault| ctx.blamed(Some(fault)).unwrap_or(fault);
    let failed_try = FailedTry { pool: &pool, failed, shared: ctx.upstream.shares, blamed: &blamed };
    let next = failed_try.next(&mut last, &mut tried, |tried| ctx.pick(session.req_header(), tried).ok());
    let left = tried.len() > before;
    ctx.tried = tried;
    if left {
        let now = Instant::now();
        ctx.past.push(Past {
            target: last.target().clone(),
            end: failed.end,
            began: ctx.upstream.asked.unwrap_or(now),
            ended: now,
            reused: ctx.upstream.reused,
        });
    }
    let Next { picked, at_once } = match next {
        Ok(next) => next,
        Err(not) => {
            // Kept for the log: the request ends with the target that failed.
            ctx.picked = Some(last);
            return Err(not);
        }
    };
    if let (Some(counted), Some(asked)) = (pool.counted(), ctx.upstream.asked) {
        let status = if let End::Answered { status, .. } = failed.end { Some(status) } else { None };
        counted.count(status, asked.elapsed().as_secs_f64());
    }
    ctx.picked = Some(picked);
    Ok(at_once)
}
