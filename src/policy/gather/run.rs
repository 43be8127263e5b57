//! The calls of one request: each begins as soon as what it needs is here.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::Gather;
use super::call::{Call, OnError, Read, Unmade};
use super::known::{Known, Missing};
use crate::exchange::{Identity, Request};
use crate::fault::Fault;
use crate::policy::headers::Fields;
use crate::pool::call::{Answer, Body, Call as Sent, Failed, Spans, Tried};
use crate::pool::retry::End;
use crate::pool::{Retry, Timeout};
use crate::telemetry::metrics::GatherResult;
use crate::telemetry::trace::Trace;
use crate::units::Name;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request that is answered by calls.
pub struct Asked<'a> {
    pub request: &'a dyn Request,
    pub identity: &'a Identity,
    pub body: Option<&'a str>,
    pub client: IpAddr,
    /// Fields that every call has.
    pub base: &'a HeaderMap,
    /// The trace that the calls belong to.
    pub trace: Trace,
    /// What the route changes in the fields of its requests.
    pub fields: &'a Fields,
    /// What the route says of time and further tries.
    pub timeout: Option<&'a Timeout>,
    pub retry: Option<&'a Retry>,
    pub deadline: Option<Instant>,
}

/// What became of one call.
pub struct Called {
    pub name: Name,
    /// The number of its first try among all spans of the request.
    pub first: u32,
    pub method: Method,
    pub pool: Name,
    pub end: Ended,
    pub began: Instant,
    pub took: Duration,
    /// Its tries, for whoever tells of each.
    pub tries: Vec<Tried>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this status, which may be a failure.
    Answered(u16),
    /// Without an answer that is of use.
    Failed(Fault),
    /// It could not be made of this request and of what was there.
    Unmade,
}

impl From<End> for Ended {
    fn from(end: End) -> Self {
        match end {
            End::Lost(fault) => Self::Failed(fault),
            End::Answered { status, .. } => Self::Answered(status),
        }
    }
}

/// The answer of all calls, or why there is none; and what became of each call that had begun.
pub struct Ran {
    pub answer: Result<(Bytes, HeaderValue), Refused>,
    pub called: Vec<Called>,
}

/// Why the request is not answered.
#[derive(Debug)]
pub struct Refused {
    pub fault: Fault,
    /// The call that failed, where it was one.
    pub call: Option<Name>,
    /// Which call, and what was the matter; for the log.
    pub why: String,
    /// When another try is worth it.
    pub wait: Option<Duration>,
}

/// What a call brought: JSON as it was written.
type Brought = Result<Bytes, Refused>;

/// What is there so far, by the places of the calls.
struct Table<'g> {
    gather: &'g Gather,
    raw: Vec<Option<Bytes>>,
    values: Vec<Option<Value>>,
    begun: Vec<bool>,
    done: Vec<bool>,
    length: usize,
}

impl Gather {
    /// Makes the calls, and one answer of their results.
    pub async fn run(&self, asked: &Asked<'_>) -> Ran {
        let mut called = Vec::new();
        let answer = self.all(asked, &mut called).await;
        Ran { answer, called }
    }

    async fn all(&self, asked: &Asked<'_>, called: &mut Vec<Called>) -> Result<(Bytes, HeaderValue), Refused> {
        let mut table = Table::new(self);
        let mut running = FuturesUnordered::new();
        loop {
            while let Some((at, call)) = table.next() {
                match begin(at, call, asked, &table.raw) {
                    Ok(sent) => running.push(go(at, call, sent)),
                    Err(why) => {
                        let (now, tries) = (Instant::now(), Vec::new());
                        called.push(tell(at, call, Ended::Unmade, now, tries));
                        self.count(call, GatherResult::Unmade);
                        table.end(at, Err(why))?;
                    }
                }
            }
            let Some((at, brought, one)) = running.next().await else { break };
            let brought = table.look_into(at, brought);
            if let Some(call) = self.calls.get(at) {
                self.count(call, if brought.is_ok() { GatherResult::Ok } else { GatherResult::Failed });
            }
            called.push(one);
            table.end(at, brought)?;
        }
        table.compose()
    }

    fn count(&self, call: &Call, result: GatherResult) {
        if let Some(counted) = &self.counted {
            counted.count(call.name().as_str(), result);
        }
    }
}

impl<'g> Table<'g> {
    fn new(gather: &'g Gather) -> Self {
        let many = gather.calls.len();
        let (raw, values) = (vec![None; many], vec![None; many]);
        Self { gather, raw, values, begun: vec![false; many], done: vec![false; many], length: 0 }
    }

    /// A call that has not begun and needs nothing that is not here.
    fn next(&mut self) -> Option<(usize, &'g Call)> {
        let is = |all: &[bool], at: usize| all.get(at).copied().unwrap_or(true);
        let mut all = self.gather.calls.iter().enumerate();
        let ready = |(at, call): &(usize, &Call)| {
            !is(&self.begun, *at) && call.needs().iter().all(|need| is(&self.done, *need))
        };
        let (at, call) = all.find(ready)?;
        if let Some(begun) = self.begun.get_mut(at) {
            *begun = true;
        }
        Some((at, call))
    }

    /// What others are made of must be a value that can be looked into; what nobody looks into is passed on as it is.
    fn look_into(&mut self, at: usize, brought: Brought) -> Brought {
        let (Ok(raw), Some(call)) = (&brought, self.gather.calls.get(at)) else { return brought };
        let templated = self.gather.shape.wants_values();
        if !templated && !self.gather.calls.iter().any(|other| other.needs().contains(&at)) {
            return brought;
        }
        match serde_json::from_slice(raw) {
            Ok(value) => {
                if let (true, Some(place)) = (templated, self.values.get_mut(at)) {
                    *place = Some(value);
                }
                brought
            }
            Err(why) => Err(useless(call, &format!("brought JSON that cannot be used: {why}"))),
        }
    }

    /// A call has ended; an error where that is the end of the request.
    fn end(&mut self, at: usize, brought: Brought) -> Result<(), Refused> {
        let Some(call) = self.gather.calls.get(at) else { return Ok(()) };
        if let Some(done) = self.done.get_mut(at) {
            *done = true;
        }
        let raw = match (brought, call.on_error) {
            (Ok(raw), _) => raw,
            (Err(why), OnError::Fail) => return Err(why),
            (Err(_), OnError::Null) => Bytes::from_static(b"null"),
            (Err(_), OnError::Omit) => return Ok(()),
        };
        self.length += raw.len();
        if self.length > self.gather.most {
            let why = format!("all answers together are more than {} bytes", self.gather.most);
            return Err(Refused { fault: Fault::UpstreamTooLarge, call: None, why, wait: None });
        }
        if let Some(place) = self.raw.get_mut(at) {
            *place = Some(raw);
        }
        Ok(())
    }

    fn compose(&self) -> Result<(Bytes, HeaderValue), Refused> {
        let all = self.gather.calls.iter().zip(&self.raw).zip(&self.values);
        let results: Vec<_> = all
            .filter_map(|((call, raw), value)| Some((call.name().as_str(), raw.as_ref()?, value.as_ref())))
            .collect();
        let made = self.gather.shape.compose(&results);
        made.map_err(|unmade| Refused { fault: unmade.fault, call: None, why: unmade.why, wait: None })
    }
}

/// Each call has room for the numbers of its tries, however many there are.
fn first_try(at: usize) -> u32 {
    const ROOM: u32 = 1 << 16;
    u32::try_from(at).unwrap_or(u32::MAX).saturating_mul(ROOM).saturating_add(1)
}

/// The call as it is sent.
fn begin(at: usize, call: &Call, asked: &Asked<'_>, results: &[Option<Bytes>]) -> Result<Sent, Refused> {
    let known = Known { request: asked.request, identity: asked.identity, body: asked.body, results };
    let (mut head, body) = call.make(&known).map_err(|why| unmade(call, why))?;
    for (name, value) in asked.base {
        if !head.headers.contains_key(name) {
            let _ = head.append_header(name.clone(), value.clone());
        }
    }
    let spans = Spans { trace: asked.trace, first: first_try(at) };
    let _ = head.insert_header(TRACEPARENT, spans.traceparent(1).as_slice());
    asked.fields.request(&mut head);
    let mut sent = Sent::new(call.pool().clone(), head);
    sent.body = Body::Whole(body);
    sent.client = asked.client;
    sent.retry = call.retry.clone().or_else(|| asked.retry.cloned());
    sent.timeout = asked.timeout.cloned();
    // What the route allows in all is the end of all of them.
    if let Some(timeout) = &mut sent.timeout {
        timeout.total = None;
    }
    if call.timeout.is_some() {
        sent.timeout.get_or_insert_default().total = call.timeout;
    }
    sent.deadline = asked.deadline;
    sent.spans = Some(spans);
    Ok(sent)
}

/// One call, to its end.
async fn go(at: usize, call: &Call, sent: Sent) -> (usize, Brought, Called) {
    let began = Instant::now();
    let (end, brought, tries) = match sent.whole(call.most).await {
        Ok(answer) => {
            let (status, brought) = (answer.status(), read(call, &answer));
            (Ended::Answered(status), brought, answer.tries)
        }
        Err(failed) => {
            let Failed { fault, why, wait, tries, .. } = failed;
            (
                Ended::Failed(fault),
                Err(Refused {
                    fault,
                    call: Some(call.name().clone()),
                    why: format!("call `{}`: {why}", call.name()),
                    wait,
                }),
                tries,
            )
        }
    };
    (at, brought, tell(at, call, end, began, tries))
}

fn tell(at: usize, call: &Call, end: Ended, began: Instant, tries: Vec<Tried>) -> Called {
    let (name, pool) = (call.name().clone(), call.pool().name().clone());
    let (first, method) = (first_try(at), call.method().clone());
    Called { name, first, method, pool, end, began, took: began.elapsed(), tries }
}

/// What the answer of a call is.
fn read(call: &Call, answer: &Answer) -> Brought {
    let useless = |what: &str| Err(useless(call, what));
    let status = answer.status();
    if call.errors.iter().any(|failure| failure.contains(status)) {
        return useless(&format!("answered {status}"));
    }
    let Ok(text) = std::str::from_utf8(&answer.body) else { return useless("brought what is no text") };
    match call.read {
        Read::Text => Ok(Value::from(text).to_string().into()),
        Read::Json if text.trim_ascii().is_empty() => Ok(Bytes::from_static(b"null")),
        Read::Json => match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Ok(answer.body.slice_ref(text.trim_ascii().as_bytes())),
            Err(why) => useless(&format!("brought no JSON: {why}")),
        },
    }
}

fn useless(call: &Call, what: &str) -> Refused {
    let why = format!("call `{}` {what}", call.name());
    Refused { fault: Fault::GatherFailed, call: Some(call.name().clone()), why, wait: None }
}

fn unmade(call: &Call, why: Unmade) -> Refused {
    let (fault, what) = match why {
        Unmade::Missing(Missing { of_request: true }) => (Fault::RequestInvalid, "needs what the request does not say"),
        Unmade::Missing(Missing { of_request: false }) => {
            (Fault::GatherFailed, "needs what another call did not bring")
        }
        Unmade::Unfit => (Fault::RequestInvalid, "cannot be made: a value does not fit where it stands"),
    };
    let why = format!("call `{}` {what}", call.name());
    Refused { fault, call: Some(call.name().clone()), why, wait: None }
}
