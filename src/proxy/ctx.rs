//! What one request carries from its first byte to its log line.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use pingora_http::RequestHeader;

use super::again::{Further, Past};
use super::bodies::Steps;
use super::cache::Cached;
use super::copy::Copying;
use super::gather::Calls;
use super::intake::{self, Intake, field};
use super::time::{self, End};
use super::view::View;
use crate::exchange::{Exchange, Found, Refusal, Stop};
use crate::fault::Fault;
use crate::listener::{Connection, PartOf};
use crate::policy::body;
use crate::policy::grpc_web::Web;
use crate::policy::guard::Half;
use crate::pool::connection::Errand;
use crate::pool::fallback::{Answer, Fallback};
use crate::pool::{Picked, Pool, Target, Unserved};
use crate::route::{Action, Params, Route};
use crate::telemetry::metrics::InFlight;
use crate::telemetry::trace::{RequestId, Trace};

/// One request. What is not known yet is `None`; nothing here is looked up by name.
pub struct Ctx {
    pub started: Instant,
    /// The same moment for the log.
    pub arrived: SystemTime,
    own_id: RequestId,
    /// The configuration that it came under.
    pub generation: u64,
    /// The id that a trusted hop has given.
    pub carried_id: Option<Box<str>>,
    pub trace: Trace,
    /// Who sent it through which listener.
    pub connection: Option<Arc<Connection>>,
    /// The batch that it is a part of.
    pub part_of: Option<Arc<PartOf>>,
    /// What it was found to be.
    pub intake: Option<Intake>,
    /// Where it goes: its route with pools and counters, which outlive a reload as long as the request does.
    pub route: Option<Arc<Route>>,
    pub params: Params,
    pub in_flight: Option<InFlight>,
    /// Which of the route's pools was drawn, or what that falls back on; a further try stays with it.
    pub pool: Option<Arc<Pool>>,
    /// The target of the present try, counted as in flight.
    pub picked: Option<Picked>,
    /// How long it has waited for that.
    pub queued: Option<Duration>,
    pub tried: Vec<Arc<Target>>,
    /// How the tries before the present one ended.
    pub past: Vec<Past>,
    pub upstream: Upstream,
    pub further: Further,
    pub copying: Copying,
    /// Why it was not served as asked, and what only the log is told about it.
    pub fault: Option<Fault>,
    /// It went wrong when the answer had begun.
    pub cut: bool,
    pub why: Option<String>,
    /// What becomes of it on a route with a cache.
    pub cached: Option<Box<Cached>>,
    /// What came of a body that is looked at as a whole.
    pub held: BytesMut,
    /// The whole body, as the target gets it, where it was read before one was chosen.
    pub whole: Option<Bytes>,
    /// A parameter of the query that the target gets on top.
    pub parameter: Option<Box<str>>,
    /// What becomes of the answer's body; nothing where that passes as it is.
    pub steps: Option<Box<Steps>>,
    /// What it is changed by, where it speaks gRPC-Web.
    pub web: Option<Box<Web>>,
    /// What the route's guards found out; nothing where it has none.
    pub found: Option<Box<Found>>,
    /// What became of the calls that it is answered with, where it is.
    pub(super) calls: Option<Calls>,
    /// The route that would have taken it with less of a difference, where none did.
    pub nearest: Option<Arc<Route>>,
    /// The methods that a 405 allows.
    pub allow: Option<String>,
    /// When a 503 is worth another try.
    pub retry_after: Option<Duration>,
}

/// When things happened on the way to the target and back.
#[derive(Default)]
pub struct Upstream {
    /// When the first try began, and when the present one did.
    pub first: Option<Instant>,
    pub asked: Option<Instant>,
    pub answered: Option<Instant>,
    pub ended: Option<Instant>,
    /// When the request must have been answered.
    pub end: Option<End>,
    /// The whole request went to the target; when, where anyone wants to know.
    pub sent: bool,
    pub timed: bool,
    pub sent_at: Option<Instant>,
    /// The present try's connection, where it is our own.
    pub errand: Option<Arc<Errand>>,
    pub reused: bool,
    /// It went as a call of our own, which has told everyone of its tries.
    pub by_call: bool,
    /// It speaks HTTP/2: a request that waits holds no connection.
    pub shares: bool,
    pub tries: u32,
    /// Answers of the kind 1xx before the answer.
    pub informed: u32,
}

impl Default for Ctx {
    fn default() -> Self {
        let arrived = SystemTime::now();
        Self {
            started: Instant::now(),
            arrived,
            own_id: RequestId::new(arrived),
            generation: 0,
            carried_id: None,
            trace: Trace::NONE,
            connection: None,
            part_of: None,
            intake: None,
            route: None,
            params: Params::default(),
            in_flight: None,
            pool: None,
            picked: None,
            queued: None,
            tried: Vec::new(),
            past: Vec::new(),
            upstream: Upstream::default(),
            further: Further::default(),
            copying: Copying::default(),
            fault: None,
            cut: false,
            why: None,
            cached: None,
            held: BytesMut::new(),
            whole: None,
            parameter: None,
            steps: None,
            web: None,
            found: None,
            calls: None,
            nearest: None,
            allow: None,
            retry_after: None,
        }
    }
}

impl Upstream {
    /// The client has said all: from now on the target is waited for.
    pub fn all_sent(&mut self) {
        self.sent = true;
        if self.timed {
            self.sent_at = Some(Instant::now());
        }
        if let Some(errand) = &self.errand {
            errand.sent();
        }
    }
}

impl Ctx {
    /// How long after the whole request had gone out the answer began, where anyone wants to know.
    pub fn waited(&self) -> Option<Duration> {
        let upstream = &self.upstream;
        let sent = upstream.sent_at.or(upstream.asked).filter(|_| upstream.timed)?;
        Some(upstream.answered?.saturating_duration_since(sent))
    }
}

/// The longest request id that is taken over from a trusted hop.
const LONGEST_ID: usize = 128;

impl Ctx {
    /// The name of this request in answers, logs and for the target.
    pub fn id(&self) -> &str {
        self.carried_id.as_deref().unwrap_or_else(|| self.own_id.as_str())
    }

    /// The host, if it is known.
    pub(super) fn host(&self, request: &RequestHeader) -> Option<Cow<'_, str>> {
        match (&self.intake, self.fault) {
            (Some(intake), _) => Some(Cow::Borrowed(&*intake.host)),
            (None, fault) => intake::host_of(request, fault?).map(Cow::Owned),
        }
    }

    /// It is a part of a batch, which knows its name already.
    pub(super) fn become_part(&mut self, of: &Arc<PartOf>) {
        (self.own_id, self.part_of) = (of.id, Some(Arc::clone(of)));
    }

    /// What its sender was told, where the batch that it is a part of did not wait for its answer.
    pub(super) fn left(&self) -> Option<Fault> {
        self.part_of.as_ref()?.left.get().copied()
    }

    /// Asks the guards of the route; what they found stays, whatever they say. A status is their answer.
    pub async fn pass_guards(&mut self, request: &RequestHeader, body: bool, half: Half) -> Result<Option<u16>, Fault> {
        let (Some(route), Some(intake), Some(connection)) = (&self.route, &self.intake, &self.connection) else {
            return Err(Fault::GatewayInternal);
        };
        let view = View::of(request, intake, &self.params).through(connection, body);
        let Some(guards) = &route.guards else {
            // A route that answers by itself reads no body.
            let read =
                matches!(route.action, Action::Forward(_) | Action::Publish(_) | Action::Gather(_) | Action::Batch(_));
            let built_in = if read { body::built_in_head(&view) } else { Ok(()) };
            return built_in.map(|()| None).map_err(|refusal| self.refuse(refusal));
        };
        let found = self.found.get_or_insert_default();
        let refusal = match guards.admit(half, &mut Exchange { request: &view, found }).await {
            Ok(()) => return Ok(None),
            Err(Stop::Reply(status)) => return Ok(Some(status)),
            Err(Stop::Refuse(refusal)) => refusal,
        };
        Err(self.refuse(refusal))
    }

    /// Counts a WebSocket that is about to open, where the route says how many there may be.
    pub fn admit_websocket(&mut self, request: &RequestHeader) -> Result<(), Fault> {
        let (Some(route), Some(intake)) = (&self.route, &self.intake) else { return Err(Fault::GatewayInternal) };
        let Some(kept) = &route.websocket else { return Ok(()) };
        let found = self.found.get_or_insert_default();
        let view = View::of(request, intake, &self.params);
        let admitted = kept.admit(&mut Exchange { request: &view, found });
        admitted.map_err(|refusal| self.refuse(refusal))
    }

    /// So many bytes of the body came: asks the guards of the route again.
    pub fn receive(&mut self, bytes: u64) -> Result<(), Fault> {
        let guards = self.route.as_ref().and_then(|route| route.guards.as_ref());
        let refused = match guards {
            Some(guards) => guards.receive(bytes, self.found.get_or_insert_default()),
            None => body::built_in(bytes),
        };
        refused.map_err(|refusal| self.refuse(refusal))
    }

    /// One more piece of a body that is looked at as a whole: the last one lets it go, or refuses it.
    /// `bytes` came in all.
    pub fn look_at_body(
        &mut self,
        piece: &mut Option<Bytes>,
        end: bool,
        bytes: u64,
        method: &Method,
    ) -> Result<(), Fault> {
        let guards = self.route.as_ref().and_then(|route| route.guards.as_ref());
        let Some(validate) = guards.and_then(|guards| guards.looks_at_bodies()) else { return Ok(()) };
        let Some(shape) = validate.shape(self.found.as_deref()) else { return Ok(()) };
        // No body where none is needed has no shape.
        if bytes == 0 && !shape.is_required(method) {
            return Ok(());
        }
        let most = validate.most();
        if self.held.len() <= most
            && let Some(piece) = piece
        {
            self.held.extend_from_slice(piece);
        }
        let verdict = if end || self.held.len() > most { validate.check_body(shape, &self.held) } else { Ok(()) };
        if validate.holds_back() {
            if let Err(refusal) = verdict {
                return Err(self.refuse(refusal));
            }
            // Nothing at all would be the end of the body.
            *piece = Some(if end { self.held.split().freeze() } else { Bytes::new() });
        } else if let Err(refusal) = verdict {
            let would_refuse = &mut self.found.get_or_insert_default().would_refuse;
            if !would_refuse.iter().any(|said| said.rule == refusal.rule && said.fault == refusal.fault) {
                would_refuse.push(refusal);
            }
        }
        Ok(())
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) -> Fault {
        let fault = refusal.fault;
        self.why = Some(refusal.why.to_string());
        self.found.get_or_insert_default().refused = Some(refusal);
        fault
    }

    /// Draws a pool and picks one of its targets; an answer, where none takes requests and that is what there is then.
    pub async fn choose(&mut self, request: &RequestHeader) -> Result<Option<Arc<Answer>>, Fault> {
        self.pool = self.draw(request);
        let mut first = None;
        loop {
            let mut picked = self.pick_first(request);
            if matches!(picked, Err(Unserved { fault: Fault::PoolQueueFull, .. })) {
                // In a box: few wait, and all would carry its room.
                picked = Box::pin(self.wait_in_line(request)).await;
            }
            let unserved = match picked {
                Ok(picked) => {
                    self.watch(&picked);
                    self.picked = Some(picked);
                    return Ok(None);
                }
                Err(unserved) => *first.get_or_insert(unserved),
            };
            self.retry_after = unserved.wait;
            let fallback = self.pool.as_ref().and_then(|pool| Some((pool, pool.fallback()?.clone())));
            let Some((pool, fallback)) = fallback else {
                let pool = self.pool.as_ref();
                self.why = self.why.take().or_else(|| pool.map_or_else(|| unserved.why(), |pool| pool.why(unserved)));
                return Err(unserved.fault);
            };
            if let Some(counted) = pool.counted() {
                counted.fell_back();
            }
            self.why.get_or_insert_with(|| {
                format!("pool {} takes no requests ({}): its fallback", pool.name(), unserved.fault)
            });
            match fallback {
                Fallback::Pool(other) => self.pool = Some(other),
                Fallback::Answer(answer) => return Ok(Some(answer)),
            }
        }
    }

    /// A breaker that only watches would have refused the request.
    fn watch(&mut self, picked: &Picked) {
        let Some(rule) = self.pool.as_ref().and_then(|pool| pool.would_refuse(picked)).cloned() else { return };
        let refusal = Refusal {
            fault: Fault::BreakerOpen,
            rule,
            why: "every target rests".into(),
            fields: Vec::new(),
            errors: Vec::new(),
        };
        self.found.get_or_insert_default().would_refuse.push(refusal);
    }

    /// The pool of this request.
    fn draw(&mut self, request: &RequestHeader) -> Option<Arc<Pool>> {
        let route = self.route.as_ref()?;
        let split = route.split()?;
        if split.is_blind() {
            return split.turn().cloned();
        }
        let view = View::of(request, self.intake.as_ref()?, &self.params);
        let found = self.found.get_or_insert_default();
        split.pick(&Exchange { request: &view, found }, route.name.as_str()).cloned()
    }

    /// A target of the pool that was drawn, unless all are full.
    fn pick_first(&self, request: &RequestHeader) -> Result<Picked, Unserved> {
        let Some(intake) = &self.intake else { return Err(Fault::GatewayInternal.into()) };
        let Some(pool) = &self.pool else { return Err(Fault::PoolEmpty.into()) };
        pool.pick_first(&View::of(request, intake, &self.params))
    }

    /// The same once one is free.
    async fn wait_in_line(&mut self, request: &RequestHeader) -> Result<Picked, Unserved> {
        let (Some(intake), Some(pool), Some(route)) = (&self.intake, &self.pool, &self.route) else {
            return Err(Fault::GatewayInternal.into());
        };
        let since = Instant::now();
        let end = time::end(&pool.timeouts(route.timeout.as_ref()), request, self.started);
        let view = View::of(request, intake, &self.params);
        let picked = pool.wait_in_line(&view, end.map(|end| end.at)).await;
        self.queued = Some(since.elapsed());
        picked
    }

    /// A target of the pool that was drawn: none of those that were `tried`, where there is another.
    pub fn pick(&self, request: &RequestHeader, tried: &[Arc<Target>]) -> Result<Picked, Unserved> {
        let Some(intake) = &self.intake else { return Err(Fault::GatewayInternal.into()) };
        let Some(pool) = &self.pool else { return Err(Fault::PoolEmpty.into()) };
        pool.pick(&View::of(request, intake, &self.params), tried)
    }
}

/// The id that a hop has given, if it is one.
pub(super) fn carried_id(headers: &HeaderMap) -> Option<Box<str>> {
    let given = headers.get(field::X_REQUEST_ID).and_then(|id| id.to_str().ok());
    let fits = |id: &&str| !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|b| b.is_ascii_graphic());
    given.filter(fits).map(Into::into)
}
