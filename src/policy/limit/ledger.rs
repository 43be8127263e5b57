//! Where the counts of a quota are kept, and the chore that writes them.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::quota::Book;
use super::{calendar, disk};
use crate::chore::Chore;
use crate::telemetry::metrics::QuotaMetrics;

/// How often counts are written, where they have changed: what a crash loses at most.
const EVERY: Duration = Duration::from_secs(3);
/// Writing takes at most one part in so many of the time.
const SELDOM: u32 = 20;

/// The counts of one quota and their file.
#[derive(Debug)]
pub struct Ledger {
    /// The quota's place in the document, for the log.
    name: Box<str>,
    file: PathBuf,
    book: Arc<Book>,
    counted: QuotaMetrics,
    /// What was last said of a failure, which is not said again and again.
    said: Mutex<String>,
}

impl Ledger {
    pub fn new(name: &str, file: PathBuf, book: Arc<Book>, counted: QuotaMetrics) -> Self {
        Self { name: name.into(), file, book, counted, said: Mutex::default() }
    }

    pub fn chore(self: Arc<Self>) -> Chore {
        Chore::new(format!("quota/{}", self.name), async move {
            loop {
                let (this, began) = (Arc::clone(&self), Instant::now());
                // A slow disk holds up nobody. Where the chore is dropped meanwhile, the file is written none the less.
                let _ = tokio::task::spawn_blocking(move || this.save()).await;
                tokio::time::sleep(EVERY.max(began.elapsed() * SELDOM)).await;
            }
        })
    }

    /// From now on another process writes the file.
    pub fn close(&self) {
        self.book.closed.store(true, Relaxed);
    }

    /// This process writes the file after all.
    pub fn open(&self) {
        self.book.closed.store(false, Relaxed);
    }

    /// Writes what has changed. A disk that does not take it is told of; it will be tried again.
    pub fn save(&self) {
        // One writes at a time, also where a reload has made another ledger of the same counts.
        let _alone = self.book.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if self.book.closed.load(Relaxed) || !self.book.changed.swap(false, Relaxed) {
            return;
        }
        let written = disk::write(&self.file, &self.book, calendar::now());
        self.counted.written(written.is_ok());
        let Err(why) = written else { return said.clear() };
        self.book.changed.store(true, Relaxed);
        let sentence = format!("{}: {why}", self.file.display());
        if *said != sentence {
            log::warn!("the counts of {} are not kept for a restart: {sentence}", self.name);
            *said = sentence;
        }
    }
}
