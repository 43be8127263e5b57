//! One endpoint of a pool and its live cell.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pingora::upstreams::peer::HttpPeer;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::breaker::{self, Breaker, Pass};
use super::connection::{Connections, Errand};
use super::endpoint::Found;
use super::health::{Record, State, Verdict};
use super::peer;
use super::resume::Resume;
use super::{Timeout, timeout};
use crate::fault::Fault;
use crate::units::Address;

/// The largest weight of a target.
pub const MAX_WEIGHT: u16 = 1000;

/// Where requests may go: an address, or an address and its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "PoolTarget", transform = also_an_address)]
pub struct Config {
    /// The address: IP and port, host name and port, or `unix:/path`.
    pub at: Address,
    /// Its share of the requests against the other targets, 1 to 1000; 0 drains it: no new requests.
    #[serde(default = "one")]
    #[schemars(range(max = 1000))]
    pub weight: u16,
}

fn one() -> u16 {
    1
}

impl From<Address> for Config {
    fn from(at: Address) -> Self {
        Self { at, weight: 1 }
    }
}

fn also_an_address(long: &mut schemars::Schema) {
    let description = "An address, or an address and its weight.";
    let short = serde_json::json!({ "type": "string", "examples": ["10.0.0.5:8080"] });
    *long = schemars::json_schema!({ "description": description, "anyOf": [short, long.clone()] });
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, e.g. 10.0.0.5:8080, or { at: 10.0.0.5:8080, weight: 2 }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Config, E> {
                text.parse::<Address>().map(Config::from).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, port: u64) -> Result<Config, E> {
                Err(E::custom(format!("`{port}` needs a host, e.g. 127.0.0.1:{port}")))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                Config::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

/// One address that a pool uses, as its settings have it; what lives longer is its cell.
pub struct Target {
    name: Box<str>,
    asked: Box<str>,
    weight: u16,
    cell: Arc<Cell>,
    peer: HttpPeer,
    settings: Arc<peer::Settings>,
    breaker: Option<Arc<breaker::Rule>>,
}

impl Target {
    pub(super) fn new(
        found: Found,
        cell: Arc<Cell>,
        settings: &Arc<peer::Settings>,
        breaker: Option<&Arc<breaker::Rule>>,
    ) -> Self {
        let peer = settings.peer(found.address, &found.asked);
        let (settings, breaker) = (Arc::clone(settings), breaker.cloned());
        Self { name: found.name, asked: found.asked, weight: found.weight, cell, peer, settings, breaker }
    }
    /// Whether its breaker lets a request through, as far as one can tell without sending it.
    pub(super) fn admits(&self) -> bool {
        self.breaker.as_ref().is_none_or(|rule| self.gate(rule).admits(rule))
    }
    /// The breaker, if the pool has any: its own, or that of the pool.
    pub(super) fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_ref().map(|rule| self.gate(rule))
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
}

impl Picked {
    /// Nothing where the last request that its breaker lets through was just taken by another.
    pub(super) fn new(target: Arc<Target>) -> Option<Self> {
        let pass = match &target.breaker {
            Some(rule) => Some(target.gate(rule).enter(rule, &target.name)?),
            None => None,
        };
        target.cell.in_flight.fetch_add(1, Relaxed);
        target.cell.picks.fetch_add(1, Relaxed);
        Some(Self { target, pass, told: false })
    }
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
    /// The limits of a try: the route's in place of the pool's.
    pub fn timeouts(&self, route: Option<&Timeout>) -> Cow<'_, timeout::Config> {
        let pool = self.target.settings.timeouts();
        route.map_or(Cow::Borrowed(pool), |route| Cow::Owned(route.over(pool)))
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
    /// Where to connect for work that nobody waits for and that ends within `limit`.
    pub fn aside(&self, limit: std::time::Duration) -> HttpPeer {
        let (mut peer, settings) = (self.target.peer.clone(), &self.target.settings);
        settings.limit(&mut peer, settings.timeouts(), Some(limit));
        peer
    }
    /// The head of the answer came: a request that tries the target for its breaker has found out enough, and a failure
    /// is one whatever follows. Others are told of at their end, because an answer can break off.
    pub fn answered(&mut self, status: u16) {
        let failed = || self.target.breaker.as_ref().is_some_and(|rule| rule.judge(None, status) == Some(true));
        if matches!(self.pass, Some(Pass::Probe(_))) || failed() {
            self.judge(None, status);
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
    }
    fn judge(&mut self, fault: Option<Fault>, status: u16) {
        if let (Some(rule), Some(pass)) = (&self.target.breaker, self.pass.take()) {
            let failed = rule.judge(fault, status);
            self.target.gate(rule).leave(rule, &self.target.name, pass, failed);
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.target.cell.in_flight.fetch_sub(1, Relaxed);
        if let (Some(rule), Some(pass)) = (&self.target.breaker, self.pass.take()) {
            self.target.gate(rule).leave(rule, &self.target.name, pass, None);
        }
    }
}
