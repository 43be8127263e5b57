//! The tries of a call: a target for each, and once more where the rule, the budget and the pool allow it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, Method, header};
use pingora_error::{Error, ErrorType, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};

use super::answering::{Answering, Live};
use super::attempt::Attempt;
use super::exchange::{Ask, Exchange, Limits};
use super::{Body, Call, Failed, Spans, Tried};
use crate::exchange::Request;
use crate::fault::Fault;
use crate::pool::fallback::{Answer as Instead, Fallback};
use crate::pool::retry::further::{self, FailedTry, Next};
use crate::pool::retry::{self, Asked, End, Not, Retry, Rule, Trouble};
use crate::pool::{Picked, Pool, Target, Timeout, Unserved, lost, timeout};
use crate::units;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// When a call ends, whatever has come of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    end: Option<Instant>,
    /// Whoever asks wants it so: no fault of the target, however slow.
    by_caller: bool,
}

impl Clock {
    fn of(call: &Call, began: Instant) -> Self {
        let total = call.pool.timeouts(call.timeout.as_ref()).total.map(units::Duration::get);
        let total = total.and_then(|total| began.checked_add(total));
        let end = total.into_iter().chain(call.deadline).min();
        Self { end, by_caller: end != total }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }

    /// A wait that ended because the whole time was over is told as that.
    pub(super) fn told(&self, fault: Fault) -> Fault {
        let waited = matches!(
            fault,
            Fault::UpstreamConnectTimeout | Fault::UpstreamTimeoutFirstByte | Fault::UpstreamTimeoutIdle
        );
        if waited && self.is_over() { Fault::UpstreamTimeoutTotal } else { fault }
    }

    /// What the target is told: who did not get the whole request, or was given no time, is not to blame.
    pub(super) fn blamed(&self, fault: Fault, sent: bool) -> Fault {
        match fault {
            Fault::UpstreamTimeoutTotal if self.by_caller || !sent => Fault::ClientGone,
            Fault::UpstreamTimeoutFirstByte if !sent => Fault::ClientGone,
            fault => fault,
        }
    }
}

/// What a balance may know of a call.
struct View<'a> {
    head: &'a RequestHeader,
    client: IpAddr,
}

impl Request for View<'_> {
    fn method(&self) -> &Method {
        &self.head.method
    }
    fn host(&self) -> &str {
        self.head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
    }
    fn path(&self) -> &str {
        self.head.uri.path()
    }
    fn query(&self) -> Option<&str> {
        self.head.uri.query()
    }
    fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }
    fn client(&self) -> IpAddr {
        self.client
    }
    fn param(&self, _: &str) -> Option<&str> {
        None
    }
}

/// A call on its way.
pub(super) struct Running {
    pool: Arc<Pool>,
    head: RequestHeader,
    body: Body,
    /// The body comes piece by piece: it is gone with the first try that took it.
    in_pieces: bool,
    client: IpAddr,
    timeout: Option<Timeout>,
    retry: Option<Retry>,
    spans: Option<Spans>,
    clock: Clock,
    tries: Vec<Tried>,
    /// The targets of the tries before the present one.
    before: Vec<Arc<Target>>,
    further: Further,
    not: Option<Not>,
}

/// What the present try is, if it is a further one.
#[derive(Default)]
struct Further {
    after: Option<Trouble>,
    /// It has taken its right from the budget.
    paid: bool,
    pause: Duration,
    fresh: bool,
}

enum Chosen {
    Target(Picked),
    Answer(Arc<Instead>),
}

/// A try that came to nothing.
struct Loss {
    failed: retry::Failed,
    why: String,
    shared: bool,
}

impl Running {
    pub(super) fn begin(call: Call) -> Self {
        let clock = Clock::of(&call, Instant::now());
        let Call { pool, head, body, client, timeout, retry, spans, .. } = call;
        let (in_pieces, further) = (matches!(body, Body::Pieces(_)), Further::default());
        let (tries, before) = (Vec::new(), Vec::new());
        Self { pool, head, body, in_pieces, client, timeout, retry, spans, clock, tries, before, further, not: None }
    }

    pub(super) async fn run(mut self) -> Result<Answering, Failed> {
        match self.choose().await? {
            Chosen::Target(picked) => self.run_at(picked).await,
            Chosen::Answer(answer) => {
                Answering::instead(&answer).map_err(|_| self.unserved(Fault::GatewayInternal.into()))
            }
        }
    }

    pub(super) async fn run_at(mut self, mut picked: Picked) -> Result<Answering, Failed> {
        if self.rule().attempts() > 0 {
            self.pool.budget().pay(self.pool.retry().budget, Instant::now());
        }
        loop {
            let mut attempt = Attempt::begin(Arc::clone(&self.pool), picked);
            picked = match self.once(&mut attempt).await {
                Ok((exchange, head)) => {
                    let next = self.trouble(&head, &attempt).and_then(|loss| self.again(&mut attempt, &loss));
                    let Some(next) = next else { return Ok(self.answered(head, exchange, attempt)) };
                    next
                }
                Err(loss) => match self.again(&mut attempt, &loss) {
                    Some(next) => next,
                    None => return Err(self.lost(attempt, loss)),
                },
            };
            drop(attempt);
            tokio::time::sleep(std::mem::take(&mut self.further.pause)).await;
        }
    }

    /// A target of the pool or of what it falls back on, or an answer in its place.
    async fn choose(&mut self) -> Result<Chosen, Failed> {
        let mut first: Option<Unserved> = None;
        loop {
            let view = View { head: &self.head, client: self.client };
            let mut picked = self.pool.pick_first(&view);
            if matches!(picked, Err(Unserved { fault: Fault::PoolQueueFull, .. })) {
                picked = self.pool.wait_in_line(&view, self.clock.end).await;
            }
            let unserved = match picked {
                Ok(picked) => return Ok(Chosen::Target(picked)),
                Err(unserved) => *first.get_or_insert(unserved),
            };
            let Some(fallback) = self.pool.fallback().cloned() else { return Err(self.unserved(unserved)) };
            if let Some(counted) = self.pool.counted() {
                counted.fell_back();
            }
            match fallback {
                Fallback::Pool(other) => self.pool = other,
                Fallback::Answer(answer) => return Ok(Chosen::Answer(answer)),
            }
        }
    }

    fn unserved(&self, unserved: Unserved) -> Failed {
        let why = self.pool.why(unserved).unwrap_or_else(|| "no target takes requests".to_owned());
        let (tries, not_retried) = (self.tries.clone(), None);
        Failed { fault: unserved.fault, why, wait: unserved.wait, tries, not_retried }
    }

    /// One try, up to the head of its answer.
    async fn once(&mut self, attempt: &mut Attempt) -> Result<(Exchange, ResponseHeader), Loss> {
        let mut timeouts = attempt.picked.timeouts(self.timeout.as_ref()).into_owned();
        if timeout::is_stream(&self.head) {
            timeouts.stream(false);
        }
        let limits = Limits::new(timeouts, self.clock.end);
        let (number, fresh) = (self.tries.len() + 1, self.further.fresh);
        let ask = Ask { head: &self.head, spans: self.spans, number, fresh };
        let opened = Exchange::open(&ask, &mut self.body, limits, attempt).await;
        match opened {
            Ok((exchange, head)) => {
                attempt.answered(head.status.as_u16());
                Ok((exchange, head))
            }
            Err(error) => Err(self.loss(&error, attempt)),
        }
    }

    fn loss(&self, error: &Error, attempt: &Attempt) -> Loss {
        let fault = self.clock.told(lost::fault_of(error, false, attempt.reused));
        // Pingora says so of streams that the target has refused, or that were behind its farewell (RFC 9113 section 8.7).
        let refused = matches!(error.retry, RetryType::Decided(true))
            && matches!(error.etype(), ErrorType::H2Error | ErrorType::H2Downgrade);
        let failed = retry::Failed { refused, ..retry::Failed::lost(fault) };
        let why = lost::why(error).unwrap_or_else(|| format!("target {}", attempt.picked.target().name()));
        Loss { failed, why, shared: attempt.shared }
    }

    fn rule(&self) -> Rule<'_> {
        Rule { pool: self.pool.retry(), route: self.retry.as_ref() }
    }

    /// An answer that asks for another try in its place.
    fn trouble(&self, head: &ResponseHeader, attempt: &Attempt) -> Option<Loss> {
        let end = End::Answered { status: head.status.as_u16(), grpc: grpc_status(head) };
        self.rule().trouble(end)?;
        let failed = retry::Failed { end, refused: false, wait: further::wanted_wait(head) };
        Some(Loss { failed, why: String::new(), shared: attempt.shared })
    }

    /// The target of another try, if there is to be one; everyone is told of the one that failed then.
    fn again(&mut self, attempt: &mut Attempt, loss: &Loss) -> Option<Picked> {
        self.tell(false);
        let number = u32::try_from(self.tries.len() + 1).unwrap_or(u32::MAX);
        let keyed = self.head.headers.get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty());
        let whole = !self.in_pieces || matches!(self.body, Body::Pieces(_));
        let asked = Asked { method: &self.head.method, keyed, whole, begun: false, tries: number };
        let pause = self.rule().some_pause(number, loss.failed.wait);
        // A kept connection that the target had closed costs nothing, and no attempt.
        let stale = loss.failed.end == End::Lost(Fault::UpstreamResetReused) && !loss.shared && !self.further.fresh;
        let verdict = if stale && whole && self.rule().admits(asked.method, keyed) {
            Ok(Trouble::Reset)
        } else {
            self.rule().again(&loss.failed, &asked)
        };
        let has_left = |pause| self.clock.end.is_none_or(|end| end.saturating_duration_since(Instant::now()) > pause);
        let verdict = verdict.and_then(|trouble| if has_left(pause) { Ok(trouble) } else { Err(Some(Not::Late)) });
        let next = verdict.and_then(|trouble| Ok((trouble, self.next(attempt, loss)?)));
        match next {
            Ok((after, Next { picked, at_once })) => {
                let fresh = loss.failed.end == End::Lost(Fault::UpstreamResetReused);
                let pause = if at_once { Duration::ZERO } else { pause };
                self.further = Further { after: Some(after), paid: !at_once, pause, fresh };
                Some(picked)
            }
            Err(not) => {
                self.not = not;
                None
            }
        }
    }

    fn next(&mut self, attempt: &mut Attempt, loss: &Loss) -> Result<Next, Not> {
        let (clock, sent) = (self.clock, attempt.is_sent());
        let blamed = move |fault| clock.blamed(fault, sent);
        let failed_try = FailedTry { pool: &self.pool, failed: &loss.failed, shared: loss.shared, blamed: &blamed };
        let view = View { head: &self.head, client: self.client };
        let pool = &self.pool;
        let next = failed_try.next(&mut attempt.picked, &mut self.before, |tried| pool.pick(&view, tried).ok())?;
        attempt.count();
        let fault = if let End::Lost(fault) = loss.failed.end { Some(fault) } else { None };
        self.tries.push(attempt.tried(fault));
        Ok(next)
    }

    /// How the present try went, if it is a further one. One that went well leaves its right to the next.
    fn tell(&mut self, well: bool) {
        let Some(after) = self.further.after.take() else { return };
        if let Some(counted) = self.pool.counted() {
            counted.retried(after.word(), well);
        }
        if well && std::mem::take(&mut self.further.paid) {
            self.pool.budget().give_back(Instant::now());
        }
    }

    fn answered(mut self, head: ResponseHeader, exchange: Exchange, attempt: Attempt) -> Answering {
        self.tell(head.status.as_u16() < 500 && grpc_status(&head).unwrap_or(0) == 0);
        Answering::live(head, Live { exchange, attempt, clock: self.clock }, self.tries)
    }

    fn lost(mut self, mut attempt: Attempt, loss: Loss) -> Failed {
        self.tell(false);
        let End::Lost(fault) = loss.failed.end else { return self.unserved(Fault::GatewayInternal.into()) };
        attempt.end(Some(self.clock.blamed(fault, attempt.is_sent())));
        self.tries.push(attempt.tried(Some(fault)));
        Failed { fault, why: loss.why, wait: None, tries: self.tries, not_retried: self.not.map(Not::word) }
    }
}

fn grpc_status(head: &ResponseHeader) -> Option<u8> {
    head.headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}
