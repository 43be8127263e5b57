//! What a request must pass: the guards of a route, asked in a fixed order, each of which can refuse.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ip::{self, Ip};
use super::limit::{self, Limits};
use crate::exchange::{Exchange, Found, Refusal};
use crate::fault::Fault;
use crate::problem::{Path, Problems};

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
    /// What limits need; without it there are none.
    pub limits: Option<limit::Room<'a>>,
}

/// The settings of all guards of a route.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'c> {
    pub ip: Option<&'c ip::Config>,
    pub limit: &'c limit::Uses,
}

/// The guards of one route; what it does not use costs nothing.
#[derive(Debug, Default)]
pub struct Guards {
    ip: Option<Ip>,
    limits: Option<Limits>,
}

impl Guards {
    /// `at` is `routes.NAME`; nothing where the route has no guard at all.
    pub fn compile(configs: Settings<'_>, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Box<Self>> {
        let ip = configs.ip.and_then(|config| Ip::compile(config, &at.key("ip"), tools, problems));
        let limits = Limits::compile(configs.limit, at, tools, problems);
        (ip.is_some() || limits.is_some()).then(|| Box::new(Self { ip, limits }))
    }

    /// Asks every guard in order, until one refuses.
    pub async fn admit(&self, exchange: &mut Exchange<'_>) -> Result<(), Refusal> {
        if let Some(ip) = &self.ip {
            obey(ip.rule().mode, ip.check(exchange.request), exchange.found)?;
        }
        if let Some(limits) = &self.limits {
            let wait = limits.admit(exchange, Instant::now())?;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }

    /// The path parameters that the route's match has to have.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().flat_map(Limits::params)
    }

    /// The rules in their order, for `explain`.
    pub fn rules(&self) -> Vec<&Rule> {
        self.ip.iter().map(Ip::rule).chain(self.limits.iter().flat_map(Limits::rules)).collect()
    }

    /// Files whose change is a reason to read the document again.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        self.ip.iter().flat_map(Ip::files).cloned().collect()
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
