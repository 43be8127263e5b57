//! Which of several pools: the one that was asked for, the one that a user belongs to, or by weight, smoothly.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::successors;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::opt_in::{self, OptIn};
use super::stick::{self, Stick};
use crate::exchange::{Exchange, Request};
use crate::pool::Pool;
use crate::pool::fallback::Fallback;
use crate::problem::{Path, Problems, nearest};
use crate::units::{Name, or_short, short_form};

/// Pools and their weights, e.g. `{ orders: 90, orders-canary: 10 }`; 0 to 1000, and 0 means never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent, remote = "Self")]
#[schemars(transform = or_short)]
pub struct To(pub BTreeMap<Name, u32>);

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(BTreeMap::from([(text.parse()?, 100)])))
    }
}

short_form!(To, "the name of a pool, or pools with their weights");

/// The pools of a document by name; `None` where one is defined but has problems of its own.
pub type Pools = BTreeMap<Name, Option<Arc<Pool>>>;

const MAX_POOLS: usize = 64;
const MAX_WEIGHT: u32 = 1000;

/// What the document says of the pools of a route.
pub struct Settings<'a> {
    pub to: &'a To,
    pub stick: Option<&'a stick::Config>,
    pub opt_in: &'a opt_in::Config,
}

/// The pools of a route, and whose turn it is.
pub struct Split {
    pools: Box<[Arc<Pool>]>,
    weights: Box<[u32]>,
    turns: Turns,
    opt_in: Option<OptIn>,
    stick: Option<Stick>,
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pools.iter().map(|pool| pool.name())).finish()
    }
}

impl Split {
    /// A route that keeps WebSockets needs pools that can be asked for them.
    pub(super) fn complain_of_websockets(&self, at: &Path, problems: &mut Problems) {
        for pool in self.pools.iter().filter(|pool| !pool.speaks_h1()) {
            let sentence = "is spoken to by HTTP/2 only, and WebSockets are asked for by HTTP/1.1";
            problems.error(at.clone(), format!("pool `{}` {sentence}", pool.name()));
        }
    }

    /// A route that makes calls of gRPC needs pools that are asked by HTTP/2.
    pub(super) fn complain_of_calls(&self, at: &Path, problems: &mut Problems) {
        const MOST: usize = 8;
        let falls_back_on = |pool: &Arc<Pool>| match pool.fallback() {
            Some(Fallback::Pool(other)) => Some(Arc::clone(other)),
            _ => None,
        };
        let all = self.pools.iter().flat_map(|pool| successors(Some(Arc::clone(pool)), falls_back_on).take(MOST));
        for pool in all.filter(|pool| pool.speaks_h1()) {
            let sentence =
                "may be spoken to by HTTP/1.1, and gRPC takes HTTP/2; write `protocol: h2c` (or `h2`, over TLS)";
            problems.error(at.clone(), format!("pool `{}` {sentence}", pool.name()));
        }
    }

    /// `at` is that of the route.
    pub fn compile(settings: &Settings<'_>, pools: &Pools, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        let all = settings.to.0.iter().map(|(name, weight)| (name.as_str(), *weight));
        let stick = settings.stick.map(|stick| Stick::compile(stick, all.clone(), &at.key("stick"), problems));
        let names: Vec<&str> = all.map(|(name, _)| name).collect();
        let opt_in = Some(settings.opt_in).filter(|opt_in| !opt_in.is_empty());
        let opt_in = opt_in.map(|opt_in| OptIn::compile(opt_in, &names, &at.key("opt_in"), problems));
        let (config, at) = (settings.to, &at.key("to"));
        let place = |name: &Name| if config.0.len() > 1 { at.key(name.as_str()) } else { at.clone() };
        if config.0.len() > MAX_POOLS {
            problems.error(at.clone(), format!("at most {MAX_POOLS} pools share a route"));
        }
        if config.0.values().all(|weight| *weight == 0) {
            problems.error(at.clone(), "needs a pool with a weight above 0");
        }
        let mut found = Vec::with_capacity(config.0.len());
        for (name, weight) in &config.0 {
            if *weight > MAX_WEIGHT {
                problems.error(place(name), format!("`{weight}` is more than the largest weight, {MAX_WEIGHT}"));
            }
            match pools.get(name) {
                Some(pool) => found.extend(pool.clone()),
                None => problems.error(place(name), not_defined(name, pools)),
            }
        }
        let whole = problems.errors() == before && found.len() == config.0.len();
        let weights: Box<[u32]> = config.0.values().copied().collect();
        whole.then(|| Self { pools: found.into(), turns: Turns::new(&weights), weights, opt_in, stick })
    }

    /// Whether the next pool is the same whatever the request says.
    pub fn is_blind(&self) -> bool {
        self.opt_in.is_none() && self.stick.is_none()
    }
    /// The next pool by weight.
    pub fn turn(&self) -> Option<&Arc<Pool>> {
        self.pools.get(self.turns.next())
    }
    /// The pool of this request; `route` is the name of the route.
    pub fn pick(&self, exchange: &Exchange<'_>, route: &str) -> Option<&Arc<Pool>> {
        self.side(exchange, route).map_or_else(|| self.turn(), |side| self.pools.get(side))
    }
    /// The pool of this request, if it is the same at every turn.
    pub fn settled(&self, exchange: &Exchange<'_>, route: &str) -> Option<&Arc<Pool>> {
        let side = self.side(exchange, route).or_else(|| {
            let mut used = self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
            used.next().filter(|_| used.next().is_none()).map(|(side, _)| side)
        });
        self.pools.get(side?)
    }
    /// The pool that what the request says has decided for; nothing where weight alone does.
    pub fn decided(&self, exchange: &Exchange<'_>, route: &str) -> Option<&Arc<Pool>> {
        self.pools.get(self.side(exchange, route)?)
    }
    fn side(&self, exchange: &Exchange<'_>, route: &str) -> Option<usize> {
        let asked = self.opt_in.as_ref().and_then(|opt_in| opt_in.side(exchange.request));
        asked.or_else(|| self.stick.as_ref()?.side(exchange, route))
    }
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }
    /// The name of the pool that the request asks for.
    pub fn asked(&self, request: &dyn Request) -> Option<&str> {
        let pool = self.pools.get(self.opt_in.as_ref()?.side(request)?)?;
        Some(pool.name().as_str())
    }
    /// By what users stay with a pool.
    pub fn stick(&self) -> Option<&Stick> {
        self.stick.as_ref()
    }
    /// Each pool's name and weight.
    pub fn weights(&self) -> impl Iterator<Item = (&str, u32)> {
        self.pools.iter().map(|pool| pool.name().as_str()).zip(self.weights.iter().copied())
    }
}

/// The pool of this name; nothing where it has problems of its own.
pub(super) fn named(name: &Name, pools: &Pools, at: &Path, problems: &mut Problems) -> Option<Arc<Pool>> {
    let known = pools.get(name);
    if known.is_none() {
        problems.error(at.clone(), not_defined(name, pools));
    }
    known.cloned().flatten()
}

fn not_defined(name: &Name, pools: &Pools) -> String {
    let known: Vec<&str> = pools.keys().map(Name::as_str).collect();
    match known.len() {
        0 => format!("pool `{name}` is not defined, and no other is"),
        1..=12 => format!("pool `{name}` is not defined. Pools: {}", known.join(", ")),
        _ => match nearest(name.as_str(), known) {
            Some(near) => format!("pool `{name}` is not defined. Did you mean `{near}`?"),
            None => format!("pool `{name}` is not defined"),
        },
    }
}

/// Smooth weighted turns (the way of nginx), worked out ahead: 2 and 1 give a b a, a b a, and so on.
#[derive(Debug)]
pub struct Turns {
    order: Box<[u16]>,
    at: AtomicUsize,
}

impl Turns {
    /// Weights are made smaller by what divides all of them.
    pub fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |a, b| divisor(a, *b)).max(1);
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        let total: i64 = weights.iter().sum();
        let mut due = vec![0_i64; weights.len()];
        let mut turn = || {
            due.iter_mut().zip(&weights).for_each(|(due, weight)| *due += weight);
            let first = due.iter().enumerate().rev().max_by_key(|(_, due)| **due).map_or(0, |(at, _)| at);
            due.iter_mut().skip(first).take(1).for_each(|due| *due -= total);
            u16::try_from(first).unwrap_or(0)
        };
        Self { order: (0..total).map(|_| turn()).collect(), at: AtomicUsize::new(0) }
    }

    /// Whose turn it is.
    pub fn next(&self) -> usize {
        match self.order.len() {
            0 | 1 => self.order.first().map_or(0, |only| usize::from(*only)),
            turns => {
                let at = self.at.fetch_add(1, Ordering::Relaxed) % turns;
                self.order.get(at).map_or(0, |turn| usize::from(*turn))
            }
        }
    }
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns<const N: usize>(weights: &[u32]) -> [usize; N] {
        let turns = Turns::new(weights);
        std::array::from_fn(|_| turns.next())
    }

    #[test]
    fn turns_are_spread_out() {
        assert_eq!(turns(&[100]), [0, 0, 0]);
        assert_eq!(turns(&[50, 50]), [0, 1, 0, 1]);
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[0, 7]), [1, 1, 1], "0 means never");
        assert_eq!(turns::<20>(&[90, 10]).iter().filter(|turn| **turn == 1).count(), 2);
    }

    proptest! {
        #[test]
        fn every_round_gives_each_its_weight(weights in prop::collection::vec(0_u32..=50, 1..6)) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let turns = Turns::new(&weights);
            let mut seen = vec![0; weights.len()];
            (0..weights.iter().sum()).for_each(|_: u32| seen[turns.next()] += 1);
            prop_assert_eq!(seen, weights);
        }
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let pools: Pools = ["events", "orders"].into_iter().map(|name| (name.parse().unwrap(), None)).collect();
        let table = [
            ("event", "to: pool `event` is not defined. Pools: events, orders"),
            ("{ orders: 1, event: 1 }", "to.event: pool `event` is not defined. Pools: events, orders"),
            ("{ orders: 0, events: 0 }", "to: needs a pool with a weight above 0"),
            ("{ orders: 1001 }", "to: `1001` is more than the largest weight, 1000"),
            ("{}", "to: needs a pool with a weight above 0"),
        ];
        for (yaml, sentence) in table {
            let mut problems = Problems::default();
            let (to, opt_in) = (serde_yaml::from_str(yaml).unwrap(), opt_in::Config::new());
            let settings = Settings { to: &to, stick: None, opt_in: &opt_in };
            let made = Split::compile(&settings, &pools, &Path::default(), &mut problems);
            let said: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect();
            assert!(made.is_none() && said == [sentence], "{yaml}: {said:?}");
        }
    }
}
