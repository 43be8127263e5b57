//! Which target takes the next request of a pool, or why none does.

use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use super::breaker::{Breaker, Held};
use super::target::{Picked, Target};
use crate::exchange::Request;
use crate::fault::Fault;

/// Why no target takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unserved {
    pub fault: Fault,
    /// How long until the first breaker lets requests through again.
    pub wait: Option<Duration>,
}

impl From<Fault> for Unserved {
    fn from(fault: Fault) -> Self {
        Self { fault, wait: None }
    }
}

impl Pool {
    /// The target for one try: not one of `tried`, if another serves.
    pub fn pick(&self, request: &dyn Request, tried: &[Arc<Target>]) -> Result<Picked, Unserved> {
        if let Some((Held::Open, wait)) = self.standing.hand.held() {
            return Err(Unserved { fault: Fault::BreakerOpen, wait: Some(wait) });
        }
        let live = self.live.load();
        // Once more where another request was quicker to try a target for its breaker: then that one does not fit.
        let picks = std::iter::repeat_with(|| live.pick(request, tried)).take(live.all().len() + 1);
        if let Some(picked) = picks.map_while(|target| target).find_map(|target| Picked::new(Arc::clone(target))) {
            return Ok(picked);
        }
        let wait = live.broken().filter_map(|target| target.breaker()).map(Breaker::wait).min();
        let fault = match wait {
            Some(_) => Fault::BreakerOpen,
            None if live.is_empty() => Fault::PoolEmpty,
            None => Fault::PoolNoHealthy,
        };
        Err(Unserved { fault, wait })
    }
}
