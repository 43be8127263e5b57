//! Speaks HTTP with JSON to clients and gRPC to the target.
//!
//! ```yaml
//! transcode:
//!   proto: [protos/shop.proto]          # or descriptors: shop.binpb
//!   import: [protos/]
//!   services: [shop.v1.Shop]
//!   stream: ndjson
//!   print: { default_fields: true }
//! ```
//!
//! Which request is which call, the rules of `google.api.http` say in the `.proto` files; a method without one is
//! `POST /package.Service/Method`. Requests that speak gRPC themselves pass as they are. Rules are compiled into one tree
//! of segments when the document is read; JSON is read and written as proto3 has it.

mod field;
mod fields;
pub mod frame;
mod known;
mod print;
mod read;
mod request;
mod response;
mod rule;
mod scalar;
mod source;
mod status;
mod template;
mod tree;
mod zero;

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;
use http::Method as Verb;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::print::Print;
use self::request::Reading;
pub use self::request::{Parts, Wrong};
pub use self::response::{Answer, Failed, Shape};
pub use self::rule::{Binding, Method};
use self::source::Described;
pub use self::status::Status;
use self::tree::Tree;
use super::guard::{Rule, Tools};
use crate::problem::{Path, Problems, nearest};
use crate::units::{Mode, Size};

/// Speaks HTTP with JSON to clients and gRPC to the pool, which has to speak HTTP/2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Transcode")]
pub struct Config {
    /// The `.proto` files whose services are served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proto: Vec<PathBuf>,
    /// Directories in which their imports are found; those of the files themselves where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub import: Vec<PathBuf>,
    /// In place of `proto`: a set that protoc has compiled with `--include_imports --descriptor_set_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<PathBuf>,
    /// The services that are served, e.g. shop.v1.Shop; all of those files where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Box<str>>,
    /// How a stream of answers is written: `ndjson`, or `sse` as for clients that accept text/event-stream.
    #[serde(default)]
    pub stream: Stream,
    /// How messages are written as JSON.
    #[serde(default)]
    pub print: print::Config,
    /// Whether fields and parameters that nobody knows mean nothing instead of 400.
    #[serde(default)]
    pub ignore_unknown: bool,
    /// The longest message, in both directions, as JSON and on the wire.
    #[serde(default = "four_mebibytes")]
    pub max_message: Size,
    /// The longest body of a request, in which a stream may have many messages.
    #[serde(default = "ten_mebibytes")]
    pub max_body: Size,
}

fn four_mebibytes() -> Size {
    Size::from_bytes(4 << 20)
}

fn ten_mebibytes() -> Size {
    Size::from_bytes(10 << 20)
}

/// How a stream of answers is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TranscodeStream")]
pub enum Stream {
    /// A line of JSON a message.
    #[default]
    Ndjson,
    /// Events, as browsers read them.
    Sse,
}

/// Services and their rules, decided once.
#[derive(Debug)]
pub struct Transcode {
    pool: DescriptorPool,
    bindings: Vec<Binding>,
    tree: Tree<usize>,
    stream: Stream,
    print: Print,
    reading: Reading,
    most_body: usize,
    files: Vec<PathBuf>,
    rule: Rule,
}

/// The rule that takes a request, and what of the path belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Found<'t, 'p> {
    pub binding: &'t Binding,
    path: &'p str,
}

/// No rule takes the request.
#[derive(Debug)]
pub enum Miss<'t> {
    /// The path is known, but not with this method.
    Method {
        allow: String,
        nearest: &'t Binding,
    },
    Path {
        nearest: Option<&'t Binding>,
    },
}

impl Miss<'_> {
    /// What the log is told.
    pub fn why(&self) -> String {
        match self {
            Self::Method { nearest, .. } => format!("{} needs {nearest}", nearest.method.name),
            Self::Path { nearest: Some(nearest) } => format!("the nearest is {}: {nearest}", nearest.method.name),
            Self::Path { nearest: None } => "no rule begins like this path".to_owned(),
        }
    }
}

impl Transcode {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.max_message.bytes() > config.max_body.bytes() {
            problems.error(at.key("max_message"), format!("is more than `max_body` ({})", config.max_body));
        }
        let described = source::read(config, at, problems)?;
        let services = chosen(config, &described, at, problems);
        let bindings = bindings(&services, &described, at, problems);
        let mut tree = Tree::default();
        bindings.iter().enumerate().for_each(|(index, binding)| tree.insert(&binding.template, index));
        (problems.errors() == before).then(|| Self {
            pool: described.pool,
            bindings,
            tree,
            stream: config.stream,
            print: Print::new(&config.print),
            reading: Reading { ignore_unknown: config.ignore_unknown, most: config.max_message.len() },
            most_body: config.max_body.len(),
            files: described.files,
            rule: Rule::new(at, Mode::Enforce, tools),
        })
    }

    /// The `.proto` files with all that they import, or the set.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// For refusals by this route's rules.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The most bytes of a body that are read.
    pub fn most_body(&self, binding: &Binding) -> usize {
        if binding.method.takes_many { self.most_body } else { self.reading.most }
    }

    /// The most bytes of a message.
    pub fn most_message(&self) -> usize {
        self.reading.most
    }

    /// The rule for this request; HEAD is GET without an answer's body.
    pub fn find<'t, 'p>(&'t self, verb: &Verb, path: &'p str) -> Result<Found<'t, 'p>, Miss<'t>> {
        let (mut found, mut others) = (None, Vec::new());
        let takes = |binding: &Binding, verb: &Verb| binding.verb.as_ref().is_none_or(|taken| taken == verb);
        let mut as_get = None;
        self.tree.walk(path, &mut |index, cut| {
            let Some(binding) = self.bindings.get(index) else { return false };
            let here = Some((binding, cut));
            if takes(binding, verb) {
                found = here;
            } else if *verb == Verb::HEAD && as_get.is_none() && takes(binding, &Verb::GET) {
                as_get = here;
            } else {
                others.push(binding);
            }
            found.is_some()
        });
        if let Some((binding, cut)) = found.or(as_get) {
            let path = path.get(..path.len() - cut).unwrap_or(path);
            return Ok(Found { binding, path });
        }
        let Some(nearest) = others.first() else {
            let nearest = self.tree.nearest(path).and_then(|index| self.bindings.get(index));
            return Err(Miss::Path { nearest });
        };
        let mut allow: Vec<&str> = others.iter().filter_map(|other| other.verb.as_ref()).map(Verb::as_str).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        allow.sort_unstable();
        allow.dedup();
        Err(Miss::Method { allow: allow.join(", "), nearest })
    }

    /// The messages of the call on the wire.
    pub fn messages(&self, found: &Found<'_, '_>, parts: &Parts<'_>) -> Result<Bytes, Wrong> {
        request::read(found.binding, &Parts { path: found.path, ..*parts }, self.reading)
    }

    /// How the answers of the call are written for a client that accepts this.
    pub fn answer<'t>(&'t self, binding: &'t Binding, accept: &[&str]) -> Answer<'t> {
        Answer::new(&self.print, binding, self.stream, accept, self.reading.most)
    }

    /// The problem document of a call that failed.
    pub fn problem(&self, status: &Status, request_id: &str) -> serde_json::Value {
        status.problem(&self.pool, &self.print, request_id)
    }
}

/// The services that the document asks for.
fn chosen(config: &Config, described: &Described, at: &Path, problems: &mut Problems) -> Vec<ServiceDescriptor> {
    if config.services.is_empty() {
        if described.services.is_empty() {
            problems.error(at.clone(), "there is no service in these files");
        }
        return described.services.clone();
    }
    let all: Vec<_> = described.pool.services().collect();
    let mut chosen = Vec::new();
    for (index, name) in config.services.iter().enumerate() {
        if let Some(service) = all.iter().find(|service| service.full_name() == &**name) {
            chosen.push(service.clone());
            continue;
        }
        let near = nearest(name, all.iter().map(ServiceDescriptor::full_name));
        let known = || all.iter().map(ServiceDescriptor::full_name).collect::<Vec<_>>().join(", ");
        let hint = near.map_or_else(|| format!("Services: {}", known()), |near| format!("Did you mean `{near}`?"));
        problems.error(at.key("services").index(index), format!("there is no service `{name}` in these files. {hint}"));
    }
    chosen
}

/// All rules; no two of them may take the same requests.
fn bindings(services: &[ServiceDescriptor], described: &Described, at: &Path, problems: &mut Problems) -> Vec<Binding> {
    let (mut all, mut taken) = (Vec::new(), HashMap::new());
    for method in services.iter().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let (place, name) = (described.place(&method), rule::name(&method));
        let mut wrong = Vec::new();
        for binding in rule::bindings(&method, &described.pool, &mut wrong) {
            let same = taken.entry(binding.takes()).or_insert_with(|| format!("{name} ({place})"));
            if *same == format!("{name} ({place})") {
                all.push(binding);
            } else {
                wrong.push(format!("`{binding}` takes the same requests as {same}; leave one out by `services`"));
            }
        }
        for why in wrong {
            problems.error(at.clone(), format!("{place}: {name}: {why}"));
        }
    }
    // A rule for every method of HTTP takes what no other does.
    all.sort_by_key(|binding: &Binding| binding.verb.is_none());
    all
}

#[cfg(test)]
mod tests;
