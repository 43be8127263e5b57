//! The messages of one subscription, for as many listeners as there are: each reads the same ring at its own pace.
//!
//! Nobody waits for a listener that is slow. What it has not read when the ring is full is gone for it, and it is told
//! how much that was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;

use crate::telemetry::random;

/// What a ring holds at most.
const MOST: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// Topics whose last message is kept for those who come later, because the broker keeps it too.
const MOST_KEPT: usize = 256;

/// One message, or the word that some may be missing.
#[derive(Debug)]
pub struct Item {
    pub topic: Box<str>,
    pub payload: Bytes,
    /// Messages may have been lost before this one: the broker was away.
    pub gap: bool,
    /// The same as it is sent to listeners, made by the first of them.
    pub spelled: OnceLock<Bytes>,
}

/// Whether the broker sends what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Asked,
    Granted,
    Refused,
}

/// One subscription.
#[derive(Debug)]
pub struct Hub {
    pub filter: Box<str>,
    pub(super) wild: bool,
    qos: AtomicUsize,
    /// Tells the ids of this ring from those of another one.
    epoch: u32,
    ring: Mutex<Ring>,
    news: watch::Sender<u64>,
    standing: watch::Sender<Standing>,
    listeners: AtomicUsize,
    left: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the first one that is there.
    first: u64,
    items: VecDeque<Arc<Item>>,
    bytes: usize,
    kept: BTreeMap<Box<str>, Arc<Item>>,
}

/// Where a listener is in the ring.
#[derive(Debug)]
pub struct Cursor {
    next: u64,
    /// What the broker had kept, for who has just come.
    kept: Vec<Arc<Item>>,
}

/// What a listener gets.
#[derive(Debug, Default)]
pub struct Taken {
    /// So many are gone before the first of these.
    pub missed: u64,
    /// Each with its number; what was kept has none.
    pub items: Vec<(Option<u64>, Arc<Item>)>,
}

impl Hub {
    pub(super) fn new(filter: &str, qos: u8) -> Self {
        Self {
            filter: filter.into(),
            wild: filter.contains(['+', '#']) || filter.starts_with("$share/"),
            qos: AtomicUsize::new(qos.into()),
            epoch: u32::try_from(random::next() >> 32).unwrap_or_default(),
            ring: Mutex::default(),
            news: watch::Sender::new(0),
            standing: watch::Sender::new(Standing::Asked),
            listeners: AtomicUsize::new(0),
            left: Mutex::new(Instant::now()),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn qos(&self) -> u8 {
        u8::try_from(self.qos.load(Relaxed)).unwrap_or(0)
    }

    /// Somebody wants no less than this; whether that is more than was asked for.
    pub(super) fn wants(&self, qos: u8) -> bool {
        self.qos.fetch_max(qos.into(), Relaxed) < qos.into()
    }

    pub(super) fn stands(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    /// Whether the broker has agreed to it; waits for its answer.
    pub async fn granted(&self) -> bool {
        let mut standing = self.standing.subscribe();
        let said = standing.wait_for(|standing| *standing != Standing::Asked).await;
        said.is_ok_and(|standing| *standing == Standing::Granted)
    }

    /// A message has come; `kept` is one that the broker had kept for whoever subscribes.
    pub(super) fn push(&self, topic: &str, payload: &[u8], kept: bool) {
        let item = Item {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            gap: false,
            spelled: OnceLock::new(),
        };
        self.add(Arc::new(item), kept);
    }

    /// The broker was away: there may have been more.
    pub(super) fn gap(&self) {
        let (topic, payload) = (Box::default(), Bytes::new());
        self.add(Arc::new(Item { topic, payload, gap: true, spelled: OnceLock::new() }), false);
    }

    fn add(&self, item: Arc<Item>, kept: bool) {
        let mut ring = self.ring();
        // What is newer than what was kept takes its place.
        if !item.gap && (kept || ring.kept.contains_key(&item.topic)) {
            if item.payload.is_empty() {
                ring.kept.remove(&item.topic);
            } else if ring.kept.len() < MOST_KEPT || ring.kept.contains_key(&item.topic) {
                ring.kept.insert(item.topic.clone(), Arc::clone(&item));
            }
        }
        ring.bytes += item.topic.len() + item.payload.len();
        ring.items.push_back(item);
        while ring.items.len() > MOST || (ring.bytes > MOST_BYTES && ring.items.len() > 1) {
            let Some(gone) = ring.items.pop_front() else { break };
            ring.bytes -= gone.topic.len() + gone.payload.len();
            ring.first += 1;
        }
        let next = ring.first + ring.items.len() as u64;
        drop(ring);
        self.news.send_replace(next);
    }

    /// A listener comes, perhaps back: `last` is the id of what it saw last.
    pub fn join(&self, last: Option<&str>) -> Cursor {
        let ring = self.ring();
        let end = ring.first + ring.items.len() as u64;
        let seen = last.and_then(|id| self.number(id)).filter(|seen| *seen < end);
        match seen {
            Some(seen) => Cursor { next: seen + 1, kept: Vec::new() },
            None => Cursor { next: end, kept: ring.kept.values().cloned().collect() },
        }
    }

    /// What is there for a listener, so many bytes at a time.
    pub fn take(&self, cursor: &mut Cursor, most: usize) -> Taken {
        let mut taken = Taken::default();
        taken.items.extend(std::mem::take(&mut cursor.kept).into_iter().map(|item| (None, item)));
        let ring = self.ring();
        taken.missed = ring.first.saturating_sub(cursor.next);
        cursor.next = cursor.next.max(ring.first);
        let mut bytes = 0;
        let from = usize::try_from(cursor.next - ring.first).unwrap_or(usize::MAX);
        for item in ring.items.iter().skip(from) {
            if bytes >= most {
                break;
            }
            bytes += item.payload.len();
            taken.items.push((Some(cursor.next), Arc::clone(item)));
            cursor.next += 1;
        }
        taken
    }

    /// Ends when there is something for this listener.
    pub async fn more(&self, cursor: &Cursor) {
        if cursor.kept.is_empty() {
            let mut news = self.news.subscribe();
            let _ = news.wait_for(|next| *next > cursor.next).await;
        }
    }

    /// The id of a message, by which a listener that comes back says what it saw last.
    pub fn id(&self, number: u64) -> String {
        format!("{:08x}-{number}", self.epoch)
    }

    fn number(&self, id: &str) -> Option<u64> {
        let (epoch, number) = id.split_once('-')?;
        (epoch == format!("{:08x}", self.epoch)).then(|| number.parse().ok())?
    }

    pub(super) fn enter(&self) {
        self.listeners.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.listeners.fetch_sub(1, Relaxed);
    }

    pub fn listeners(&self) -> usize {
        self.listeners.load(Relaxed)
    }

    /// Since when nobody listens; nothing while somebody does.
    pub(super) fn deserted(&self) -> Option<Instant> {
        (self.listeners() == 0).then(|| *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(taken: &Taken) -> Vec<&str> {
        taken.items.iter().map(|(_, item)| std::str::from_utf8(&item.payload).unwrap()).collect()
    }

    #[test]
    fn each_listener_reads_at_its_own_pace_and_who_is_too_slow_is_told() {
        let hub = Hub::new("a/+", 1);
        let (mut quick, mut slow) = (hub.join(None), hub.join(None));
        for number in 0..MOST + 10 {
            hub.push("a/1", number.to_string().as_bytes(), false);
            let taken = hub.take(&mut quick, usize::MAX);
            assert_eq!((taken.missed, texts(&taken)), (0, vec![&*number.to_string()]));
        }
        let taken = hub.take(&mut slow, usize::MAX);
        assert_eq!((taken.missed, taken.items.len(), texts(&taken)[0]), (10, MOST, "10"));
        assert!(hub.take(&mut slow, usize::MAX).items.is_empty());
    }

    #[test]
    fn a_ring_is_bounded_by_bytes_too() {
        let hub = Hub::new("a", 0);
        let mut cursor = hub.join(None);
        (0..5).for_each(|_| hub.push("a", &vec![b'x'; MOST_BYTES / 2], false));
        let taken = hub.take(&mut cursor, usize::MAX);
        assert_eq!((taken.missed, taken.items.len()), (4, 1));
    }

    #[test]
    fn who_comes_back_goes_on_where_it_was_and_others_get_what_was_kept() {
        let hub = Hub::new("a/+", 1);
        hub.push("a/1", b"old", true);
        hub.push("a/2", b"passing", false);
        let mut first = hub.join(None);
        assert_eq!(texts(&hub.take(&mut first, usize::MAX)), ["old"]);
        hub.push("a/1", b"new", false);
        let taken = hub.take(&mut first, usize::MAX);
        let id = hub.id(taken.items[0].0.unwrap());
        hub.push("a/3", b"missed", false);
        assert_eq!(texts(&hub.take(&mut hub.join(Some(&id)), usize::MAX)), ["missed"]);
        assert_eq!(texts(&hub.take(&mut hub.join(Some("00000000-9")), usize::MAX)), ["new"], "the id of another ring");
        hub.push("a/1", b"", false);
        assert!(hub.take(&mut hub.join(None), usize::MAX).items.is_empty(), "an empty message takes it back");
    }
}
