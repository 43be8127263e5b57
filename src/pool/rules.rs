//! What holds for all targets of a pool: what their outcomes lead to, and how they begin.

use std::sync::Arc;
use std::time::Duration;

use super::standing::Standing;
use super::sticky::Sticky;
use super::{Config, Tools, balance, breaker, eject, max_in_flight};
use crate::problem::{Path, Problems};
use crate::units::{self, Name};

#[derive(Default)]
pub(super) struct Rules {
    pub(super) breaker: Option<Arc<breaker::Rule>>,
    pub(super) eject: Option<Arc<eject::Rule>>,
    pub(super) max_in_flight: Option<Arc<max_in_flight::Rule>>,
    pub(super) sticky: Option<Sticky>,
    /// Whether the balance wants to know how quick they are.
    pub(super) estimates: bool,
    /// How long the share of one that comes to a serving pool grows.
    pub(super) slow_start: Option<Duration>,
}

impl Rules {
    /// Complains, and leaves the rest until it is known that the pool can be made.
    pub(super) fn compile<'c>(
        config: &'c Config,
        pool: &'c Name,
        tools: &'c Tools<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> impl FnOnce(&Arc<Standing>) -> Arc<Self> + use<'c> {
        let rule = |config| breaker::Rule::compile(config, pool, tools.observer, &at.key("breaker"), problems);
        let breaker = config.breaker.as_ref().map(rule);
        if let Some(eject) = &config.eject {
            eject::complain(eject, &at.key("eject"), problems);
        }
        let sticky = config.sticky.as_ref().map(|sticky| Sticky::compile(sticky, pool, &at.key("sticky"), problems));
        max_in_flight::complain(config, at, problems);
        balance::complain(config, at, problems);
        move |standing| {
            Arc::new(Self {
                breaker: breaker.map(|rule| Arc::new(rule.within(&standing.breaker, &standing.hand))),
                eject: Some(Arc::new(eject::Rule::new(config.eject.as_ref(), pool, tools, standing))),
                max_in_flight: max_in_flight::Rule::of(config, &standing.line),
                sticky,
                estimates: config.balance == balance::Config::Ewma,
                slow_start: config.slow_start.map(units::Duration::get),
            })
        }
    }
}
