//! What a request must pass: the guards of a route, asked in a fixed order, each of which can refuse.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pingora_http::ResponseHeader;

use super::auth::{self, Auth, Schemes};
use super::body::{self, Body};
use super::cache;
use super::cors::{self, Cors};
use super::ip::{self, Ip};
use super::limit::{self, Limit, Limits};
use super::require::{self, Require};
use super::validate::{self, Validate};
use crate::client::mqtt::Broker;
use crate::exchange::{Exchange, Found, Refusal, Stop};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::Metrics;
pub use crate::units::Mode;
use crate::units::Name;

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

/// The brokers of the document; nothing under the name of one that is wrong.
pub type Brokers = BTreeMap<Name, Option<Arc<Broker>>>;

/// What guards are compiled with.
pub struct Tools<'a> {
    /// The file, line and column of a path of the document.
    pub place: &'a dyn Fn(&Path) -> String,
    /// The schemes of `auth` by their names.
    pub auth: &'a Schemes,
    /// What limits need; without it there are none.
    pub limits: Option<limit::Room<'a>>,
    /// The stores of answers; without them nothing is remembered.
    pub caches: Option<&'a cache::Stores<'a>>,
    /// Where what was fetched lies for a restart.
    pub state: &'a std::path::Path,
    /// Nothing where nobody counts.
    pub metrics: Option<&'a Arc<Metrics>>,
    /// The brokers by their names.
    pub brokers: Option<&'a Brokers>,
}

impl<'a> Tools<'a> {
    /// Without limits, metrics and anything to come back to: for questions, tests and benches.
    pub fn alone(place: &'a dyn Fn(&Path) -> String, auth: &'a Schemes) -> Self {
        let state = std::path::Path::new("");
        Self { place, auth, limits: None, caches: None, state, metrics: None, brokers: None }
    }
}

/// Which of the guards are asked: what a body says may stand between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Both,
    /// Those that find out who it is and what it may.
    Who,
    /// Those that count it and look at it.
    HowOften,
}

/// The settings of all guards of a route.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'c> {
    pub ip: Option<&'c ip::Config>,
    pub cors: Option<&'c cors::Config>,
    /// Pages speak gRPC-Web.
    pub grpc_web: bool,
    /// Those of the route's match; none where every one is taken.
    pub methods: &'c [&'c str],
    pub body: Option<&'c body::Config>,
    pub auth: Option<&'c auth::Use>,
    pub require: Option<&'c require::Config>,
    pub limit: &'c limit::Uses,
    pub validate: Option<&'c validate::Config>,
}

/// The guards of one route; what it does not use costs nothing.
#[derive(Debug, Default)]
pub struct Guards {
    pub(super) ip: Option<Ip>,
    pub(super) cors: Option<Cors>,
    pub(super) body: Option<Body>,
    pub(super) auth: Option<Auth>,
    pub(super) require: Option<Require>,
    pub(super) limits: Option<Limits>,
    pub(super) validate: Option<Validate>,
}

impl Guards {
    /// `at` is `routes.NAME`; nothing where the route has no guard at all.
    pub fn compile(configs: Settings<'_>, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Box<Self>> {
        let ip = configs.ip.and_then(|config| Ip::compile(config, &at.key("ip"), tools, problems));
        let cors = configs.cors.and_then(|config| {
            Cors::compile(config, configs.grpc_web, configs.methods, &at.key("cors"), tools, problems)
        });
        let body = configs.body.and_then(|config| Body::compile(config, &at.key("body"), tools, problems));
        let asked = configs.auth.filter(|config| !config.is_none());
        let auth = asked.and_then(|config| Auth::compile(config, &at.key("auth"), tools, problems));
        let require = configs.require;
        let require = require.and_then(|config| Require::compile(config, &at.key("require"), tools, problems));
        let limits = Limits::compile(configs.limit, at, tools, problems);
        let validate = configs.validate;
        let validate = validate.and_then(|config| Validate::compile(config, &at.key("validate"), tools, problems));
        let guards = Self { ip, cors, body, auth, require, limits, validate };
        if asked.is_none() {
            guards.nobody_is_known(at, problems);
        }
        (!guards.rules().is_empty()).then(|| Box::new(guards))
    }

    /// Without `auth` nobody is known: what asks who it is has no answer.
    fn nobody_is_known(&self, at: &Path, problems: &mut Problems) {
        if self.require.as_ref().is_some_and(Require::asks_who) {
            problems.warn(at.key("require"), "asks who it is, and the route has no `auth`: nobody gets through");
        }
        if self.limits.as_ref().is_some_and(Limits::ask_who) {
            let sentence = "counts by what `auth` finds out, and the route has none: all are counted by `else`";
            problems.warn(at.key("limit"), sentence);
        }
    }

    /// The description of its requests, where there is one.
    pub fn described(&self) -> Option<validate::Described<'_>> {
        self.validate.as_ref().and_then(Validate::described)
    }

    /// Asks every guard of that half in order, until one refuses or answers.
    pub async fn admit(&self, half: Half, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        if half != Half::HowOften {
            self.know(exchange).await?;
        }
        if half == Half::Who { Ok(()) } else { self.count(exchange).await }
    }

    async fn know(&self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        if let Some(ip) = &self.ip {
            obey(ip.rule().mode, ip.check(exchange.request), exchange.found)?;
        }
        if let Some(cors) = &self.cors {
            obey(cors.rule().mode, cors.check(exchange.request, exchange.found), exchange.found)?;
        }
        if let Some(body) = &self.body {
            obey(body.rule().mode, body.check(exchange.request), exchange.found)?;
        }
        if !self.measure_bodies() {
            body::built_in_head(exchange.request)?;
        }
        if let Some(auth) = &self.auth {
            obey(auth.rule().mode, auth.check(exchange).await, exchange.found)?;
        }
        if let Some(require) = &self.require {
            obey(require.rule().mode, require.check(exchange.request, &exchange.found.identity), exchange.found)?;
        }
        Ok(())
    }

    async fn count(&self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        if let Some(limits) = &self.limits {
            let now = Instant::now();
            // Only who has to wait for a store pays for it.
            let wait = if limits.share() {
                Box::pin(limits.admit_shared(exchange, now)).await?
            } else {
                limits.admit(exchange, now)?
            };
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        if let Some(validate) = &self.validate {
            obey(validate.rule().mode, validate.check(exchange.request, exchange.found), exchange.found)?;
        }
        Ok(())
    }

    /// Whether something counts by what GraphQL asks for.
    pub fn ask_what(&self) -> bool {
        self.limits.as_ref().is_some_and(Limits::ask_what)
    }

    /// The path parameters that the route's match has to have.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().flat_map(Limits::params)
    }

    /// The rules in their order, for `explain`.
    pub fn rules(&self) -> Vec<&Rule> {
        let rules = self.ip.iter().map(Ip::rule).chain(self.cors.iter().map(Cors::rule));
        let rules = rules.chain(self.body.iter().map(Body::rule)).chain(self.auth.iter().map(Auth::rule));
        let rules = rules.chain(self.require.iter().map(Require::rule));
        let rules = rules.chain(self.limits.iter().flat_map(Limits::rules));
        rules.chain(self.validate.iter().map(Validate::rule)).collect()
    }

    /// Asks again while the body passes: so many bytes of it came.
    pub fn receive(&self, bytes: u64, found: &mut Found) -> Result<(), Refusal> {
        if !self.measure_bodies() {
            body::built_in(bytes)?;
        }
        self.body.as_ref().map_or(Ok(()), |body| body.receive(bytes, found))
    }

    /// What looks at whole bodies.
    pub fn looks_at_bodies(&self) -> Option<&Validate> {
        self.validate.as_ref().filter(|validate| validate.looks_at_bodies())
    }

    /// Whether the route itself says how large bodies may be.
    pub(super) fn measure_bodies(&self) -> bool {
        self.body.as_ref().is_some_and(Body::enforces)
    }

    /// Whether a preflight for this route is answered here.
    pub fn answer_preflights(&self) -> bool {
        self.cors.as_ref().is_some_and(Cors::answers)
    }

    /// Takes away from the target's answer what only guards say.
    pub fn clean(&self, head: &mut ResponseHeader) {
        if let Some(cors) = &self.cors {
            cors.clean(head);
        }
    }

    /// The parameters of the query that no log may show.
    pub fn secret_params(&self) -> &[Box<str>] {
        self.auth.as_ref().map_or(&[], Auth::secret_params)
    }

    /// The keys that are fetched for this route.
    pub fn fetched(&self) -> Vec<auth::Follow> {
        self.auth.iter().flat_map(|auth| auth.scheme().fetched()).collect()
    }

    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.limits.iter().flat_map(Limits::each)
    }

    /// Files that decide what the rules are, as the document itself does.
    pub fn rule_files(&self) -> impl Iterator<Item = &std::path::PathBuf> {
        self.ip.iter().flat_map(Ip::files).chain(self.validate.iter().flat_map(Validate::files))
    }

    /// Files whose change is a reason to read the document again.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        self.rule_files().cloned().chain(self.auth.iter().flat_map(|auth| auth.scheme().files())).collect()
    }
}

/// A refusal in shadow is remembered and goes no further.
fn obey(mode: Mode, verdict: Result<(), impl Into<Stop>>, found: &mut Found) -> Result<(), Stop> {
    match (verdict.map_err(Into::into), mode) {
        (Err(Stop::Refuse(refusal)), Mode::Shadow) => {
            found.would_refuse.push(refusal);
            Ok(())
        }
        (verdict, _) => verdict,
    }
}
