//! What a request must pass: the guards of a route, asked in a fixed order, each of which can refuse.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{self, Auth, Schemes};
use super::ip::{self, Ip};
use crate::exchange::{Exchange, Found, Refusal};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::Metrics;

/// Whether a refusal holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// What is refused goes no further.
    #[default]
    Enforce,
    /// What would be refused is counted and logged, and goes on.
    Shadow,
}

impl Mode {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a guard stands in the document and whether its word holds.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its key and its place, e.g. `routes.admin.ip (yumen.yaml:31:5)`.
    pub name: Arc<str>,
    pub mode: Mode,
}

impl Rule {
    pub fn new(at: &Path, mode: Mode, tools: &Tools<'_>) -> Self {
        Self { name: format!("{at} ({})", (tools.place)(at)).into(), mode }
    }

    /// A refusal by this rule; `why` is for the log only.
    pub fn refuse(&self, fault: Fault, why: impl Into<Cow<'static, str>>) -> Refusal {
        let why = why.into().into_owned().into();
        Refusal { fault, rule: Arc::clone(&self.name), why, fields: Vec::new(), errors: Vec::new() }
    }
}

/// What guards are compiled with.
pub struct Tools<'a> {
    /// The file, line and column of a path of the document.
    pub place: &'a dyn Fn(&Path) -> String,
    /// The schemes of `auth` by their names.
    pub auth: &'a Schemes,
    /// Where what was fetched lies for a restart.
    pub state: &'a std::path::Path,
    /// Nothing where nobody counts.
    pub metrics: Option<&'a Arc<Metrics>>,
}

/// The settings of all guards of a route.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'c> {
    pub ip: Option<&'c ip::Config>,
    pub auth: Option<&'c auth::Use>,
}

/// The guards of one route; what it does not use costs nothing.
#[derive(Debug, Default)]
pub struct Guards {
    ip: Option<Ip>,
    auth: Option<Auth>,
}

impl Guards {
    /// `at` is `routes.NAME`; nothing where the route has no guard at all.
    pub fn compile(configs: Settings<'_>, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Box<Self>> {
        let ip = configs.ip.and_then(|config| Ip::compile(config, &at.key("ip"), tools, problems));
        let asked = configs.auth.filter(|config| !config.is_none());
        let auth = asked.and_then(|config| Auth::compile(config, &at.key("auth"), tools, problems));
        (ip.is_some() || auth.is_some()).then(|| Box::new(Self { ip, auth }))
    }

    /// Asks every guard in order, until one refuses.
    pub async fn admit(&self, exchange: &mut Exchange<'_>) -> Result<(), Refusal> {
        if let Some(ip) = &self.ip {
            obey(ip.rule().mode, ip.check(exchange.request), exchange.found)?;
        }
        if let Some(auth) = &self.auth {
            obey(auth.rule().mode, auth.check(exchange).await, exchange.found)?;
        }
        Ok(())
    }

    /// The rules in their order, for `explain`.
    pub fn rules(&self) -> Vec<&Rule> {
        self.ip.iter().map(Ip::rule).chain(self.auth.iter().map(Auth::rule)).collect()
    }

    /// The keys that are fetched for this route.
    pub fn fetched(&self) -> Vec<auth::Follow> {
        self.auth.iter().flat_map(|auth| auth.scheme().fetched()).collect()
    }

    /// Files whose change is a reason to read the document again.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        let ip = self.ip.iter().flat_map(Ip::files).cloned();
        ip.chain(self.auth.iter().flat_map(|auth| auth.scheme().files())).collect()
    }
}

/// A refusal in shadow is remembered and goes no further.
fn obey(mode: Mode, verdict: Result<(), Refusal>, found: &mut Found) -> Result<(), Refusal> {
    match (verdict, mode) {
        (Err(refusal), Mode::Shadow) => {
            found.would_refuse.push(refusal);
            Ok(())
        }
        (verdict, _) => verdict,
    }
}
