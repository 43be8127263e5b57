//! Keys that are fetched: in the background, again and again, never by a request.
//!
//! A token that names an unknown key has them fetched, at most once in a stated time; its request and a few others wait
//! a moment for what comes.
//! The last good set is kept for a stated time when the issuer is down, and lies on disk for a restart meanwhile.
//! What was fetched outlives reloads; a set that is no set, or is empty, changes nothing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, watch};

use super::jwk;
use super::key::{Algorithm, Key};
use crate::chore::Chore;
use crate::client::fetch::{self, Terms};
use crate::client::url::Url;
use crate::state::Shelf;
use crate::telemetry::metrics::JwksMetrics;
use crate::telemetry::random;

/// Bytes of a set, and of a discovery document.
const CAP: usize = 256 << 10;
const DEADLINE: Duration = Duration::from_secs(5);
/// How often a good set is fetched again, whatever its server says.
const SOONEST: Duration = Duration::from_mins(1);
const LATEST: Duration = Duration::from_hours(1);
const USUAL: Duration = Duration::from_mins(10);
/// How soon again after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(1);
/// How long a request waits for keys that are being fetched, and how many requests do.
const PATIENCE: Duration = Duration::from_secs(2);
const WAITING: usize = 64;
/// How often the age on the metrics page is renewed.
const TICK: Duration = Duration::from_secs(5);

/// Sets by all that they depend on.
static REMOTES: LazyLock<Shelf<String, Remote>> = LazyLock::new(Shelf::default);

/// Where the keys are, and how they are treated.
#[derive(Clone)]
pub struct Origin {
    pub url: Url,
    /// The issuer whose discovery document lies at `url`; nothing where the keys themselves do.
    pub discovers: Option<Box<str>>,
    pub algorithm: Option<Algorithm>,
    /// Whether `http:` was allowed in writing.
    pub plain: bool,
    /// The name of the file of authorities, which tells these settings from others.
    pub ca: Option<PathBuf>,
    pub terms: Terms,
}

impl Origin {
    pub fn terms(ca: Option<Arc<pingora::protocols::tls::CaType>>) -> Terms {
        Terms { deadline: DEADLINE, cap: CAP, ca }
    }
}

/// A set as it was fetched.
#[derive(Debug, Default)]
pub struct Fetched {
    pub keys: Vec<Key>,
    /// Another number for other keys.
    pub generation: u64,
    /// Seconds since 1970; none when nothing was fetched yet.
    pub at: Option<f64>,
    text: String,
}

/// A set that is fetched.
pub struct Remote {
    origin: Origin,
    /// What all that it depends on is called, in files and for a successor.
    stem: Box<str>,
    /// Where the last good set lies for a restart.
    file: Option<PathBuf>,
    current: ArcSwap<Fetched>,
    due: Mutex<(Instant, u32)>,
    wanted: Notify,
    /// Milliseconds since `started` at which an unknown key was last asked for.
    asked: AtomicU64,
    started: Instant,
    /// How often an unknown key has made us fetch, and how many of these fetches have ended.
    ordered: AtomicU64,
    ended: watch::Sender<u64>,
    places: Semaphore,
}

/// A set of keys that has to be followed while a snapshot serves.
#[derive(Clone)]
pub struct Follow {
    pub name: Arc<str>,
    pub remote: Arc<Remote>,
    pub counted: Option<Arc<JwksMetrics>>,
}

impl Follow {
    /// Whether both follow the same set.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.remote, &other.remote) && self.name == other.name
    }

    pub fn chore(self) -> Chore {
        Chore::new(format!("keys/{}", self.name), self.remote.follow(self.name, self.counted))
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("url", &self.origin.url).finish_non_exhaustive()
    }
}

impl Remote {
    /// The one of these settings; a new one begins with what lies under `state`.
    pub fn keep(origin: &Origin, state: &Path) -> Arc<Self> {
        let Origin { url, discovers, algorithm, plain, ca, .. } = origin;
        let name = format!("{url}\0{discovers:?}\0{algorithm:?}\0{plain}\0{ca:?}\0{}", state.display());
        REMOTES.keep(name.clone(), || Self::new(origin.clone(), &name, state))
    }

    fn new(origin: Origin, name: &str, state: &Path) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
        let stem = URL_SAFE_NO_PAD.encode(digest);
        let remote = Self {
            file: Some(state.join("jwks").join(format!("{stem}.json"))),
            stem: stem.into(),
            current: ArcSwap::default(),
            due: Mutex::new((Instant::now(), 0)),
            wanted: Notify::new(),
            asked: AtomicU64::new(u64::MAX),
            started: Instant::now(),
            ordered: AtomicU64::new(0),
            ended: watch::Sender::new(0),
            places: Semaphore::new(WAITING),
            origin,
        };
        if let Some(fetched) = remote.lying() {
            remote.current.store(Arc::new(fetched));
        }
        remote
    }

    pub fn current(&self) -> arc_swap::Guard<Arc<Fetched>> {
        self.current.load()
    }

    /// A token names a key that is not here: the set is fetched soon, at most once in `pause`.
    pub fn miss(&self, pause: Duration) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        let last = self.asked.load(Relaxed);
        let over = last == u64::MAX || now.saturating_sub(last) >= u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if over && self.asked.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            self.ordered.fetch_add(1, Relaxed);
            self.due().0 = Instant::now();
            self.wanted.notify_one();
        }
    }

    /// Whether a fetch that an unknown key has asked for is under way.
    pub fn is_coming(&self) -> bool {
        *self.ended.borrow() < self.ordered.load(Relaxed)
    }

    /// Waits for that fetch, but not for long, and not where many wait.
    pub async fn comes(&self) {
        let (Ok(_place), wanted) = (self.places.try_acquire(), self.ordered.load(Relaxed)) else { return };
        let mut ended = self.ended.subscribe();
        let _ = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended >= wanted)).await;
    }

    fn due(&self) -> std::sync::MutexGuard<'_, (Instant, u32)> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches for ever; `name` is for the log.
    async fn follow(self: Arc<Self>, name: Arc<str>, counted: Option<Arc<JwksMetrics>>) {
        loop {
            if let (Some(counted), Some(at)) = (&counted, self.current().at) {
                let age = Duration::try_from_secs_f64(now() - at).unwrap_or_default();
                counted.age(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            }
            let wait = self.due().0.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                // Asked for or not: the loop begins anew, and what was asked for is due.
                let _ = tokio::time::timeout(wait.min(TICK), self.wanted.notified()).await;
                continue;
            }
            let ordered = self.ordered.load(Relaxed);
            let fetched = self.fetch().await;
            if let Some(counted) = &counted {
                counted.fetched(fetched.is_ok());
            }
            match fetched {
                Ok((text, max_age)) => self.learn(&name, text, max_age).await,
                Err(why) => self.later(&name, &why),
            }
            self.ended.send_replace(ordered);
            if self.is_coming() {
                // It was asked for when this fetch had begun already.
                self.due().0 = Instant::now();
            }
        }
    }

    /// The text of a set that can be used, and for how long its server says that it holds.
    async fn fetch(&self) -> Result<(String, Option<Duration>), String> {
        let Origin { url, discovers, terms, .. } = &self.origin;
        let keys = match discovers {
            None => url.clone(),
            Some(issuer) => self.discover(issuer).await?,
        };
        let document = fetch::get(&keys, terms).await?;
        let text = String::from_utf8(document.body).map_err(|_| format!("{keys} is no text"))?;
        let set = jwk::read(&text, self.origin.algorithm).map_err(|why| format!("{keys} {why}"))?;
        if set.keys.is_empty() {
            return Err(format!("{keys} has no key that could verify a token: {}", set.left_out.join("; ")));
        }
        if set.keys.iter().any(Key::is_secret) {
            return Err(format!("{keys} publishes secrets, with which everyone could sign"));
        }
        Ok((text, document.max_age))
    }

    /// Where the issuer's keys are, as `OpenID` Connect Discovery has it.
    async fn discover(&self, issuer: &str) -> Result<Url, String> {
        let Origin { url, terms, plain, .. } = &self.origin;
        let document = fetch::get(url, terms).await?;
        let document = super::token::object(&document.body).map_err(|why| format!("{url}: {why}"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(format!("{url} is of another issuer than {issuer}"));
        }
        let keys: Url = document.get("jwks_uri").and_then(Value::as_str).unwrap_or_default().parse()?;
        if !keys.is_safe() && !plain {
            return Err(format!("{url} sends us to {keys}, which is not https"));
        }
        Ok(keys)
    }

    async fn learn(&self, name: &str, text: String, max_age: Option<Duration>) {
        let at = now();
        let again = max_age.map_or(USUAL, |age| age.clamp(SOONEST, LATEST)).mul_f64(0.9 + 0.2 * share());
        *self.due() = (Instant::now() + again, 0);
        let before = self.current.load_full();
        let same = before.text == text;
        // Keys are not copied: the same text makes the same keys.
        let Ok(set) = jwk::read(&text, self.origin.algorithm) else { return };
        let generation = if same { before.generation } else { next_generation() };
        if !same {
            log::info!("auth {name}: {} keys from {}", set.keys.len(), self.origin.url);
            for why in &set.left_out {
                log::warn!("auth {name}: {}: {why}; it is left out", self.origin.url);
            }
        }
        let fetched = Fetched { keys: set.keys, generation, at: Some(at), text };
        self.write(name, &fetched).await;
        self.current.store(Arc::new(fetched));
    }

    fn later(&self, name: &str, why: &str) {
        let mut due = self.due();
        let wait = FIRST_RETRY.saturating_mul(1 << due.1.min(6)).min(LAST_RETRY);
        *due = (Instant::now() + wait.mul_f64(0.8 + 0.4 * share()), due.1.saturating_add(1));
        let held = self
            .current()
            .at
            .map_or_else(|| "there are none yet".to_owned(), |at| format!("those of {:.0} s ago are kept", now() - at));
        log::warn!("auth {name}: no keys could be fetched, {held}: {why}");
    }

    /// What lies on disk, if it is of these settings.
    fn lying(&self) -> Option<Fetched> {
        let text = super::pem::whole(self.file.as_deref()?).ok()?;
        let document = serde_json::from_str::<Value>(&text).ok()?;
        let at = document.get("at")?.as_f64().filter(|at| *at <= now())?;
        self.fetched(document.get("keys")?.as_str()?, at)
    }

    /// A set that was good once.
    fn fetched(&self, text: &str, at: f64) -> Option<Fetched> {
        let keys = jwk::read(text, self.origin.algorithm).ok()?.keys;
        if keys.is_empty() || keys.iter().any(Key::is_secret) {
            return None;
        }
        Some(Fetched { keys, generation: next_generation(), at: Some(at), text: text.to_owned() })
    }

    /// All sets in use, for a successor.
    pub fn pack() -> Value {
        let row = |(_, remote): (String, Arc<Self>)| {
            let current = remote.current();
            let age = (now() - current.at?).max(0.0);
            Some((remote.stem.to_string(), json!({ "age": age, "keys": current.text })))
        };
        Value::Object(REMOTES.all().into_iter().filter_map(row).collect())
    }

    /// Takes up the sets of a predecessor that are younger than what is here; false where one cannot be read.
    pub fn unpack(said: &Value) -> bool {
        let Some(rows) = said.as_object() else { return false };
        REMOTES.all().iter().fold(true, |good, (_, remote)| {
            let Some(row) = rows.get(&*remote.stem) else { return good };
            remote.take_up(row).is_some() && good
        })
    }

    fn take_up(&self, row: &Value) -> Option<()> {
        let at = now() - row.get("age")?.as_f64().filter(|age| (0.0..1e9).contains(age))?;
        let current = self.current.load_full();
        let text = row.get("keys")?.as_str()?;
        if current.at.is_none_or(|known| known < at) && current.text != text {
            self.current.store(Arc::new(self.fetched(text, at)?));
        }
        Some(())
    }

    /// Whole or not at all; a disk that does not take it is told of and otherwise ignored.
    async fn write(&self, name: &str, fetched: &Fetched) {
        let Some(file) = &self.file else { return };
        let text = json!({ "url": self.origin.url.as_str(), "at": fetched.at, "keys": fetched.text }).to_string();
        let new = file.with_extension("new");
        let write = async {
            // The directory above it has to be there: who wants the state kept makes it.
            let made = tokio::fs::create_dir(file.parent().unwrap_or(Path::new("/"))).await;
            made.or_else(|why| if why.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(why) })?;
            tokio::fs::write(&new, text).await?;
            tokio::fs::rename(&new, file).await
        };
        if let Err(why) = write.await {
            log::info!("auth {name}: keys are not kept for a restart: {}: {why}", file.display());
        }
    }
}

/// Never the same twice in this process, so that no token is believed by keys that did not verify it.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// A number from 0 to 1, so that a fleet does not ask at once.
fn share() -> f64 {
    f64::from(u32::try_from(random::next() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#"{ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] }"#;

    fn origin(url: &str) -> Origin {
        let (discovers, algorithm, plain, ca) = (None, None, false, None);
        Origin { url: url.parse().unwrap(), discovers, algorithm, plain, ca, terms: Origin::terms(None) }
    }

    #[test]
    fn a_successor_has_the_keys_where_no_disk_keeps_them_and_knows_how_old_they_are() {
        let remote = Remote::keep(&origin("https://carried.example/keys"), Path::new(""));
        let at = now() - 100.0;
        remote.current.store(Arc::new(remote.fetched(KEYS, at).unwrap()));
        let packed = Remote::pack();
        remote.current.store(Arc::default());
        assert!(Remote::unpack(&packed));
        let taken = remote.current.load_full();
        assert_eq!((taken.keys.len(), taken.text.as_str()), (1, KEYS));
        assert!((taken.at.unwrap() - at).abs() < 5.0);

        remote.current.store(Arc::new(Fetched { at: Some(now()), ..Fetched::default() }));
        assert!(Remote::unpack(&packed));
        assert!(remote.current.load().keys.is_empty(), "what is here is younger");
        remote.current.store(Arc::default());
        for wrong in [json!([]), json!({ &*remote.stem: { "age": -1, "keys": KEYS } }), json!({ &*remote.stem: {} })] {
            assert!(!Remote::unpack(&wrong), "{wrong}");
        }
        let secret = json!({ &*remote.stem: { "age": 1, "keys": r#"{ "keys": [{ "kty": "oct", "k": "AAAA" }] }"# } });
        assert!(!Remote::unpack(&secret) && remote.current.load().at.is_none());
    }
}
