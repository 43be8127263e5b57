//! What is known of a target, for a successor.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde_json::{Value, json};

use super::Cell;
use crate::pool::health::Record;
use crate::state::parcel::Said;

impl Cell {
    /// For a successor, as of this moment. What is in flight is the business of who sent it.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        json!({
            "record": self.record(|record| record.pack(now)),
            "founder": self.founder.load(Relaxed),
            "picks": self.picks(),
            "failures": self.failures(),
            "breaker": self.breaker.pack(now),
            "latency": self.estimate.pack(now),
            "start": self.start.pack(now),
            "ejection": self.ejection.pack(now),
        })
    }
    /// As a predecessor had it; the names of what it says nothing of that can be read.
    pub(in crate::pool) fn unpack(&self, said: Said<'_>) -> Vec<&'static str> {
        let of = |key: &str| said.get(key);
        let record = of("record").and_then(Record::unpack).map(|record| self.record(|place| *place = record));
        let counts = said.flag("founder").zip(said.number("picks").zip(said.number("failures")));
        let counts = counts.map(|(founder, (picks, failures))| {
            self.founder.store(founder, Relaxed);
            self.picks.fetch_add(picks, Relaxed);
            self.failures.fetch_add(failures, Relaxed);
        });
        let rest = [
            ("health", record),
            ("counts", counts),
            ("breaker", of("breaker").and_then(|said| self.breaker.unpack(said))),
            ("latency", of("latency").and_then(|said| self.estimate.unpack(said))),
            ("slow start", of("start").and_then(|said| self.start.unpack(said))),
            ("ejection", of("ejection").and_then(|said| self.ejection.unpack(said))),
        ];
        rest.into_iter().filter(|(_, known)| known.is_none()).map(|(name, _)| name).collect()
    }
}
