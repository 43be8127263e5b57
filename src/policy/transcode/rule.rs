//! The rules of `google.api.http` as methods carry them: which request over HTTP is which call.

use std::sync::Arc;

use http::Method as Verb;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor};

use super::field::{self, Way};
use super::template::{Step, Template};

/// The option that carries a rule.
const HTTP: &str = "google.api.http";

/// A method that can be called.
#[derive(Debug)]
pub struct Method {
    /// `shop.v1.Shop/GetOrder`.
    pub name: Box<str>,
    /// `/shop.v1.Shop/GetOrder`.
    pub path: PathAndQuery,
    pub input: MessageDescriptor,
    pub output: MessageDescriptor,
    /// Whether it takes many messages.
    pub takes_many: bool,
    /// Whether it answers with many messages.
    pub gives_many: bool,
}

/// Where a request's body goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    None,
    Whole,
    Field(FieldDescriptor),
}

/// One kind of request and the method that it calls.
#[derive(Debug)]
pub struct Binding {
    pub method: Arc<Method>,
    /// `None` for every method of HTTP.
    pub(super) verb: Option<Verb>,
    pub(super) template: Template,
    /// The fields of the template's variables, in their order.
    pub(super) fields: Vec<Way>,
    pub(super) body: Body,
    /// What of the answer is shown; all of it where there is none.
    pub(super) shown: Option<FieldDescriptor>,
}

impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.verb {
            Some(verb) => write!(f, "{verb} {}", self.template),
            None => write!(f, "* {}", self.template),
        }
    }
}

impl Method {
    pub(super) fn of(method: &MethodDescriptor) -> Option<Self> {
        let name = name(method);
        Some(Self {
            path: format!("/{name}").parse().ok()?,
            name: name.into(),
            input: method.input(),
            output: method.output(),
            takes_many: method.is_client_streaming(),
            gives_many: method.is_server_streaming(),
        })
    }
}

/// `shop.v1.Shop/GetOrder`.
pub(super) fn name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// What the rules of a method say, or `POST /package.Service/Method` with the whole body where it has none. Each error is
/// a sentence.
pub(super) fn bindings(method: &MethodDescriptor, pool: &DescriptorPool, wrong: &mut Vec<String>) -> Vec<Binding> {
    let Some(called) = Method::of(method).map(Arc::new) else { return Vec::new() };
    let Some(rule) = rule_of(method, pool) else {
        let template = Template::read(called.path.path());
        let binding = template.map(|template| Binding {
            method: called,
            verb: Some(Verb::POST),
            template,
            fields: Vec::new(),
            body: Body::Whole,
            shown: None,
        });
        return binding.ok().into_iter().collect();
    };
    let more = rule.get_field_by_name("additional_bindings").map(std::borrow::Cow::into_owned);
    let more: Vec<_> =
        more.iter().filter_map(|more| more.as_list()).flatten().filter_map(|one| one.as_message()).collect();
    let mut bindings = Vec::new();
    for rule in std::iter::once(&rule).chain(more) {
        match Binding::read(rule, &called) {
            Ok(binding) => bindings.push(binding),
            Err(why) => wrong.push(why),
        }
    }
    bindings
}

fn rule_of(method: &MethodDescriptor, pool: &DescriptorPool) -> Option<DynamicMessage> {
    let option = pool.get_extension_by_name(HTTP)?;
    let options = method.options();
    options.has_extension(&option).then(|| options.get_extension(&option).as_message().cloned())?
}

impl Binding {
    fn read(rule: &DynamicMessage, method: &Arc<Method>) -> Result<Self, String> {
        let (verb, path) = pattern(rule)?;
        let template = Template::read(&path).map_err(|why| format!("`{path}` {why}"))?;
        let mut fields = Vec::new();
        for variable in &template.variables {
            let named = |why: String| format!("`{path}`: {why}");
            let way = field::way(&variable.field, &method.input).map_err(named)?;
            if let Some(last) = way.last() {
                let list = if last.is_list() { Err("is a list, which no path can say") } else { Ok(()) };
                list.and_then(|()| field::takes_text(last))
                    .map_err(|why| format!("`{path}`: `{}` {why}", variable.field))?;
            }
            fields.push(way);
        }
        let top = |key: &str, message: &MessageDescriptor| match text(rule, key) {
            name if name.is_empty() => Ok(None),
            name => message
                .get_field_by_name(&name)
                .map(Some)
                .ok_or_else(|| format!("`{path}`: {key} is `{name}`, and {} has no such field", message.full_name())),
        };
        let body = match text(rule, "body").as_str() {
            "*" => Body::Whole,
            _ => top("body", &method.input)?.map_or(Body::None, Body::Field),
        };
        let shown = top("response_body", &method.output)?;
        Ok(Self { method: method.clone(), verb, template, fields, body, shown })
    }

    /// The same for all that take the same requests.
    pub(super) fn takes(&self) -> (Option<Verb>, Vec<Step>, Option<Box<str>>) {
        (self.verb.clone(), self.template.steps.clone(), self.template.verb.clone())
    }

    /// The parts of the path that go into fields, as they were sent.
    pub(super) fn captured<'p>(&self, path: &'p str) -> impl Iterator<Item = (&Way, &str, &'p str)> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let starts: Vec<usize> =
            std::iter::once(0).chain(path.match_indices('/').map(|(slash, _)| slash + 1)).collect();
        let variables = self.fields.iter().zip(&self.template.variables);
        variables.map(move |(way, variable)| {
            let from = starts.get(variable.from).copied().unwrap_or(path.len());
            let to = variable.to.and_then(|to| starts.get(to)).map_or(path.len(), |start| start - 1);
            (way, &*variable.field, path.get(from..to.max(from)).unwrap_or_default())
        })
    }
}

fn text(rule: &DynamicMessage, key: &str) -> String {
    let value = rule.get_field_by_name(key);
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The method of HTTP and the path.
fn pattern(rule: &DynamicMessage) -> Result<(Option<Verb>, String), String> {
    for (key, verb) in
        [("get", Verb::GET), ("put", Verb::PUT), ("post", Verb::POST), ("delete", Verb::DELETE), ("patch", Verb::PATCH)]
    {
        if rule.has_field_by_name(key) {
            return Ok((Some(verb), text(rule, key)));
        }
    }
    let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
    let Some(custom) = custom.as_ref().and_then(|custom| custom.as_message()) else {
        return Err("the rule has none of get, put, post, delete, patch and custom".to_owned());
    };
    let path = text(custom, "path");
    match text(custom, "kind").as_str() {
        "*" => Ok((None, path)),
        kind => match Verb::from_bytes(kind.as_bytes()) {
            Ok(verb) => Ok((Some(verb), path)),
            Err(_) => Err(format!("`{path}`: `{kind}` is no method of HTTP")),
        },
    }
}
