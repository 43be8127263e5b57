//! What the guards of a route would say of a request that is only asked about: nothing is counted, nobody is asked.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::guard::{Guards, Mode, Rule};
use super::{auth, body};
use crate::exchange::{Exchange, Found, Identity, Refusal, Stop};

/// One guard.
#[derive(Debug)]
pub struct Step {
    pub rule: Arc<str>,
    pub mode: Mode,
    pub said: Foreseen,
}

/// What it would say.
#[derive(Debug)]
pub enum Foreseen {
    Passed,
    Refused(Refusal),
    /// It would refuse, if it did not only watch.
    Watched(Refusal),
    /// It answers with this status.
    Replied(u16),
    /// It counts: only the running gateway knows how many there were.
    Counts,
    /// Its `when` does not hold.
    CountsNot,
    /// Somebody would have to be asked.
    Asks,
    NotAsked,
}

impl Foreseen {
    /// Why not, if it is a no.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Watched(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl fmt::Display for Foreseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passes"),
            Self::Refused(_) => f.write_str("refuses"),
            Self::Watched(_) => f.write_str("would refuse"),
            Self::Replied(status) => write!(f, "answers {status}"),
            Self::Counts => f.write_str("counts"),
            Self::CountsNot => f.write_str("does not count"),
            Self::Asks => f.write_str("asks elsewhere"),
            Self::NotAsked => f.write_str("is not asked"),
        }
    }
}

/// The steps so far, and whether one of them was the last.
#[derive(Default)]
struct Steps {
    all: Vec<Step>,
    stopped: bool,
}

impl Steps {
    fn take(&mut self, rule: &Rule, ask: impl FnOnce() -> Foreseen) {
        let said = if self.stopped { Foreseen::NotAsked } else { ask() };
        self.stopped |= matches!(said, Foreseen::Refused(_) | Foreseen::Replied(_) | Foreseen::Asks);
        self.all.push(Step { rule: rule.name.clone(), mode: rule.mode, said });
    }
}

fn said(mode: Mode, verdict: Result<(), impl Into<Stop>>) -> Foreseen {
    match verdict.map_err(Into::into) {
        Ok(()) => Foreseen::Passed,
        Err(Stop::Refuse(refusal)) if mode == Mode::Shadow => Foreseen::Watched(refusal),
        Err(Stop::Refuse(refusal)) => Foreseen::Refused(refusal),
        Err(Stop::Reply(status)) => Foreseen::Replied(status),
    }
}

impl Guards {
    /// Asks the guards in the order in which [`Guards::admit`] does; `who` is believed in place of `auth`.
    pub async fn foresee(&self, exchange: &mut Exchange<'_>, who: Option<&Identity>) -> Vec<Step> {
        let mut steps = Steps::default();
        if let Some(ip) = &self.ip {
            steps.take(ip.rule(), || said(ip.rule().mode, ip.check(exchange.request)));
        }
        if let Some(cors) = &self.cors {
            steps.take(cors.rule(), || said(cors.rule().mode, cors.check(exchange.request, exchange.found)));
        }
        if let Some(body) = &self.body {
            steps.take(body.rule(), || said(body.rule().mode, body.check(exchange.request)));
        }
        if !self.measure_bodies()
            && let Err(refusal) = body::built_in_head(exchange.request)
        {
            let rule = Rule { name: refusal.rule.clone(), mode: Mode::Enforce };
            steps.take(&rule, || Foreseen::Refused(refusal));
        }
        if let Some(auth) = &self.auth {
            let foreseen = if steps.stopped { Foreseen::NotAsked } else { known(auth, exchange, who).await };
            steps.take(auth.rule(), || foreseen);
        }
        if let Some(require) = &self.require {
            let verdict = || require.check(exchange.request, &exchange.found.identity);
            steps.take(require.rule(), || said(require.rule().mode, verdict()));
        }
        for (rule, counts) in self.limits.iter().flat_map(|limits| limits.foresee(exchange)) {
            steps.take(rule, || if counts { Foreseen::Counts } else { Foreseen::CountsNot });
        }
        if let Some(validate) = &self.validate {
            let mut verdict = || validate.check(exchange.request, exchange.found);
            steps.take(validate.rule(), || said(validate.rule().mode, verdict()));
        }
        steps.all
    }

    /// The same for its whole body, which passes after them.
    pub fn foresee_body(&self, body: &[u8], method: &Method, found: &mut Found) -> Result<(), Refusal> {
        self.receive(body.len() as u64, found)?;
        let Some(validate) = self.looks_at_bodies().filter(|validate| validate.holds_back()) else { return Ok(()) };
        match validate.shape(Some(found)) {
            Some(shape) if !body.is_empty() || shape.is_required(method) => validate.check_body(shape, body),
            _ => Ok(()),
        }
    }
}

/// Who it is: as it was said, or as `auth` finds out by itself.
async fn known(auth: &auth::Auth, exchange: &mut Exchange<'_>, who: Option<&Identity>) -> Foreseen {
    if let Some(who) = who {
        exchange.found.identity = who.clone();
        return Foreseen::Passed;
    }
    match auth.scheme().foresee(exchange.request).await {
        None => Foreseen::Asks,
        Some(Ok(pass)) => {
            exchange.found.identity = pass.identity;
            Foreseen::Passed
        }
        Some(Err(denial)) => match denial.reply {
            Some(status) if auth.rule().mode == Mode::Enforce => Foreseen::Replied(status),
            _ => said(auth.rule().mode, Err(auth.scheme().refuse(denial))),
        },
    }
}
