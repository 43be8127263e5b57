//! One endpoint of a pool and its live cell.

mod carry;
mod config;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use config::{Config, MAX_WEIGHT};
use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;

use super::balance::Estimate;
use super::breaker::{self, Breaker, Pass};
use super::connection::{Connections, Errand};
use super::eject::{self, Ejection};
use super::endpoint::Found;
use super::health::{Record, State, Verdict};
use super::peer;
use super::resume::Resume;
use super::rules::Rules;
use super::start::SlowStart;
use super::sticky::Sticky;
use super::{Timeout, cause, timeout};
use crate::exchange::Request;
use crate::fault::Fault;

/// One address that a pool uses, as its settings have it; what lives longer is its cell.
pub struct Target {
    name: Box<str>,
    asked: Box<str>,
    weight: u16,
    priority: u8,
    /// The value of the cookie that brings a client back here.
    cookie: Option<Box<str>>,
    cell: Arc<Cell>,
    peer: HttpPeer,
    settings: Arc<peer::Settings>,
    rules: Arc<Rules>,
}

impl Target {
    pub(super) fn new(found: Found, cell: Arc<Cell>, settings: &Arc<peer::Settings>, rules: &Arc<Rules>) -> Self {
        let peer = settings.peer(found.address, &found.asked);
        let (settings, rules) = (Arc::clone(settings), Arc::clone(rules));
        let cookie = rules.sticky.as_ref().map(|sticky| sticky.value(&found.name));
        Self {
            name: found.name,
            asked: found.asked,
            weight: found.weight,
            priority: found.priority,
            cookie,
            cell,
            peer,
            settings,
            rules,
        }
    }
    /// Whether it is kept from requests because its requests go worse than those of the others.
    pub(super) fn is_ejected(&self) -> bool {
        self.rules.eject.as_ref().is_some_and(|rule| rule.keeps_from(&self.cell.ejection))
    }
    /// The cookie of its pool, if that has one.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.rules.sticky.as_ref()
    }
    /// The value of that cookie which brings a client back here.
    pub(super) fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }
    /// What the client of this request is given to come back here, unless it has that already.
    pub fn set_cookie(&self, request: &dyn Request) -> Option<HeaderValue> {
        let (sticky, value) = (self.sticky()?, self.cookie()?);
        if request.cookie(sticky.name()) == Some(value) { None } else { sticky.set(value, request.is_https()) }
    }
    /// How late its answers begin, in seconds, as far as is known.
    pub(super) fn latency(&self) -> f64 {
        self.cell.estimate.seconds(Instant::now())
    }
    /// Which share of its weight it has, while that grows.
    pub(super) fn share(&self) -> Option<f64> {
        self.rules.slow_start.and_then(|length| self.cell.start.share(length))
    }
    /// It comes to a pool in which others serve.
    pub(super) fn begin(&self) {
        if self.rules.slow_start.is_some() {
            self.cell.start.begin(Instant::now());
        }
    }
    /// Whether its breaker lets a request through, as far as one can tell without sending it.
    pub(super) fn admits(&self) -> bool {
        self.rules.breaker.as_ref().is_none_or(|rule| self.gate(rule).admits(rule))
    }
    pub(super) fn ejection(&self, now: Instant) -> Option<eject::Status> {
        self.rules.eject.as_ref().and_then(|rule| rule.status(&self.cell.ejection, now))
    }
    /// The breaker, if the pool has any: its own, or that of the pool.
    pub(super) fn breaker(&self) -> Option<&Breaker> {
        self.rules.breaker.as_ref().map(|rule| self.gate(rule))
    }
    fn gate<'a>(&'a self, rule: &'a breaker::Rule) -> &'a Breaker {
        rule.shared().unwrap_or(&self.cell.breaker)
    }
    /// For logs and metrics: the address, behind the host name that it was resolved from (`app.internal/10.0.0.7:80`).
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn weight(&self) -> u16 {
        self.weight
    }
    /// The group that it belongs to: lower ones are used first.
    pub fn priority(&self) -> u8 {
        self.priority
    }
    /// Whether it has fewer requests than it may have.
    pub(super) fn has_room(&self) -> bool {
        self.rules.max_in_flight.as_ref().is_none_or(|rule| rule.has_room(self.in_flight()))
    }
    /// Requests that are with the target now.
    pub fn in_flight(&self) -> u32 {
        self.cell.in_flight.load(Relaxed)
    }
    pub(super) fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }
    pub(super) fn peer(&self) -> &HttpPeer {
        &self.peer
    }
    /// The host name or IP address that the target is asked for.
    pub(super) fn asked(&self) -> &str {
        &self.asked
    }
    /// Whether both are the same address of the same pool, perhaps under other settings.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }
}

/// What is known of a target beyond a reload.
pub struct Cell {
    state: AtomicU8,
    /// Whether it may serve before its first probe, because its pool had nothing else when it came.
    founder: AtomicBool,
    in_flight: AtomicU32,
    picks: AtomicU64,
    failures: AtomicU64,
    breaker: Breaker,
    estimate: Estimate,
    pub(super) start: SlowStart,
    pub(super) ejection: Ejection,
    record: Mutex<Record>,
    /// A probe that a reload cut short.
    pub(super) probe: Resume<Verdict>,
    gone: Box<dyn Fn() + Send + Sync>,
}

impl Cell {
    /// A target that nobody has asked yet; `gone` is called when its last user lets go.
    pub(super) fn new(now: Instant, gone: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state: AtomicU8::new(State::Unknown as u8),
            founder: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            picks: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            breaker: Breaker::new(now),
            estimate: Estimate::new(now),
            start: SlowStart::new(now),
            ejection: Ejection::new(now),
            record: Mutex::new(Record::new(now)),
            probe: Resume::default(),
            gone: Box::new(gone),
        }
    }
    pub(super) fn state(&self) -> State {
        State::ALL.into_iter().find(|state| *state as u8 == self.state.load(Relaxed)).unwrap_or(State::Unknown)
    }
    /// Up, or not asked yet and trusted until it is.
    pub(super) fn serves(&self) -> bool {
        match self.state() {
            State::Up => true,
            State::Unknown => self.founder.load(Relaxed),
            State::Down => false,
        }
    }
    pub(super) fn found(&self) {
        self.founder.store(true, Relaxed);
    }
    pub(super) fn record<R>(&self, change: impl FnOnce(&mut Record) -> R) -> R {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut record);
        self.state.store(record.state() as u8, Relaxed);
        answer
    }
    pub(super) fn picks(&self) -> u64 {
        self.picks.load(Relaxed)
    }
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        (self.gone)();
    }
}

/// A target chosen for one try; it counts as in flight until this is dropped.
pub struct Picked {
    target: Arc<Target>,
    /// What its breaker waits to hear of; nothing once that was told.
    pass: Option<Pass>,
    told: bool,
    /// Its outcome was counted for ejection.
    weighed: bool,
    /// It is in flight no longer.
    left: bool,
    /// Its failure was counted for the balance.
    slowed: bool,
}

impl Picked {
    /// Nothing where its last place, or the last request that its breaker lets through, was just taken by another.
    pub(super) fn new(target: Arc<Target>) -> Option<Self> {
        match &target.rules.max_in_flight {
            Some(rule) if !rule.enter(&target.cell.in_flight) => return None,
            Some(_) => {}
            None => {
                target.cell.in_flight.fetch_add(1, Relaxed);
            }
        }
        let mut picked = Self { target, pass: None, told: false, weighed: false, slowed: false, left: false };
        if let Some(rule) = &picked.target.rules.breaker {
            picked.pass = Some(picked.target.gate(rule).enter(rule, &picked.target.name)?);
        }
        picked.target.cell.picks.fetch_add(1, Relaxed);
        Some(picked)
    }
    /// The target has it no longer: what follows is another try.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.target.cell.in_flight.fetch_sub(1, Relaxed);
        }
    }
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
    /// The limits of a try: the route's in place of the pool's.
    pub fn timeouts(&self, route: Option<&Timeout>) -> Cow<'_, timeout::Config> {
        self.target.settings.timeouts(route)
    }
    /// Where and how to connect, and where the connection is our own, what becomes of it; the request ends at `end`, and if
    /// `once`, it may not be sent twice.
    pub fn peer(
        &self,
        timeouts: &timeout::Config,
        end: Option<Instant>,
        once: bool,
        connections: &Arc<Connections>,
    ) -> (Box<HttpPeer>, Option<Arc<Errand>>) {
        let mut peer = Box::new(self.target.peer.clone());
        let settings = &self.target.settings;
        let errand = settings.send(&mut peer, timeouts, end, once, connections);
        if errand.is_none() {
            settings.limit(&mut peer, timeouts, end.map(|end| end.saturating_duration_since(Instant::now())));
        }
        (peer, errand)
    }
    /// Whether its connections are Pingora's, which has one limit for every wait.
    pub fn waits_alike(&self) -> bool {
        !self.target.settings.has_errands()
    }
    /// Whether a WebSocket can be asked for.
    pub fn speaks_h1(&self) -> bool {
        self.target.settings.speaks_h1()
    }
    /// Where and how to connect for a WebSocket, within what is left of the request's time.
    pub fn tunnel(&self, timeouts: &timeout::Config, left: Option<Duration>) -> HttpPeer {
        let mut peer = self.target.peer.clone();
        self.target.settings.tunnel(&mut peer, timeouts, left);
        peer
    }
    /// Where to connect for work that nobody waits for and that ends within `limit`.
    pub fn aside(&self, limit: Duration) -> HttpPeer {
        let (mut peer, settings) = (self.target.peer.clone(), &self.target.settings);
        settings.limit(&mut peer, &settings.timeouts(None), Some(limit));
        peer
    }
    /// Whether anyone wants to know how late its answer begins.
    pub fn is_timed(&self) -> bool {
        let rules = &self.target.rules;
        rules.estimates || rules.eject.as_ref().is_some_and(|rule| rule.times())
    }
    /// The head of the answer came, `after` the whole request had gone out: a request that tries the target for its
    /// breaker has found out enough, and a failure is one whatever follows. Others are told of at their end, because an
    /// answer can break off.
    pub fn answered(&mut self, status: u16, after: Option<Duration>) {
        let failed = || self.target.rules.breaker.as_ref().is_some_and(|rule| rule.judge(None, status) == Some(true));
        if matches!(self.pass, Some(Pass::Probe(_))) || failed() {
            self.judge(None, status);
        }
        if let (true, Some(after)) = (self.target.rules.estimates, after) {
            match status {
                500.. => self.slowed(None, status),
                _ => self.target.cell.estimate.learn(after, Instant::now()),
            }
        }
        if let Some(rule) = &self.target.rules.eject {
            if let Some(after) = after {
                rule.time(&self.target.cell.ejection, after);
            }
            if rule.judge(None, status) == Some(true) {
                self.weigh(None, status);
            }
        }
    }
    /// How the try went, told once: the fault if there was one, and the status of the answer.
    pub fn record(&mut self, fault: Option<Fault>, status: u16) {
        let failed = match fault {
            Some(fault) => fault != Fault::ClientGone,
            None => status >= 500,
        };
        // A target that failed may be kept for the log, and be told of again at its end.
        if failed && !std::mem::replace(&mut self.told, true) {
            self.target.cell.failures.fetch_add(1, Relaxed);
        }
        self.judge(fault, status);
        self.weigh(fault, status);
        if self.target.rules.estimates {
            self.slowed(fault, status);
        }
    }
    /// Who fails fast must not look quick.
    fn slowed(&mut self, fault: Option<Fault>, status: u16) {
        if cause::usual(fault, status) == Some(true) && !std::mem::replace(&mut self.slowed, true) {
            self.target.cell.estimate.fail(Instant::now());
        }
    }
    fn judge(&mut self, fault: Option<Fault>, status: u16) {
        if let (Some(rule), Some(pass)) = (&self.target.rules.breaker, self.pass.take()) {
            let failed = rule.judge(fault, status);
            let was_closed = self.target.gate(rule).is_closed();
            self.target.gate(rule).leave(rule, &self.target.name, pass, failed);
            if !was_closed && self.target.gate(rule).is_closed() {
                self.target.begin();
            }
        }
    }
    /// After its breaker: who is left alone by that is not ejected as well.
    fn weigh(&mut self, fault: Option<Fault>, status: u16) {
        if let Some(rule) = &self.target.rules.eject
            && !std::mem::replace(&mut self.weighed, true)
            && let Some(failed) = rule.judge(fault, status)
        {
            rule.count(&self.target, failed, self.target.breaker().is_none_or(Breaker::is_closed));
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.leave();
        if let (Some(rule), Some(pass)) = (&self.target.rules.breaker, self.pass.take()) {
            self.target.gate(rule).leave(rule, &self.target.name, pass, None);
        }
        if let Some(rule) = &self.target.rules.max_in_flight {
            rule.left();
        }
    }
}
