//! Messages of a broker that go on to pools: on disk before they are acknowledged, there until the pool has them.
//!
//! ```yaml
//! stores:
//!   plant:
//!     mqtt: 10.0.0.7:1883
//!     forward:
//!       readings: { topic: devices/:id/readings, to: orders, path: /devices/:id/readings }
//! ```
//!
//! ```text
//!  broker ──> session ──> queue on disk ──> lanes, one for each topic ──> pool
//!         <── acknowledges, once it is on disk         removed, once the answer is 2xx
//! ```
//!
//! At least once, in the order of each topic; each message has an id that stays. One process at a time has a store's
//! messages ([`claim::Claim`]); what is known of them outlives reloads ([`Desk`]).

mod claim;
mod dead;
mod lanes;
mod post;
pub mod queue;
mod send;
mod session;
mod tray;

use std::collections::BTreeMap;
use std::path::{Path as File, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{MutexGuard, watch};

use self::claim::Claim;
use self::post::{Plan, Post};
use self::session::Session;
use self::tray::Tray;
use crate::chore::Chore;
use crate::client::mqtt::Broker;
use crate::client::mqtt::access::Pauses;
use crate::client::store::Config;
use crate::pool::Pool;
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::telemetry::metrics::Metrics;
use crate::units::Name;

/// What is known of the messages of each store, by where they lie.
pub type Desks = Shelf<PathBuf, Desk>;

/// How often it is looked whether another process has let go.
const LOOK: Duration = Duration::from_millis(50);
/// How long messages that are under way may take when the process lets go.
const LAST: Duration = Duration::from_secs(2);

/// The messages of one store.
pub struct Desk {
    dir: PathBuf,
    trays: Mutex<BTreeMap<Name, Arc<Tray>>>,
    /// Who keeps the store has it; a reload hands it to the next one.
    turn: tokio::sync::Mutex<Turn>,
    leaving: watch::Sender<bool>,
    gone: watch::Sender<bool>,
}

/// What belongs to the one who keeps a store.
#[derive(Default)]
struct Turn {
    claim: Option<Arc<Claim>>,
    /// The connection, and the settings with which it was opened.
    session: Option<(String, Session)>,
}

/// The forwards of one store, decided once.
pub struct Courier {
    broker: Arc<Broker>,
    desk: Arc<Desk>,
    posts: Vec<Arc<Post>>,
    pools: Vec<Arc<Pool>>,
    /// What a connection depends on.
    settings: String,
}

/// The pools of the document; nothing under the name of one that is wrong.
type Pools = BTreeMap<Name, Option<Arc<Pool>>>;

impl Desk {
    fn new(dir: &File) -> Self {
        Self {
            dir: dir.to_owned(),
            trays: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            leaving: watch::Sender::new(false),
            gone: watch::Sender::new(false),
        }
    }

    fn tray(&self, name: &Name) -> Arc<Tray> {
        let mut trays = self.trays.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Tray::new(&self.dir.join(name.as_str())));
        Arc::clone(trays.entry(name.clone()).or_insert_with(new))
    }
}

impl Courier {
    /// `at` is `stores.NAME`; nothing where nothing is forwarded. Opens nothing.
    pub fn compile(
        config: &Config,
        broker: &Arc<Broker>,
        pools: &Pools,
        at: &Path,
        (desks, state, metrics): (&Desks, &File, &Metrics),
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        if config.forward.is_empty() {
            return None;
        }
        let at = at.key("forward");
        if !state.is_dir() {
            let sentence = format!(
                "keeps messages in {}, which is no directory: none are taken; see runtime.state",
                state.display()
            );
            problems.warn(at.clone(), sentence);
        }
        let dir = state.join("mqtt").join(broker.name());
        let desk = desks.keep(dir.clone(), || Desk::new(&dir));
        let (mut posts, mut to) = (Vec::new(), Vec::new());
        for (name, config) in &config.forward {
            let plan = Plan::compile(config, &at.key(name.as_str()), problems);
            let pool = pools.get(&config.to).cloned().flatten();
            let Some((plan, pool)) = plan.zip(pool) else { continue };
            let counted = metrics.forward(broker.name(), name.as_str());
            posts.push(Arc::new(Post::new(name, config, plan, desk.tray(name), counted)));
            to.push(pool);
        }
        let asked: Vec<_> = config.forward.values().map(|one| (one.topic.filter(), one.qos)).collect();
        let settings = format!("{}\0{asked:?}", broker.own_id());
        let broker = Arc::clone(broker);
        (problems.errors() == before).then_some(Self { broker, desk, posts, pools: to, settings })
    }

    pub fn chore(self: Arc<Self>) -> Chore {
        Chore::new(format!("forward/{}", self.broker.name()), self.keep()).near()
    }

    pub fn store(&self) -> &str {
        self.broker.name()
    }

    /// What waits for each pool.
    pub fn status(&self) -> Value {
        let row = |post: &Arc<Post>| {
            let (figures, up) = (post.tray.figures(), post.counted.is_up());
            let mut row = json!(figures);
            if let Some(row) = row.as_object_mut() {
                row.insert("state".to_owned(), if up { "up" } else { "down" }.into());
                row.insert("dead".to_owned(), post.tray.dead().into());
            }
            (post.name.to_string(), row)
        };
        Value::Object(self.posts.iter().map(row).collect::<Map<_, _>>())
    }

    /// From now on another process takes the messages.
    pub fn let_go(&self) {
        self.desk.leaving.send_replace(true);
    }

    /// Until it can.
    pub async fn gone(&self) {
        let _ = self.desk.gone.subscribe().wait_for(|gone| *gone).await;
    }

    async fn keep(self: Arc<Self>) {
        let mut turn = self.desk.turn.lock().await;
        let mut leaving = self.desk.leaving.subscribe();
        let work = async {
            let claim = self.claim(&mut turn).await;
            self.open().await;
            let delivering = self.posts.iter().zip(&self.pools);
            let delivering = delivering.map(|(post, pool)| Arc::clone(post).deliver(Arc::clone(pool)));
            let delivering = futures_util::future::join_all(delivering);
            tokio::select! {
                () = self.take_in(&mut turn, &claim) => {}
                _ = delivering => {}
            }
        };
        tokio::select! {
            () = work => {}
            _ = leaving.wait_for(|leaving| *leaving) => {}
        }
        self.leave(turn).await;
    }

    /// The directory, as soon as no other process has it.
    async fn claim(&self, turn: &mut Turn) -> Arc<Claim> {
        let (mut said, mut waited) = (String::new(), false);
        loop {
            if let Some(claim) = &turn.claim {
                return Arc::clone(claim);
            }
            let dir = self.desk.dir.clone();
            let taken = tokio::task::spawn_blocking(move || Claim::try_take(&dir)).await;
            match taken.unwrap_or_else(|why| Err(std::io::Error::other(why))) {
                Ok(Some(claim)) => turn.claim = Some(Arc::new(claim)),
                Ok(None) => {
                    if !std::mem::replace(&mut waited, true) {
                        log::info!("store {}: another process has its messages", self.broker.name());
                    }
                }
                Err(why) => {
                    let why = format!(
                        "store {}: no messages are taken: {}: {why}",
                        self.broker.name(),
                        self.desk.dir.display()
                    );
                    if said != why {
                        log::warn!("{why}");
                        said = why;
                    }
                    tokio::time::sleep(LOOK * 20).await;
                }
            }
            if turn.claim.is_none() {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Opens the queues, each as soon as it can be.
    async fn open(&self) {
        for post in &self.posts {
            let mut said = false;
            loop {
                let (tray, most) = (Arc::clone(&post.tray), post.most);
                let opened = tokio::task::spawn_blocking(move || tray.open(most)).await;
                let Err(why) = opened.unwrap_or_else(|why| Err(std::io::Error::other(why))) else { break };
                if !std::mem::replace(&mut said, true) {
                    log::warn!("forward {}: {}: {why}", post.name, post.tray.dir.display());
                }
                tokio::time::sleep(LOOK * 20).await;
            }
        }
    }

    /// Takes messages from the broker, for ever.
    async fn take_in(&self, turn: &mut Turn, claim: &Arc<Claim>) {
        let (mut pauses, mut said) = (Pauses::default(), String::new());
        // Another connection under the same name: the broker ends the one before.
        turn.session.take_if(|(settings, session)| *settings != self.settings || session.is_broken());
        if turn.session.is_none() {
            // What one before us has heard is not what we hear.
            self.posts.iter().for_each(|post| post.counted.up(false));
        }
        loop {
            if let Some((_, session)) = &mut turn.session {
                let why = session.run(claim, &self.posts).await;
                log::warn!(
                    "store {}: its messages for pools are not heard: {} {why}",
                    self.broker.name(),
                    self.broker.access().address()
                );
                turn.session = None;
                self.posts.iter().for_each(|post| post.counted.up(false));
                // Who is let in and then turned away again and again waits longer and longer.
                tokio::time::sleep(pauses.again()).await;
            }
            match Session::enter(&self.broker, claim, &self.posts).await {
                Ok(session) => {
                    log::info!("store {}: its messages for pools are heard", self.broker.name());
                    turn.session = Some((self.settings.clone(), session));
                    said.clear();
                }
                Err(why) => {
                    if said != why {
                        log::warn!("store {}: {why}", self.broker.name());
                        said = why;
                    }
                    tokio::time::sleep(pauses.again()).await;
                }
            }
        }
    }

    /// Lets go: says goodbye to the broker, waits a moment for what is under way, and gives the directory back.
    async fn leave(&self, mut turn: MutexGuard<'_, Turn>) {
        if let Some((_, session)) = turn.session.take() {
            session.leave().await;
        }
        for post in &self.posts {
            let mut work = post.tray.work.lock().await;
            let last = async {
                use futures_util::StreamExt;
                while let Some((entry, outcome)) = work.running.next().await {
                    post.last(&mut work.lanes, entry, outcome);
                }
            };
            let _ = tokio::time::timeout(LAST, last).await;
            let tray = Arc::clone(&post.tray);
            let _ = tokio::task::spawn_blocking(move || tray.turn(0, None)).await;
            post.tray.close(&mut work);
            post.counted.up(false);
        }
        turn.claim = None;
        log::info!("store {}: its messages for pools are left to another process", self.broker.name());
        self.desk.gone.send_replace(true);
    }
}
