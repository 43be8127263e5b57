//! Refuses requests whose parameters or body are not what the target expects.
//!
//! ```yaml
//! validate:
//!   headers: { x-account: { required: true, regex: "[a-z0-9]{1,32}" } }
//!   query: { page: { regex: "[0-9]{1,4}" } }
//!   body: { schema: { type: object, required: [item], properties: { item: { type: string } } } }
//! ```
//!
//! The schema stands here or in a JSON file, named in its place. The body is held back until it was found good: what is
//! refused reaches no target, and what is larger than `body.max` is refused.

mod params;
mod schema;

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::params::Param;
use self::schema::Schema;
pub use self::schema::Source;
use super::guard::{Mode, Rule, Tools};
use super::headers::Field;
use crate::exchange::{Refusal, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::units::Size;

/// What parameters and bodies have to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Validate")]
pub struct Config {
    /// Header fields by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Field, Param>,
    /// Parameters of the query by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<Box<str>, Param>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// `shadow` only counts and logs what would be refused, and holds nothing back.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

/// What a body has to be: JSON of this shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ValidBody")]
pub struct Body {
    /// A JSON Schema, or the name of a file that holds one.
    pub schema: Source,
    /// The most that is held back; larger bodies are refused.
    #[serde(default = "mebibyte")]
    pub max: Size,
}

fn mebibyte() -> Size {
    Size::from_bytes(1 << 20)
}

/// What is wrong where, at most.
const MOST_ERRORS: usize = 16;

/// Parameters and bodies, decided once.
#[derive(Debug)]
pub struct Validate {
    headers: Vec<(HeaderName, Param)>,
    query: Vec<(Box<str>, Param)>,
    body: Option<(Schema, usize)>,
    files: Vec<PathBuf>,
    rule: Rule,
}

impl Validate {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.headers.is_empty() && config.query.is_empty() && config.body.is_none() {
            problems.error(at.clone(), "takes at least one of `headers`, `query` and `body`");
        }
        for (key, name, param) in config.params() {
            if !param.required && param.regex.is_none() {
                problems.error(at.key(key).key(name), "takes at least one of `required` and `regex`");
            }
        }
        let header = |(name, param): (&Field, &Param)| {
            Some((HeaderName::from_bytes(name.as_str().as_bytes()).ok()?, param.clone()))
        };
        let body = config.body.as_ref().and_then(|body| {
            let at = at.key("body").key("schema");
            let schema = Schema::compile(&body.schema).map_err(|why| problems.error(at, why)).ok()?;
            Some((schema, body.max.len()))
        });
        (problems.errors() == before).then(|| Self {
            headers: config.headers.iter().filter_map(header).collect(),
            query: config.query.iter().map(|(name, param)| (name.clone(), param.clone())).collect(),
            body,
            files: config.body.iter().filter_map(|body| body.schema.file()).collect(),
            rule: Rule::new(at, config.mode, tools),
        })
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The most bytes of a body that are looked at; nothing where bodies are not.
    pub fn looks_at(&self) -> Option<usize> {
        self.body.as_ref().map(|(_, max)| *max)
    }

    /// Whether a body waits here until it was found good.
    pub fn holds_back(&self) -> bool {
        self.rule.mode == Mode::Enforce
    }

    /// Refuses what the head shows.
    pub fn check(&self, request: &dyn Request) -> Result<(), Refusal> {
        let mut errors = Vec::new();
        for (name, param) in &self.headers {
            params::header(name, param, request, &mut errors);
        }
        for (name, param) in &self.query {
            params::query(name, param, request, &mut errors);
        }
        self.told(Fault::RequestInvalid, errors)?;
        let missing = self.body.is_some() && Self::needs_body(request.method()) && !request.has_body();
        let errors = if missing { vec![("#".into(), "a body is required".into())] } else { Vec::new() };
        self.told(Fault::BodyInvalid, errors)
    }

    /// Whether a request of this method means nothing without a body.
    pub fn needs_body(method: &Method) -> bool {
        matches!(*method, Method::POST | Method::PUT | Method::PATCH)
    }

    /// Refuses a whole body.
    pub fn check_body(&self, body: &[u8]) -> Result<(), Refusal> {
        let Some((schema, max)) = &self.body else { return Ok(()) };
        if body.len() > *max {
            return Err(self.rule.refuse(Fault::BodyTooLarge, format!("more than {max} bytes cannot be held back")));
        }
        self.told(Fault::BodyInvalid, schema.errors(body, MOST_ERRORS))
    }

    fn told(&self, fault: Fault, mut errors: Vec<(Box<str>, Box<str>)>) -> Result<(), Refusal> {
        let Some((at, sentence)) = errors.first() else { return Ok(()) };
        let mut refusal = self.rule.refuse(fault, format!("{at}: {sentence}"));
        errors.truncate(MOST_ERRORS);
        refusal.errors = errors;
        Err(refusal)
    }
}

impl Config {
    fn params(&self) -> impl Iterator<Item = (&'static str, &str, &Param)> {
        let headers = self.headers.iter().map(|(name, param)| ("headers", name.as_str(), param));
        headers.chain(self.query.iter().map(|(name, param)| ("query", &**name, param)))
    }
}

#[cfg(test)]
mod tests;
