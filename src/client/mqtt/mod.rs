//! A broker of MQTT: what requests publish and listen to goes over one connection, kept by a chore.
//!
//! Nobody connects while a request waits. A message counts as published when the broker has acknowledged it. A topic is
//! subscribed once, however many listen to it.

pub mod access;
pub mod config;
pub mod hub;
pub mod line;
mod link;
mod round;
pub mod topic;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::mqttbytes::v4;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

pub use self::access::Access;
pub use self::hub::Hub;
pub use self::link::service;
pub use self::topic::Topic;

use self::hub::Cursor;
use self::link::{Link, Order};
use super::store::Config;
use super::store::tls::Tls;
use crate::chore::Chore;
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::telemetry::metrics::{BrokerMetrics, Metrics};
use crate::telemetry::random;

/// Brokers by all their settings, through all reloads.
pub type Brokers = Shelf<String, Broker>;

/// Messages that wait for their acknowledgement.
const AT_ONCE: usize = 256;
/// How long a request waits for a broker, where the document says nothing.
const TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// For so long a topic stays subscribed that nobody listens to: who comes back misses nothing.
const LINGER: Duration = Duration::from_secs(30);
/// So many topics are listened to at most; beyond a quarter of that nobody is waited for.
const MOST_TOPICS: usize = 4096;

/// A broker, and how it is at the moment.
pub struct Broker {
    name: Box<str>,
    access: Access,
    client_id: Option<Box<str>>,
    /// The name of this process's connection for requests.
    id: String,
    timeout: Duration,
    orders: mpsc::Sender<Order>,
    /// Who keeps the broker has the connection; a reload hands it to the next one.
    link: tokio::sync::Mutex<Link>,
    hubs: Mutex<HashMap<Box<str>, Arc<Hub>>>,
    changed: Notify,
    up: AtomicBool,
    tried: watch::Sender<bool>,
    keepers: AtomicUsize,
    under_way: Semaphore,
    counted: BrokerMetrics,
}

/// Why a message was not published, or a topic is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// It is not connected.
    Down,
    /// It did not answer in time.
    Late,
    /// The connection ended before it answered.
    Lost,
    /// Too much is under way.
    Busy,
    /// The broker does not let us.
    Refused,
}

/// How a broker is, for `/health` and `/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    pub name: Box<str>,
    pub state: &'static str,
    pub mqtt: String,
    /// Topics that are listened to, and by how many.
    pub topics: usize,
    pub listeners: usize,
}

impl Broker {
    /// `at` is `stores.NAME`. Reads the password; asks nobody.
    pub fn compile(
        name: &str,
        config: &Config,
        at: &Path,
        kept: &Brokers,
        metrics: &Metrics,
        problems: &mut Problems,
    ) -> Option<Arc<Self>> {
        let before = problems.errors();
        let address = config.mqtt.clone()?;
        if config.database > 0 {
            problems.error(at.key("database"), "is of a Redis, and this store is a broker");
        }
        let password = config.secret(at, problems);
        if config.user.is_none() && password.is_some() {
            problems.error(at.key("password"), "needs its `user` beside it");
        }
        let tls = config.tls.as_ref().and_then(|tls| Tls::compile(tls, &at.key("tls"), problems));
        if config.tls.is_some() && address.socket_file().is_some() {
            problems.error(at.key("tls"), "has no meaning over a unix socket");
        }
        let keep_alive = config.keep_alive.map_or(KEEP_ALIVE, crate::units::Duration::get);
        if !(1..=u64::from(u16::MAX)).contains(&keep_alive.as_secs()) || keep_alive.subsec_nanos() > 0 {
            problems.error(at.key("keep_alive"), "is whole seconds from 1s to 65535s");
        }
        if config.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
            problems.error(at.key("timeout"), "leaves no time to answer, e.g. 5s");
        }
        if config
            .client_id
            .as_ref()
            .is_some_and(|id| id.is_empty() || id.len() > 200 || id.chars().any(char::is_control))
        {
            problems.error(at.key("client_id"), "is a name of up to 200 letters");
        }
        let login = config.user.clone().zip(password.or_else(|| Some(String::new())));
        let access = Access { address, tls, login, keep_alive };
        let settings = format!("{name}\0{:?}\0{:?}\0{:?}", config.access(), access.login, config.contents());
        (problems.errors() == before).then(|| kept.keep(settings, || Self::new(name, config, access, metrics)))
    }

    fn new(name: &str, config: &Config, access: Access, metrics: &Metrics) -> Self {
        let (orders, ordered) = mpsc::channel(AT_ONCE);
        let client_id = config.client_id.clone();
        Self {
            name: name.into(),
            access,
            id: format!("{}-{:08x}", client_id.as_deref().unwrap_or("yumen"), random::next() >> 32),
            client_id,
            timeout: config.timeout.map_or(TIMEOUT, crate::units::Duration::get),
            orders,
            link: tokio::sync::Mutex::new(Link::new(ordered)),
            hubs: Mutex::default(),
            changed: Notify::new(),
            up: AtomicBool::new(false),
            tried: watch::Sender::new(false),
            keepers: AtomicUsize::new(0),
            under_way: Semaphore::new(AT_ONCE),
            counted: metrics.broker(name),
        }
    }

    pub fn chore(self: Arc<Self>) -> Chore {
        Chore::new(format!("store/{}", self.name), self.keep()).near()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The name that the document gives to connections.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// Tells this one from any other, of the same settings too.
    pub fn own_id(&self) -> &str {
        &self.id
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub fn counted(&self) -> &BrokerMetrics {
        &self.counted
    }

    pub fn status(&self) -> Status {
        let hubs = self.hubs();
        Status {
            name: self.name.clone(),
            state: if self.is_up() { "up" } else { "down" },
            mqtt: self.access.address.to_string(),
            topics: hubs.len(),
            listeners: hubs.values().map(|hub| hub.listeners()).sum(),
        }
    }

    /// Ends when the broker was asked for the first time, whatever came of it.
    pub async fn ready(&self) {
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Publishes a message: well once the broker has acknowledged it, where it is asked to.
    pub async fn publish(&self, topic: String, payload: Bytes, qos: u8, retain: bool) -> Result<(), Unavailable> {
        let published = self.order(topic, payload, qos, retain).await;
        self.counted.published(published.is_ok());
        published
    }

    async fn order(&self, topic: String, payload: Bytes, qos: u8, retain: bool) -> Result<(), Unavailable> {
        if !self.is_up() {
            return Err(Unavailable::Down);
        }
        let all = async {
            let _place = self.under_way.acquire().await.map_err(|_| Unavailable::Down)?;
            let (done, acknowledged) = oneshot::channel();
            let order = Order { topic, payload, qos: service(qos), retain, done };
            self.orders.send(order).await.map_err(|_| Unavailable::Down)?;
            acknowledged.await.map_err(|_| Unavailable::Lost)
        };
        let late = |_| if self.under_way.available_permits() == 0 { Unavailable::Busy } else { Unavailable::Late };
        tokio::time::timeout(self.timeout, all).await.map_err(late)?
    }

    /// Listens to a topic, as long as the answer lives, from now on or behind the `last` message that was seen. Within the
    /// broker's time it is subscribed, and what the broker had kept is here.
    pub async fn listen(
        self: &Arc<Self>,
        filter: &str,
        qos: u8,
        last: Option<&str>,
    ) -> Result<(Listening, Cursor), Unavailable> {
        if !self.is_up() {
            return Err(Unavailable::Down);
        }
        let (listening, mut cursor) = self.enter(filter, qos, last).ok_or(Unavailable::Busy)?;
        match tokio::time::timeout(self.timeout, listening.hub.ready(&mut cursor)).await {
            Ok(Ok(())) => Ok((listening, cursor)),
            Ok(Err(why)) => Err(why),
            Err(_) if Hub::begins(&mut cursor) => Ok((listening, cursor)),
            Err(_) => Err(if self.is_up() { Unavailable::Late } else { Unavailable::Lost }),
        }
    }

    fn enter(self: &Arc<Self>, filter: &str, qos: u8, last: Option<&str>) -> Option<(Listening, Cursor)> {
        let mut hubs = self.hubs();
        if hubs.len() >= MOST_TOPICS && !hubs.contains_key(filter) {
            hubs.retain(|_, hub| hub.deserted().is_none());
        }
        if hubs.len() >= MOST_TOPICS && !hubs.contains_key(filter) {
            return None;
        }
        let hub = hubs.entry(filter.into()).or_insert_with(|| Arc::new(Hub::new(filter, qos)));
        hub.enter();
        let listening = Listening { broker: Arc::clone(self), hub: Arc::clone(hub) };
        let cursor = hub.join(last);
        if hub.wants(qos) || hub.asks() {
            self.changed.notify_one();
        }
        Some((listening, cursor))
    }

    fn hubs(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has to be asked for, and what no longer, where this is subscribed; what nobody has listened to for a while is
    /// forgotten.
    fn wanted(&self, subscribed: &HashMap<Box<str>, u8>) -> (Vec<Arc<Hub>>, Vec<Box<str>>) {
        let now = Instant::now();
        let mut hubs = self.hubs();
        let linger = if hubs.len() > MOST_TOPICS / 4 { Duration::ZERO } else { LINGER };
        hubs.retain(|_, hub| hub.deserted().is_none_or(|left| now.saturating_duration_since(left) < linger));
        let asked = hubs.values().filter(|hub| hub.asks() || subscribed.get(&hub.filter) != Some(&hub.qos()));
        let gone = subscribed.keys().filter(|filter| !hubs.contains_key(*filter));
        (asked.cloned().collect(), gone.cloned().collect())
    }

    /// A message goes to everyone who listens to its topic; one that the broker had kept to those who have just come.
    fn spread(&self, publish: &v4::Publish) {
        let hubs = self.hubs();
        let exact = hubs.get(publish.topic.as_str());
        let wild = hubs.values().filter(|hub| hub.wild && topic::matches(&hub.filter, &publish.topic));
        let meant = exact.into_iter().chain(wild);
        let keep = |hub: &&Arc<Hub>| hub.keep(&publish.topic, &publish.payload);
        // Said to be kept though nobody has asked: then it is as good as new.
        if !publish.retain || meant.clone().filter(keep).count() == 0 {
            meant.for_each(|hub| hub.push(&publish.topic, &publish.payload));
        }
    }

    fn went_up(&self) {
        self.up.store(true, Relaxed);
        self.tried.send_replace(true);
        self.counted.up(true);
        log::info!("store {} is up", self.name);
    }

    fn went_down(&self, why: &str) {
        self.up.store(false, Relaxed);
        self.counted.up(false);
        log::warn!("store {} is down: {} {why}", self.name, self.access.address);
        for hub in self.hubs().values() {
            hub.away();
        }
    }

    /// Somebody keeps it, until the answer is dropped.
    fn kept(self: &Arc<Self>) -> Kept {
        self.keepers.fetch_add(1, Relaxed);
        Kept(Arc::clone(self))
    }

    /// Whether anyone keeps it: a reload may have taken it out of the document.
    pub fn is_kept(&self) -> bool {
        self.keepers.load(Relaxed) > 0
    }
}

struct Kept(Arc<Broker>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Relaxed);
    }
}

/// Somebody who listens to a topic.
#[derive(Debug)]
pub struct Listening {
    broker: Arc<Broker>,
    pub hub: Arc<Hub>,
}

impl Listening {
    pub fn broker(&self) -> &Broker {
        &self.broker
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.hub.leave();
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("name", &self.name).finish_non_exhaustive()
    }
}
