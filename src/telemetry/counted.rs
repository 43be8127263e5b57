//! What the requests of one route count, apart for each listener that they come through.

use std::sync::{Arc, OnceLock};

use super::metrics::{Metrics, RouteMetrics, Totals};
use crate::units::Name;

/// The counters of a route, made when the first request needs them. The default counts nothing.
#[derive(Default)]
pub struct Counted {
    by_listener: Box<[(Name, OnceLock<Arc<RouteMetrics>>)]>,
    route: Box<str>,
    metrics: Option<Arc<Metrics>>,
}

impl Counted {
    /// `route` is `-` for requests that find none.
    pub fn new(metrics: &Arc<Metrics>, route: &str, listeners: &[Name]) -> Self {
        let by_listener = listeners.iter().map(|name| (name.clone(), OnceLock::new())).collect();
        Self { by_listener, route: route.into(), metrics: Some(metrics.clone()) }
    }

    /// Takes over the series of the same route in the snapshot before, so that their counts go on.
    pub fn carry_on(&self, before: &Self) {
        for (listener, counted) in &before.by_listener {
            if counted.get().is_some() {
                self.through(listener);
            }
        }
    }

    /// Adds what its requests have come to so far.
    pub fn add_to(&self, totals: &mut Totals) {
        let counted = || self.by_listener.iter().filter_map(|(_, counted)| counted.get());
        counted().for_each(|counted| counted.add_to(totals));
        // One series for all listeners.
        let _ = counted().any(|counted| counted.add_times_to(totals));
    }

    /// For requests through `listener`; `None` when it went with a reload that this route came with.
    pub fn through(&self, listener: &Name) -> Option<&Arc<RouteMetrics>> {
        let (name, counted) = self.by_listener.iter().find(|(name, _)| name == listener)?;
        let metrics = self.metrics.as_ref()?;
        Some(counted.get_or_init(|| metrics.route(name.as_str(), &self.route)))
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").field("route", &self.route).finish_non_exhaustive()
    }
}
