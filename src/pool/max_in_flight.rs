//! As many requests at once as each target can bear; the others wait for a moment, in order, or hear at once that all is full.
//!
//! ```yaml
//! pools:
//!   orders:
//!     targets: [10.0.0.11:8080, 10.0.0.12:8080]
//!     max_in_flight: { per_target: 200, queue: 100, wait: 1s }
//! ```

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::target::Picked;
use super::{Pool, Unserved};
use crate::exchange::Request;
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::units::{Duration, Mode};

/// How many requests may be with the targets at once, and how many may wait for that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PoolMaxInFlight")]
pub struct Config {
    /// Requests that are with one target at once, at most; tunnels count for as long as they last.
    pub per_target: NonZeroU32,
    /// Requests that wait while every target has that many; with 0 none does.
    #[serde(default = "queue")]
    pub queue: u32,
    /// How long each waits at most.
    #[serde(default = "wait")]
    pub wait: Duration,
    /// `shadow` only counts requests that would have had to wait.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

fn queue() -> u32 {
    100
}

fn wait() -> Duration {
    Duration::from_secs(1)
}

pub(super) fn complain(pool: &super::Config, at: &Path, problems: &mut Problems) {
    if pool.max_in_flight.as_ref().is_some_and(|config| config.wait.get().is_zero()) {
        let at = at.key("max_in_flight").key("wait");
        problems.error(at, "must be more than zero; `queue: 0` is for who shall not wait");
    }
}

/// A pool's settings, and who waits.
pub(super) struct Rule {
    per_target: u32,
    queue: u32,
    wait: std::time::Duration,
    enforces: bool,
    line: Arc<Line>,
}

impl Rule {
    pub(super) fn of(pool: &super::Config, line: &Arc<Line>) -> Option<Arc<Self>> {
        let config = pool.max_in_flight.as_ref()?;
        let (per_target, wait) = (config.per_target.get(), config.wait.get());
        let enforces = config.mode == Mode::Enforce;
        Some(Arc::new(Self { per_target, queue: config.queue, wait, enforces, line: Arc::clone(line) }))
    }

    /// Takes a place at a target that has so many requests now.
    pub(super) fn enter(&self, in_flight: &AtomicU32) -> bool {
        if !self.enforces {
            if in_flight.fetch_add(1, Relaxed) >= self.per_target {
                self.line.would_wait.fetch_add(1, Relaxed);
            }
            return true;
        }
        in_flight.fetch_update(Relaxed, Relaxed, |count| (count < self.per_target).then_some(count + 1)).is_ok()
    }

    pub(super) fn has_room(&self, in_flight: u32) -> bool {
        !self.enforces || in_flight < self.per_target
    }

    /// A target has one request less.
    pub(super) fn left(&self) {
        // Who comes to wait sees the place that is free now, or is seen here.
        fence(SeqCst);
        self.line.look();
    }
}

/// The requests of a pool that wait for a target, through all reloads: one after the other looks for one.
pub(super) struct Line {
    waiting: AtomicU32,
    /// Those that found their target full, where that is only watched.
    would_wait: AtomicU64,
    /// Fair: who came first is first.
    first: Semaphore,
    looks: Notify,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            waiting: AtomicU32::new(0),
            would_wait: AtomicU64::new(0),
            first: Semaphore::new(1),
            looks: Notify::new(),
        }
    }
}

impl Line {
    pub(super) fn len(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Something has changed: who is first looks again.
    pub(super) fn look(&self) {
        if self.len() > 0 {
            self.looks.notify_one();
        }
    }

    fn enter(&self, most: u32) -> Option<Place<'_>> {
        let more = |count| (count < most).then_some(count + 1);
        let place = self.waiting.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Place(self));
        fence(SeqCst);
        place
    }
}

/// A request that waits.
struct Place<'l>(&'l Line);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        // There may be room for one more.
        self.0.look();
    }
}

impl Pool {
    /// The target for the first try, unless others wait for one already.
    pub fn pick_first(&self, request: &dyn Request) -> Result<Picked, Unserved> {
        match &self.rules.max_in_flight {
            Some(rule) if rule.line.len() > 0 => Err(Fault::PoolQueueFull.into()),
            _ => self.pick(request, &[]),
        }
    }

    /// Waits in line until a target takes the request; no longer than the pool says, nor than `end`.
    pub async fn wait_in_line(&self, request: &dyn Request, end: Option<Instant>) -> Result<Picked, Unserved> {
        let full = Unserved::from(Fault::PoolQueueFull);
        let Some(rule) = &self.rules.max_in_flight else { return Err(full) };
        let Some(_place) = rule.line.enter(rule.queue) else { return Err(full) };
        let _counted = self.counted.as_ref().map(|counted| counted.wait());
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let (wait, fault) = match left {
            Some(left) if left < rule.wait => (left, Fault::UpstreamTimeoutTotal),
            _ => (rule.wait, Fault::PoolQueueTimeout),
        };
        timeout(wait, self.once_first(rule, request)).await.unwrap_or_else(|_| Err(fault.into()))
    }

    async fn once_first(&self, rule: &Rule, request: &dyn Request) -> Result<Picked, Unserved> {
        let _first = rule.line.first.acquire().await;
        loop {
            match self.pick(request, &[]) {
                // Nobody tells when a breaker lets requests through again.
                Err(Unserved { fault: Fault::PoolQueueFull, wait: Some(wait), .. }) => {
                    let _ = timeout(wait, rule.line.looks.notified()).await;
                }
                Err(Unserved { fault: Fault::PoolQueueFull, wait: None, .. }) => rule.line.looks.notified().await,
                other => return other,
            }
        }
    }

    /// How many requests wait for a target, and how many may; nothing where none ever does.
    pub(super) fn queue(&self) -> Option<Status> {
        let rule = self.rules.max_in_flight.as_ref()?;
        let would_wait = (!rule.enforces).then(|| rule.line.would_wait.load(Relaxed));
        Some(Status { waiting: rule.line.len(), most: rule.queue, per_target: rule.per_target, would_wait })
    }
}

/// A queue as the admin listener shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Requests that wait now.
    pub waiting: u32,
    pub most: u32,
    pub per_target: u32,
    /// Requests that found their target full; only where nobody waits, because of `mode: shadow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_wait: Option<u64>,
}
