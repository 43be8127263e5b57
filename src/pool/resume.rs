//! Work that outlives the chore that began it: dropped half way at a reload, carried on by the next chore.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A place for one piece of work. Without it, reloads that come faster than a slow answer would starve it forever.
pub(super) struct Resume<T>(Mutex<Option<Begun<T>>>);

struct Begun<T> {
    /// What the work depends on; other settings begin anew.
    settings: u64,
    since: Instant,
    future: Work<T>,
}

impl<T> Default for Resume<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Resume<T> {
    /// Whether work of these settings was left here, young enough to be carried on.
    pub(super) fn waits(&self, settings: u64, now: Instant, within: Duration) -> bool {
        self.with(|place| place.as_ref().is_some_and(|work| work.fits(settings, now, within)))
    }

    /// Carries on what was left here, or begins.
    pub(super) async fn run(&self, settings: u64, within: Duration, begin: impl FnOnce() -> Work<T>) -> T {
        let now = Instant::now();
        let left = self.with(Option::take).filter(|work| work.fits(settings, now, within));
        let work = left.unwrap_or_else(|| Begun { settings, since: now, future: begin() });
        let mut running = Running { place: self, work: Some(work) };
        let answer = std::future::poll_fn(|context| match &mut running.work {
            Some(work) => work.future.as_mut().poll(context),
            None => std::task::Poll::Pending,
        });
        let answer = answer.await;
        running.work = None;
        answer
    }

    fn with<R>(&self, change: impl FnOnce(&mut Option<Begun<T>>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Begun<T> {
    fn fits(&self, settings: u64, now: Instant, within: Duration) -> bool {
        self.settings == settings && now.saturating_duration_since(self.since) < within
    }
}

/// Work being polled; dropped before its end, it goes back to its place.
struct Running<'a, T> {
    place: &'a Resume<T>,
    work: Option<Begun<T>>,
}

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.place.with(|place| place.get_or_insert(work).since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn what_was_dropped_half_way_is_carried_on() {
        let place = Resume::default();
        let (answer, question) = oneshot::channel();
        let first = place.run(1, LONG, || Box::pin(async move { question.await.unwrap_or(0) }));
        assert!(first.now_or_never().is_none());
        assert!(place.waits(1, Instant::now(), LONG));
        answer.send(7).unwrap();
        let second = place.run(1, LONG, || Box::pin(async { unreachable!("work anew") }));
        assert_eq!(second.now_or_never(), Some(7));
        assert!(!place.waits(1, Instant::now(), LONG));
    }

    #[test]
    fn other_settings_and_old_work_begin_anew() {
        let place = Resume::default();
        assert!(place.run(1, LONG, || Box::pin(std::future::pending::<u8>())).now_or_never().is_none());
        assert!(!place.waits(2, Instant::now(), LONG));
        assert!(!place.waits(1, Instant::now() + LONG, LONG));
        assert_eq!(place.run(2, LONG, || Box::pin(async { 9 })).now_or_never(), Some(9));
    }
}
