//! What one request carries from its first byte to its log line.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use pingora_http::RequestHeader;

use super::intake::{Intake, field};
use super::view::View;
use crate::exchange::{Exchange, Found, Stop};
use crate::fault::Fault;
use crate::listener::Connection;
use crate::pool::{Picked, Pool, Target};
use crate::route::{Params, Route};
use crate::telemetry::metrics::InFlight;
use crate::telemetry::trace::{RequestId, Trace};

/// One request. What is not known yet is `None`; nothing here is looked up by name.
pub struct Ctx {
    pub started: Instant,
    /// The same moment for the log.
    pub arrived: SystemTime,
    own_id: RequestId,
    /// The id that a trusted hop has given.
    pub carried_id: Option<Box<str>>,
    pub trace: Trace,
    /// Who sent it through which listener.
    pub connection: Option<Arc<Connection>>,
    /// What it was found to be.
    pub intake: Option<Intake>,
    /// Where it goes: its route with pools and counters, which outlive a reload as long as the request does.
    pub route: Option<Arc<Route>>,
    pub params: Params,
    pub in_flight: Option<InFlight>,
    /// Which of the route's pools was drawn; a further try stays with it.
    pub pool: Option<Arc<Pool>>,
    /// The target of the present try, counted as in flight.
    pub picked: Option<Picked>,
    pub tried: Vec<Arc<Target>>,
    pub upstream: Upstream,
    /// Why it was not served as asked, and what only the log is told about it.
    pub fault: Option<Fault>,
    pub why: Option<String>,
    /// What the route's guards found out; nothing where it has none.
    pub found: Option<Box<Found>>,
    /// The methods that a 405 allows.
    pub allow: Option<String>,
}

/// When things happened on the way to the target and back.
#[derive(Default)]
pub struct Upstream {
    pub asked: Option<Instant>,
    pub answered: Option<Instant>,
    pub ended: Option<Instant>,
    pub reused: bool,
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
            carried_id: None,
            trace: Trace::NONE,
            connection: None,
            intake: None,
            route: None,
            params: Params::default(),
            in_flight: None,
            pool: None,
            picked: None,
            tried: Vec::new(),
            upstream: Upstream::default(),
            fault: None,
            why: None,
            found: None,
            allow: None,
        }
    }
}

/// The longest request id that is taken over from a trusted hop.
const LONGEST_ID: usize = 128;

impl Ctx {
    /// The name of this request in answers, logs and for the target.
    pub fn id(&self) -> &str {
        self.carried_id.as_deref().unwrap_or_else(|| self.own_id.as_str())
    }

    /// Asks the guards of the route; what they found stays, whatever they say. A status is their answer.
    pub async fn pass_guards(&mut self, request: &RequestHeader) -> Result<Option<u16>, Fault> {
        let (Some(route), Some(intake), Some(connection)) = (&self.route, &self.intake, &self.connection) else {
            return Err(Fault::GatewayInternal);
        };
        let Some(guards) = &route.guards else { return Ok(None) };
        let found = self.found.get_or_insert_default();
        let view = View::of(request, intake, &self.params).through(connection);
        let refusal = match guards.admit(&mut Exchange { request: &view, found }).await {
            Ok(()) => return Ok(None),
            Err(Stop::Reply(status)) => return Ok(Some(status)),
            Err(Stop::Refuse(refusal)) => refusal,
        };
        let fault = refusal.fault;
        self.why = Some(refusal.why.to_string());
        found.refused = Some(refusal);
        Err(fault)
    }

    /// Draws a pool (once) and picks one of its targets that was not tried yet.
    pub fn choose(&mut self, request: &RequestHeader) -> Result<(), Fault> {
        let (Some(route), Some(intake)) = (&self.route, &self.intake) else { return Err(Fault::GatewayInternal) };
        if self.pool.is_none() {
            self.pool = route.draw().cloned();
        }
        let pool = self.pool.as_ref().ok_or(Fault::PoolEmpty)?;
        self.picked = Some(pool.pick(&View::of(request, intake, &self.params), &self.tried)?);
        Ok(())
    }

    /// Puts the present target aside and picks another; `false` when there is no other.
    pub fn choose_another(&mut self, request: &RequestHeader) -> bool {
        let Some(failed) = self.picked.take() else { return false };
        failed.record(false);
        self.tried.push(failed.target().clone());
        let picked = self.choose(request).is_ok();
        let new =
            self.picked.as_ref().is_some_and(|next| !self.tried.iter().any(|old| Arc::ptr_eq(old, next.target())));
        if !new {
            // Kept for the log: the request ends with the target that failed.
            self.picked = Some(failed);
        }
        picked && new
    }
}

/// The id that a hop has given, if it is one.
pub(super) fn carried_id(headers: &HeaderMap) -> Option<Box<str>> {
    let given = headers.get(field::X_REQUEST_ID).and_then(|id| id.to_str().ok());
    let fits = |id: &&str| !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|b| b.is_ascii_graphic());
    given.filter(fits).map(Into::into)
}
