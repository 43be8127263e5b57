//! Paths with parts that vary, and what those parts were in a request.

use std::borrow::Cow;
use std::sync::Arc;

use crate::canonical;
use crate::fault::Fault;

/// How many `:name` one path may have.
pub const MAX_PARAMS: usize = 16;
const MAX_SEGMENTS: usize = 64;

/// One part of a path in the document, between two `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// As it stands in canonical paths.
    Literal(Box<str>),
    /// `:name`
    Param(Box<str>),
    /// `*`, at the end: nothing, or `/` and all below.
    Rest,
}

/// The parts of `/orders/:id/*`.
pub fn parse(text: &str) -> Result<Box<[Segment]>, String> {
    let Some(inner) = text.strip_prefix('/') else {
        return Err(format!("`{text}` is not a path, e.g. /orders/*"));
    };
    let parts: Vec<&str> = inner.split('/').collect();
    if parts.len() > MAX_SEGMENTS {
        return Err(format!("a path has at most {MAX_SEGMENTS} segments"));
    }
    let last = parts.len() - 1;
    let segments: Box<[Segment]> =
        parts.iter().enumerate().map(|(at, part)| segment(text, part, at == last)).collect::<Result<_, _>>()?;
    let mut names: Vec<&str> = names(&segments).collect();
    if names.len() > MAX_PARAMS {
        return Err(format!("`{text}` has more than {MAX_PARAMS} names"));
    }
    names.sort_unstable();
    match names.windows(2).find_map(|pair| pair.first().filter(|name| Some(*name) == pair.last())) {
        Some(twice) => Err(format!("`{text}` has `:{twice}` twice")),
        None => Ok(segments),
    }
}

/// The names in the order in which they stand.
pub fn names(segments: &[Segment]) -> impl Iterator<Item = &str> {
    segments.iter().filter_map(|segment| match segment {
        Segment::Param(name) => Some(&**name),
        _ => None,
    })
}

fn segment(text: &str, part: &str, last: bool) -> Result<Segment, String> {
    if part == "*" && last {
        return Ok(Segment::Rest);
    }
    if let Some(name) = part.strip_prefix(':') {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let whole = !name.is_empty() && name.bytes().all(fits);
        return whole
            .then(|| Segment::Param(name.into()))
            .ok_or_else(|| format!("`{text}`: `{part}` is not a name, e.g. :id"));
    }
    if part.contains('*') {
        return Err(format!("`{text}`: `*` stands only at the end, as /*"));
    }
    if part.contains(';') {
        return Err(format!("`{text}`: parameters (`;`) are not part of a path that routes see"));
    }
    if part.is_empty() && last {
        return Ok(Segment::Literal("".into()));
    }
    let spelled = format!("/{}", canonical::spell_out(part));
    match canonical::path(spelled.as_bytes()) {
        Ok(path) if path.len() > 1 => Ok(Segment::Literal(path.trim_start_matches('/').into())),
        _ => Err(format!("`{text}` is not a path that a request can have")),
    }
}

/// What a match found in the path of one request.
#[derive(Debug, Clone, Default)]
pub struct Params {
    names: Option<Arc<[Box<str>]>>,
    ranges: [(u32, u32); MAX_PARAMS],
    count: usize,
    rest: Option<u32>,
}

impl Params {
    /// What `:name` stood for.
    pub fn get<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let at = self.names.as_ref()?.iter().position(|known| **known == *name)?;
        let (from, to) = self.ranges.get(..self.count)?.get(at)?;
        path.get(*from as usize..*to as usize)
    }
    /// What `*` stood for: nothing, or `/` and all below.
    pub fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.get(self.rest? as usize..)
    }
    /// Every name and what it stood for.
    pub fn all<'p>(&self, path: &'p str) -> Vec<(String, &'p str)> {
        let names = self.names.iter().flat_map(|names| names.iter());
        names.filter_map(|name| Some((name.to_string(), self.get(path, name)?))).collect()
    }
    pub(crate) fn push(&mut self, from: usize, to: usize) {
        let range = (u32::try_from(from).unwrap_or(u32::MAX), u32::try_from(to).unwrap_or(u32::MAX));
        if let Some(free) = self.ranges.get_mut(self.count) {
            *free = range;
            self.count += 1;
        }
    }
    pub(crate) fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
    pub(crate) fn name(&mut self, names: Option<Arc<[Box<str>]>>) {
        self.names = names;
    }
    pub(crate) fn set_rest(&mut self, from: Option<usize>) {
        self.rest = from.and_then(|from| u32::try_from(from).ok());
    }
    pub(crate) fn clear(&mut self) {
        (self.names, self.count, self.rest) = (None, 0, None);
    }
}

/// What a route's match gives to templates.
#[derive(Debug, Clone)]
pub struct Offer {
    pub names: Vec<Box<str>>,
    /// Whether it ends in `/*`.
    pub rest: bool,
    /// The segments that stand in front of everything that varies; `None` for a regular expression.
    pub literal: Option<Vec<Box<str>>>,
}

/// A path to be built from what a match found.
#[derive(Debug, Clone)]
pub struct Template(Box<[Segment]>);

impl Template {
    /// Reads the template; every name in it has to be one that each match gives.
    pub fn compile(text: &str, offers: &[Offer]) -> Result<Self, String> {
        let segments = parse(text)?;
        for offer in offers {
            if let Some(name) = names(&segments).find(|name| !offer.names.iter().any(|known| **known == **name)) {
                return Err(format!("`:{name}` is not in the route's match"));
            }
            if segments.last() == Some(&Segment::Rest) && !offer.rest {
                return Err("`*` needs a match that ends in `/*`".to_owned());
            }
        }
        Ok(Self(segments))
    }

    /// The path for this request; a path that is not canonical is refused.
    pub fn render(&self, path: &str, params: &Params) -> Result<String, Fault> {
        let mut out = String::with_capacity(path.len() + 16);
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => out.extend(["/", text]),
                Segment::Param(name) => out.extend(["/", params.get(path, name).ok_or(Fault::RequestTarget)?]),
                Segment::Rest => out.push_str(params.rest(path).ok_or(Fault::RequestTarget)?),
            }
        }
        checked(out)
    }
}

/// The path, if it is canonical as it is.
pub fn checked(mut path: String) -> Result<String, Fault> {
    if path.is_empty() {
        path.push('/');
    }
    match canonical::path(path.as_bytes())? {
        Cow::Borrowed(_) => Ok(path),
        Cow::Owned(_) => Err(Fault::RequestTarget),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_document_has_parts() {
        let literal = |text: &str| Segment::Literal(text.into());
        let table: [(&str, &[Segment]); 5] = [
            ("/", &[literal("")]),
            ("/a/", &[literal("a"), literal("")]),
            ("/a/:id/*", &[literal("a"), Segment::Param("id".into()), Segment::Rest]),
            ("/*", &[Segment::Rest]),
            ("/café", &[literal("caf%C3%A9")]),
        ];
        for (text, parts) in table {
            assert_eq!(&*parse(text).unwrap(), parts, "{text}");
        }
    }

    #[test]
    fn what_no_request_can_have_is_refused() {
        for text in
            ["a", "", "//", "/a//b", "/a/../b", "/./a", "/a*", "/*/a", "/:", "/:a/:a", "/a;b", "/a b", "/%2f", "/a?b"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
