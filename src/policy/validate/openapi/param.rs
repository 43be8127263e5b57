//! Parameters of an operation: where they stand, how their text becomes a value, and what that has to be.

use std::borrow::Cow;

use http::HeaderName;
use jsonschema::Registry;
use serde_json::Value;

use super::document::{At, Document};
use crate::exchange::Request;
use crate::policy::validate::params::{Errors, pairs};
use crate::policy::validate::schema::Schema;

/// A parameter, compiled.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    pub(super) required: bool,
    shape: Shape,
    schema: Option<Schema>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Which of the template's parameters.
    Path(usize),
    Query,
    Header(HeaderName),
    Cookie,
}

/// How text becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One(Kind),
    /// Several in one text, apart by this.
    List(Kind, char),
    /// Each one under the name again.
    Again(Kind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// A number or a truth value; what is neither stays text, which its schema then refuses.
    Scalar,
    /// The schema does not say: text or scalar, whichever fits.
    Either,
}

/// Header fields that are described elsewhere (`OpenAPI` 3.1.1 section 4.8.12.1).
const ELSEWHERE: [&str; 3] = ["accept", "content-type", "authorization"];

impl Param {
    /// Nothing for what `OpenAPI` itself says to ignore; a sentence where it would be let through unseen.
    pub(super) fn compile(
        at: &At<'_>,
        names: &[Box<str>],
        document: &Document,
        registry: &Registry<'_>,
    ) -> Result<Option<Self>, String> {
        let name = at.text("name").ok_or_else(|| format!("{at} has no `name`"))?;
        let place = match at.text("in") {
            Some("path") => {
                let index = names.iter().position(|known| **known == *name);
                Place::Path(index.ok_or_else(|| format!("{at}: `{name}` is not in the path"))?)
            }
            Some("query") => Place::Query,
            Some("header") if ELSEWHERE.iter().any(|known| name.eq_ignore_ascii_case(known)) => return Ok(None),
            Some("header") => Place::Header(name.parse().map_err(|_| format!("{at}: `{name}` is no field"))?),
            Some("cookie") => Place::Cookie,
            _ => return Err(format!("{at}: `in` is path, query, header or cookie")),
        };
        let schema = at.key("schema");
        let shape = match &schema {
            Some(schema) => shape(at, schema, &place)?,
            None if at.value.get("content").is_some() => return Err(format!("{at}: `content` is not looked at")),
            None => Shape::One(Kind::Text),
        };
        let schema = schema.map(|schema| document.schema(&schema, registry)).transpose()?;
        let required = at.is_true("required") || matches!(place, Place::Path(_));
        Ok(Some(Self { name: name.into(), place, required, shape, schema }))
    }

    /// `values` are those of the path.
    pub(super) fn check(&self, request: &dyn Request, values: &[&str], errors: &mut Errors) {
        let texts = match &self.place {
            Place::Path(index) => values.get(*index).map(|text| Some(Cow::Borrowed(*text))).into_iter().collect(),
            Place::Header(name) => {
                let lines = request.headers().get_all(name).iter();
                lines.map(|line| line.to_str().ok().map(Cow::Borrowed)).collect()
            }
            Place::Query => pairs(request, &self.name).collect(),
            Place::Cookie => request.cookie(&self.name).map(|text| Some(Cow::Borrowed(text))).into_iter().collect(),
        };
        let texts: Vec<Option<Cow<'_, str>>> = texts;
        if texts.is_empty() {
            if self.required {
                errors.push((self.name.clone(), "is required".into()));
            }
            return;
        }
        let Some(texts) = texts.into_iter().collect::<Option<Vec<_>>>() else {
            errors.push((self.name.clone(), "is no text".into()));
            return;
        };
        if let Some(sentence) = self.wrong(&texts) {
            errors.push((self.name.clone(), sentence));
        }
    }

    fn wrong(&self, texts: &[Cow<'_, str>]) -> Option<Box<str>> {
        let (kind, value): (_, fn(&str, bool) -> Value) = match self.shape {
            Shape::One(kind) | Shape::List(kind, _) | Shape::Again(kind) => (kind, scalar),
        };
        let whole = |read: bool| match (self.shape, texts) {
            (Shape::Again(_), _) => texts.iter().map(|text| value(text, read)).collect(),
            (Shape::List(_, apart), [only]) => only.split(apart).map(|text| value(text, read)).collect(),
            (Shape::One(_), [only]) => value(only, read),
            _ => Value::Null,
        };
        if texts.len() > 1 && !matches!(self.shape, Shape::Again(_)) {
            return Some("is there more than once".into());
        }
        let schema = self.schema.as_ref()?;
        let first = schema.first_error(&whole(kind == Kind::Scalar))?;
        if kind == Kind::Either { schema.first_error(&whole(true)).map(|_| first) } else { Some(first) }
    }
}

/// Text, or the number or truth value that it spells.
fn scalar(text: &str, read: bool) -> Value {
    match text {
        "true" if read => true.into(),
        "false" if read => false.into(),
        _ if read => text.parse().map_or_else(|_| text.into(), Value::Number),
        _ => text.into(),
    }
}

fn shape(at: &At<'_>, schema: &At<'_>, place: &Place) -> Result<Shape, String> {
    let schema = schema.follow()?;
    let kind = kind(&schema);
    let Some(items) = schema.key("items").filter(|_| is(&schema, "array")) else {
        if is(&schema, "object") || is(&schema, "array") {
            return Err(format!("{at}: a parameter of type {} is not looked at", schema.value["type"]));
        }
        return Ok(Shape::One(kind));
    };
    let items = items.follow()?;
    if is(&items, "object") || is(&items, "array") {
        return Err(format!("{at}: a list of lists or objects is not looked at"));
    }
    let of = self::kind(&items);
    let form = matches!(place, Place::Query | Place::Cookie);
    match at.text("style") {
        None | Some("form") if form => {
            let again = at.value.get("explode").is_none_or(|word| *word == Value::Bool(true));
            Ok(if again { Shape::Again(of) } else { Shape::List(of, ',') })
        }
        None | Some("simple") if !form => Ok(Shape::List(of, ',')),
        Some("spaceDelimited") if form => Ok(Shape::List(of, ' ')),
        Some("pipeDelimited") if form => Ok(Shape::List(of, '|')),
        style => Err(format!("{at}: a list in the style {} is not looked at", style.unwrap_or_default())),
    }
}

fn is(schema: &At<'_>, kind: &str) -> bool {
    match schema.value.get("type") {
        Some(Value::String(text)) => text == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        _ => false,
    }
}

fn kind(schema: &At<'_>) -> Kind {
    let scalar = ["integer", "number", "boolean"].iter().any(|kind| is(schema, kind));
    match (is(schema, "string"), scalar) {
        (true, false) => Kind::Text,
        (false, true) => Kind::Scalar,
        _ => Kind::Either,
    }
}
