//! The ejection of one target as a state machine: pure, given the time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::pool::rest::Rest;
use crate::state::parcel::{Said, ago, ahead, nanos};

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(in crate::pool) struct Machine {
    /// Until when it is out; nothing while it is in.
    until: Option<Instant>,
    since: Instant,
    rest: Rest,
    /// How many times in a row, as long as that matters.
    times: u32,
    /// Why it was ejected last.
    why: String,
}

impl Machine {
    pub(in crate::pool) fn new(now: Instant) -> Self {
        Self { until: None, since: now, rest: Rest::default(), times: 0, why: String::new() }
    }

    /// Whether it takes no requests.
    pub(in crate::pool) fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
    /// How long it is out still; nothing where it is in. Zero: its time is over, and nobody was told yet.
    pub(in crate::pool) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }
    pub(in crate::pool) fn since(&self) -> Instant {
        self.since
    }
    pub(in crate::pool) fn length(&self) -> Duration {
        self.rest.length()
    }
    pub(in crate::pool) fn times(&self) -> u32 {
        self.times
    }
    pub(in crate::pool) fn why(&self) -> &str {
        &self.why
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        json!({
            "out": self.until.map(|until| ahead(now, until)),
            "since": ago(now, self.since),
            "rest": nanos(self.rest.length()),
            "times": self.times,
            "why": self.why,
        })
    }

    /// As a predecessor had it.
    pub(in crate::pool) fn unpack(said: Said<'_>) -> Option<Self> {
        let is_in = said.get("out")?.value.is_null();
        Some(Self {
            until: if is_in { None } else { Some(said.ahead("out")?) },
            since: said.ago("since")?,
            rest: Rest::of(said.time("rest")?),
            times: said.number("times")?,
            why: said.text("why")?.to_owned(),
        })
    }

    /// Takes it out, unless it is; whether that changed anything.
    pub(in crate::pool) fn eject(&mut self, why: String, first: Duration, now: Instant) -> bool {
        if self.until.is_some() {
            return false;
        }
        if self.rest.served(now.saturating_duration_since(self.since)) {
            self.times = 0;
        }
        self.until = Some(now + self.rest.grow(first));
        (self.times, self.why, self.since) = (self.times.saturating_add(1), why, now);
        true
    }

    /// Lets it in again: when its time is over, or at once where the pool cannot do without it. Whether that changed
    /// anything.
    pub(in crate::pool) fn let_in(&mut self, at_once: bool, now: Instant) -> bool {
        let over = self.until.is_some_and(|until| at_once || now >= until);
        if over {
            (self.until, self.since) = (None, now);
        }
        over
    }
}
