//! A store that several hosts share: asked with a deadline, kept by a chore, and left alone while it is down.
//!
//! Nobody connects while a request waits. The chore opens the connection, drives it, opens it again when it ends, and
//! once a second announces this host, which also shows that the store still answers.

mod breaker;
pub mod config;
mod keep;
pub(in crate::client) mod line;
mod lines;
pub mod script;
pub mod tls;
mod whither;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::stream::FuturesUnordered;
use redis::{FromRedisValue, RedisConnectionInfo, RedisResult};
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};

pub use config::Config;
pub use script::{Argument, Script};

use self::breaker::Breaker;
use self::line::Driver;
use self::lines::Lines;
use self::tls::Tls;
use self::whither::Redis;
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::telemetry::metrics::{Metrics, StoreMetrics};
use crate::units::Address;

/// Stores by all their settings, through all reloads: another password is another store.
pub type Stores = Shelf<String, Store>;

/// Something to do beside the requests.
type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long a request waits for a store, where the document says nothing.
const TIMEOUT: Duration = Duration::from_millis(20);
/// Errands that may wait.
const ERRANDS: usize = 1024;

/// What belongs to the one who keeps a store.
struct Turn {
    driver: Option<Driver>,
    ordered: mpsc::Receiver<Errand>,
    running: FuturesUnordered<Errand>,
}

/// A store, and how it is at the moment.
pub struct Store {
    name: Box<str>,
    redis: Redis,
    tls: Option<Tls>,
    who: RedisConnectionInfo,
    timeout: Duration,
    line: ArcSwapOption<Lines>,
    breaker: Mutex<Breaker>,
    /// What the breaker says, without its lock; and whether there was a failure since the last good answer.
    up: AtomicBool,
    troubled: AtomicBool,
    /// Wakes who keeps it when it has gone down.
    down: Notify,
    /// Tells them that a cluster has changed.
    moved: Notify,
    hosts: AtomicU32,
    /// Who keeps the store drives its connection; a reload hands it to the next one.
    turn: tokio::sync::Mutex<Turn>,
    errands: mpsc::Sender<Errand>,
    tried: watch::Sender<bool>,
    counted: StoreMetrics,
}

/// The store did not answer in time, or is not asked because it is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Down;

/// How a store is, for `/health`.
#[derive(Debug, Serialize)]
pub struct Status {
    pub name: Box<str>,
    pub state: &'static str,
    /// How many hosts use it, as far as it last said.
    pub hosts: u32,
    pub redis: Vec<String>,
}

impl Store {
    /// `at` is `stores.NAME`. Reads the password; asks nobody.
    pub fn compile(
        name: &str,
        config: &Config,
        at: &Path,
        kept: &Stores,
        metrics: &Metrics,
        problems: &mut Problems,
    ) -> Option<Arc<Self>> {
        let before = problems.errors();
        let mut who = RedisConnectionInfo::default().set_db(config.database.into()).set_skip_set_lib_name();
        let redis = config.redis.clone().filter(|_| config.memory.is_none())?;
        let password = config.secret(at, problems);
        if config.user.is_some() && password.is_none() {
            problems.error(at.key("user"), "needs its `password` beside it");
        }
        if redis.is_cluster() && config.database > 0 {
            problems.error(at.key("database"), "a cluster has only the first, 0");
        }
        if config.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
            problems.error(at.key("timeout"), "leaves no time to answer, e.g. 20ms");
        }
        if let Some(user) = &config.user {
            who = who.set_username(user);
        }
        if let Some(password) = &password {
            who = who.set_password(password);
        }
        let tls = config.tls.as_ref().and_then(|tls| Tls::compile(tls, &at.key("tls"), problems));
        if config.tls.is_some() && redis.named().iter().any(|address| address.socket_file().is_some()) {
            problems.error(at.key("tls"), "has no meaning over a unix socket");
        }
        let settings = format!("{name}\0{config:?}\0{password:?}\0{:?}", config.contents());
        let timeout = config.timeout.map_or(TIMEOUT, crate::units::Duration::get);
        let new = || Self::new(name, redis, who, tls, timeout, metrics);
        (problems.errors() == before).then(|| kept.keep(settings, new))
    }

    fn new(
        name: &str,
        redis: Redis,
        who: RedisConnectionInfo,
        tls: Option<Tls>,
        timeout: Duration,
        metrics: &Metrics,
    ) -> Self {
        let (errands, ordered) = mpsc::channel(ERRANDS);
        Self {
            name: name.into(),
            redis,
            tls,
            who,
            timeout,
            line: ArcSwapOption::empty(),
            breaker: Mutex::new(Breaker::new(Instant::now())),
            up: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            down: Notify::new(),
            moved: Notify::new(),
            hosts: AtomicU32::new(1),
            turn: tokio::sync::Mutex::new(Turn { driver: None, ordered, running: FuturesUnordered::new() }),
            errands,
            tried: watch::Sender::new(false),
            counted: metrics.store(name),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many hosts use it, this one included; the last known number while it is down.
    pub fn hosts(&self) -> u64 {
        self.hosts.load(Relaxed).max(1).into()
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub fn status(&self) -> Status {
        Status {
            name: self.name.clone(),
            state: if self.is_up() { "up" } else { "down" },
            hosts: self.hosts.load(Relaxed),
            redis: self.redis.named().iter().map(ToString::to_string).collect(),
        }
    }

    /// Ends when the store was asked for the first time, whatever came of it.
    pub async fn ready(&self) {
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Does something beside the requests; where too much is waiting it is left undone.
    pub fn later(&self, errand: impl Future<Output = ()> + Send + 'static) {
        let _ = self.errands.try_send(Box::pin(errand));
    }

    /// Runs a script on one key, if the store is up and answers in time.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &str,
        arguments: &[Argument<'_>],
    ) -> Result<T, Down> {
        let line = self.line.load_full().filter(|_| self.is_up());
        let Some(line) = line else {
            self.counted.skipped();
            return Err(Down);
        };
        let began = Instant::now();
        let answer = tokio::time::timeout(self.timeout, lines::run(&line, script, key, arguments)).await;
        self.counted.answered(began.elapsed());
        if let Ok(answer) = answer {
            return self.learn(answer);
        }
        self.counted.late();
        self.record(false);
        Err(Down)
    }

    fn learn<T>(&self, answer: RedisResult<T>) -> Result<T, Down> {
        self.record(answer.as_ref().err().is_none_or(lines::is_answer));
        answer.inspect(|_| self.counted.well()).map_err(|why| {
            self.counted.failed();
            if lines::has_moved(&why) {
                self.moved.notify_one();
            }
            log::debug!("store {}: {why}", self.name);
            Down
        })
    }

    /// A command has ended.
    fn record(&self, well: bool) {
        // While all is well there is nothing to remember, and no lock to take.
        if well && !self.troubled.load(Relaxed) {
            return;
        }
        self.troubled.store(!well, Relaxed);
        if self.breaker().record(Instant::now(), well) {
            self.went_down("it does not answer in time");
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn went_down(&self, why: &str) {
        self.up.store(false, Relaxed);
        self.counted.up(false);
        log::warn!("store {} is down: {why}", self.name);
        self.down.notify_one();
    }

    fn went_up(&self) {
        self.up.store(true, Relaxed);
        self.counted.up(true);
        log::info!("store {} is up, {} hosts use it", self.name, self.hosts());
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("name", &self.name).finish_non_exhaustive()
    }
}
