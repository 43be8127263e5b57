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
//! refused reaches no target, and what is larger than `body.max` is refused. `openapi` names a file that says all of it,
//! for every path and method.

mod openapi;
mod params;
mod schema;

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::openapi::Described;
use self::openapi::{OpenApi, Wrong};
use self::params::Errors;
pub use self::params::Param;
use self::schema::Schema;
pub use self::schema::Source;
use super::guard::{Mode, Rule, Tools};
use super::headers::Field;
use crate::exchange::{Found, Refusal, Request};
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
    /// What an `OpenAPI` document says of method, path, parameters and body; in place of `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<openapi::Source>,
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
    openapi: Option<OpenApi>,
    /// What bodies have to be: one shape, or those of the description.
    shapes: Vec<Shape>,
    max: usize,
    files: Vec<PathBuf>,
    rule: Rule,
}

/// What a body has to be.
#[derive(Debug)]
pub struct Shape {
    schema: Schema,
    required: Required,
}

/// Whether there has to be a body.
#[derive(Debug, Clone, Copy)]
enum Required {
    /// With the methods that mean nothing without one.
    ByMethod,
    Always(bool),
}

impl Shape {
    /// Whether a request of this method is refused without a body.
    pub fn is_required(&self, method: &Method) -> bool {
        match self.required {
            Required::ByMethod => matches!(*method, Method::POST | Method::PUT | Method::PATCH),
            Required::Always(required) => required,
        }
    }
}

impl Validate {
    /// The description of its requests, where there is one.
    pub fn described(&self) -> Option<Described<'_>> {
        self.openapi.as_ref().map(OpenApi::described)
    }

    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        config.fits(at, problems);
        let header = |(name, param): (&Field, &Param)| {
            Some((HeaderName::from_bytes(name.as_str().as_bytes()).ok()?, param.clone()))
        };
        let (mut shapes, mut max) = (Vec::new(), 0);
        if let Some(body) = &config.body {
            max = body.max.len();
            match Schema::compile(&body.schema) {
                Ok(schema) => shapes.push(Shape { schema, required: Required::ByMethod }),
                Err(why) => problems.error(at.key("body").key("schema"), why),
            }
        }
        let openapi = config.openapi.as_ref().and_then(|openapi| {
            max = openapi.max.len();
            let at = at.key("openapi");
            match OpenApi::compile(openapi, &mut shapes) {
                Ok(made) => {
                    made.warnings.iter().for_each(|why| problems.warn(at.clone(), why.as_str()));
                    Some(made)
                }
                Err(wrong) => {
                    for why in wrong {
                        problems.error(at.clone(), why);
                    }
                    None
                }
            }
        });
        (problems.errors() == before).then(|| Self {
            headers: config.headers.iter().filter_map(header).collect(),
            query: config.query.iter().map(|(name, param)| (name.clone(), param.clone())).collect(),
            openapi,
            shapes,
            max,
            files: config.files().collect(),
            rule: Rule::new(at, config.mode, tools),
        })
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether there are bodies that are looked at.
    pub fn looks_at_bodies(&self) -> bool {
        !self.shapes.is_empty()
    }

    /// The shape that the head has asked for.
    pub fn shape(&self, found: Option<&Found>) -> Option<&Shape> {
        self.shapes.get(found?.shape?)
    }

    /// The most bytes of a body that are looked at.
    pub fn most(&self) -> usize {
        self.max
    }

    /// Whether a body waits here until it was found good.
    pub fn holds_back(&self) -> bool {
        self.rule.mode == Mode::Enforce
    }

    /// Refuses what the head shows; leaves behind which shape the body has to have.
    pub fn check(&self, request: &dyn Request, found: &mut Found) -> Result<(), Refusal> {
        found.shape = (self.openapi.is_none() && self.looks_at_bodies()).then_some(0);
        let mut errors = Vec::new();
        for (name, param) in &self.headers {
            params::header(name, param, request, &mut errors);
        }
        for (name, param) in &self.query {
            params::query(name, param, request, &mut errors);
        }
        self.told(Fault::RequestInvalid, errors)?;
        if let Some(openapi) = &self.openapi {
            found.shape = openapi.check(request).or_else(|wrong| self.wrong(wrong))?;
            return Ok(());
        }
        let Some(shape) = self.shapes.first() else { return Ok(()) };
        let missing = shape.is_required(request.method()) && !request.has_body();
        let errors = if missing { vec![("#".into(), "a body is required".into())] } else { Vec::new() };
        self.told(Fault::BodyInvalid, errors)
    }

    fn wrong(&self, wrong: Wrong) -> Result<Option<usize>, Refusal> {
        match wrong {
            Wrong::Said(fault, errors) => self.told(fault, errors).map(|()| None),
            Wrong::Unknown(fault, fields) => {
                Err(Refusal { fields, ..self.rule.refuse(fault, "the description does not know it") })
            }
        }
    }

    /// Refuses a whole body.
    pub fn check_body(&self, shape: &Shape, body: &[u8]) -> Result<(), Refusal> {
        let max = self.max;
        if body.len() > max {
            return Err(self.rule.refuse(Fault::BodyTooLarge, format!("more than {max} bytes cannot be held back")));
        }
        self.told(Fault::BodyInvalid, shape.schema.errors(body, MOST_ERRORS))
    }

    fn told(&self, fault: Fault, mut errors: Errors) -> Result<(), Refusal> {
        let Some((at, sentence)) = errors.first() else { return Ok(()) };
        let mut refusal = self.rule.refuse(fault, format!("{at}: {sentence}"));
        errors.truncate(MOST_ERRORS);
        refusal.errors = errors;
        Err(refusal)
    }
}

impl Config {
    fn fits(&self, at: &Path, problems: &mut Problems) {
        if self.headers.is_empty() && self.query.is_empty() && self.body.is_none() && self.openapi.is_none() {
            problems.error(at.clone(), "takes at least one of `headers`, `query`, `body` and `openapi`");
        }
        if self.body.is_some() && self.openapi.is_some() {
            problems.error(at.clone(), "takes `body` or `openapi`, which says what bodies are");
        }
        for (key, name, param) in self.params() {
            if !param.required && param.regex.is_none() {
                problems.error(at.key(key).key(name), "takes at least one of `required` and `regex`");
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let schema = self.body.iter().filter_map(|body| body.schema.file());
        schema.chain(self.openapi.iter().map(openapi::Source::file))
    }

    fn params(&self) -> impl Iterator<Item = (&'static str, &str, &Param)> {
        let headers = self.headers.iter().map(|(name, param)| ("headers", name.as_str(), param));
        headers.chain(self.query.iter().map(|(name, param)| ("query", &**name, param)))
    }
}

#[cfg(test)]
mod tests;
