//! What is known of the messages of one forward, through all reloads: on disk, in memory, and under way.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::Notify;

use super::dead;
use super::lanes::Lanes;
use super::queue::{self, Entry, Incoming, Kept, Queue};

/// How a message ended, where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// The pool will never take it: the status of its answer.
    Dead(u16),
    /// It is sent again, not before what the pool asked for.
    Again(Option<std::time::Duration>),
}

/// A message on its way to the pool.
pub(super) type Sending = Pin<Box<dyn Future<Output = (Arc<Entry>, Outcome)> + Send>>;

/// What belongs to the one who delivers.
#[derive(Default)]
pub(super) struct Work {
    pub(super) lanes: Lanes,
    pub(super) running: FuturesUnordered<Sending>,
}

/// The state of one forward.
pub(super) struct Tray {
    pub(super) dir: PathBuf,
    queue: Mutex<Option<Queue>>,
    /// Messages that were read, for who delivers; and those that need to be sent no more, for the disk.
    inbox: Mutex<Vec<Entry>>,
    ended: Mutex<Vec<(Arc<Entry>, Outcome)>>,
    /// Messages, bytes, and when the oldest came.
    figures: Mutex<(u64, u64, Option<u64>)>,
    dead: AtomicU64,
    next: AtomicU64,
    /// What a full disk last said, which is not said again and again.
    said: Mutex<String>,
    turning: AtomicBool,
    failing: AtomicBool,
    pub(super) turned: Notify,
    pub(super) news: Notify,
    pub(super) room: Notify,
    pub(super) work: tokio::sync::Mutex<Work>,
}

/// What waits.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Figures {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) oldest_seconds: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tray {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            queue: Mutex::default(),
            inbox: Mutex::default(),
            ended: Mutex::default(),
            figures: Mutex::default(),
            dead: AtomicU64::new(0),
            next: AtomicU64::new(0),
            said: Mutex::default(),
            turning: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            turned: Notify::new(),
            news: Notify::new(),
            room: Notify::new(),
            work: tokio::sync::Mutex::default(),
        }
    }

    /// Reads what lies there; where it is open already, only its limit changes. Blocks.
    pub(super) fn open(&self, most: u64) -> std::io::Result<()> {
        let mut queue = locked(&self.queue);
        if let Some(queue) = &mut *queue {
            queue.limit(most);
        } else {
            let opened = Queue::open(&self.dir, most)?;
            self.dead.store(dead::count(&self.dir), Relaxed);
            self.show(queue.insert(opened));
        }
        self.news.notify_one();
        self.room.notify_one();
        Ok(())
    }

    /// From now on another process has it: what is in memory is on disk too.
    pub(super) fn close(&self, work: &mut Work) {
        *locked(&self.queue) = None;
        *work = Work::default();
        locked(&self.inbox).clear();
        locked(&self.ended).clear();
    }

    /// Keeps messages: how many of them, and what became of each. Blocks.
    pub(super) fn keep(&self, messages: &[Incoming]) -> Vec<Kept> {
        let mut queue = locked(&self.queue);
        let Some(queue) = &mut *queue else { return Vec::new() };
        let kept = match queue.append(messages) {
            Ok(kept) => {
                locked(&self.said).clear();
                kept
            }
            Err(why) => {
                self.complain(&why);
                Vec::new()
            }
        };
        self.show(queue);
        self.news.notify_one();
        kept
    }

    fn complain(&self, why: &std::io::Error) {
        let (sentence, mut said) = (why.to_string(), locked(&self.said));
        if *said != sentence {
            log::warn!("{}: messages stay with their broker: {sentence}", self.dir.display());
            *said = sentence;
        }
    }

    /// The number of the next message to be kept.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// The broker knows that all before this one are here.
    pub(super) fn acknowledged(&self, before: u64) {
        if let Ok(mut queue) = self.queue.try_lock()
            && let Some(queue) = &mut *queue
        {
            queue.acknowledged(before);
        }
    }

    /// The broker remembers nothing.
    pub(super) fn forgotten(&self) {
        if let Some(queue) = &mut *locked(&self.queue) {
            queue.forgotten();
        }
    }

    /// A message has ended; the disk hears of it at the next turn.
    pub(super) fn ended(&self, entry: Arc<Entry>, outcome: Outcome) {
        locked(&self.ended).push((entry, outcome));
    }

    pub(super) fn has_ended(&self) -> bool {
        !locked(&self.ended).is_empty()
    }

    /// The pool does not take messages, or takes them; whether it did not before.
    pub(super) fn fails(&self, fails: bool) -> bool {
        self.failing.swap(fails, Relaxed)
    }

    /// Whether a turn may begin now; who is told so has to make it.
    pub(super) fn begin_turn(&self) -> bool {
        !self.turning.swap(true, Relaxed)
    }

    /// Forgets what has ended and reads so many more. Blocks.
    pub(super) fn turn(&self, most: usize, oldest: Option<u64>) {
        let ended = std::mem::take(&mut *locked(&self.ended));
        let mut queue = locked(&self.queue);
        if let Some(queue) = &mut *queue {
            let mut gone = Vec::with_capacity(ended.len());
            for (entry, outcome) in ended {
                if let Outcome::Dead(status) = outcome {
                    if let Err(why) = dead::set_aside(&self.dir, &entry, status) {
                        // There is no room for it: it is sent again until there is.
                        self.complain(&why);
                        locked(&self.inbox).push(Entry::clone(&entry));
                        continue;
                    }
                    self.dead.fetch_add(1, Relaxed);
                }
                gone.push(entry.number);
            }
            let before = queue.bytes();
            queue.done(&gone, oldest);
            if queue.bytes() < before {
                self.room.notify_one();
            }
            match queue.read(most) {
                Ok(entries) => locked(&self.inbox).extend(entries),
                Err(why) => log::warn!("{}: cannot be read: {why}", self.dir.display()),
            }
            self.show(queue);
        }
        drop(queue);
        self.turning.store(false, Relaxed);
        self.turned.notify_one();
    }

    /// What was read.
    pub(super) fn came(&self) -> Vec<Entry> {
        std::mem::take(&mut *locked(&self.inbox))
    }

    fn show(&self, queue: &Queue) {
        self.next.store(queue.next(), Relaxed);
        *locked(&self.figures) = (queue.waiting(), queue.bytes(), queue.oldest());
    }

    pub(super) fn figures(&self) -> Figures {
        let (messages, bytes, oldest) = *locked(&self.figures);
        let oldest_seconds = oldest.map_or(0, |received| queue::now().saturating_sub(received) / 1000);
        Figures { messages, bytes, oldest_seconds }
    }

    pub(super) fn dead(&self) -> u64 {
        self.dead.load(Relaxed)
    }
}
