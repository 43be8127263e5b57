//! Leaving: no new connections, goodbyes, and out as soon as nothing is in flight or the time is over.

use std::time::{Duration, Instant};

use super::Gateway;
use super::signals::Order;
use crate::snapshot::Leaving;

/// How long is left when a second signal or a successor wants us gone.
const HURRY: Duration = Duration::from_secs(1);
/// What the process may take to end once nothing is in flight.
const LEAVING: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody is left; seldom once it takes long.
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(250);

impl Gateway {
    /// Readiness off, no new connections, then out as soon as nothing is in flight or the time is over.
    pub(super) async fn drain(&mut self, why: Leaving) {
        self.live.leave(why);
        let patience = self.live.patience();
        log::info!("draining: {} connections, at most {patience:?}", self.reloader.connections());
        if let (Leaving::Stop, Some(notify)) = (why, self.reloader.notify.get()) {
            notify.stopping("draining");
            notify.extend_timeout(patience + LEAVING);
        }
        let _ = self.stop.send(true);
        // A successor waits for them.
        self.live.load().let_go();
        self.reloader.close(why == Leaving::Succeeded);
        let began = Instant::now();
        let mut until = began + patience;
        while self.is_busy() {
            if Instant::now() >= until {
                log::warn!("leaving with {} connections: the time is over", self.reloader.connections());
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(if began.elapsed() < HURRY { OFTEN } else { SELDOM }) => {}
                order = self.signals.next() => match order {
                    Order::Stop => {
                        log::warn!("leaving with {} connections: told to stop", self.reloader.connections());
                        return;
                    }
                    Order::Drain => until = self.hurry(until, "a second signal came"),
                    Order::Reopen => self.live.load().access.reopen(),
                    Order::Reload | Order::Upgrade => log::warn!("this process drains and obeys no {order:?}"),
                },
            }
            if self.reloader.succession.report(self.reloader.connections()) {
                until = self.hurry(until, "later generations need the room");
            }
        }
        log::info!("drained in {:?}", began.elapsed());
    }

    /// Whether somebody would miss us; who waits at the admin listener of a process that others have replaced does.
    fn is_busy(&self) -> bool {
        let asked = self.live.leaving() == Some(Leaving::Succeeded) && self.reloader.visitors() > 0;
        self.reloader.connections() > 0 || asked
    }

    fn hurry(&self, until: Instant, why: &str) -> Instant {
        log::info!("{why}: {} connections have {HURRY:?} left", self.reloader.connections());
        until.min(Instant::now() + HURRY)
    }
}
