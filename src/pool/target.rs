//! One endpoint of a pool and its live cell.

mod carry;
mod config;
mod picked;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use config::{Config, MAX_WEIGHT};
use http::HeaderValue;
pub use picked::Picked;
use pingora::upstreams::peer::HttpPeer;

use super::balance::Estimate;
use super::breaker::{self, Breaker};
use super::eject::{self, Ejection};
use super::endpoint::Found;
use super::health::{Record, State, Verdict};
use super::peer;
use super::resume::Resume;
use super::rules::Rules;
use super::start::SlowStart;
use super::sticky::Sticky;
use crate::exchange::Request;

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
    /// Whether it was ejected and has its first request since.
    pub(super) fn is_tried(&self) -> bool {
        self.rules.eject.as_ref().is_some_and(|rule| rule.tries(&self.cell.ejection))
    }
    /// Whether it was taken out and has answered nothing since.
    pub fn is_mute(&self) -> bool {
        self.is_ejected() && self.cell.ejection.is_mute()
    }
    /// Whether its last request went well.
    pub fn is_well(&self) -> bool {
        self.cell.ejection.is_well()
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
    /// Whether its breaker keeps nothing from it, because it is closed or only watches.
    fn is_passable(&self) -> bool {
        self.rules.breaker.as_ref().is_none_or(|rule| !rule.enforces() || self.gate(rule).is_closed())
    }
    /// Whether its breaker would let a request through if it did not only watch.
    pub(super) fn would_admit(&self) -> bool {
        self.rules.breaker.as_ref().is_none_or(|rule| self.gate(rule).would_admit(rule))
    }
    fn gate<'a>(&'a self, rule: &'a breaker::Rule) -> &'a Breaker {
        rule.shared().unwrap_or(&self.cell.breaker)
    }
    /// For logs and metrics: the address, behind the host name that it was resolved from (`app.internal/10.0.0.7:80`).
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn is_tls(&self) -> bool {
        self.peer.is_tls()
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
