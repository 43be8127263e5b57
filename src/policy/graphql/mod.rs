//! Refuses GraphQL that costs too much, or that is not on the list of what may run.
//!
//! ```yaml
//! graphql: { depth: 10, aliases: 20, complexity: 1000, costs: { search: 10 }, tokens: 2000 }
//! graphql: { operations: ./operations.json }
//! ```
//!
//! No schema is needed: fields cost 1 unless `costs` says otherwise, and what is below a list counts as often as its `first`,
//! `last` or `limit` says.

mod document;
mod listed;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::document::{Cost, Kind, Operation};
use self::listed::Listed;
use self::request::Asked;
use super::guard::{Mode, Rule, Tools};
use super::once::Once;
use crate::exchange::{self, Found, Refusal, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::GraphqlMetrics;
use crate::units::Size;

/// What GraphQL may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Graphql")]
pub struct Config {
    /// How deeply fields may lie within fields, fragments followed.
    pub depth: NonZeroU32,
    /// How many fields may have another name.
    pub aliases: u32,
    /// The sum of the costs of all fields; what is below a list counts as often as its `first`, `last` or `limit` says.
    pub complexity: NonZeroU32,
    /// Fields that cost more or less than 1, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub costs: BTreeMap<Box<str>, u32>,
    /// How many tokens a document may have; what is longer is not read.
    pub tokens: NonZeroU32,
    /// How many operations may come in one request, counted together.
    pub batch: NonZeroU32,
    /// Whether clients may ask for the schema.
    #[serde(skip_serializing_if = "Introspection::is_default")]
    pub introspection: Introspection,
    /// The file with the operations that may run, no others: a map of ids and texts, or a manifest of Apollo's tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Box<str>>,
    /// The largest body.
    pub max: Size,
    /// `shadow` only counts and logs what would be refused.
    #[serde(skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

/// Whether clients may ask for the schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "GraphqlIntrospection")]
pub enum Introspection {
    /// They may not.
    #[default]
    Refuse,
    /// They may.
    Allow,
}

impl Introspection {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Config {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            depth: number(10),
            aliases: 20,
            complexity: number(1000),
            costs: BTreeMap::new(),
            tokens: number(2000),
            batch: NonZeroU32::MIN,
            introspection: Introspection::default(),
            operations: None,
            max: Size::from_bytes(256 << 10),
            mode: Mode::default(),
        }
    }
}

/// What may be asked for, decided once.
#[derive(Debug)]
pub struct Graphql {
    most: Cost,
    tokens: usize,
    batch: usize,
    costs: HashMap<Box<str>, u64>,
    introspection: Introspection,
    listed: Option<Listed>,
    file: Option<PathBuf>,
    max: usize,
    counted: Option<Arc<GraphqlMetrics>>,
    rule: Rule,
}

/// What the target gets in place of a hash.
#[derive(Debug, PartialEq)]
pub enum Instead {
    Body(Bytes),
    /// One more parameter of the query.
    Parameter(Box<str>),
}

/// What clients of Apollo look for.
const NOT_FOUND: &str = "PersistedQueryNotFound";
/// The name of what is on no list.
const OTHER: &str = "other";
/// A name is cut there.
const LONGEST_NAME: usize = 64;

impl Graphql {
    /// `at` is `routes.NAME.graphql`.
    pub fn compile(
        config: &Config,
        route: &str,
        at: &Path,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Box<Self>> {
        let before = problems.errors();
        let listed = config
            .operations
            .as_deref()
            .and_then(|file| Listed::read(file).map_err(|why| problems.error(at.key("operations"), why)).ok());
        if config.max.is_empty() || config.max.len() > 16 << 20 {
            problems.error(at.key("max"), "from 1B to 16MiB");
        }
        (problems.errors() == before).then(|| {
            Box::new(Self {
                most: Cost {
                    depth: config.depth.get().into(),
                    aliases: config.aliases.into(),
                    complexity: config.complexity.get().into(),
                    introspects: false,
                },
                tokens: config.tokens.get() as usize,
                batch: config.batch.get() as usize,
                costs: config.costs.iter().map(|(name, cost)| (name.clone(), u64::from(*cost))).collect(),
                introspection: config.introspection,
                listed,
                file: config.operations.as_deref().map(PathBuf::from),
                max: config.max.len(),
                counted: tools.metrics.map(|metrics| Arc::new(metrics.graphql(route))),
                rule: Rule::new(at, config.mode, tools),
            })
        })
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// The largest body.
    pub fn most(&self) -> usize {
        self.max
    }

    /// Refuses what may not run, and leaves behind what it is. A body is there where the method has one.
    pub fn check(&self, request: &dyn Request, body: &[u8], found: &mut Found) -> Result<Option<Instead>, Refusal> {
        let said = self.look(request, body, found);
        let result = match (&said, self.rule.mode) {
            (Ok(_), _) => "passed",
            (Err(_), Mode::Enforce) => "refused",
            (Err(_), Mode::Shadow) => "would_refuse",
        };
        if let Some(counted) = &self.counted {
            let query = found.graphql.as_ref();
            let kind = query.map_or("-", |query| query.kind);
            counted.count(query.map_or(OTHER, |query| &query.listed), kind, result);
        }
        match (said, self.rule.mode) {
            (Err(refusal), Mode::Shadow) => {
                found.would_refuse.push(refusal);
                Ok(None)
            }
            (said, _) => said,
        }
    }

    /// The same where nothing is counted.
    pub fn foresee(&self, request: &dyn Request, body: &[u8], found: &mut Found) -> Result<(), Refusal> {
        match self.look(request, body, found) {
            Err(refusal) if self.rule.mode == Mode::Enforce => Err(refusal),
            _ => Ok(()),
        }
    }

    fn look(&self, request: &dyn Request, body: &[u8], found: &mut Found) -> Result<Option<Instead>, Refusal> {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            let asked = Asked::of_query(request.query()).map_err(|why| self.invalid(&why))?;
            let (text, put_in) = self.text(&asked)?;
            let operation = self.measure(&text, &asked)?;
            self.leave(found, &operation, &text);
            if operation.kind == Kind::Mutation {
                return Err(self.refuse("GET", "a mutation needs POST"));
            }
            self.afford(&operation, operation.cost)?;
            let parameter = || Instead::Parameter(format!("query={}", escaped(&text)).into());
            return Ok(put_in.then(parameter));
        }
        if let Some(name) = request::named(request.query()) {
            return Err(self.invalid(&format!("says `{name}` in the query string, and has a body")));
        }
        let kind = request.header("content-type").unwrap_or_default();
        if !super::transform::is_json(kind) {
            let mut refusal = self.rule.refuse(Fault::BodyType, "GraphQL comes as application/json");
            refusal.fields.push((header::ACCEPT, header::HeaderValue::from_static("application/json")));
            return Err(refusal);
        }
        let wrong = |why: serde_json::Error| {
            let what = if why.is_data() { "has a key twice" } else { "is not JSON" };
            format!("{what}: line {}, column {}", why.line(), why.column())
        };
        let Once(mut value) = serde_json::from_slice(body).map_err(|why| self.invalid(&wrong(why)))?;
        let changed = match &mut value {
            Value::Array(items) => self.batch(items, found)?,
            value => self.one(value, Cost::default(), found).map(|(_, changed)| changed)?,
        };
        Ok(changed.then(|| Instead::Body(value.to_string().into())))
    }

    /// Several operations, counted together.
    fn batch(&self, items: &mut [Value], found: &mut Found) -> Result<bool, Refusal> {
        if items.len() > self.batch {
            return Err(self.refuse("batch", &format!("{} operations are more than {}", items.len(), self.batch)));
        }
        if items.is_empty() {
            return Err(self.invalid("asks for nothing"));
        }
        let (mut sum, mut changed) = (Cost::default(), false);
        for item in items {
            let (so_far, this) = self.one(item, sum, found)?;
            (sum, changed) = (so_far, changed || this);
        }
        Ok(changed)
    }

    /// One operation on top of others; what it costs with them, and whether its text was put in.
    fn one(&self, value: &mut Value, others: Cost, found: &mut Found) -> Result<(Cost, bool), Refusal> {
        let asked = Asked::of_value(value).map_err(|why| self.invalid(&why))?;
        let (text, put_in) = self.text(&asked)?;
        let operation = self.measure(&text, &asked)?;
        self.leave(found, &operation, &text);
        let sum = Cost {
            depth: operation.cost.depth,
            aliases: others.aliases.saturating_add(operation.cost.aliases),
            complexity: others.complexity.saturating_add(operation.cost.complexity),
            introspects: operation.cost.introspects,
        };
        self.afford(&operation, sum)?;
        if put_in {
            request::put_in(value, &text);
        }
        Ok((sum, put_in))
    }

    /// The text that is to run, and whether it is the list that says it.
    fn text(&self, asked: &Asked) -> Result<(String, bool), Refusal> {
        let Some(listed) = &self.listed else {
            return match (&asked.query, &asked.hash) {
                (Some(text), _) => Ok((text.clone(), false)),
                // Who hears this sends the text.
                (None, Some(_)) => Err(self.refuse("operations", NOT_FOUND)),
                (None, None) => Err(self.invalid("has no `query`")),
            };
        };
        match (&asked.query, &asked.hash) {
            (Some(text), _) if listed.get(&listed::hash(text)).is_some() => Ok((text.clone(), false)),
            (None, Some(hash)) => match listed.get(hash) {
                Some((_, text)) => Ok((text.to_owned(), true)),
                None => Err(self.refuse("operations", NOT_FOUND)),
            },
            (Some(_), _) => Err(self.refuse("operations", "is not on the list of what may run")),
            (None, None) => Err(self.invalid("has neither `query` nor the hash of one")),
        }
    }

    fn measure(&self, text: &str, asked: &Asked) -> Result<Operation, Refusal> {
        let measured = document::measure(text, asked.name.as_deref(), &asked.variables, self.tokens, &self.costs);
        measured.map_err(|why| self.invalid(&why))
    }

    /// What comes after knows what it is; of several, the first.
    fn leave(&self, found: &mut Found, operation: &Operation, text: &str) {
        if found.graphql.is_some() {
            return;
        }
        let listed = self.listed.as_ref().and_then(|listed| listed.get(&listed::hash(text)));
        let cut = |name: &String| name.chars().take(LONGEST_NAME).collect::<String>().into();
        found.graphql = Some(Box::new(exchange::Operation {
            listed: listed.map_or(OTHER, |(name, _)| name).into(),
            name: operation.name.as_ref().map(cut),
            kind: operation.kind.word(),
        }));
    }

    fn afford(&self, operation: &Operation, sum: Cost) -> Result<(), Refusal> {
        let limits = [
            ("depth", sum.depth, self.most.depth),
            ("aliases", sum.aliases, self.most.aliases),
            ("complexity", sum.complexity, self.most.complexity),
        ];
        if let Some((key, is, most)) = limits.into_iter().find(|(_, is, most)| is > most) {
            return Err(self.refuse(key, &format!("{is} is more than {most}")));
        }
        if operation.cost.introspects && self.introspection == Introspection::Refuse {
            return Err(self.refuse("introspection", "the schema may not be asked for"));
        }
        Ok(())
    }

    /// More than is read.
    pub fn too_large(&self) -> Refusal {
        self.rule.refuse(Fault::BodyTooLarge, format!("more than the {} bytes that are read as a whole", self.max))
    }

    fn refuse(&self, key: &str, why: &str) -> Refusal {
        let mut refusal = self.rule.refuse(Fault::GraphqlRefused, format!("{key}: {why}"));
        refusal.errors.push((key.into(), why.into()));
        refusal
    }

    fn invalid(&self, why: &str) -> Refusal {
        let mut refusal = self.rule.refuse(Fault::GraphqlInvalid, format!("the request {why}"));
        refusal.errors.push(("#".into(), why.into()));
        refusal
    }
}

impl std::fmt::Display for Graphql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let most = self.most;
        write!(f, "depth {}, aliases {}, complexity {}", most.depth, most.aliases, most.complexity)?;
        if self.listed.is_some() { f.write_str(", listed operations only") } else { Ok(()) }
    }
}

/// As a value of a query string.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests;
