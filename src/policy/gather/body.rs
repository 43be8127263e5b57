//! The body of a call: JSON in which a text that is nothing but `$name` stands for the value itself.

use serde_json::Value;

use super::call::Terms;
use super::known::{self, Held, Known};
use super::said::{self, Part, Source};

/// A body to be made.
#[derive(Debug)]
pub(super) enum Body {
    Plain(Value),
    Text(Vec<Part>),
    List(Vec<Body>),
    Map(Vec<(String, Body)>),
}

impl Body {
    pub(super) fn read(value: &Value, terms: &Terms<'_>) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => match said::read(text, terms)? {
                parts if parts.iter().any(|part| matches!(part, Part::From(_))) => Self::Text(parts),
                parts => Self::Plain(Value::String(parts.iter().map(plain).collect())),
            },
            Value::Array(list) => {
                Self::List(list.iter().map(|value| Self::read(value, terms)).collect::<Result<_, _>>()?)
            }
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| Ok((key.clone(), Self::read(value, terms)?));
                Self::Map(map.iter().map(entry).collect::<Result<_, String>>()?)
            }
            other => Self::Plain(other.clone()),
        })
    }

    pub(super) fn sources<'b>(&'b self, to: &mut Vec<&'b Source>) {
        match self {
            Self::Plain(_) => {}
            Self::Text(parts) => to.extend(parts.iter().filter_map(source)),
            Self::List(list) => list.iter().for_each(|body| body.sources(to)),
            Self::Map(map) => map.iter().for_each(|(_, body)| body.sources(to)),
        }
    }

    /// The body for this request; what is not there is null, and in the middle of a text nothing.
    pub(super) fn make(&self, known: &Known<'_>) -> String {
        match self {
            Self::Plain(value) => value.to_string(),
            Self::Text(parts) => match &parts[..] {
                [Part::From(source)] => known.value(source).map_or("null".into(), Held::json).into_owned(),
                parts => {
                    let one = |part| known.write(std::slice::from_ref(part), known::plain).unwrap_or_default();
                    Value::from(parts.iter().map(one).collect::<String>()).to_string()
                }
            },
            Self::List(list) => format!("[{}]", joined(list.iter().map(|body| body.make(known)))),
            Self::Map(map) => {
                let entry = |(key, body): &(String, Self)| format!("{}:{}", Value::from(&**key), body.make(known));
                format!("{{{}}}", joined(map.iter().map(entry)))
            }
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

fn plain(part: &Part) -> &str {
    match part {
        Part::Plain(text) => text,
        Part::From(_) => "",
    }
}

pub(super) fn source(part: &Part) -> Option<&Source> {
    match part {
        Part::Plain(_) => None,
        Part::From(source) => Some(source),
    }
}
