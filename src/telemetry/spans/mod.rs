//! Spans on their way to a receiver: left by requests without waiting, kept through reloads, taken away in batches.

mod span;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

pub use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::{Instant, timeout_at};

pub use span::{Draft, attribute};

use super::metrics::TraceMetrics;

/// What waits for the receiver. It belongs to the process: a reload finds it as it was.
pub struct Spans {
    door: UnboundedSender<Vec<Span>>,
    /// How many were left and are not settled.
    waiting: AtomicUsize,
    desk: Mutex<Desk>,
    /// The process ends, and nothing is waited for any more.
    hurry: AtomicBool,
    hurried: Notify,
    counted: TraceMetrics,
}

/// Where the one who sends them works.
pub struct Desk {
    inbox: UnboundedReceiver<Vec<Span>>,
    /// Taken out of the queue and not settled: whoever comes next sends them again.
    pub batch: Vec<Span>,
}

impl Spans {
    pub fn new(counted: TraceMetrics) -> Arc<Self> {
        let (door, inbox) = unbounded_channel();
        Arc::new(Self {
            door,
            waiting: AtomicUsize::new(0),
            desk: Mutex::new(Desk { inbox, batch: Vec::new() }),
            hurry: AtomicBool::new(false),
            hurried: Notify::new(),
            counted,
        })
    }

    /// Whether `number` more find room; if not, they count as dropped.
    pub fn has_room(&self, number: usize, most: usize) -> bool {
        let has_room = self.waiting() + number <= most;
        if !has_room {
            self.counted.dropped(number);
        }
        has_room
    }

    /// Leaves the spans of one request, or drops and counts them where `most` wait already. Never waits.
    pub fn leave(&self, spans: Vec<Span>, most: usize) {
        let number = spans.len();
        if self.waiting.fetch_add(number, Relaxed) + number > most || self.door.send(spans).is_err() {
            self.waiting.fetch_sub(number, Relaxed);
            self.counted.dropped(number);
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// The desk; whoever worked there before has left.
    pub async fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().await
    }

    /// Waits for spans, and then until there are `most` or the first has waited for `long`.
    pub async fn gather(&self, desk: &mut Desk, most: usize, long: Duration) {
        if desk.batch.is_empty()
            && let Some(spans) = desk.inbox.recv().await
        {
            desk.batch.extend(spans);
        }
        let until = Instant::now() + long;
        while desk.batch.len() < most {
            let next = async {
                tokio::select! {
                    spans = desk.inbox.recv() => spans,
                    () = self.pause(long) => desk.inbox.try_recv().ok(),
                }
            };
            match timeout_at(until, next).await {
                Ok(Some(spans)) => desk.batch.extend(spans),
                _ => return,
            }
        }
    }

    /// The batch is settled: so many were taken, the others are lost.
    pub fn settle(&self, desk: &mut Desk, taken: usize) {
        let number = mem::take(&mut desk.batch).len();
        self.counted.settled(taken.min(number), number.saturating_sub(taken));
        self.waiting.fetch_sub(number, Relaxed);
    }

    /// Sleeps, unless the process is about to end.
    pub async fn pause(&self, time: Duration) {
        let hurried = self.hurried.notified();
        if !self.is_hurried() {
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = hurried => {}
            }
        }
    }

    /// Whether the process is about to end.
    pub fn is_hurried(&self) -> bool {
        self.hurry.load(Relaxed)
    }

    /// The process ends: waits until nothing waits, no longer than `patience`. What is left then counts as lost.
    pub async fn flush(&self, patience: Duration) {
        self.hurry.store(true, Relaxed);
        self.hurried.notify_waiters();
        let end = Instant::now() + patience;
        while self.waiting() > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let left = self.waiting();
        if left > 0 {
            log::warn!("traces: {left} spans are lost: the receiver did not take them within {patience:?}");
            self.counted.settled(0, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn spans(number: usize) -> Vec<Span> {
        vec![Span::default(); number]
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_dropped_and_counted() {
        let metrics = Metrics::new().unwrap();
        let queue = Spans::new(metrics.traces());
        queue.leave(spans(3), 4);
        queue.leave(spans(2), 4);
        queue.leave(spans(1), 4);
        assert_eq!(queue.waiting(), 4);
        let mut desk = queue.desk().await;
        queue.gather(&mut desk, 100, Duration::from_secs(1)).await;
        assert_eq!(desk.batch.len(), 4);
        drop(desk);
        let mut desk = queue.desk().await;
        assert_eq!(desk.batch.len(), 4, "who comes next finds what was not settled");
        queue.settle(&mut desk, 3);
        assert_eq!(queue.waiting(), 0);
        let page = metrics.render();
        for (result, number) in [("dropped", 2), ("exported", 3), ("failed", 1)] {
            let line = format!("yumen_trace_spans_total{{result=\"{result}\"}} {number}");
            assert!(page.contains(&line), "{line}:\n{page}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_goes_when_it_is_full_or_old_or_nobody_waits_any_more() {
        let metrics = Metrics::new().unwrap();
        let queue = Spans::new(metrics.traces());
        let second = Duration::from_secs(1);
        let mut desk = queue.desk().await;
        let began = Instant::now();
        (0..3).for_each(|_| queue.leave(spans(2), 100));
        queue.gather(&mut desk, 4, second).await;
        assert_eq!((desk.batch.len(), began.elapsed()), (4, Duration::ZERO));
        queue.settle(&mut desk, 4);
        queue.gather(&mut desk, 4, second).await;
        assert_eq!((desk.batch.len(), began.elapsed()), (2, second));
        queue.settle(&mut desk, 2);
        queue.hurry.store(true, Relaxed);
        queue.leave(spans(1), 100);
        queue.gather(&mut desk, 4, second).await;
        assert_eq!((desk.batch.len(), began.elapsed()), (1, second));
    }
}
