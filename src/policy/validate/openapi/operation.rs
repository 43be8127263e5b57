//! One operation: the parameters and the body that it takes.

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use jsonschema::Registry;

use super::document::{At, Document};
use super::param::{Param, Place};
use crate::policy::validate::{Required, Shape};

/// What a request of one method to one path has to be.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) params: Vec<Param>,
    pub(super) body: Option<Body>,
}

/// The body that an operation takes.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) required: bool,
    /// Types in lower case without parameters, and which shape those have that are JSON; the plainest first.
    kinds: Vec<(Box<str>, Option<usize>)>,
}

impl Operation {
    /// `path` is the path's item, `at` the operation in it.
    pub(super) fn compile(
        path: &At<'_>,
        at: &At<'_>,
        names: &[Box<str>],
        document: &Document,
        registry: &Registry<'_>,
        shapes: &mut Vec<Shape>,
    ) -> Result<Self, String> {
        let mut params: Vec<Param> = Vec::new();
        for list in [at.key("parameters"), path.key("parameters")].into_iter().flatten() {
            for item in list.items() {
                let Some(param) = Param::compile(&item.follow()?, names, document, registry)? else { continue };
                // The operation's own word comes before that of its path.
                if !params.iter().any(|known| known.name == param.name && known.place == param.place) {
                    params.push(param);
                }
            }
        }
        params.sort_by_key(|param| matches!(param.place, Place::Query));
        let body = at.key("requestBody").map(|body| Body::compile(&body.follow()?, document, registry, shapes));
        let body = body.transpose()?;
        Ok(Self { params, body })
    }
}

impl Body {
    fn compile(
        at: &At<'_>,
        document: &Document,
        registry: &Registry<'_>,
        shapes: &mut Vec<Shape>,
    ) -> Result<Self, String> {
        let (mut kinds, required) = (Vec::new(), at.is_true("required"));
        for (kind, media) in at.key("content").iter().flat_map(At::entries) {
            let kind = plain(kind);
            let schema = media.key("schema").filter(|_| is_json(&kind));
            if let Some(schema) = &schema {
                shapes.push(Shape { schema: document.schema(schema, registry)?, required: Required::Always(required) });
            }
            kinds.push((kind, schema.map(|_| shapes.len() - 1)));
        }
        kinds.sort_by_key(|(kind, _)| kind.bytes().filter(|byte| *byte == b'*').count());
        Ok(Self { required, kinds })
    }

    /// The shape of a body of the type that a head names: `Err` where it is none that is taken.
    pub(super) fn shape(&self, headers: &HeaderMap) -> Result<Option<usize>, ()> {
        let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).map(plain).unwrap_or_default();
        let fits = |kind: &str| match kind.split_once('*') {
            None => *kind == *said,
            Some(("", _)) => true,
            Some((before, _)) => said.starts_with(before),
        };
        let found = self.kinds.iter().find(|(kind, _)| fits(kind));
        found.map(|(_, shape)| *shape).ok_or(())
    }

    /// The types that are taken, for `Accept`.
    pub(super) fn kinds(&self) -> Option<HeaderValue> {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, _)| &**kind).collect();
        HeaderValue::from_str(&kinds.join(", ")).ok()
    }
}

fn plain(kind: &str) -> Box<str> {
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().into()
}

/// RFC 6839 section 3.1; a range may be JSON, and then it has to be.
fn is_json(kind: &str) -> bool {
    kind == "application/json" || kind.ends_with("+json")
}

/// The operations of one path, by their methods.
#[derive(Debug)]
pub(super) struct Operations(pub(super) Vec<(Method, usize)>);

impl Operations {
    /// HEAD asks for what GET would give.
    pub(super) fn of(&self, method: &Method) -> Option<usize> {
        let of = |method: &Method| self.0.iter().find(|(known, _)| known == method).map(|(_, at)| *at);
        of(method).or_else(|| of(&Method::GET).filter(|_| *method == Method::HEAD))
    }

    pub(super) fn allow(&self) -> (http::HeaderName, HeaderValue) {
        let names: Vec<_> = self.0.iter().map(|(method, _)| method.as_str()).collect();
        (ALLOW, HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("")))
    }
}
