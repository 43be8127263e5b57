//! One answer made of the results: an object of them, all their fields, or what a template makes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use bytes::Bytes;
use http::HeaderValue;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, filters};
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{As, Config};
use crate::fault::Fault;
use crate::problem::{Path, Problems};

/// Steps of a template for one request, at most.
const FUEL: u64 = 200_000;
/// Bytes that a template makes, at most.
const MOST: usize = 16 << 20;
const NAME: &str = "gather";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How the results become one answer.
pub(super) enum Shape {
    Object,
    Merge,
    Template(Box<Environment<'static>>, HeaderValue),
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "Object",
            Self::Merge => "Merge",
            Self::Template(..) => "Template",
        })
    }
}

/// Why there is no answer.
pub(super) struct Unmade {
    pub(super) fault: Fault,
    pub(super) why: String,
}

impl Shape {
    pub(super) fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Self {
        let Some(text) = &config.template else {
            if config.kind.is_some() {
                problems.error(at.key("type"), "is of what a `template` makes, and there is none");
            }
            return if config.shape == Some(As::Merge) { Self::Merge } else { Self::Object };
        };
        if config.shape.is_some() {
            problems.error(at.key("as"), "stands beside `template`, which says it all");
        }
        let mut room = Environment::new();
        room.set_fuel(Some(FUEL));
        room.set_undefined_behavior(UndefinedBehavior::Strict);
        room.set_auto_escape_callback(|_| AutoEscape::None);
        room.add_filter("tojson", tojson);
        if let Err(why) = room.add_template_owned(NAME, text.to_string()) {
            let line = why.line().map(|line| format!("line {line}: ")).unwrap_or_default();
            problems.error(at.key("template"), format!("{line}{why:#}").lines().next().unwrap_or_default().to_owned());
        }
        let kind = config.kind.as_deref().map(HeaderValue::from_str).transpose();
        let kind = kind.unwrap_or_else(|_| {
            problems.error(at.key("type"), "is not a content type, e.g. application/json");
            None
        });
        Self::Template(Box::new(room), kind.unwrap_or(JSON))
    }

    /// Whether the values are looked into, and not only what they are written as.
    pub(super) fn wants_values(&self) -> bool {
        matches!(self, Self::Template(..))
    }

    /// The answer: each call with what it was written as, and its value where that is wanted.
    pub(super) fn compose(&self, results: &[(&str, &Bytes, Option<&Value>)]) -> Result<(Bytes, HeaderValue), Unmade> {
        match self {
            Self::Object => Ok((object(results.iter().map(|(name, raw, _)| (*name, &***raw))), JSON)),
            Self::Merge => Ok((merge(results)?, JSON)),
            Self::Template(room, kind) => {
                let values: BTreeMap<_, _> = results.iter().map(|(name, _, value)| (*name, *value)).collect();
                let body = render(room, &values).map_err(|why| Unmade { fault: Fault::GatherTemplate, why })?;
                if *kind == JSON
                    && let Err(why) = serde_json::from_slice::<IgnoredAny>(&body)
                {
                    return Err(Unmade { fault: Fault::GatherTemplate, why: format!("makes no JSON: {why}") });
                }
                Ok((body, kind.clone()))
            }
        }
    }
}

fn object<'r>(results: impl Iterator<Item = (&'r str, &'r [u8])>) -> Bytes {
    let mut out = vec![b'{'];
    for (name, raw) in results {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(Value::from(name).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(raw);
    }
    out.push(b'}');
    out.into()
}

fn merge(results: &[(&str, &Bytes, Option<&Value>)]) -> Result<Bytes, Unmade> {
    let mut all: BTreeMap<String, &RawValue> = BTreeMap::new();
    for (name, raw, _) in results {
        let fields: Option<BTreeMap<String, &RawValue>> = serde_json::from_slice(raw).map_err(|_| Unmade {
            fault: Fault::GatherFailed,
            why: format!("`{name}` is no object, and cannot be merged"),
        })?;
        all.extend(fields.unwrap_or_default());
    }
    Ok(object(all.iter().map(|(name, raw)| (&**name, raw.get().as_bytes()))))
}

fn render(room: &Environment<'_>, values: &BTreeMap<&str, Option<&Value>>) -> Result<Bytes, String> {
    let mut out = Room(Vec::new());
    let told = |why: minijinja::Error| {
        let line = why.line().map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{line}{why:#}").lines().next().unwrap_or_default().to_owned()
    };
    let template = room.get_template(NAME).map_err(told)?;
    template.render_captured_to(minijinja::Value::from(minijinja::value::Serde(values)), &mut out).map_err(told)?;
    Ok(out.0.into())
}

/// Minijinja's own makes null of what is not there, strict or not.
fn tojson(
    value: &minijinja::Value,
    indent: Option<minijinja::Value>,
    args: Kwargs,
) -> Result<minijinja::Value, minijinja::Error> {
    if is_whole(value) { filters::tojson(value, indent, args) } else { Err(ErrorKind::UndefinedError.into()) }
}

/// Whether all of it is there.
fn is_whole(value: &minijinja::Value) -> bool {
    match value.kind() {
        ValueKind::Undefined => false,
        ValueKind::Seq | ValueKind::Iterable => value.try_iter().is_ok_and(|mut all| all.all(|one| is_whole(&one))),
        ValueKind::Map => {
            value.try_iter().is_ok_and(|mut all| all.all(|key| value.get_item(&key).is_ok_and(|one| is_whole(&one))))
        }
        _ => true,
    }
}

/// Room for what a template makes, and no more.
struct Room(Vec<u8>);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(io::Error::other(format!("makes more than {MOST} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
