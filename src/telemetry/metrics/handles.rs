//! What the parts of the gateway hold to count with: every series they can name is found beforehand.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use http::Method;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::cache::{ByResult, CacheResult};
use super::family::Lease;
use super::list::Families;
use super::totals::Totals;
use super::websocket::WebsocketMetrics;
use crate::fault::Fault;

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "OTHER"];

/// The place of a method in `METHODS`; a word that a client made up is `OTHER`.
fn place(method: &Method) -> u32 {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::PATCH => 5,
        Method::OPTIONS => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => UNKNOWN_METHOD,
    }
}

const UNKNOWN_METHOD: u32 = 9;

/// No answer, among the statuses.
pub(super) const NO_STATUS: u16 = 0;
/// A status that HTTP does not have: one for all, so that an upstream cannot invent series.
const NOT_A_STATUS: u16 = 1;

pub(super) fn known(status: u16) -> u16 {
    if (100..600).contains(&status) { status } else { NOT_A_STATUS }
}

pub(super) fn code(status: u16) -> Cow<'static, str> {
    match status {
        NO_STATUS => "-".into(),
        NOT_A_STATUS => "other".into(),
        status => status.to_string().into(),
    }
}

type Slot = OnceLock<(u32, IntCounter)>;

/// Counters by a small number, in the order in which they were first needed: the frequent ones are found at once,
/// without a lock or a hash.
#[derive(Default)]
pub(super) struct Slots {
    near: [Slot; 8],
    far: OnceLock<Box<[Slot]>>,
}

impl Slots {
    const FAR: usize = 56;

    pub(super) fn count(&self, key: u32, make: impl Fn() -> IntCounter) {
        let count = |slots: &[Slot]| {
            let mut slots = slots.iter().map(|slot| slot.get_or_init(|| (key, make())));
            slots.find(|(of, _)| *of == key).map(|(_, counter)| counter.inc())
        };
        let far = || self.far.get_or_init(|| (0..Self::FAR).map(|_| Slot::new()).collect());
        if count(&self.near).or_else(|| count(far())).is_none() {
            make().inc();
        }
    }

    /// What was counted under each key so far.
    fn all(&self) -> impl Iterator<Item = (u32, u64)> {
        let far = self.far.get().into_iter().flat_map(|slots| slots.iter());
        self.near.iter().chain(far).filter_map(Slot::get).map(|(key, counter)| (*key, counter.get()))
    }
}

/// One route behind one listener. Its series are put on the page by its first request: ten thousand idle routes
/// cost the page nothing.
pub struct RouteMetrics {
    families: Arc<Families>,
    listener: Box<str>,
    route: Box<str>,
    pair: Lease,
    alone: Lease,
    requests: Slots,
    faults: [OnceLock<IntCounter>; Fault::ALL.len()],
    times: OnceLock<Times>,
    cached: ByResult,
    in_flight: OnceLock<IntGauge>,
    websockets: OnceLock<Arc<WebsocketMetrics>>,
}

struct Times {
    duration: Histogram,
    overhead: Histogram,
}

impl RouteMetrics {
    pub(super) fn new(families: &Arc<Families>, pair: Lease, alone: Lease, listener: &str, route: &str) -> Self {
        Self {
            requests: Slots::default(),
            faults: [const { OnceLock::new() }; Fault::ALL.len()],
            times: OnceLock::new(),
            cached: ByResult::default(),
            in_flight: OnceLock::new(),
            websockets: OnceLock::new(),
            families: Arc::clone(families),
            listener: listener.into(),
            route: route.into(),
            pair,
            alone,
        }
    }

    /// One request has ended: how long it took, and how much of that was not waiting for the upstream, in seconds.
    pub fn count(&self, method: &Method, status: u16, seconds: f64, overhead: f64) {
        self.ended(place(method), status);
        let times = self.times.get_or_init(|| Times {
            duration: self.alone.child(&self.families.duration, &[&self.route]),
            overhead: self.alone.child(&self.families.overhead, &[&self.route]),
        });
        times.duration.observe(seconds);
        times.overhead.observe(overhead);
    }

    /// Adds what was counted so far behind this listener.
    pub fn add_to(&self, totals: &mut Totals) {
        for (key, number) in self.requests.all() {
            totals.add(key & 0xffff, number);
        }
    }

    /// Adds how long requests took so far, behind all listeners; whether there is anything to add.
    pub fn add_times_to(&self, totals: &mut Totals) -> bool {
        let times = self.times.get();
        times.inspect(|times| totals.add_times(&times.duration)).is_some()
    }

    /// One request was refused before it could be read as one: its method is not known, its time is not measured.
    pub fn refuse(&self, fault: Fault) {
        self.ended(UNKNOWN_METHOD, fault.status());
        self.fault(fault);
    }

    /// One request was refused or could not be served; it is counted by `count` as well.
    pub fn fault(&self, fault: Fault) {
        let make = || self.alone.child(&self.families.faults, &[&self.route, fault.code()]);
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.get_or_init(make).inc();
        }
    }

    /// One request would have been refused by a guard that only watches.
    pub fn would_refuse(&self, fault: Fault) {
        self.alone.child(&self.families.shadow_refusals, &[&self.route, fault.code()]).inc();
    }

    /// What one request got of the cache.
    pub fn cache(&self, result: CacheResult) {
        self.cached.count(result, &self.families, &self.alone, &self.route);
    }

    /// One request has begun; it has ended when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight().inc();
        InFlight(Arc::clone(self))
    }

    /// What its WebSockets count, which may outlast the route.
    pub fn websockets(&self) -> &Arc<WebsocketMetrics> {
        let make = || Arc::new(WebsocketMetrics::new(&self.families, self.alone.again(), &self.route));
        self.websockets.get_or_init(make)
    }

    fn in_flight(&self) -> &IntGauge {
        self.in_flight.get_or_init(|| self.alone.child(&self.families.in_flight, &[&self.route]))
    }

    fn ended(&self, method: u32, status: u16) {
        let status = known(status);
        self.requests.count(method << 16 | u32::from(status), || {
            let name = METHODS.get(method as usize).copied().unwrap_or("OTHER");
            self.pair.child(&self.families.requests, &[&self.listener, &self.route, name, &code(status)])
        });
    }
}

/// A request that has not yet ended.
pub struct InFlight(Arc<RouteMetrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight().dec();
    }
}

/// One limit.
pub struct LimitMetrics {
    admitted: IntCounter,
    refused: IntCounter,
    would_refuse: IntCounter,
    _lease: Lease,
}

impl LimitMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, limit: &str) -> Self {
        let child = |result| lease.child(&families.limit_decisions, &[limit, result]);
        let (admitted, refused, would_refuse) = (child("admitted"), child("refused"), child("would_refuse"));
        Self { admitted, refused, would_refuse, _lease: lease }
    }

    pub fn admitted(&self) {
        self.admitted.inc();
    }
    pub fn refused(&self) {
        self.refused.inc();
    }
    pub fn would_refuse(&self) {
        self.would_refuse.inc();
    }
}

impl std::fmt::Debug for LimitMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LimitMetrics")
    }
}

/// One listener.
pub struct ListenerMetrics {
    families: Arc<Families>,
    listener: Box<str>,
    lease: Lease,
    connections: IntGauge,
}

impl ListenerMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, listener: &str) -> Self {
        let connections = lease.child(&families.connections, &[listener]);
        Self { families: Arc::clone(families), listener: listener.into(), lease, connections }
    }

    /// One connection is open until the guard is dropped.
    pub fn open(self: &Arc<Self>) -> Connected {
        self.connections.inc();
        Connected(Arc::clone(self))
    }

    /// One connection could not be accepted.
    pub fn not_accepted(&self) {
        self.lease.child(&self.families.accept_failures, &[&self.listener]).inc();
    }

    /// One connection was closed before its first request; `reason` comes from a closed list.
    pub fn refuse(&self, reason: &'static str) {
        self.lease.child(&self.families.connections_refused, &[&self.listener, reason]).inc();
    }
}

/// A connection that is open.
pub struct Connected(Arc<ListenerMetrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// The keys of one issuer.
pub struct JwksMetrics {
    age: IntGauge,
    ok: IntCounter,
    failed: IntCounter,
    _lease: Lease,
}

impl JwksMetrics {
    pub(super) fn new(families: &Families, lease: Lease, auth: &str) -> Self {
        Self {
            age: lease.child(&families.jwks_age, &[auth]),
            ok: lease.child(&families.jwks_refreshes, &[auth, "ok"]),
            failed: lease.child(&families.jwks_refreshes, &[auth, "failed"]),
            _lease: lease,
        }
    }

    /// Whole seconds since the last good answer.
    pub fn age(&self, age: i64) {
        self.age.set(age);
    }

    pub fn fetched(&self, well: bool) {
        if well { self.ok.inc() } else { self.failed.inc() }
    }
}

/// A service that is asked who comes.
pub struct AskedMetrics {
    answered: IntCounter,
    failed: IntCounter,
    remembered: IntCounter,
    duration: Histogram,
    _lease: Lease,
}

impl AskedMetrics {
    pub(super) fn new(families: &Families, lease: Lease, auth: &str) -> Self {
        let child = |result| lease.child(&families.auth_questions, &[auth, result]);
        let (answered, failed, remembered) = (child("answered"), child("failed"), child("remembered"));
        let duration = lease.child(&families.auth_question_duration, &[auth]);
        Self { answered, failed, remembered, duration, _lease: lease }
    }

    /// One question has ended, after so many seconds.
    pub fn asked(&self, well: bool, seconds: f64) {
        let counter = if well { &self.answered } else { &self.failed };
        counter.inc();
        self.duration.observe(seconds);
    }

    /// One answer was known already.
    pub fn remembered(&self) {
        self.remembered.inc();
    }
}

/// What came of looking at credentials.
#[derive(Debug, Clone, Copy)]
pub enum Decision {
    Admitted,
    Missing,
    Expired,
    Invalid,
    Unavailable,
    /// Admitted, because nobody could be asked and the document says so.
    Open,
}

/// The credentials of one route.
pub struct AuthMetrics {
    families: Arc<Families>,
    lease: Lease,
    route: Box<str>,
    method: &'static str,
    decisions: [OnceLock<IntCounter>; 6],
}

impl AuthMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, route: &str, method: &'static str) -> Self {
        Self { families: Arc::clone(families), lease, route: route.into(), method, decisions: Default::default() }
    }

    pub fn count(&self, decision: Decision) {
        let word = match decision {
            Decision::Admitted => "admitted",
            Decision::Missing => "missing",
            Decision::Expired => "expired",
            Decision::Invalid => "invalid",
            Decision::Unavailable => "unavailable",
            Decision::Open => "open",
        };
        let make = || self.lease.child(&self.families.auth_decisions, &[&self.route, self.method, word]);
        if let Some(counter) = self.decisions.get(decision as usize) {
            counter.get_or_init(make).inc();
        }
    }
}

/// A figure that is on the page while someone holds it.
pub struct Figure {
    gauge: IntGauge,
    _lease: Lease,
}

impl Figure {
    pub(super) fn new(gauge: IntGauge, lease: Lease) -> Self {
        Self { gauge, _lease: lease }
    }

    pub fn set(&self, value: i64) {
        self.gauge.set(value);
    }
}
