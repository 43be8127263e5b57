//! What is known of one source: its instances, the last good ones through outages, and when it is asked again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::chance;
use super::super::resume::Resume;
use super::allow::Why;
use super::terms::Terms;
use super::{Answer, Fresh, Instance, Source};
use crate::state::parcel::{Said, ago};

/// A source is asked again not sooner and not later than this, whatever it says.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_mins(5);
/// Pauses after failures double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// More instances of one source are not used.
const MOST: usize = 1024;

/// What is known of one source; it outlives reloads.
pub(in crate::pool) struct Lookup {
    known: Mutex<Known>,
    /// Whether one question has ended, well or not.
    tried: watch::Sender<bool>,
    running: Resume<Answer>,
}

/// What the answer before has said, for the next question.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) index: u64,
    /// For how long the answer holds.
    pub(super) holds: Duration,
}

/// A found address that is not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refused {
    pub address: SocketAddr,
    pub why: Why,
}

#[derive(Default)]
struct Known {
    instances: Vec<Instance>,
    refused: Vec<Refused>,
    asked: Asked,
    next: Option<Instant>,
    /// When the instances were last confirmed.
    good: Option<Instant>,
    failures: u32,
    reason: Option<String>,
    settings: u64,
}

/// What an answer changed; nothing of it where all is as before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pool) struct Change {
    /// There are others now.
    pub(in crate::pool) instances: Option<Vec<Instance>>,
    /// Others are refused now.
    pub(in crate::pool) refused: Option<Vec<Refused>>,
    /// The first failure after a success: why.
    pub(in crate::pool) failed: Option<String>,
    /// The first success after a failure.
    pub(in crate::pool) back: bool,
    /// It has failed for so long that what was known is no longer used.
    pub(in crate::pool) given_up: bool,
}

/// How things are, for `/pools`.
#[derive(Debug, Clone)]
pub(in crate::pool) struct State {
    pub(in crate::pool) found: usize,
    pub(in crate::pool) refused: Vec<Refused>,
    pub(in crate::pool) reason: Option<String>,
    /// When the instances were last confirmed.
    pub(in crate::pool) good: Option<Instant>,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { known: Mutex::default(), tried: watch::Sender::new(false), running: Resume::default() }
    }
}

impl Lookup {
    pub(in crate::pool) fn instances(&self) -> Vec<Instance> {
        self.with(|known| known.instances.clone())
    }
    pub(in crate::pool) fn state(&self) -> State {
        self.with(|known| State {
            found: known.instances.len(),
            refused: known.refused.clone(),
            reason: known.reason.clone(),
            good: known.good,
        })
    }
    pub(in crate::pool) fn is_tried(&self) -> bool {
        *self.tried.borrow()
    }
    /// Returns once one question has ended, well or not.
    pub(in crate::pool) async fn tried(&self) {
        // An error means that the sender is gone, which is `self`.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Waits until the source is due, and asks.
    pub(in crate::pool) async fn ask(&self, source: &Arc<Source>, terms: &Terms) -> Change {
        let now = Instant::now();
        let asked = self.with(|known| known.asked(terms.settings));
        let patience = source.patience(&asked);
        if !self.running.waits(terms.settings, now, patience) {
            let next = self.with(|known| known.due(terms.settings)).unwrap_or(now);
            tokio::time::sleep(next.saturating_duration_since(now)).await;
        }
        let (asks, resolver) = (Arc::clone(source), Arc::clone(&terms.resolver));
        let begin = || {
            Box::pin(async move {
                let answer = tokio::time::timeout(patience, asks.ask(resolver, asked)).await;
                answer.unwrap_or_else(|_| Err(format!("no answer within {patience:.0?}")))
            }) as _
        };
        let answer = self.running.run(terms.settings, patience, begin).await;
        let written = source.written();
        let change = self.with(|known| known.learn(answer, written, terms, Instant::now(), chance::share()));
        self.tried.send_replace(true);
        change
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        self.with(|known| {
            let row = |one: &Instance| json!([one.priority, one.host, one.address.to_string(), one.weight]);
            let rows: Vec<_> = known.instances.iter().map(row).collect();
            json!({ "instances": rows, "good": known.good.map(|good| ago(now, good)) })
        })
    }

    /// What a predecessor has found, where this process has found nothing yet.
    pub(in crate::pool) fn unpack(&self, said: Said<'_>) -> Option<()> {
        let rows = said.get("instances")?.value.as_array()?.iter().take(MOST).map(instance);
        let (instances, good) = (rows.collect::<Option<Vec<_>>>()?, said.ago("good"));
        self.with(|known| {
            if known.instances.is_empty() && good.is_some() {
                (known.instances, known.good) = (instances, good);
            }
        });
        Some(())
    }

    fn with<R>(&self, change: impl FnOnce(&mut Known) -> R) -> R {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// When to ask; at once under other settings.
    fn due(&self, settings: u64) -> Option<Instant> {
        self.next.filter(|_| self.settings == settings)
    }
    fn asked(&self, settings: u64) -> Asked {
        if self.settings == settings { self.asked } else { Asked::default() }
    }

    fn learn(&mut self, answer: Answer, written: &str, terms: &Terms, now: Instant, share: f64) -> Change {
        self.settings = terms.settings;
        let mut change = Change::default();
        let failed = match answer {
            Ok(fresh) => {
                self.failures = 0;
                self.asked = Asked { index: fresh.index, holds: fresh.holds };
                let holds = fresh.holds.clamp(SOONEST, LATEST);
                self.next = Some(now + holds + holds.mul_f64(share / 10.0));
                self.take(fresh, |one| terms.rule.refuses(written, one.address), now, &mut change).err()
            }
            Err(reason) => {
                // What changed meanwhile must be told again.
                self.asked = Asked::default();
                let pause = SOONEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
                self.next = Some(now + chance::about(pause, share));
                self.failures = self.failures.saturating_add(1);
                Some(reason)
            }
        };
        match failed {
            None => change.back = self.reason.take().is_some(),
            Some(reason) => self.fail(reason, written, terms, now, &mut change),
        }
        change
    }

    /// Takes over what may be used of an answer; the error says why that is nothing.
    fn take(
        &mut self,
        fresh: Fresh,
        judge: impl Fn(&Instance) -> Option<Why>,
        now: Instant,
        change: &mut Change,
    ) -> Result<(), String> {
        let named = !fresh.instances.is_empty();
        let (instances, refused) = sift(fresh.instances, judge);
        if self.refused != refused {
            self.refused.clone_from(&refused);
            change.refused = Some(refused);
        }
        if instances.is_empty() {
            return Err(if named { "every address found is refused" } else { "it names nobody" }.to_owned());
        }
        self.good = Some(now);
        if self.instances != instances {
            self.instances.clone_from(&instances);
            change.instances = Some(instances);
        }
        Ok(())
    }

    /// What is known is kept for a while, as far as it may be used.
    fn fail(&mut self, reason: String, written: &str, terms: &Terms, now: Instant, change: &mut Change) {
        let told = self.reason.replace(reason.clone()).is_some();
        let before = self.instances.len();
        self.instances.retain(|one| terms.rule.refuses(written, one.address).is_none());
        let old = self.good.is_none_or(|good| now.saturating_duration_since(good) >= terms.keep);
        if old && !self.instances.is_empty() {
            self.instances.clear();
            change.given_up = true;
        }
        if self.instances.len() != before {
            change.instances = Some(self.instances.clone());
        }
        change.failed = (!told).then_some(reason);
    }
}

fn instance(row: &Value) -> Option<Instance> {
    let [priority, host, address, weight] = row.as_array()?.as_slice() else { return None };
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    Some(Instance {
        priority: number(priority)?,
        host: host.as_str()?.into(),
        address: address.as_str()?.parse().ok()?,
        weight: number(weight)?,
    })
}

/// What may be used, and what not.
fn sift(mut found: Vec<Instance>, judge: impl Fn(&Instance) -> Option<Why>) -> (Vec<Instance>, Vec<Refused>) {
    found.sort_unstable();
    found.dedup_by(|one, other| one.host == other.host && one.address == other.address);
    found.truncate(MOST);
    let mut refused = Vec::new();
    found.retain(|one| match judge(one) {
        Some(why) => {
            refused.push(Refused { address: one.address, why });
            false
        }
        None => true,
    });
    refused.sort_unstable();
    refused.dedup();
    (found, refused)
}

#[cfg(test)]
mod tests;
