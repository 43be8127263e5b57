//! `opt_in`: who asks for one of a route's pools gets it, whatever the weights say.
//!
//! ```yaml
//! pools: { orders: [10.0.0.11:8080], orders-canary: [10.0.0.21:8080] }
//! routes:
//!   orders:
//!     match: /orders/*
//!     to: { orders: 100, orders-canary: 0 }
//!     opt_in: { orders-canary: { cookies: { canary: "1" } } }
//! ```

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matches::{HeaderName, Match};
use super::predicate::{Condition, Predicate};
use crate::exchange::Request;
use crate::problem::{Path, Problems};
use crate::units::Name;

/// The pools that may be asked for, of those in `to`; where several are asked for, the first by name.
pub type Config = BTreeMap<Name, Asks>;

/// What a request that asks for a pool has; all of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RouteOptIn")]
pub struct Asks {
    /// Header fields by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<HeaderName, Condition>,
    /// Parameters of the query by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<Box<str>, Condition>,
    /// Cookies by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<Box<str>, Condition>,
}

/// Who gets which pool for the asking, decided once.
pub struct OptIn(Box<[(usize, Box<[Predicate]>)]>);

impl OptIn {
    /// `pools` are the names of the route's pools.
    pub fn compile(config: &Config, pools: &[&str], at: &Path, problems: &mut Problems) -> Self {
        let mut all = Vec::with_capacity(config.len());
        for (name, asks) in config {
            let at = at.key(name.as_str());
            let asks = Match {
                headers: asks.headers.clone(),
                query: asks.query.clone(),
                cookies: asks.cookies.clone(),
                ..Match::default()
            };
            let predicates = Predicate::all(&asks, &at, problems);
            if asks == Match::default() {
                problems.error(at.clone(), "needs a condition, e.g. { headers: { x-canary: \"1\" } }");
            }
            match pools.iter().position(|pool| *pool == name.as_str()) {
                Some(place) => all.push((place, predicates)),
                None => problems.error(at, format!("is not one of the pools in `to`: {}", pools.join(", "))),
            }
        }
        Self(all.into())
    }

    /// The place of the pool that the request asks for.
    pub fn side(&self, request: &dyn Request) -> Option<usize> {
        let asked = |(_, all): &&(usize, Box<[Predicate]>)| all.iter().all(|one| one.holds(request));
        self.0.iter().find(asked).map(|(place, _)| *place)
    }
}
