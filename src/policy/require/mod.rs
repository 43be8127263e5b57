//! Lets in only who has the right to: scopes, roles, claims, attributes, certificates, or an expression.
//!
//! ```yaml
//! require: { scope: orders:read, claim.tenant: $path.id, mode: shadow }
//! require: { any: [{ role: admin }, { claim.level: { min: 3 } }], not: { consumer.plan: [free, trial] } }
//! require: { certificate.subject: { regex: "CN=orders-.*" } }
//! require: 'jwt.plan == "gold" && request.method in ["GET", "HEAD"]'
//! ```
//!
//! All that is said has to hold. A list means one of its values; a claim that is a list holds where one of its elements
//! does. `$path.NAME`, `$query.NAME`, `$header.NAME`, `$host` and `$method` stand for parts of the request. What cannot
//! be told, because there is no identity or no such part, lets nobody in, under `not` too. An expression (CEL) sees
//! `jwt`, `consumer`, `certificate` and `request`; an error in it refuses.

mod clause;
mod test;

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::clause::{Clause, Clauses, Decided, KEYS, Key};
use super::guard::{Mode, Rule, Tools};
use crate::exchange::{Identity, Refusal, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};

/// What has to hold of a client and its request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// All of these.
    clauses: Clauses,
    /// `shadow` only counts and logs who would be refused.
    mode: Mode,
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("clauses, e.g. { scope: orders:read }, or an expression")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Config, E> {
                Ok(Config { clauses: Clauses(vec![Clause::Expression(text.into())]), mode: Mode::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut config = Config::default();
                while let Some(Key(key)) = map.next_key()? {
                    match key.as_str() {
                        "mode" => config.mode = map.next_value()?,
                        key => config.clauses.0.push(Clause::read(key, &mut map)?),
                    }
                }
                Ok(config)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for clause in &self.clauses.0 {
            clause.write(&mut map)?;
        }
        if !self.mode.is_default() {
            map.serialize_entry("mode", &self.mode)?;
        }
        map.end()
    }
}

impl JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Require".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mode = generator.subschema_for::<Mode>();
        clause::schema(&mode)
    }
}

/// What has to hold, decided once.
#[derive(Debug)]
pub struct Require {
    clauses: Vec<Decided>,
    rule: Rule,
}

impl Require {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.clauses.0.is_empty() {
            let keys = KEYS.iter().filter(|key| **key != "mode").copied().collect::<Vec<_>>().join(", ");
            problems.error(at.clone(), format!("takes at least one of {keys}"));
        }
        let clauses = config.clauses.compile(at, problems);
        (problems.errors() == before).then(|| Self { clauses, rule: Rule::new(at, config.mode, tools) })
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Whether it looks at what only `auth` can tell.
    pub fn asks_who(&self) -> bool {
        self.clauses.iter().any(Decided::asks_who)
    }

    /// Refuses unless every clause holds; the log is told which does not, and nothing of what the client sent.
    pub fn check(&self, request: &dyn Request, identity: &Identity) -> Result<(), Refusal> {
        for clause in &self.clauses {
            let why = match clause.holds(request, identity) {
                Some(true) => continue,
                Some(false) => "does not hold",
                None => "cannot be told",
            };
            return Err(self.rule.refuse(Fault::RequireRefused, format!("`{}` {why}", clause.name())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
