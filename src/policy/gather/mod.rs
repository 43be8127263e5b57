//! Joins several calls into one answer: each goes to a pool, those that need nothing of each other at the same time.
//!
//! ```yaml
//! gather:
//!   order: { pool: orders, path: /orders/$path.id }
//!   stock: { pool: catalog, path: /stock/$path.id, timeout: 300ms, on_error: null }
//!   offers: { pool: catalog, path: "/offers?city=$order.address.city", on_error: omit }   # after `order`
//! ```
//!
//! What `$` stands for is in [`said`]; a value is escaped for where it stands, so that it never says more than one segment of
//! a path, one value of a query or one field. An answer is kept as it was written: no number changes on its way.

mod body;
pub mod call;
mod compose;
mod known;
mod named;
pub mod run;
pub mod said;

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::call::Said;
use self::call::{Call, Terms};
use self::compose::Shape;
pub use self::named::Config;
use self::said::Source;
use crate::policy::template::Offer;
use crate::pool::Pool;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::GatherMetrics;
use crate::units::{Name, Size};

/// Calls of one request, at most.
const MOST_CALLS: usize = 32;
/// All answers together, where the document does not say how much they may be.
const ALL: Size = Size::from_bytes(8 << 20);
/// The most that one request may hold.
const MOST_ALL: Size = Size::from_bytes(64 << 20);

/// How the results become one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "GatherAs")]
pub enum As {
    /// An object with each result under the name of its call.
    #[default]
    Object,
    /// The fields of all results in one object; of the same field, that of the later name in the order of the alphabet.
    Merge,
}

/// The calls of a route, decided once.
#[derive(Debug)]
pub struct Gather {
    calls: Box<[Call]>,
    pools: Box<[Arc<Pool>]>,
    shape: Shape,
    /// Bytes of all answers together, at most.
    most: usize,
    /// Some of it looks into the request's body.
    wants_body: bool,
    counted: Option<GatherMetrics>,
}

/// What a route has for its calls.
pub struct Around<'a> {
    pub offers: &'a [Offer],
    /// Somebody finds out who asks.
    pub has_auth: bool,
    pub counted: Option<GatherMetrics>,
}

/// Finds a pool by its name, or complains.
pub type Find<'a> = dyn FnMut(&Name, &Path, &mut Problems) -> Option<Arc<Pool>> + 'a;

impl Gather {
    pub fn compile(
        config: &Config,
        around: Around<'_>,
        find: &mut Find<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        complain(config, at, problems);
        let names: Vec<&str> = config.calls.keys().map(Name::as_str).collect();
        let terms = Terms { names: &names, offers: around.offers, has_auth: around.has_auth };
        let calls: Vec<Option<Call>> = config
            .calls
            .iter()
            .map(|(name, said)| Call::compile(name, said, &terms, find, &at.key(name.as_str()), problems))
            .collect();
        let shape = Shape::compile(config, at, problems);
        let calls: Box<[Call]> = calls.into_iter().collect::<Option<_>>()?;
        complain_of_circles(&calls, at, problems);
        let mut pools: Vec<Arc<Pool>> = Vec::new();
        for call in &calls {
            if !pools.iter().any(|pool| Arc::ptr_eq(pool, call.pool())) {
                pools.push(Arc::clone(call.pool()));
            }
        }
        let wants_body = calls.iter().flat_map(Call::sources).any(|source| matches!(source, Source::Body(_)));
        let most = config.max.unwrap_or(ALL).len();
        let (pools, counted) = (pools.into(), around.counted);
        (problems.errors() == before).then_some(Self { calls, pools, shape, most, wants_body, counted })
    }

    /// Every pool that is called.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Whether the request's body has to be read for it.
    pub fn wants_body(&self) -> bool {
        self.wants_body
    }
}

fn complain(config: &Config, at: &Path, problems: &mut Problems) {
    match config.calls.len() {
        0 => problems.error(at.clone(), "names no call, e.g. user: { pool: users, path: /users/$jwt.sub }"),
        1..=MOST_CALLS => {}
        many => problems.error(at.clone(), format!("{many} calls are too many for one request; at most {MOST_CALLS}")),
    }
    if let Some(max) = config.max.filter(|max| *max > MOST_ALL || max.is_empty()) {
        problems.error(at.key("max"), format!("`{max}` is not from 1B to {MOST_ALL}"));
    }
}

/// Calls that wait for each other would wait for ever.
fn complain_of_circles(calls: &[Call], at: &Path, problems: &mut Problems) {
    let mut done: BTreeSet<usize> = BTreeSet::new();
    let ready = |done: &BTreeSet<usize>| {
        calls
            .iter()
            .enumerate()
            .find(|(at, call)| !done.contains(at) && call.needs().iter().all(|need| done.contains(need)))
    };
    while let Some((at, _)) = ready(&done) {
        done.insert(at);
    }
    let stuck: Vec<usize> = (0..calls.len()).filter(|at| !done.contains(at)).collect();
    let Some(mut here) = stuck.first().copied() else { return };
    // From any of them, each step leads to one that waits too: after as many steps as there are, in the circle.
    let next = |here: usize| {
        calls.get(here).and_then(|call| call.needs().iter().find(|need| stuck.contains(need))).copied().unwrap_or(here)
    };
    for _ in &stuck {
        here = next(here);
    }
    let name = |at: usize| calls.get(at).map_or("", |call| call.name().as_str());
    let mut way = vec![name(here)];
    let mut step = next(here);
    while step != here {
        way.push(name(step));
        step = next(step);
    }
    way.push(name(here));
    let way: Vec<String> = way.iter().map(|name| format!("`{name}`")).collect();
    problems.error(at.key(name(here)), format!("{}: each would wait for the other", way.join(" needs ")));
}

#[cfg(test)]
mod tests;
