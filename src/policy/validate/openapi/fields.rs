//! The fields that `OpenAPI` knows: what is none of them, and does not begin with `x-`, was meant to be another one.

use std::fmt::Write;

use serde_json::Value;

use super::document::escaped;
use crate::problem::nearest;

/// A field that there is not.
pub(super) struct Unknown {
    /// The pointer of the object that says it.
    at: String,
    name: Box<str>,
    near: Option<&'static str>,
    /// It stands in a JSON Schema of version 3.1, which may have words of its own.
    pub(super) allowed: bool,
}

impl Unknown {
    /// A sentence with the line, if the text of the file has the word only once.
    pub(super) fn told(&self, file: &str, text: &str) -> String {
        let Self { at, name, near, allowed } = self;
        let says = |line: &&str| {
            let word = line.find(&**name).and_then(|start| line.get(start + name.len()..));
            word.is_some_and(|rest| rest.trim_start_matches('"').trim_start().starts_with(':'))
        };
        let mut lines = text.lines().enumerate().filter(|(_, line)| says(line));
        let line = match (lines.next(), lines.next()) {
            (Some((index, _)), None) => format!(":{}", index + 1),
            _ => String::new(),
        };
        let what = if *allowed { "no word of JSON Schema, and does nothing" } else { "no field that OpenAPI knows" };
        let near = near.map(|near| format!(". Did you mean `{near}`?")).unwrap_or_default();
        format!("{file}{line}: `{name}` in #{at} is {what}{near}")
    }
}

/// All of them. `minor` is 0 or 1, of version 3.
pub(super) fn unknown(root: &Value, minor: u8) -> Vec<Unknown> {
    let mut found = Vec::new();
    DOCUMENT.walk(root, minor, &mut String::new(), &mut found);
    found
}

/// What lies under a field.
enum Then {
    /// Anything.
    Data,
    One(&'static Object),
    List(&'static Object),
    /// Objects under names that the document makes up.
    Named(&'static Object),
}

use Then::{Data, List, Named, One};

/// An object of the specification: its fields, and since which minor version they are there.
struct Object {
    fields: &'static [(&'static str, u8, Then)],
    /// Whether `$ref` alone stands for one, whose other fields are then ignored.
    referred: bool,
    /// Other names than these are the document's own, with such objects under them.
    others: Option<&'static Self>,
    schema: bool,
}

const fn object(fields: &'static [(&'static str, u8, Then)]) -> Object {
    Object { fields, referred: true, others: None, schema: false }
}

impl Object {
    fn walk(&'static self, value: &Value, minor: u8, at: &mut String, found: &mut Vec<Unknown>) {
        let Some(map) = value.as_object() else { return };
        if self.referred && !self.schema && map.contains_key("$ref") {
            return;
        }
        if self.schema && minor == 0 && map.contains_key("$ref") {
            return;
        }
        for (name, inner) in map.iter().filter(|(name, _)| !name.starts_with("x-")) {
            let known = self.fields.iter().find(|(known, since, _)| known == name && *since <= minor);
            match (known, self.others) {
                (Some((.., then)), _) => below(at, name, |at| then.walk(inner, minor, at, found)),
                (None, Some(other)) => below(at, name, |at| other.walk(inner, minor, at, found)),
                (None, None) => {
                    let all = self.fields.iter().filter(|(_, since, _)| *since <= minor).map(|(name, ..)| *name);
                    let near = nearest(name, all);
                    let allowed = self.schema && minor > 0;
                    found.push(Unknown { at: at.clone(), name: name.as_str().into(), near, allowed });
                }
            }
        }
    }
}

impl Then {
    fn walk(&self, value: &Value, minor: u8, at: &mut String, found: &mut Vec<Unknown>) {
        match self {
            Data => {}
            One(object) => object.walk(value, minor, at, found),
            List(object) => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    below(at, &index.to_string(), |at| object.walk(item, minor, at, found));
                }
            }
            Named(object) => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    below(at, name, |at| object.walk(item, minor, at, found));
                }
            }
        }
    }
}

fn below(at: &mut String, name: &str, deed: impl FnOnce(&mut String)) {
    let length = at.len();
    // Writing into memory cannot fail.
    let _ = write!(at, "/{}", escaped(name));
    deed(at);
    at.truncate(length);
}

static DOCUMENT: Object = object(&[
    ("openapi", 0, Data),
    ("info", 0, One(&INFO)),
    ("jsonSchemaDialect", 1, Data),
    ("servers", 0, List(&SERVER)),
    ("paths", 0, One(&PATHS)),
    ("webhooks", 1, Named(&PATH)),
    ("components", 0, One(&COMPONENTS)),
    ("security", 0, Data),
    ("tags", 0, List(&TAG)),
    ("externalDocs", 0, One(&DOCS)),
]);
static INFO: Object = object(&[
    ("title", 0, Data),
    ("summary", 1, Data),
    ("description", 0, Data),
    ("termsOfService", 0, Data),
    ("contact", 0, One(&CONTACT)),
    ("license", 0, One(&LICENSE)),
    ("version", 0, Data),
]);
static CONTACT: Object = object(&[("name", 0, Data), ("url", 0, Data), ("email", 0, Data)]);
static LICENSE: Object = object(&[("name", 0, Data), ("identifier", 1, Data), ("url", 0, Data)]);
static SERVER: Object = object(&[("url", 0, Data), ("description", 0, Data), ("variables", 0, Named(&VARIABLE))]);
static VARIABLE: Object = object(&[("enum", 0, Data), ("default", 0, Data), ("description", 0, Data)]);
static TAG: Object = object(&[("name", 0, Data), ("description", 0, Data), ("externalDocs", 0, One(&DOCS))]);
static DOCS: Object = object(&[("description", 0, Data), ("url", 0, Data)]);
static PATHS: Object = Object { fields: &[], referred: false, others: Some(&PATH), schema: false };
static COMPONENTS: Object = object(&[
    ("schemas", 0, Named(&SCHEMA)),
    ("responses", 0, Named(&RESPONSE)),
    ("parameters", 0, Named(&PARAMETER)),
    ("examples", 0, Named(&EXAMPLE)),
    ("requestBodies", 0, Named(&BODY)),
    ("headers", 0, Named(&HEADER)),
    ("securitySchemes", 0, Named(&SECURITY)),
    ("links", 0, Named(&LINK)),
    ("callbacks", 0, Named(&CALLBACK)),
    ("pathItems", 1, Named(&PATH)),
]);
static PATH: Object = Object {
    fields: &[
        ("$ref", 0, Data),
        ("summary", 0, Data),
        ("description", 0, Data),
        ("get", 0, One(&OPERATION)),
        ("put", 0, One(&OPERATION)),
        ("post", 0, One(&OPERATION)),
        ("delete", 0, One(&OPERATION)),
        ("options", 0, One(&OPERATION)),
        ("head", 0, One(&OPERATION)),
        ("patch", 0, One(&OPERATION)),
        ("trace", 0, One(&OPERATION)),
        ("servers", 0, List(&SERVER)),
        ("parameters", 0, List(&PARAMETER)),
    ],
    referred: false,
    others: None,
    schema: false,
};
static OPERATION: Object = object(&[
    ("tags", 0, Data),
    ("summary", 0, Data),
    ("description", 0, Data),
    ("externalDocs", 0, One(&DOCS)),
    ("operationId", 0, Data),
    ("parameters", 0, List(&PARAMETER)),
    ("requestBody", 0, One(&BODY)),
    ("responses", 0, One(&RESPONSES)),
    ("callbacks", 0, Named(&CALLBACK)),
    ("deprecated", 0, Data),
    ("security", 0, Data),
    ("servers", 0, List(&SERVER)),
]);
static PARAMETER: Object = object(&[
    ("name", 0, Data),
    ("in", 0, Data),
    ("description", 0, Data),
    ("required", 0, Data),
    ("deprecated", 0, Data),
    ("allowEmptyValue", 0, Data),
    ("style", 0, Data),
    ("explode", 0, Data),
    ("allowReserved", 0, Data),
    ("schema", 0, One(&SCHEMA)),
    ("example", 0, Data),
    ("examples", 0, Named(&EXAMPLE)),
    ("content", 0, Named(&MEDIA)),
]);
static HEADER: Object = object(&[
    ("description", 0, Data),
    ("required", 0, Data),
    ("deprecated", 0, Data),
    ("allowEmptyValue", 0, Data),
    ("style", 0, Data),
    ("explode", 0, Data),
    ("allowReserved", 0, Data),
    ("schema", 0, One(&SCHEMA)),
    ("example", 0, Data),
    ("examples", 0, Named(&EXAMPLE)),
    ("content", 0, Named(&MEDIA)),
]);
static BODY: Object = object(&[("description", 0, Data), ("content", 0, Named(&MEDIA)), ("required", 0, Data)]);
static MEDIA: Object = object(&[
    ("schema", 0, One(&SCHEMA)),
    ("example", 0, Data),
    ("examples", 0, Named(&EXAMPLE)),
    ("encoding", 0, Named(&ENCODING)),
]);
static ENCODING: Object = object(&[
    ("contentType", 0, Data),
    ("headers", 0, Named(&HEADER)),
    ("style", 0, Data),
    ("explode", 0, Data),
    ("allowReserved", 0, Data),
]);
static RESPONSES: Object = Object { fields: &[], referred: false, others: Some(&RESPONSE), schema: false };
static RESPONSE: Object = object(&[
    ("description", 0, Data),
    ("headers", 0, Named(&HEADER)),
    ("content", 0, Named(&MEDIA)),
    ("links", 0, Named(&LINK)),
]);
static CALLBACK: Object = Object { fields: &[], referred: true, others: Some(&PATH), schema: false };
static EXAMPLE: Object =
    object(&[("summary", 0, Data), ("description", 0, Data), ("value", 0, Data), ("externalValue", 0, Data)]);
static LINK: Object = object(&[
    ("operationRef", 0, Data),
    ("operationId", 0, Data),
    ("parameters", 0, Data),
    ("requestBody", 0, Data),
    ("description", 0, Data),
    ("server", 0, One(&SERVER)),
]);
static SECURITY: Object = object(&[
    ("type", 0, Data),
    ("description", 0, Data),
    ("name", 0, Data),
    ("in", 0, Data),
    ("scheme", 0, Data),
    ("bearerFormat", 0, Data),
    ("flows", 0, Data),
    ("openIdConnectUrl", 0, Data),
]);
static SCHEMA: Object = Object {
    fields: &[
        ("title", 0, Data),
        ("multipleOf", 0, Data),
        ("maximum", 0, Data),
        ("exclusiveMaximum", 0, Data),
        ("minimum", 0, Data),
        ("exclusiveMinimum", 0, Data),
        ("maxLength", 0, Data),
        ("minLength", 0, Data),
        ("pattern", 0, Data),
        ("maxItems", 0, Data),
        ("minItems", 0, Data),
        ("uniqueItems", 0, Data),
        ("maxProperties", 0, Data),
        ("minProperties", 0, Data),
        ("required", 0, Data),
        ("enum", 0, Data),
        ("type", 0, Data),
        ("allOf", 0, List(&SCHEMA)),
        ("oneOf", 0, List(&SCHEMA)),
        ("anyOf", 0, List(&SCHEMA)),
        ("not", 0, One(&SCHEMA)),
        ("items", 0, One(&SCHEMA)),
        ("properties", 0, Named(&SCHEMA)),
        ("additionalProperties", 0, One(&SCHEMA)),
        ("description", 0, Data),
        ("format", 0, Data),
        ("default", 0, Data),
        ("nullable", 0, Data),
        ("discriminator", 0, Data),
        ("readOnly", 0, Data),
        ("writeOnly", 0, Data),
        ("xml", 0, Data),
        ("externalDocs", 0, One(&DOCS)),
        ("example", 0, Data),
        ("deprecated", 0, Data),
        ("$ref", 1, Data),
        ("$id", 1, Data),
        ("$schema", 1, Data),
        ("$anchor", 1, Data),
        ("$dynamicRef", 1, Data),
        ("$dynamicAnchor", 1, Data),
        ("$vocabulary", 1, Data),
        ("$comment", 1, Data),
        ("$defs", 1, Named(&SCHEMA)),
        ("if", 1, One(&SCHEMA)),
        ("then", 1, One(&SCHEMA)),
        ("else", 1, One(&SCHEMA)),
        ("dependentSchemas", 1, Named(&SCHEMA)),
        ("prefixItems", 1, List(&SCHEMA)),
        ("contains", 1, One(&SCHEMA)),
        ("patternProperties", 1, Named(&SCHEMA)),
        ("propertyNames", 1, One(&SCHEMA)),
        ("unevaluatedItems", 1, One(&SCHEMA)),
        ("unevaluatedProperties", 1, One(&SCHEMA)),
        ("const", 1, Data),
        ("maxContains", 1, Data),
        ("minContains", 1, Data),
        ("dependentRequired", 1, Data),
        ("examples", 1, Data),
        ("contentEncoding", 1, Data),
        ("contentMediaType", 1, Data),
        ("contentSchema", 1, One(&SCHEMA)),
        ("definitions", 1, Named(&SCHEMA)),
    ],
    referred: true,
    others: None,
    schema: true,
};
