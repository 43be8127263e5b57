//! Who may come in: each scheme is defined once, and routes name it.
//!
//! ```yaml
//! auth: { jwt: { issuer: "https://id.example.com/", key: ./idp.pem }, strip: true }
//! auth: none
//! ```

pub mod api_key;
pub mod asked;
pub mod basic;
pub mod cache;
pub mod certificate;
pub mod claims;
pub mod ext;
pub mod flight;
mod foresee;
pub mod forward;
pub mod introspection;
pub mod jwk;
pub mod jwks;
pub mod jwt;
pub mod key;
pub mod keys;
pub mod memory;
pub mod named;
pub mod password;
pub mod pem;
pub mod remote;
pub mod scheme;
pub mod source;
pub mod token;
pub mod words;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::forward::Part;
use self::scheme::Pass;
use super::guard::{Mode, Rule, Tools};
use crate::exchange::{Exchange, Identity, Stop};
use crate::fault::Fault;
use crate::problem::{Path, Problems, Step};
use crate::telemetry::metrics::{AuthMetrics, Decision};
use crate::units::{self, Inline, Name};

pub use named::Schemes;
pub use remote::Follow;
pub use scheme::Scheme;

/// One way to be known: exactly one of `jwt`, `key`, `basic`, `certificate`, `ext`, `introspection`, `any` and `all`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Auth")]
pub struct Config {
    /// By a JSON web token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<jwt::Config>,
    /// By a key that stands, hashed, in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<api_key::Config>,
    /// By a name and a password that stand, hashed, in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<basic::Config>,
    /// By the certificate of the TLS handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<certificate::Config>,
    /// By a service of your own that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext: Option<ext::Config>,
    /// By a token that its issuer is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<introspection::Config>,
    /// By the first of these that admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Name>>,
    /// By every one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<Name>>,
    /// Fields that tell the target who asks, e.g. `x-user: jwt.sub`; what the client sends under these names is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward: BTreeMap<String, Part>,
    /// Whether the target does not see what the client has shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strip: bool,
    /// `shadow` only counts and logs who would be refused. Under `any` and `all` it is theirs that counts.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

/// What a route says: the name of a scheme, `none`, or a scheme of its own.
pub type Use = units::Use<Config>;

impl Inline for Config {
    const EXPECTED: &'static str = "the name of an auth, e.g. staff, or a map, e.g. { jwt: { jwks: ./keys.json } }";
    const SCHEMA: &'static str = "AuthOfRoute";
}

/// The word of a route that everyone may use, whatever `defaults` say.
pub const NONE: &str = "none";

impl Use {
    /// Whether everyone may come in.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Named(name) if name.as_str() == NONE)
    }
}

/// Why a request is not admitted.
#[derive(Debug, Clone)]
pub struct Denial {
    pub fault: Fault,
    /// For the log; never what the client has shown.
    pub why: Cow<'static, str>,
    /// Fields of the answer that belong to it.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// It is answered with this status in place of an error: a login begins with a redirection.
    pub reply: Option<u16>,
}

impl Denial {
    pub fn new(fault: Fault, why: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, why: why.into(), fields: Vec::new(), reply: None }
    }

    fn decision(&self) -> Decision {
        match self.fault.outside() {
            Fault::AuthMissing => Decision::Missing,
            Fault::AuthExpired => Decision::Expired,
            Fault::AuthUnavailable => Decision::Unavailable,
            _ => Decision::Invalid,
        }
    }

    pub fn missing(why: &'static str) -> Self {
        Self::new(Fault::AuthMissing, why)
    }
}

/// Who may come in on one route.
pub struct Auth {
    scheme: Arc<Scheme>,
    counted: Option<AuthMetrics>,
    /// Parameters of the query that no log may show.
    secret_params: Box<[Box<str>]>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl Auth {
    /// `at` is `routes.NAME.auth`. A name that means nothing was complained about where it stands.
    pub fn compile(config: &Use, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let scheme = match config {
            Use::Named(name) => tools.auth.get(name).cloned().flatten(),
            Use::Here(config) => Scheme::compile(config, at, tools.auth, tools, problems).map(Arc::new),
        };
        let scheme = scheme?;
        let route = at.steps().get(1);
        let route = route.and_then(|step| if let Step::Key(name) = step { Some(&**name) } else { None });
        let counted = tools.metrics.map(|metrics| metrics.auth(route.unwrap_or("-"), scheme.method()));
        let mut secret_params = Vec::new();
        scheme.secret_params(&mut secret_params);
        Some(Self { scheme, counted, secret_params: secret_params.into() })
    }

    pub fn secret_params(&self) -> &[Box<str>] {
        &self.secret_params
    }

    pub fn rule(&self) -> &Rule {
        self.scheme.rule()
    }

    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Leaves behind who it is and what the target is told of it; in shadow the target is told nothing.
    pub async fn check(&self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        let verdict = self.scheme.ask(exchange.request).await;
        if let Some(counted) = &self.counted {
            counted.count(verdict.as_ref().map_or_else(Denial::decision, Pass::decision));
        }
        let (found, enforces) = (&mut *exchange.found, self.rule().mode == Mode::Enforce);
        let pass = match verdict {
            Ok(pass) => pass,
            Err(Denial { reply: Some(status), fields, .. }) if enforces => {
                found.answer.extend(fields);
                return Err(Stop::Reply(status));
            }
            Err(denial) => return Err(self.scheme.refuse(denial).into()),
        };
        if let Some(why) = pass.unasked {
            found.would_refuse.push(self.scheme.refuse(Denial::new(Fault::AuthUnavailable, why)));
        }
        if enforces {
            self.scheme.hide(exchange.request, found);
            found.forward.extend(pass.forward);
            found.answer.extend(pass.answer);
        }
        let ends = pass.identity.ends.filter(|_| enforces);
        let unnamed = pass.identity.unnamed || !pass.identity.names();
        exchange.found.identity = Identity { ends, unnamed, ..pass.identity };
        Ok(())
    }
}
