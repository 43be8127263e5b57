//! When a tunnel has to go because its listener or the whole gateway does: not all of them at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::frame::code;
use crate::snapshot::{Leaving, Live};
use crate::telemetry::random;

/// Tells a tunnel once that it has to go.
pub(super) struct Closing {
    live: Arc<Live>,
    told: watch::Receiver<bool>,
    /// Wakes the tunnel; asked once, because each time would cost a lock that all tunnels share.
    wakes: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    asked: bool,
}

impl Closing {
    pub(super) fn new(live: Arc<Live>, told: watch::Receiver<bool>) -> Self {
        let mut own = told.clone();
        // Without a sender there is nobody left to stay for.
        let wakes = async move { drop(own.wait_for(|closing| *closing).await) };
        Self { live, told, wakes: Some(Box::pin(wakes)), asked: false }
    }

    /// When to go, said once.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let wakes = self.wakes.as_mut()?;
        let may_be = !self.asked || self.told.has_changed().unwrap_or(true);
        self.asked = true;
        if !may_be || wakes.as_mut().poll(cx) == Poll::Pending {
            return None;
        }
        self.wakes = None;
        Some(Instant::now() + spread(self.live.patience(), random::next()))
    }

    /// What a client is told who has to go: to come back at once where a successor serves (1012), or that we leave.
    pub(super) fn goodbye(&self) -> (u16, &'static str) {
        match self.live.leaving() {
            Some(Leaving::Succeeded) => (code::SERVICE_RESTART, "the gateway has a successor"),
            _ => (code::GOING_AWAY, "the gateway leaves"),
        }
    }
}

/// A moment in the first half of the time that a drain may take: the rest is for goodbyes, and for clients who come back.
fn spread(drain: Duration, random: u64) -> Duration {
    let half = u64::try_from(drain.as_micros() / 2).unwrap_or(u64::MAX);
    Duration::from_micros(random.checked_rem(half).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_go_one_after_the_other_in_the_first_half_of_the_drain() {
        let drain = Duration::from_secs(30);
        let mut moments: Vec<_> = (0..1000).map(|_| spread(drain, random::next())).collect();
        moments.sort_unstable();
        assert!(moments.iter().all(|moment| *moment < drain / 2));
        let fullest = (0..15).map(|second| {
            let span = Duration::from_secs(second)..Duration::from_secs(second + 1);
            moments.iter().filter(|moment| span.contains(*moment)).count()
        });
        assert!(fullest.max() < Some(150), "some second takes far more than its part");
        assert_eq!(spread(Duration::ZERO, 7), Duration::ZERO);
    }
}
