//! How a store is kept: connected, driven, asked once a second whether it is well, and connected again.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::RedisResult;
use tokio::sync::mpsc;

use super::line::Driver;
use super::lines::{self, Lines};
use super::script::{Argument, Script};
use super::{Errand, Store, Turn};
use crate::chore::Chore;
use crate::telemetry::random;

/// How often this host announces itself, and for how long that is remembered.
const BEAT: Duration = Duration::from_secs(1);
const HEARD: i64 = 5000;
/// How long connecting, or an answer to a beat, may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Errands at the same time.
const AT_ONCE: usize = 256;
/// So many beats without an answer: the connection leads nowhere.
const MISSED: u32 = 3;

/// The hosts that use a store, by when they were last heard of.
const HOSTS: &str = "yumen:hosts";

static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("beat.lua")));
/// The name of this process among the hosts.
static ME: LazyLock<String> = LazyLock::new(|| uuid::Uuid::now_v7().to_string());

impl Store {
    pub fn chore(self: Arc<Self>) -> Chore {
        Chore::new(format!("store/{}", self.name), self.keep()).near()
    }

    async fn keep(self: Arc<Self>) {
        let mut turn = self.turn.lock().await;
        let Turn { driver, ordered, running: errands } = &mut *turn;
        let mut said = String::new();
        loop {
            let Some(running) = driver.as_mut() else {
                self.pause().await;
                match self.connect().await {
                    Ok((line, opened)) => {
                        self.line.store(Some(line));
                        *driver = Some(opened);
                    }
                    Err(why) => {
                        self.breaker().probed(Instant::now(), false);
                        self.tried.send_replace(true);
                        // Again and again the same is said once.
                        if said != why {
                            log::warn!("store {}: {why}", self.name);
                            said = why;
                        }
                    }
                }
                continue;
            };
            let why = tokio::select! {
                () = running => "its connection has ended",
                () = self.tend() => "it has not answered for too long",
                () = self.moved.notified() => "its keys have moved",
                () = run(ordered, errands) => "nobody wants it any more",
            };
            self.line.store(None);
            *driver = None;
            said.clear();
            if self.breaker().trip(Instant::now()) {
                self.went_down(why);
            }
        }
    }

    /// Until the next probe, not quite, so that a fleet does not come at once.
    async fn pause(&self) {
        let wait = self.breaker().probe_at().map(|at| at.saturating_duration_since(Instant::now()));
        let share = f64::from(u32::try_from(random::next() >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        tokio::time::sleep(wait.unwrap_or_default().mul_f64(0.8 + 0.4 * share)).await;
    }

    /// The first address that lets us in and can be written to.
    async fn connect(&self) -> Result<(Arc<Lines>, Driver), String> {
        let mut last = String::new();
        for address in self.redis.named() {
            match tokio::time::timeout(PATIENCE, self.follow(address)).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(why)) => last = why,
                Err(_) => last = format!("{address} did not answer within {PATIENCE:?}"),
            }
        }
        Err(last)
    }

    /// Announces this host and probes a store that is down; ends when answers stay away.
    async fn tend(&self) {
        let Some(line) = self.line.load_full() else { return };
        let mut missed = 0;
        while missed < MISSED {
            let due = self.breaker().probe_at();
            let wait = due.map_or(BEAT, |at| at.saturating_duration_since(Instant::now()));
            if tokio::time::timeout(wait, self.down.notified()).await.is_ok() {
                continue;
            }
            let began = Instant::now();
            let answer = tokio::time::timeout(PATIENCE.max(self.timeout), announce(&line)).await;
            let answer = answer.ok().and_then(Result::ok);
            missed = if answer.is_some() { 0 } else { missed + 1 };
            if let Some(hosts) = answer {
                self.hosts.store(hosts, Relaxed);
                self.counted.hosts(hosts);
            }
            self.probed(answer.is_some(), began.elapsed() <= self.timeout);
        }
    }

    fn probed(&self, answered: bool, in_time: bool) {
        let now = Instant::now();
        if self.is_up() {
            if !answered && self.breaker().trip(now) {
                self.went_down("it does not answer");
            }
        } else if self.breaker().probed(now, answered && in_time) {
            self.went_up();
        }
        self.tried.send_replace(true);
    }
}

/// Does what is ordered, much of it at the same time.
async fn run(ordered: &mut mpsc::Receiver<Errand>, running: &mut FuturesUnordered<Errand>) {
    loop {
        tokio::select! {
            Some(()) = running.next() => {}
            errand = ordered.recv(), if running.len() < AT_ONCE => match errand {
                Some(errand) => running.push(errand),
                None => return,
            },
            else => return,
        }
    }
}

pub(super) async fn announce(lines: &Lines) -> RedisResult<u32> {
    let arguments = [Argument::Text(&ME), Argument::Number(HEARD)];
    lines::run(lines, &ANNOUNCE, HOSTS, &arguments).await
}
