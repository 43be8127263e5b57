//! The messages of one subscription, for as many listeners as there are: each reads the same ring at its own pace.
//!
//! Nobody waits for a listener that is slow. What it has not read when the ring is full is gone for it, and it is told
//! how much that was.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::Unavailable;
use super::round::{Phase, Round};
use crate::telemetry::random;

/// What a ring holds at most.
const MOST: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// For so long after a round what was kept may still come for it.
const LATE: Duration = Duration::from_secs(2);

/// One message, or the word that some may be missing.
#[derive(Debug)]
pub struct Item {
    pub topic: Box<str>,
    pub payload: Bytes,
    /// Messages may have been lost before this one: the broker was away.
    pub gap: bool,
    /// The broker had kept it, and it goes to all because the broker was away: so often until then.
    pub again: Option<u32>,
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
    rounds: Mutex<Rounds>,
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
}

/// The SUBSCRIBEs of this subscription.
#[derive(Debug, Default)]
struct Rounds {
    /// The one that is to be sent.
    next: Option<Arc<Round>>,
    /// Those for which something may come; until then, once they have ended.
    open: Vec<(Arc<Round>, Option<Instant>)>,
    /// The one that is for all who listen already, because the broker was away.
    again: Option<Arc<Round>>,
    /// A connection has ended since it was sent last.
    lost: bool,
    /// How often that was.
    era: u32,
}

/// Where a listener is in the ring.
#[derive(Debug)]
pub struct Cursor {
    next: u64,
    /// By which it has come, where it has just come.
    round: Option<Arc<Round>>,
    /// So much of what the broker had kept it has got, and was told that it has not.
    seen: (usize, u64),
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
            rounds: Mutex::default(),
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

    /// Whether the broker has agreed to it; waits for its answer.
    async fn granted(&self) -> bool {
        let mut standing = self.standing.subscribe();
        let said = standing.wait_for(|standing| *standing != Standing::Asked).await;
        said.is_ok_and(|standing| *standing == Standing::Granted)
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message has come.
    pub(super) fn push(&self, topic: &str, payload: &[u8]) {
        self.rounds().open.iter().for_each(|(round, _)| round.heard(topic));
        self.add(item(topic, payload, None));
    }

    /// A message that the broker had kept: for those who have just come. Whether there is anyone for whom it can be.
    pub(super) fn keep(&self, topic: &str, payload: &[u8]) -> bool {
        let now = Instant::now();
        let mut rounds = self.rounds();
        rounds.tidy(now);
        if rounds.open.is_empty() {
            return false;
        }
        let kept = item(topic, payload, Some(rounds.era));
        for (round, _) in &rounds.open {
            let new = round.take(&kept);
            if new && rounds.again.as_ref().is_some_and(|again| Arc::ptr_eq(again, round)) {
                self.add(Arc::clone(&kept));
            }
        }
        drop(rounds);
        // Who looks at the ring looks at this too.
        self.news.send_modify(|_| {});
        true
    }

    /// Whether there is somebody for whom the broker is to be asked.
    pub(super) fn asks(&self) -> bool {
        self.rounds().next.is_some()
    }

    /// The broker is asked now: for those who have just come, and for all where it was away; or for nobody, and what it had
    /// kept is for nobody then.
    pub(super) fn begin(&self) -> Vec<Arc<Round>> {
        let mut rounds = self.rounds();
        let next = rounds.next.take();
        let again = std::mem::take(&mut rounds.lost).then(Round::new);
        rounds.again = again.clone().or(rounds.again.take());
        let mut begun: Vec<_> = next.into_iter().chain(again).collect();
        if begun.is_empty() {
            begun.push(Round::new());
        }
        for round in &begun {
            round.era.store(rounds.era, Relaxed);
        }
        rounds.open.extend(begun.iter().map(|round| (Arc::clone(round), None)));
        begun
    }

    /// The broker has agreed, or not.
    pub(super) fn answered(&self, begun: &[Arc<Round>], granted: bool) {
        let end = self.end();
        self.standing.send_replace(if granted { Standing::Granted } else { Standing::Refused });
        for round in begun {
            round.becomes(if granted { Phase::Granted(end) } else { Phase::Refused });
        }
        if !granted {
            self.closed(begun);
        }
    }

    /// The broker has sent what it had kept for them.
    pub(super) fn closed(&self, ended: &[Arc<Round>]) {
        let until = Instant::now() + LATE;
        let mut rounds = self.rounds();
        let open = rounds.open.iter_mut().filter(|(round, _)| ended.iter().any(|ended| Arc::ptr_eq(ended, round)));
        open.for_each(|(_, end)| *end = Some(until));
    }

    /// The broker was away: nothing comes for what it was asked.
    pub(super) fn away(&self) {
        let mut rounds = self.rounds();
        rounds.open.drain(..).filter(|(round, _)| round.is_open()).for_each(|(round, _)| round.becomes(Phase::Lost));
        (rounds.again, rounds.era) = (None, rounds.era.wrapping_add(1));
        if *self.standing.borrow() == Standing::Granted {
            rounds.lost = true;
        }
        drop(rounds);
        self.standing.send_replace(Standing::Asked);
        self.gap();
    }

    fn end(&self) -> u64 {
        let ring = self.ring();
        ring.first + ring.items.len() as u64
    }

    /// The broker was away: there may have been more.
    fn gap(&self) {
        let (topic, payload) = (Box::default(), Bytes::new());
        self.add(Arc::new(Item { topic, payload, gap: true, again: None, spelled: OnceLock::new() }));
    }

    fn add(&self, item: Arc<Item>) {
        let mut ring = self.ring();
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

    /// A listener comes, perhaps back: `last` is the id of what it saw last. Who does not come back waits for a round.
    pub(super) fn join(&self, last: Option<&str>) -> Cursor {
        let end = self.end();
        let seen = last.and_then(|id| self.number(id)).filter(|seen| *seen < end);
        if let Some(seen) = seen {
            return Cursor { next: seen + 1, round: None, seen: (0, 0) };
        }
        let mut rounds = self.rounds();
        let under_way = rounds.open.iter().map(|(round, _)| round).find(|round| round.is_open()).cloned();
        let round = under_way.unwrap_or_else(|| rounds.next.get_or_insert_with(Round::new).clone());
        Cursor { next: end, round: Some(round), seen: (0, 0) }
    }

    /// Waits until the listener can begin: the broker has agreed, and sent what it had kept.
    pub(super) async fn ready(&self, cursor: &mut Cursor) -> Result<(), Unavailable> {
        let phase = match &cursor.round {
            Some(round) => round.ended().await,
            None if self.granted().await => return Ok(()),
            None => Phase::Refused,
        };
        match phase {
            Phase::Ready(next) => cursor.next = next,
            Phase::Refused => return Err(Unavailable::Refused),
            _ => return Err(Unavailable::Lost),
        }
        Ok(())
    }

    /// Whether it can begin at once, though not all may have come.
    pub(super) fn begins(cursor: &mut Cursor) -> bool {
        match cursor.round.as_ref().map(|round| round.phase()) {
            Some(Phase::Granted(next)) => cursor.next = next,
            _ => return false,
        }
        true
    }

    /// What is there for a listener, so many bytes at a time.
    pub fn take(&self, cursor: &mut Cursor, most: usize) -> Taken {
        let mut taken = Taken::default();
        let over = cursor.round.as_ref().is_some_and(|round| self.rounds().is_over(round));
        if let Some(round) = &cursor.round {
            let (items, missed) = (round.after(cursor.seen.0), round.count().1);
            taken.missed = missed - cursor.seen.1;
            cursor.seen = (cursor.seen.0 + items.len(), missed);
            taken.items.extend(items.into_iter().map(|item| (None, item)));
        }
        let ring = self.ring();
        taken.missed += ring.first.saturating_sub(cursor.next);
        cursor.next = cursor.next.max(ring.first);
        let mut bytes = 0;
        let from = usize::try_from(cursor.next - ring.first).unwrap_or(usize::MAX);
        for item in ring.items.iter().skip(from) {
            if bytes >= most {
                break;
            }
            if !item.again.is_some_and(|era| cursor.has(&item.topic, era)) {
                bytes += item.payload.len();
                taken.items.push((Some(cursor.next), Arc::clone(item)));
            }
            cursor.next += 1;
        }
        if over {
            cursor.round = None;
        }
        taken
    }

    /// Ends when there is something for this listener.
    pub async fn more(&self, cursor: &Cursor) {
        let mut news = self.news.subscribe();
        let _ = news.wait_for(|next| *next > cursor.next || cursor.waits()).await;
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

impl Rounds {
    fn tidy(&mut self, now: Instant) {
        self.open.retain(|(_, until)| until.is_none_or(|until| now < until));
    }

    /// Whether nothing comes for it any more.
    fn is_over(&mut self, round: &Arc<Round>) -> bool {
        self.tidy(Instant::now());
        !round.is_open() && !self.open.iter().any(|(open, _)| Arc::ptr_eq(open, round))
    }
}

impl Cursor {
    /// Whether there is something that the broker had kept.
    fn waits(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.count() != self.seen)
    }

    /// Whether it has got what the broker had kept of the topic already.
    fn has(&self, topic: &str, era: u32) -> bool {
        self.round.as_ref().is_some_and(|round| round.era.load(Relaxed) == era && round.knows(topic))
    }
}

fn item(topic: &str, payload: &[u8], again: Option<u32>) -> Arc<Item> {
    let payload = Bytes::copy_from_slice(payload);
    Arc::new(Item { topic: topic.into(), payload, gap: false, again, spelled: OnceLock::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(taken: &Taken) -> Vec<&str> {
        taken.items.iter().map(|(_, item)| std::str::from_utf8(&item.payload).unwrap()).collect()
    }

    /// What a listener can take now.
    fn told(hub: &Hub, cursor: &mut Cursor) -> Vec<String> {
        texts(&hub.take(cursor, usize::MAX)).into_iter().map(str::to_owned).collect()
    }

    /// A listener that has come, the broker has agreed, and these were kept.
    async fn joined(hub: &Hub, kept: &[(&str, &str)]) -> Cursor {
        let mut cursor = hub.join(None);
        let begun = hub.begin();
        hub.answered(&begun, true);
        for (topic, payload) in kept {
            assert!(hub.keep(topic, payload.as_bytes()));
        }
        for round in &begun {
            assert_eq!((round.settles(), round.settles()), (kept.is_empty(), true));
        }
        hub.closed(&begun);
        assert_eq!(hub.ready(&mut cursor).await, Ok(()));
        cursor
    }

    #[tokio::test]
    async fn each_listener_reads_at_its_own_pace_and_who_is_too_slow_is_told() {
        let hub = Hub::new("a/+", 1);
        let (mut quick, mut slow) = (joined(&hub, &[]).await, joined(&hub, &[]).await);
        for number in 0..MOST + 10 {
            hub.push("a/1", number.to_string().as_bytes());
            let taken = hub.take(&mut quick, usize::MAX);
            assert_eq!((taken.missed, texts(&taken)), (0, vec![&*number.to_string()]));
        }
        let taken = hub.take(&mut slow, usize::MAX);
        assert_eq!((taken.missed, taken.items.len(), texts(&taken)[0]), (10, MOST, "10"));
        assert!(hub.take(&mut slow, usize::MAX).items.is_empty());
    }

    #[tokio::test]
    async fn a_ring_is_bounded_by_bytes_too() {
        let hub = Hub::new("a", 0);
        let mut cursor = joined(&hub, &[]).await;
        (0..5).for_each(|_| hub.push("a", &vec![b'x'; MOST_BYTES / 2]));
        let taken = hub.take(&mut cursor, usize::MAX);
        assert_eq!((taken.missed, taken.items.len()), (4, 1));
    }

    #[tokio::test]
    async fn what_was_kept_is_for_those_who_come_and_who_comes_back_goes_on_where_it_was() {
        let hub = Hub::new("a/+", 1);
        let mut first = joined(&hub, &[("a/1", "old"), ("a/1", "old")]).await;
        assert_eq!(told(&hub, &mut first), ["old"]);
        hub.push("a/2", b"passing");
        let taken = hub.take(&mut first, usize::MAX);
        let id = hub.id(taken.items[0].0.unwrap());
        hub.push("a/3", b"missed");
        assert_eq!(told(&hub, &mut hub.join(Some(&id))), ["missed"]);
        let mut second = joined(&hub, &[("a/1", "old"), ("a/2", "kept")]).await;
        assert_eq!(told(&hub, &mut second), ["old", "kept"]);
        assert_eq!(told(&hub, &mut first), ["missed"], "nothing of what was kept for another");
        hub.push("a/1", b"new");
        assert!(hub.keep("a/1", b"old") && hub.keep("a/9", b"late"));
        assert_eq!(told(&hub, &mut second), ["late", "new"]);
        let surer = hub.begin();
        hub.answered(&surer, true);
        assert!(hub.keep("a/1", b"old"));
        assert_eq!(told(&hub, &mut first), ["late", "new"], "it came as late for this one");
        assert_eq!(told(&hub, &mut second), [""; 0], "asked for nobody");
        let other = hub.join(Some("00000000-9"));
        assert!(other.round.is_some(), "the id of another ring");
    }

    #[tokio::test]
    async fn after_the_broker_was_away_all_are_told_what_it_keeps_once() {
        let hub = Hub::new("a/+", 1);
        let mut first = joined(&hub, &[("a/1", "old")]).await;
        assert_eq!(told(&hub, &mut first), ["old"]);
        let mut waiting = hub.join(None);
        let begun = hub.begin();
        hub.away();
        assert!(begun.iter().all(|round| !round.is_open()));
        assert_eq!(hub.ready(&mut waiting).await, Err(Unavailable::Lost));
        let mut second = joined(&hub, &[("a/1", "changed")]).await;
        assert_eq!(told(&hub, &mut second), ["changed"]);
        assert_eq!(told(&hub, &mut first), ["", "changed"], "and that something may be missing");
    }
}
