//! A target chosen for one try, and what becomes of that.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;

use super::Target;
use crate::fault::Fault;
use crate::pool::breaker::Pass;
use crate::pool::connection::{Connections, Errand};
use crate::pool::{Timeout, cause, endpoint, timeout};

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
    /// It tries how a target is that was ejected.
    tries: bool,
}

impl Picked {
    /// Nothing where its last place, or the last request that its breaker lets through, was just taken by another.
    pub(in crate::pool) fn new(target: Arc<Target>) -> Option<Self> {
        match &target.rules.max_in_flight {
            Some(rule) if !rule.enter(&target.cell.in_flight) => return None,
            Some(_) => {}
            None => {
                target.cell.in_flight.fetch_add(1, Relaxed);
            }
        }
        let mut picked =
            Self { target, pass: None, told: false, weighed: false, slowed: false, left: false, tries: false };
        if let Some(rule) = &picked.target.rules.breaker {
            picked.pass = Some(picked.target.gate(rule).enter(rule, &picked.target.name)?);
        }
        picked.tries = picked.target.cell.ejection.begin_try();
        picked.target.cell.picks.fetch_add(1, Relaxed);
        Some(picked)
    }
    /// The place of the breaker that would have kept the request from the target, if it did not only watch.
    pub(in crate::pool) fn watched(&self) -> Option<&Arc<str>> {
        let rule = self.target.rules.breaker.as_ref()?;
        (self.pass == Some(Pass::Watched)).then(|| rule.name())
    }
    /// The target has it no longer: what follows is another try.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.target.cell.in_flight.fetch_sub(1, Relaxed);
        }
        if std::mem::take(&mut self.tries) {
            self.target.cell.ejection.end_try();
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
    /// Where and how to connect for a WebSocket, within what is left of the request's time.
    pub fn tunnel(&self, timeouts: &timeout::Config, left: Option<Duration>) -> HttpPeer {
        let mut peer = self.target.peer.clone();
        self.target.settings.tunnel(&mut peer, timeouts, left);
        peer
    }
    /// Where to connect for a request of our own, within what is left of its time.
    pub fn aside(&self, timeouts: &timeout::Config, left: Option<Duration>) -> HttpPeer {
        let mut peer = self.target.peer.clone();
        self.target.settings.limit(&mut peer, timeouts, left);
        peer
    }
    /// The host that a request of our own asks for, where it names none.
    pub fn authority(&self) -> String {
        endpoint::authority(&self.target.settings, &self.target.asked, &self.target.peer._address)
    }
    /// How long its connections may rest.
    pub fn keep(&self) -> Duration {
        self.target.settings.keep()
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
            match rule.judge(None, status) {
                Some(true) => self.weigh(None, status),
                _ => self.target.cell.ejection.heard(),
            }
        }
    }
    /// Its client waited for long and left, and nobody can say for what: that tells nothing but that there was silence.
    pub fn waited_in_vain(&mut self) {
        if self.target.rules.eject.as_ref().is_some_and(|rule| rule.counts_silence()) {
            self.weigh(Some(Fault::UpstreamTimeoutFirstByte), 0);
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
            let was_passable = self.target.is_passable();
            self.target.gate(rule).leave(rule, &self.target.name, pass, failed);
            if !was_passable && self.target.is_passable() {
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
            if !failed {
                self.target.cell.ejection.heard();
            }
            rule.count(&self.target, failed, self.target.is_passable());
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
