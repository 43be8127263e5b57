//! What holds although nobody has written it down: `yumen show` tells of it too.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Document;
use crate::policy::body::Max;
use crate::pool::{self, Protocol, eject};
use crate::route;
use crate::units::{Duration, Name};

/// In the shape of the document.
#[derive(Debug, Serialize)]
pub struct BuiltIn<'d> {
    pools: BTreeMap<&'d Name, Pool>,
    routes: BTreeMap<&'d Name, Route>,
}

#[derive(Debug, Serialize)]
struct Pool {
    timeout: Timeout,
    #[serde(skip_serializing_if = "Option::is_none")]
    eject: Option<eject::Config>,
}

#[derive(Debug, Serialize)]
struct Timeout {
    first_byte: Duration,
}

#[derive(Debug, Serialize)]
struct Route {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
}

#[derive(Debug, Serialize)]
struct Body {
    max: Max,
}

impl Pool {
    fn of(said: &pool::Config) -> Self {
        let waits_alike = said.tls.is_some() || matches!(said.protocol, Protocol::H2 | Protocol::H2c);
        let first_byte = if waits_alike { said.timeout.idle } else { said.timeout.head() };
        let eject = said.eject.is_none().then(eject::Config::built_in);
        Self { timeout: Timeout { first_byte }, eject }
    }
}

impl Route {
    fn of(said: &route::Config) -> Self {
        let reads = said.to.is_some() || said.gather.is_some() || said.batch.is_some() || said.publish.is_some();
        let body = (reads && said.body.is_none()).then(|| Body { max: Max::default() });
        Self { body }
    }
}

impl Document {
    /// What holds where it says nothing.
    pub fn built_in(&self) -> BuiltIn<'_> {
        BuiltIn {
            pools: self.pools.iter().map(|(name, said)| (name, Pool::of(said))).collect(),
            routes: self.routes.iter().map(|(name, said)| (name, Route::of(said))).collect(),
        }
    }
}
