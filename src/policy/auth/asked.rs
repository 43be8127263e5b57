//! A service that knows whom we do not: asked with a deadline, so many questions at once, counted, its outages told of.

use std::fmt;
use std::path::Path as File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::keys;
use crate::client::service::{Answer, Question, Service};
use crate::client::url::Url;
use crate::policy::guard::Tools;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::AskedMetrics;
use crate::units;

/// What the document says of a service.
pub struct Reach<'c> {
    pub url: &'c Url,
    pub timeout: units::Duration,
    pub in_flight: u32,
    pub ca: Option<&'c File>,
}

const MOST_TIMEOUT: Duration = Duration::from_mins(1);
/// Seconds between two lines of the log.
const PAUSE: u64 = 2;
const MOST_IN_FLIGHT: u32 = 65_536;

/// Questions at once where the document does not say.
pub fn in_flight() -> u32 {
    256
}

pub fn timeout() -> units::Duration {
    units::Duration::from_secs(1)
}

/// A service, and how it is doing.
pub struct Asked {
    service: Service,
    name: Arc<str>,
    deadline: Duration,
    turns: Semaphore,
    counted: Option<AskedMetrics>,
    down: AtomicBool,
    /// Seconds since `started` when the log was last told of a change, and `PAUSE` more.
    told: AtomicU64,
    started: Instant,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("url", self.service.url()).finish_non_exhaustive()
    }
}

impl Asked {
    /// `at` is where the document says it.
    pub fn compile(reach: &Reach<'_>, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if reach.timeout.get().is_zero() || reach.timeout.get() > MOST_TIMEOUT {
            problems.error(at.key("timeout"), "has to lie between 1ms and 1m: a request waits for so long");
        }
        if reach.in_flight == 0 || reach.in_flight > MOST_IN_FLIGHT {
            problems.error(at.key("in_flight"), format!("has to lie between 1 and {MOST_IN_FLIGHT}"));
        }
        let ca = reach.ca.and_then(|file| keys::authorities(file, &at.key("ca"), problems));
        let name = keys::realm(at);
        (problems.errors() == before).then(|| Self {
            service: Service::new(reach.url.clone(), ca, reach.ca),
            counted: tools.metrics.map(|metrics| metrics.asked(&name)),
            name,
            deadline: reach.timeout.get(),
            turns: Semaphore::new(reach.in_flight as usize),
            down: AtomicBool::new(false),
            told: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    /// Asks, and counts what `judge` makes of the answer; where that is nothing, the service is down.
    pub async fn ask<T>(
        &self,
        question: &Question,
        judge: impl FnOnce(&Answer) -> Result<T, String>,
    ) -> Result<T, String> {
        let started = Instant::now();
        let asking = async {
            let _turn = self.turns.acquire().await.map_err(|_| "nothing is asked any more".to_owned())?;
            self.service.ask(question).await
        };
        let answer = tokio::time::timeout(self.deadline, asking).await;
        let answer = answer.unwrap_or_else(|_| Err(self.is_late(self.deadline)));
        let verdict = answer.and_then(|answer| judge(&answer));
        if let Some(counted) = &self.counted {
            counted.asked(verdict.is_ok(), started.elapsed().as_secs_f64());
        }
        self.tell(verdict.as_ref().err());
        verdict
    }

    /// Waits for what others ask, and where they leave for one's own question: together no longer than two questions may
    /// take.
    pub async fn wait<T>(&self, others: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let most = self.deadline * 2;
        tokio::time::timeout(most, others).await.unwrap_or_else(|_| Err(self.is_late(most)))
    }

    fn is_late(&self, time: Duration) -> String {
        format!("{} did not answer within {}", self.service.url(), units::Duration::from(time))
    }

    /// One was answered without asking.
    pub fn remembered(&self) {
        if let Some(counted) = &self.counted {
            counted.remembered();
        }
    }

    /// Once when it goes down, and once when it comes back; one that does both all the time does not fill the log.
    fn tell(&self, why: Option<&String>) {
        if self.down.load(Relaxed) == why.is_some() {
            return;
        }
        let (last, now) = (self.told.load(Relaxed), self.started.elapsed().as_secs() + PAUSE);
        if now - last < PAUSE || self.told.compare_exchange(last, now, Relaxed, Relaxed).is_err() {
            return;
        }
        self.down.store(why.is_some(), Relaxed);
        match why {
            Some(why) => log::warn!("auth {}: cannot be asked: {why}", self.name),
            None => log::info!("auth {}: {} answers again", self.name, self.service.url()),
        }
    }
}
