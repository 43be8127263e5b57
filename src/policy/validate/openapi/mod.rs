//! An `OpenAPI` 3 document as the source of what requests look like: method, path, parameters and body.

mod dialect;
mod document;
mod fields;
mod operation;
mod param;
mod paths;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::document::{At, Document};
use self::operation::{Operation, Operations};
use self::paths::Paths;
use super::Shape;
use super::params::Errors;
use crate::canonical;
use crate::exchange::Request;
use crate::fault::Fault;
use crate::units::Size;
use crate::units::{or_short, short_form};

/// Which description, and where its paths begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "OpenApi", transform = or_short)]
pub struct Source {
    /// A file with an `OpenAPI` document of version 3.0 or 3.1, YAML or JSON.
    pub file: Box<str>,
    /// What stands before its paths in requests; left out: the paths of its `servers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Box<str>>,
    /// The most that is held back of a JSON body; larger bodies are refused.
    #[serde(default = "super::mebibyte")]
    pub max: Size,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { file: text.into(), base: None, max: super::mebibyte() })
    }
}

short_form!(Source, "the name of a file, or { file, base, max }");

impl Source {
    pub(super) fn file(&self) -> PathBuf {
        PathBuf::from(&*self.file)
    }
}

/// A description, compiled.
#[derive(Debug)]
pub(super) struct OpenApi {
    said: Arc<Value>,
    bases: Vec<Box<str>>,
    paths: Paths<Operations>,
    operations: Vec<Operation>,
    /// What may stand in it and does nothing.
    pub(super) warnings: Vec<String>,
}

/// What a description says, for those who show it to others.
#[derive(Clone, Copy)]
pub struct Described<'a> {
    pub document: &'a Arc<Value>,
    pub bases: &'a [Box<str>],
}

/// What the head of a request shows to be wrong.
pub(super) enum Wrong {
    /// The path or the method is not described; fields of the answer.
    Unknown(Fault, Vec<(HeaderName, HeaderValue)>),
    /// Parameters, or a body that is not there.
    Said(Fault, Errors),
}

const METHODS: [(&str, Method); 8] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("options", Method::OPTIONS),
    ("head", Method::HEAD),
    ("patch", Method::PATCH),
    ("trace", Method::TRACE),
];

impl OpenApi {
    /// Everything in the document that would not be looked at is said, and refuses it.
    pub(super) fn compile(config: &Source, shapes: &mut Vec<Shape>) -> Result<Self, Vec<String>> {
        let document = Document::read(&config.file).map_err(|why| vec![why])?;
        let registry = document.registry().map_err(|why| vec![why])?;
        let root = document.root();
        let bases = match &config.base {
            Some(base) => vec![base.trim_end_matches('/').into()],
            None => bases(&root),
        };
        let (allowed, strange): (Vec<_>, Vec<_>) = document.strange.iter().cloned().partition(|(allowed, _)| *allowed);
        let mut wrong: Vec<String> = strange.into_iter().map(|(_, why)| why).collect();
        let warnings = allowed.into_iter().map(|(_, why)| why).collect();
        let (mut paths, mut operations) = (Paths::default(), Vec::new());
        for (template, item) in root.key("paths").iter().flat_map(At::entries) {
            let mut one = |names: Vec<Box<str>>, item: &At<'_>| {
                let mut here = Vec::new();
                for (key, method) in &METHODS {
                    let Some(at) = item.key(key) else { continue };
                    match Operation::compile(item, &at, &names, &document, &registry, shapes) {
                        Ok(operation) => {
                            here.push((method.clone(), operations.len()));
                            operations.push(operation);
                        }
                        Err(why) => wrong.push(why),
                    }
                }
                Operations(here)
            };
            let done = item.follow().and_then(|item| {
                if item.value.get("servers").is_some() {
                    return Err(format!("{item}: `servers` of a path are not looked at; say `base`"));
                }
                paths.insert(template, |names| one(names, &item))
            });
            if let Err(why) = done {
                wrong.push(why);
            }
        }
        if operations.is_empty() && wrong.is_empty() {
            wrong.push(format!("{} describes no path", config.file));
        }
        let said = document.said.clone();
        if wrong.is_empty() { Ok(Self { said, bases, paths, operations, warnings }) } else { Err(wrong) }
    }

    /// The description as its file has it, and where its paths begin for clients.
    pub(super) fn described(&self) -> Described<'_> {
        Described { document: &self.said, bases: &self.bases }
    }

    /// Which shape the body has, if the head is as it has to be; nothing where the body is not looked at.
    pub(super) fn check(&self, request: &dyn Request) -> Result<Option<usize>, Wrong> {
        let nowhere = || Wrong::Unknown(Fault::RouteNone, Vec::new());
        let key = request.path();
        let below = self.bases.iter().find_map(|base| key.strip_prefix(&**base)?.strip_prefix('/'));
        let segments: Option<Vec<Box<str>>> =
            below.ok_or_else(nowhere)?.split('/').map(|one| canonical::unescape(one).map(Into::into)).collect();
        let segments = segments.ok_or_else(nowhere)?;
        let (operations, values) = self.paths.find(&segments).ok_or_else(nowhere)?;
        let at = operations.of(request.method());
        let at = at.ok_or_else(|| Wrong::Unknown(Fault::RouteMethod, vec![operations.allow()]))?;
        let Some(operation) = self.operations.get(at) else { return Err(nowhere()) };
        let mut errors = Vec::new();
        operation.params.iter().for_each(|param| param.check(request, &values, &mut errors));
        if !errors.is_empty() {
            return Err(Wrong::Said(Fault::RequestInvalid, errors));
        }
        let Some(body) = &operation.body else {
            let none = || Wrong::Said(Fault::BodyInvalid, vec![("#".into(), "no body is described".into())]);
            return if request.has_body() { Err(none()) } else { Ok(None) };
        };
        match (request.has_body(), body.shape(request.headers())) {
            (true, Err(())) => {
                let accept = body.kinds().map(|kinds| (ACCEPT, kinds));
                Err(Wrong::Unknown(Fault::BodyType, accept.into_iter().collect()))
            }
            (false, _) if body.required => {
                Err(Wrong::Said(Fault::BodyInvalid, vec![("#".into(), "a body is required".into())]))
            }
            (_, shape) => Ok(shape.ok().flatten()),
        }
    }
}

/// The paths of the servers, with the defaults of their variables.
fn bases(root: &At<'_>) -> Vec<Box<str>> {
    let servers = root.key("servers");
    let mut bases: Vec<Box<str>> = servers.iter().flat_map(At::items).filter_map(|server| base(&server)).collect();
    // The longest that fits is the one.
    bases.sort_by_key(|base| std::cmp::Reverse(base.len()));
    if bases.is_empty() { vec!["".into()] } else { bases }
}

fn base(server: &At<'_>) -> Option<Box<str>> {
    let mut url = server.text("url")?.to_owned();
    for (name, variable) in server.key("variables").iter().flat_map(At::entries) {
        url = url.replace(&format!("{{{name}}}"), variable.text("default").unwrap_or_default());
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default().to_owned(),
        None => url,
    };
    Some(path.trim_end_matches('/').into())
}

#[cfg(test)]
mod tests;
