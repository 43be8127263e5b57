//! What a route's GraphQL operations come to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntCounter;

use super::family::Lease;
use super::list::Families;

/// Name, kind and result.
type Labels = (Box<str>, &'static str, &'static str);

/// The operations of one route; their names come from its list.
pub struct GraphqlMetrics {
    families: Arc<Families>,
    lease: Lease,
    route: Box<str>,
    known: Mutex<HashMap<Labels, IntCounter>>,
}

impl GraphqlMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, route: &str) -> Self {
        Self { families: Arc::clone(families), lease, route: route.into(), known: Mutex::default() }
    }

    pub fn count(&self, operation: &str, kind: &'static str, result: &'static str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = [&*self.route, operation, kind, result];
        let make = || self.lease.child(&self.families.graphql, &labels);
        known.entry((operation.into(), kind, result)).or_insert_with(make).inc();
    }
}

impl std::fmt::Debug for GraphqlMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GraphqlMetrics")
    }
}
