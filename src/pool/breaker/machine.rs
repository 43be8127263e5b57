//! The breaker's state machine: pure, given the time.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::Pass;
use crate::pool::rest::Rest;
use crate::state::parcel::{Said, ago, ahead, nanos};

/// Whether requests go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// All of them.
    Closed,
    /// A few, to see how they fare.
    HalfOpen,
    /// None.
    Open,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(in crate::pool) struct Machine {
    stage: Stage,
    since: Instant,
    /// When an open one lets requests through again.
    until: Instant,
    /// How long it was open last.
    rest: Rest,
    /// Requests of this round that were let through, and those that went well.
    given: u32,
    passed: u32,
    /// Outcomes of earlier rounds count for nothing.
    round: u64,
    /// Why it opened first, and how many requests have tried in vain since.
    why: String,
    in_vain: u32,
}

impl Machine {
    pub(in crate::pool) fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Closed,
            since: now,
            until: now,
            rest: Rest::default(),
            given: 0,
            passed: 0,
            round: 0,
            why: String::new(),
            in_vain: 0,
        }
    }

    pub(in crate::pool) fn stage(&self) -> Stage {
        self.stage
    }
    pub(in crate::pool) fn since(&self) -> Instant {
        self.since
    }
    pub(in crate::pool) fn why(&self) -> String {
        match self.in_vain {
            0 => self.why.clone(),
            1 => format!("{}, and a try in vain since", self.why),
            times => format!("{}, and {times} tries in vain since", self.why),
        }
    }

    /// How long it is open, or was last.
    pub(in crate::pool) fn length(&self) -> Duration {
        self.rest.length()
    }

    /// How long until requests go through: nothing unless it is open.
    pub(in crate::pool) fn wait(&self, now: Instant) -> Duration {
        if self.stage == Stage::Open { self.until.saturating_duration_since(now) } else { Duration::ZERO }
    }

    pub(in crate::pool) fn admits(&self, probes: u32, now: Instant) -> bool {
        match self.stage {
            Stage::Closed => true,
            Stage::Open => now >= self.until,
            Stage::HalfOpen => self.given < probes,
        }
    }

    /// The right to send a request, if there is one.
    pub(in crate::pool) fn enter(&mut self, probes: u32, now: Instant) -> Option<Pass> {
        if !self.admits(probes, now) {
            return None;
        }
        if self.stage == Stage::Closed {
            return Some(Pass::Free);
        }
        if self.stage == Stage::Open {
            self.go(Stage::HalfOpen, now);
            (self.given, self.passed, self.round) = (0, 0, self.round + 1);
        }
        self.given += 1;
        Some(Pass::Probe(self.round))
    }

    /// The outcome of a request that tried the target; whether that changed the stage.
    pub(in crate::pool) fn leave(
        &mut self,
        round: u64,
        failed: Option<bool>,
        probes: u32,
        open_for: Duration,
        now: Instant,
    ) -> bool {
        if self.stage != Stage::HalfOpen || round != self.round {
            return false;
        }
        match failed {
            // It says nothing: another one may try.
            None => {
                self.given = self.given.saturating_sub(1);
                false
            }
            Some(true) => {
                self.in_vain = self.in_vain.saturating_add(1);
                self.open(open_for, now);
                true
            }
            Some(false) => {
                self.passed += 1;
                if self.passed < probes {
                    return false;
                }
                self.go(Stage::Closed, now);
                true
            }
        }
    }

    /// One failure too many; whether that changed the stage.
    pub(in crate::pool) fn trip(&mut self, why: String, open_for: Duration, now: Instant) -> bool {
        if self.stage != Stage::Closed {
            return false;
        }
        (self.why, self.in_vain) = (why, 0);
        self.rest.served(now.saturating_duration_since(self.since));
        self.open(open_for, now);
        true
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        json!({
            "stage": self.stage,
            "since": ago(now, self.since),
            "until": ahead(now, self.until),
            "rest": nanos(self.rest.length()),
            "passed": self.passed,
            "round": self.round,
            "why": self.why,
            "in_vain": self.in_vain,
        })
    }

    /// As a predecessor had it. Requests that try the target are the predecessor's: others may try in their place.
    pub(in crate::pool) fn unpack(said: Said<'_>) -> Option<Self> {
        let stage = [Stage::Closed, Stage::HalfOpen, Stage::Open].into_iter();
        let stage = stage.into_iter().find(|stage| said.text("stage") == Some(stage.word()))?;
        let passed = said.number("passed")?;
        Some(Self {
            stage,
            since: said.ago("since")?,
            until: said.ahead("until")?,
            rest: Rest::of(said.time("rest")?),
            given: passed,
            passed,
            round: said.number::<u64>("round")?.wrapping_add(1),
            why: said.text("why")?.to_owned(),
            in_vain: said.number("in_vain")?,
        })
    }

    fn open(&mut self, open_for: Duration, now: Instant) {
        self.until = now + self.rest.grow(open_for);
        self.go(Stage::Open, now);
    }

    fn go(&mut self, stage: Stage, now: Instant) {
        (self.stage, self.since) = (stage, now);
    }
}
