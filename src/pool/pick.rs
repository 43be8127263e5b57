//! Which target takes the next request of a pool, or why none does.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::{Breaker, Held};
use super::discover::SourceStatus;
use super::target::{Picked, Target};
use super::{Pool, Timeout, timeout};
use crate::exchange::Request;
use crate::fault::Fault;

/// Why no target takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unserved {
    pub fault: Fault,
    /// How long until the first breaker lets requests through again.
    pub wait: Option<Duration>,
    /// Somebody holds the breakers of the pool open.
    pub by_hand: bool,
}

impl Unserved {
    /// The same for people.
    pub fn why(&self) -> Option<String> {
        match (self.fault, self.wait) {
            (_, Some(wait)) if self.by_hand => Some(format!("held open by hand, for another {wait:.1?}")),
            (Fault::PoolQueueFull, _) => {
                Some("every target has as many requests as `max_in_flight` allows, and as many wait".to_owned())
            }
            (Fault::PoolQueueTimeout, _) => {
                Some("waited in vain: every target has as many requests as `max_in_flight` allows".to_owned())
            }
            (Fault::PoolEmpty, wait) => {
                wait.map(|wait| format!("every target is drained by hand; the first comes back in {wait:.1?}"))
            }
            (_, wait) => {
                wait.map(|wait| format!("every target that is up rests; the first is tried again in {wait:.1?}"))
            }
        }
    }
}

impl From<Fault> for Unserved {
    fn from(fault: Fault) -> Self {
        Self { fault, wait: None, by_hand: false }
    }
}

impl Pool {
    /// Why nobody serves a request, for people; where there is no target, what its sources say.
    pub fn why(&self, unserved: Unserved) -> Option<String> {
        let sources = || {
            let why = |source: SourceStatus| match (source.reason, source.refused.first()) {
                (Some(reason), _) => Some(format!("{}: {reason}", source.source)),
                (None, Some(refused)) => {
                    Some(format!("{}: {} is not used, {}", source.source, refused.address, refused.why))
                }
                (None, None) if source.state == "unknown" => Some(format!("{} has not been asked yet", source.source)),
                (None, None) => Some(format!("{} names nobody", source.source)).filter(|_| source.found == 0),
            };
            let said: Vec<String> = self.sources(Instant::now()).into_iter().filter_map(why).collect();
            (!said.is_empty()).then(|| said.join("; "))
        };
        unserved.why().or_else(|| if unserved.fault == Fault::PoolEmpty { sources() } else { None })
    }

    /// The limits of a request: the route's in place of the pool's.
    pub fn timeouts(&self, route: Option<&Timeout>) -> Cow<'_, timeout::Config> {
        self.settings.timeouts(route)
    }

    /// Whether a WebSocket can be asked for, which takes HTTP/1.1.
    pub fn speaks_h1(&self) -> bool {
        self.settings.speaks_h1()
    }

    /// The place of the breaker that would have refused this request, if it did not only watch: every target that takes
    /// requests rests.
    pub fn would_refuse<'p>(&self, picked: &'p Picked) -> Option<&'p Arc<str>> {
        let place = picked.watched()?;
        let live = self.live.load();
        let takes = |target: &&Arc<Target>| target.weight() > 0 && live.why_not(target).is_none();
        (!live.all().iter().filter(takes).any(|target| target.would_admit())).then_some(place)
    }

    /// The target for one try: not one of `tried`, if another serves.
    pub fn pick(&self, request: &dyn Request, tried: &[Arc<Target>]) -> Result<Picked, Unserved> {
        if let Some((Held::Open, wait)) = self.standing.hand.held() {
            return Err(Unserved { fault: Fault::BreakerOpen, wait: Some(wait), by_hand: true });
        }
        let live = self.live.load();
        // Once more where another request was quicker to try a target for its breaker: then that one does not fit.
        let picks = std::iter::repeat_with(|| live.pick(request, tried)).take(live.all().len() + 1);
        if let Some(picked) = picks.map_while(|target| target).find_map(|target| Picked::new(Arc::clone(target))) {
            return Ok(picked);
        }
        let wait = live.broken().filter_map(|target| target.breaker()).map(Breaker::wait).min();
        let fault = match wait {
            _ if live.is_full() => Fault::PoolQueueFull,
            Some(_) => Fault::BreakerOpen,
            None if live.is_empty() => {
                let wait = self.standing.by_hand.first_back(Instant::now());
                return Err(Unserved { fault: Fault::PoolEmpty, wait, by_hand: false });
            }
            None => Fault::PoolNoHealthy,
        };
        Err(Unserved { fault, wait, by_hand: false })
    }
}
