//! One forward: which messages, to which pool, as which request; and who brings them there.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, Method, header};
use pingora_http::RequestHeader;

use super::lanes::Lanes;
use super::queue::{Entry, Incoming, Kept};
use super::tray::{Outcome, Sending, Tray, Work};
use crate::client::mqtt::{Topic, config};
use crate::policy::template::{self, Segment};
use crate::pool::Pool;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::{Fate, ForwardMetrics};
use crate::units::Name;

/// Messages in memory, at most.
const WINDOW: usize = 4096;
const WINDOW_BYTES: usize = 8 << 20;
/// Messages that are read at once.
const READ: usize = 512;
/// How often the figures are shown where nothing happens.
const LOOK: Duration = Duration::from_secs(1);
/// The longest topic in a header field.
const LONGEST_TOPIC: usize = 1024;

const X_MQTT_TOPIC: HeaderName = HeaderName::from_static("x-mqtt-topic");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// One forward, decided once, with its state.
pub(super) struct Post {
    pub(super) name: Name,
    pub(super) topic: Topic,
    pub(super) qos: u8,
    pub(super) counted: ForwardMetrics,
    pub(super) most: u64,
    method: Method,
    path: Box<[Segment]>,
    headers: Vec<(HeaderName, HeaderValue)>,
    at_once: usize,
    pub(super) tray: Arc<Tray>,
}

/// What a forward says, decided.
pub(super) struct Plan {
    topic: Topic,
    method: Method,
    path: Box<[Segment]>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Plan {
    /// `at` is `stores.NAME.forward.NAME`.
    pub(super) fn compile(config: &config::Forward, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.qos > 2 {
            problems.error(at.key("qos"), format!("`{}` is not 0, 1 or 2", config.qos));
        }
        if !(1..=1024).contains(&config.at_once) {
            problems.error(at.key("at_once"), "is from 1 to 1024");
        }
        if config.queue.bytes() < 64 << 10 {
            problems.error(at.key("queue"), "is at least 64KiB, e.g. 64MiB");
        }
        let path = template::parse(&config.path).map_err(|why| problems.error(at.key("path"), why)).unwrap_or_default();
        for name in template::names(&path).filter(|name| !config.topic.names().any(|known| known == *name)) {
            problems.error(at.key("path"), format!("`:{name}` is not in the topic"));
        }
        if path.contains(&Segment::Rest) {
            problems.error(at.key("path"), "`*` stands for nothing here");
        }
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, value) in &config.headers {
            let parsed = name.parse::<HeaderName>().ok().filter(is_free).zip(HeaderValue::from_str(value).ok());
            match parsed {
                Some(field) => headers.push(field),
                None => problems.error(at.key("headers").key(name), "is no field that can be set, e.g. content-type"),
            }
        }
        let method = match config.method {
            config::Method::Post => Method::POST,
            config::Method::Put => Method::PUT,
            config::Method::Patch => Method::PATCH,
        };
        (problems.errors() == before).then(|| Self { topic: config.topic.clone(), method, path, headers })
    }
}

/// Framing and what names the message are ours.
fn is_free(name: &HeaderName) -> bool {
    let ours = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::EXPECT, header::UPGRADE];
    !ours.contains(name) && ![X_MQTT_TOPIC, IDEMPOTENCY_KEY].contains(name)
}

impl Post {
    pub(super) fn new(
        name: &Name,
        config: &config::Forward,
        plan: Plan,
        tray: Arc<Tray>,
        counted: ForwardMetrics,
    ) -> Self {
        let Plan { topic, method, path, headers } = plan;
        let (qos, most, at_once) = (config.qos, config.queue.bytes(), config.at_once.into());
        Self { name: name.clone(), topic, qos, counted, most, method, path, headers, at_once, tray }
    }

    /// Keeps messages on disk: how many of them are there then, or need not be.
    pub(super) async fn keep(&self, messages: Vec<Incoming>) -> usize {
        let tray = Arc::clone(&self.tray);
        let kept = tokio::task::spawn_blocking(move || tray.keep(&messages)).await.unwrap_or_default();
        let of = |what: Kept| kept.iter().filter(|kept| **kept == what).count() as u64;
        self.counted.count(Fate::Received, of(Kept::Written));
        self.counted.count(Fate::Again, of(Kept::Again));
        let too_long = of(Kept::TooLong);
        if too_long > 0 {
            log::warn!("forward {}: {too_long} messages are longer than its queue and are dropped", self.name);
            self.counted.count(Fate::TooLong, too_long);
        }
        kept.len()
    }

    pub(super) fn too_long(&self) {
        self.counted.count(Fate::TooLong, 1);
    }

    pub(super) fn acknowledged(&self, before: u64) {
        self.tray.acknowledged(before);
    }

    pub(super) fn forgotten(&self) {
        self.tray.forgotten();
    }

    /// Until there is room again.
    pub(super) async fn room(&self) {
        self.tray.room.notified().await;
    }

    /// Whether it is one of those at these places.
    pub(super) fn is_among(&self, places: &[usize], posts: &[Arc<Self>]) -> bool {
        places.iter().filter_map(|at| posts.get(*at)).any(|post| std::ptr::eq(&raw const **post, self))
    }

    /// Brings messages to the pool, as they come, for ever.
    pub(super) async fn deliver(self: Arc<Self>, pool: Arc<Pool>) {
        let mut work = self.tray.work.lock().await;
        let mut more = true;
        loop {
            let came = self.tray.came();
            // As many as were asked for: there may be more.
            more |= came.len() >= READ;
            for entry in came {
                work.lanes.push(entry);
            }
            self.turn(&work, &mut more);
            let Work { lanes, running } = &mut *work;
            while running.len() < self.at_once
                && let Some(entry) = lanes.take(Instant::now())
            {
                running.push(self.send(&pool, entry));
            }
            self.show();
            let look = Instant::now() + LOOK;
            let wake = lanes.wakes().map_or(look, |wakes| wakes.min(look));
            tokio::select! {
                Some((entry, outcome)) = running.next(), if !running.is_empty() => self.ended(lanes, entry, outcome),
                () = self.tray.turned.notified() => {}
                () = self.tray.news.notified() => more = true,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Lets the disk know what has ended, and reads on where there is room, beside everything else.
    fn turn(&self, work: &Work, more: &mut bool) {
        let room = WINDOW.saturating_sub(work.lanes.len());
        let reads = *more && room >= READ && work.lanes.bytes() < WINDOW_BYTES;
        if (!reads && !self.tray.has_ended()) || !self.tray.begin_turn() {
            return;
        }
        // What was full at this turn may be more at the next one.
        *more = *more && !reads;
        let (tray, oldest) = (Arc::clone(&self.tray), work.lanes.oldest());
        drop(tokio::task::spawn_blocking(move || tray.turn(if reads { READ } else { 0 }, oldest)));
    }

    /// How a message ended that was under way when nobody delivered any more.
    pub(super) fn last(&self, lanes: &mut Lanes, entry: Arc<Entry>, outcome: Outcome) {
        self.ended(lanes, entry, outcome);
    }

    fn ended(&self, lanes: &mut Lanes, entry: Arc<Entry>, outcome: Outcome) {
        match outcome {
            Outcome::Delivered => {
                self.counted.count(Fate::Delivered, 1);
                if self.tray.fails(false) {
                    log::info!("forward {}: messages are delivered again", self.name);
                }
            }
            Outcome::Dead(status) => {
                log::warn!("forward {}: {} in {} is set aside: {status}", self.name, entry.id, entry.topic);
                self.counted.count(Fate::Dead, 1);
            }
            Outcome::Again(told) => {
                self.counted.count(Fate::Failed, 1);
                if !self.tray.fails(true) {
                    log::warn!("forward {}: messages wait on disk until the pool takes them", self.name);
                }
                return lanes.failed(&entry, Instant::now(), told);
            }
        }
        lanes.ended(&entry);
        self.tray.ended(entry, outcome);
    }

    fn show(&self) {
        let figures = self.tray.figures();
        self.counted.waits(figures.messages, figures.bytes, figures.oldest_seconds);
    }

    fn send(self: &Arc<Self>, pool: &Arc<Pool>, entry: Arc<Entry>) -> Sending {
        let (post, pool) = (Arc::clone(self), Arc::clone(pool));
        Box::pin(async move {
            let outcome = match post.head(&entry) {
                Ok(head) => super::send::send(&post.name, pool, head, &entry).await,
                // Another message will do better.
                Err(why) => {
                    log::warn!("forward {}: {} in {} makes no request: {why}", post.name, entry.id, entry.topic);
                    Outcome::Dead(400)
                }
            };
            (entry, outcome)
        })
    }

    /// The head of the request for a message.
    fn head(&self, entry: &Entry) -> Result<RequestHeader, String> {
        let path = self.target(&entry.topic).ok_or("its topic is another one")?;
        let mut head =
            RequestHeader::build(self.method.clone(), path.as_bytes(), None).map_err(|why| why.to_string())?;
        let wrong = |why: Box<pingora_error::Error>| why.to_string();
        head.insert_header(header::CONTENT_TYPE, "application/octet-stream").map_err(wrong)?;
        head.insert_header(IDEMPOTENCY_KEY, &*entry.id).map_err(wrong)?;
        let mut topic = String::new();
        escape(&entry.topic, b"/$+#:,=!*()", &mut topic);
        topic.truncate(LONGEST_TOPIC);
        head.insert_header(X_MQTT_TOPIC, topic).map_err(wrong)?;
        for (name, value) in &self.headers {
            head.insert_header(name.clone(), value.clone()).map_err(wrong)?;
        }
        Ok(head)
    }

    fn target(&self, topic: &str) -> Option<String> {
        let said = self.topic.read(topic)?;
        let mut path = String::new();
        for segment in &self.path {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Param(name) => {
                    let value = said.iter().find(|(known, _)| *known == &**name).map(|(_, value)| *value)?;
                    // A level that would lead out of its place leads nowhere.
                    if matches!(value, "" | "." | "..") {
                        return None;
                    }
                    escape(value, b"", &mut path);
                }
                Segment::Rest => return None,
            }
        }
        Some(path)
    }
}

/// Plain letters and `also` stay, all others are escaped.
fn escape(text: &str, also: &[u8], to: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            to.push(byte.into());
        } else {
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_stays_one_segment() {
        let mut out = String::new();
        escape("a/b c\u{e9}?", b"", &mut out);
        assert_eq!(out, "a%2Fb%20c%C3%A9%3F");
    }

    #[test]
    fn what_makes_no_request_is_refused() {
        let table = [
            ("topic: a/:id, to: app, path: /x/:di", "`:di` is not in the topic"),
            ("topic: a, to: app, path: x", "`x` is not a path, e.g. /orders/*"),
            ("topic: a, to: app, path: /x/*", "`*` stands for nothing here"),
            ("topic: a, to: app, qos: 3", "`3` is not 0, 1 or 2"),
            ("topic: a, to: app, queue: 1KiB", "is at least 64KiB, e.g. 64MiB"),
            ("topic: a, to: app, at_once: 0", "is from 1 to 1024"),
            ("topic: a, to: app, headers: { content-length: '7' }", "is no field that can be set, e.g. content-type"),
        ];
        for (text, sentence) in table {
            let config = serde_yaml::from_str(&format!("{{ {text} }}")).unwrap();
            let mut problems = Problems::default();
            assert!(Plan::compile(&config, &Path::of(["f"]), &mut problems).is_none(), "{text}");
            assert_eq!(problems.iter().map(|one| &*one.sentence).collect::<Vec<_>>(), [sentence]);
        }
    }
}
