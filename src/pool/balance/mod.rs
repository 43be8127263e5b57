//! Which of the live targets takes the next request.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::exchange::Request;
use crate::problem::{Path, Problems};
use crate::units::Duration;

mod config;
mod estimate;
mod ewma;
mod hash;
mod keyed;
mod least_requests;
mod random;
mod round_robin;

pub use config::{Bound, Config, Hashed, Key};
pub(super) use estimate::Estimate;
use ewma::Ewma;
use keyed::Keyed;
use least_requests::LeastRequests;
use random::Random;
use round_robin::RoundRobin;

/// What is wrong with how requests are spread.
pub(super) fn complain(config: &super::Config, at: &Path, problems: &mut Problems) {
    let at = at.key("slow_start");
    match config.slow_start.map(Duration::get) {
        Some(length) if length.is_zero() => problems.error(at, "must be more than zero"),
        Some(_) if config.balance.is_hash() => {
            problems.warn(at, "means nothing with `balance: hash(...)`: a key goes back to its target at once");
        }
        _ => {}
    }
}

/// A balance worked out for one set of targets, which it knows by their places in the list.
pub(super) enum Choice {
    RoundRobin(RoundRobin),
    LeastRequests(LeastRequests),
    Ewma(Ewma),
    Random(Random),
    Keyed(Keyed),
}

impl Choice {
    /// For these names and weights; `turn` outlives the choice.
    pub(super) fn new(config: &Config, targets: &[(&str, u16)], turn: &Arc<AtomicUsize>) -> Self {
        let weights: Vec<u16> = targets.iter().map(|(_, weight)| *weight).collect();
        match config {
            Config::RoundRobin => Self::RoundRobin(RoundRobin::new(&weights, Arc::clone(turn))),
            Config::LeastRequests => Self::LeastRequests(LeastRequests::new(&weights)),
            Config::Ewma => Self::Ewma(Ewma::new(&weights)),
            Config::Random => Self::Random(Random::new(&weights)),
            Config::Hash(Hashed { hash, bound }) => Self::Keyed(Keyed::new(hash.clone(), *bound, targets, &weights)),
        }
    }

    /// The place of the target for this request, among those that fit.
    pub(super) fn choose(
        &self,
        request: &dyn Request,
        fits: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> u32,
        latency: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(turns) => turns.choose(fits),
            Self::LeastRequests(least) => least.choose(fits, load),
            Self::Ewma(ewma) => ewma.choose(fits, load, latency),
            Self::Random(random) => random.choose(fits),
            Self::Keyed(keyed) => keyed.choose(request, fits, load),
        }
    }
}
