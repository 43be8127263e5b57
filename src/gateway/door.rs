//! Refusals at the door: requests that were wrong before they could be read as one are counted, told and answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::listen::{Door, Seen};
use crate::answer::Asked;
use crate::fault::Fault;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::access::{Entry, Timings};
use crate::telemetry::metrics::{Connected, ListenerMetrics};
use crate::telemetry::recent::{Named, Page, Said};
use crate::telemetry::trace::{RequestId, Trace};
use crate::units::Name;

/// What the accept loops of one set of listeners ask when they must refuse, and tell of connections.
pub(super) fn door(live: Arc<Live>) -> Arc<dyn Door> {
    Arc::new(Refusals { live, listeners: Mutex::default() })
}

/// What is allowed where CONNECT and TRACE are not.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

struct Refusals {
    live: Arc<Live>,
    /// What each listener counts, and a guard for each of its open connections.
    listeners: Mutex<HashMap<Name, Counters>>,
}

struct Counters {
    metrics: Arc<ListenerMetrics>,
    open: Vec<Connected>,
}

impl Refusals {
    fn counters<T>(&self, listener: &Name, count: impl FnOnce(&mut Counters) -> T) -> T {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = listeners.get_mut(listener) {
            return count(counters);
        }
        let metrics = self.live.tools.metrics.listener(listener.as_str());
        count(listeners.entry(listener.clone()).or_insert(Counters { metrics, open: Vec::new() }))
    }
}

impl Door for Refusals {
    fn refuse(&self, fault: Fault, seen: &Seen<'_>) -> Vec<u8> {
        let snapshot = self.live.load();
        let listener = &seen.connection.listener.name;
        if let Some(counted) = snapshot.nowhere.through(listener) {
            counted.refuse(fault);
        }
        let now = SystemTime::now();
        let id = RequestId::new(now);
        if snapshot.access.is_on() {
            snapshot.access.write(&entry(fault, seen, now, id.as_str(), Trace::started().id()));
        }
        let accept_language = seen.field("accept-language");
        let allow = (fault == Fault::RouteMethod).then_some(METHODS);
        keep(&self.live, &snapshot, fault, seen, now, id.as_str());
        let asked =
            Asked { request_id: id.as_str(), accept_language, allow, cause: Some((fault, None)), ..Asked::default() };
        snapshot.answers.answer(fault, &asked).render_h1(now)
    }

    fn goodbye(&self) -> Duration {
        self.live.load().drain.idle.get()
    }

    fn opened(&self, listener: &Name) {
        self.counters(listener, |counters| counters.open.push(counters.metrics.open()));
    }

    fn closed(&self, listener: &Name) {
        drop(self.counters(listener, |counters| counters.open.pop()));
    }

    fn turned_away(&self, listener: &Name, why: &'static str) {
        self.counters(listener, |counters| counters.metrics.refuse(why));
    }

    fn not_accepted(&self, listener: &Name) {
        self.counters(listener, |counters| counters.metrics.not_accepted());
    }

    fn handshake(&self, _: &Name, version: &'static str, result: &'static str) {
        self.live.tools.metrics.handshake(version, result);
    }
}

/// What `why` tells of a request that was never read as one.
fn keep(live: &Live, snapshot: &Snapshot, fault: Fault, seen: &Seen<'_>, now: SystemTime, request_id: &str) {
    let listener = format!("listeners.{}", seen.connection.listener.name);
    let rule = match fault {
        Fault::RequestHeaderTooLarge | Fault::RequestUriTooLong => format!("{listener}.limits"),
        Fault::RequestTimeout => format!("{listener}.timeout.head"),
        _ => listener.clone(),
    };
    live.recent.keep(&Page {
        request_id,
        time: Said(now),
        generation: snapshot.generation,
        status: fault.status(),
        fault: Some(fault),
        rule: Some(snapshot.written.rule(&rule).into()),
        listener: Named {
            name: seen.connection.listener.name.as_str(),
            place: snapshot.written.place(&listener),
            by: None,
        },
        client: seen.connection.peer.ip().to_canonical(),
        protocol: seen.protocol,
        method: seen.method().unwrap_or("-"),
        host: short(seen.field("host")).into(),
        path: short(seen.target().and_then(|target| target.split('?').next())).into(),
        bytes_in: seen.head.len() as u64,
        ..Page::default()
    });
}

/// What is longer than that was refused for it.
fn short(word: Option<&str>) -> &str {
    word.map_or("-", |word| word.get(..1024).unwrap_or(word))
}

/// The line of a request that was never read as one.
fn entry<'a>(fault: Fault, seen: &Seen<'a>, time: SystemTime, request_id: &'a str, trace_id: &'a str) -> Entry<'a> {
    Entry {
        time,
        request_id,
        part_of: None,
        trace_id,
        listener: seen.connection.listener.name.as_str(),
        route: None,
        method: seen.method().unwrap_or("-"),
        host: seen.field("host").unwrap_or("-").as_bytes(),
        path: seen.target().map_or("-", |target| target.split('?').next().unwrap_or("-")).as_bytes(),
        query: None,
        protocol: seen.protocol,
        status: fault.status(),
        bytes_in: seen.head.len() as u64,
        bytes_out: 0,
        user_agent: seen.field("user-agent").map(str::as_bytes),
        referer: None,
        client: seen.connection.peer.ip().to_canonical(),
        pool: None,
        target: None,
        tries: 0,
        retried_after: None,
        not_retried: None,
        consumer: None,
        rule: None,
        operation: None,
        would_refuse: None,
        cache: None,
        tunnel: None,
        calls: None,
        reason: Some(fault.code()),
        detail: None,
        timings: Timings::default(),
    }
}
