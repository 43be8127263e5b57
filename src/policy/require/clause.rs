//! The clauses of `require`, as they are written and as they are asked.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::test::{self, Test};
use crate::exchange::{Identity, Request};
use crate::policy::expression::Expression;
use crate::problem::{Path, Problems};

/// Every key; those with a dot take a name behind it.
pub(super) const KEYS: [&str; 12] = [
    "scope",
    "role",
    "claim.NAME",
    "consumer",
    "consumer.NAME",
    "certificate.subject",
    "certificate.fingerprint",
    "expression",
    "any",
    "all",
    "not",
    "mode",
];

/// A key that is known; one that is not is a mistake at its own place.
pub(super) struct Key(pub String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
                let known =
                    matches!(key, "expression" | "any" | "all" | "not" | "mode") || key.parse::<Subject>().is_ok();
                if known { Ok(Key(key.to_owned())) } else { Err(E::unknown_field(key, &KEYS)) }
            }
        }
        from.deserialize_identifier(Visitor)
    }
}

/// Clauses that all have to hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Clauses(pub Vec<Clause>);

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Clause {
    Test(Subject, Test),
    Expression(Box<str>),
    Any(Vec<Clauses>),
    All(Vec<Clauses>),
    Not(Clauses),
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Subject {
    Scope,
    Role,
    Claim(Box<str>),
    Consumer,
    Attribute(Box<str>),
    CertificateName,
    CertificateFingerprint,
}

impl FromStr for Subject {
    type Err = ();

    fn from_str(key: &str) -> Result<Self, ()> {
        let named = |prefix: &str| key.strip_prefix(prefix).filter(|name| !name.is_empty()).map(Box::from);
        match key {
            "scope" => Ok(Self::Scope),
            "role" => Ok(Self::Role),
            "consumer" => Ok(Self::Consumer),
            "certificate.subject" => Ok(Self::CertificateName),
            "certificate.fingerprint" => Ok(Self::CertificateFingerprint),
            _ => named("claim.").map(Self::Claim).or_else(|| named("consumer.").map(Self::Attribute)).ok_or(()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope => f.write_str("scope"),
            Self::Role => f.write_str("role"),
            Self::Claim(name) => write!(f, "claim.{name}"),
            Self::Consumer => f.write_str("consumer"),
            Self::Attribute(name) => write!(f, "consumer.{name}"),
            Self::CertificateName => f.write_str("certificate.subject"),
            Self::CertificateFingerprint => f.write_str("certificate.fingerprint"),
        }
    }
}

impl Clause {
    /// Reads the value of a key.
    pub(super) fn read<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error> {
        match key {
            "expression" => map.next_value().map(Self::Expression),
            "any" => map.next_value().map(Self::Any),
            "all" => map.next_value().map(Self::All),
            "not" => map.next_value().map(Self::Not),
            key => {
                let subject = key.parse().map_err(|()| de::Error::unknown_field(key, &KEYS))?;
                Ok(Self::Test(subject, map.next_value()?))
            }
        }
    }

    pub(super) fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Test(subject, test) => map.serialize_entry(&subject.to_string(), test),
            Self::Expression(text) => map.serialize_entry("expression", text),
            Self::Any(all) => map.serialize_entry("any", all),
            Self::All(all) => map.serialize_entry("all", all),
            Self::Not(clauses) => map.serialize_entry("not", clauses),
        }
    }

    fn compile(&self, at: &Path, problems: &mut Problems) -> Option<Decided> {
        let mut each = |key: &str, all: &[Clauses]| {
            if all.is_empty() {
                problems.error(at.key(key), "needs at least one map of clauses");
            }
            let compile = |(index, one): (usize, &Clauses)| one.compile(&at.key(key).index(index), problems);
            all.iter().enumerate().map(compile).collect()
        };
        Some(match self {
            Self::Test(subject, test) => {
                let at = at.key(&subject.to_string());
                Decided::Test(subject.to_string().into(), subject.clone(), test.check(&at, problems)?)
            }
            Self::Expression(text) => {
                let made = Expression::compile(text);
                Decided::Expression(made.map_err(|why| problems.error(at.key("expression"), why)).ok()?)
            }
            Self::Any(all) => Decided::Any(each("any", all)),
            Self::All(all) => Decided::All(each("all", all)),
            Self::Not(clauses) => Decided::Not(clauses.compile(&at.key("not"), problems)),
        })
    }
}

impl Clauses {
    pub(super) fn compile(&self, at: &Path, problems: &mut Problems) -> Vec<Decided> {
        self.0.iter().filter_map(|clause| clause.compile(at, problems)).collect()
    }
}

impl<'de> Deserialize<'de> for Clauses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Clauses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("clauses, e.g. { role: admin }")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Clauses, A::Error> {
                let mut clauses = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    clauses.push(Clause::read(&key, &mut map)?);
                }
                if clauses.is_empty() {
                    return Err(de::Error::custom("needs at least one clause, e.g. { role: admin }"));
                }
                Ok(Clauses(clauses))
            }
        }
        from.deserialize_map(Visitor)
    }
}

impl Serialize for Clauses {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for clause in &self.0 {
            clause.write(&mut map)?;
        }
        map.end()
    }
}

/// A clause, decided once.
#[derive(Debug)]
pub(super) enum Decided {
    Test(Box<str>, Subject, Test),
    Expression(Expression),
    Any(Vec<Vec<Decided>>),
    All(Vec<Vec<Decided>>),
    Not(Vec<Decided>),
}

impl Decided {
    /// As the log names it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Test(name, ..) => name,
            Self::Expression(_) => "expression",
            Self::Any(_) => "any",
            Self::All(_) => "all",
            Self::Not(_) => "not",
        }
    }

    /// Whether only `auth` can tell it.
    pub(super) fn asks_who(&self) -> bool {
        let asks = |clauses: &Vec<Self>| clauses.iter().any(Self::asks_who);
        match self {
            Self::Test(_, Subject::CertificateName | Subject::CertificateFingerprint, _) => false,
            Self::Test(..) => true,
            Self::Expression(expression) => expression.asks_who(),
            Self::Any(all) | Self::All(all) => all.iter().any(asks),
            Self::Not(clauses) => asks(clauses),
        }
    }

    /// Whether it holds; `None` where that cannot be told.
    pub(super) fn holds(&self, request: &dyn Request, identity: &Identity) -> Option<bool> {
        let every = |clauses: &Vec<Self>| every(clauses.iter().map(|clause| clause.holds(request, identity)));
        match self {
            Self::Test(_, subject, test) => subject.look(request, identity, test),
            Self::Expression(expression) => expression.holds(request, identity),
            Self::All(all) => self::every(all.iter().map(every)),
            // One holds if not all of them do not.
            Self::Any(all) => self::every(all.iter().map(|one| every(one).map(|held| !held))).map(|none| !none),
            Self::Not(clauses) => every(clauses).map(|held| !held),
        }
    }
}

/// False where one is false, else unknown where one is unknown.
fn every(all: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut whole = Some(true);
    for one in all {
        match one {
            Some(false) => return Some(false),
            Some(true) => {}
            None => whole = None,
        }
    }
    whole
}

impl Subject {
    fn look(&self, request: &dyn Request, identity: &Identity, test: &Test) -> Option<bool> {
        let claims = identity.claims.as_deref();
        match self {
            Self::Scope => {
                let claims = claims?;
                let words = |name| claims.get(name).map_or_else(Vec::new, words);
                test.any_of(&[words("scope"), words("scp")].concat(), request)
            }
            Self::Role => {
                let claims = claims?;
                let all = ["roles", "role"].iter().filter_map(|name| claims.get(*name));
                test.any_of(&all.flat_map(elements).cloned().collect::<Vec<_>>(), request)
            }
            Self::Claim(name) => test.any_of(&found(claims?, name), request),
            Self::Consumer => test.any_of(&[json!(identity.consumer.as_deref()?)], request),
            Self::Attribute(name) => test.any_of(&found(identity.attributes.as_deref()?, name), request),
            Self::CertificateName => test.any_of(&[json!(request.certificate()?.subject)], request),
            Self::CertificateFingerprint => test.any_of(&[json!(request.certificate()?.fingerprint)], request),
        }
    }
}

/// The words of a text or the elements of a list.
fn words(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().map(Value::from).collect(),
        value => elements(value).to_vec(),
    }
}

fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(all) => all,
        one => std::slice::from_ref(one),
    }
}

/// What stands under this name, or under these names one in another.
fn found(map: &Map<String, Value>, name: &str) -> Vec<Value> {
    let inside = || {
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(map.get(first)?, |value, part| value.get(part))
    };
    map.get(name).or_else(inside).map_or_else(Vec::new, |value| elements(value).to_vec())
}

pub(super) fn schema(mode: &schemars::Schema) -> schemars::Schema {
    let (words, test) = (test::words_schema(), test::schema());
    let nested =
        json!({ "type": "array", "minItems": 1, "items": { "type": "object", "description": "The same keys again." } });
    schemars::json_schema!({
        "description": "What has to hold of a client and its request: clauses, or an expression.",
        "anyOf": [{ "type": "string" }, {
            "type": "object",
            "properties": {
                "scope": { "description": "A scope of the token; of a list, one.", "anyOf": words },
                "role": { "description": "A role in the token's `roles` or `role`; of a list, one.", "anyOf": words },
                "consumer": { "description": "The name of the client; of a list, one.", "anyOf": words },
                "certificate.subject": { "description": "The subject of the client's certificate.", "anyOf": words },
                "certificate.fingerprint": { "description": "SHA-256 of the client's certificate.", "anyOf": words },
                "expression": { "description": "An expression (CEL) that has to be true.", "type": "string" },
                "any": { "description": "One of these has to hold.", "anyOf": [nested] },
                "all": { "description": "All of these have to hold.", "anyOf": [nested] },
                "not": { "description": "This must not hold, and it must be possible to tell.", "type": "object" },
                "mode": { "description": "`shadow` only counts and logs who would be refused.", "anyOf": [mode] },
            },
            "patternProperties": { "^(claim|consumer)\\..+$": test },
            "additionalProperties": false,
        }],
    })
}
