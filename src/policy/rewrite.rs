//! Changes the path before it is forwarded; the result has to be canonical again.
//!
//! ```yaml
//! rewrite: { strip: /api }            # /api/orders/7 -> /orders/7
//! rewrite: { prefix: /v2 }            # on a match of /orders/*: /orders/7 -> /v2/7
//! rewrite: { path: /v2/:id/* }        # parts of the match; `*` is the rest
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{Offer, Params, Segment, Template, checked, parse};
use crate::canonical;
use crate::fault::Fault;
use crate::problem::{Path, Problems};

/// How the path changes; exactly one of the three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rewrite")]
pub struct Config {
    /// Takes these segments away from the front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip: Option<Box<str>>,
    /// Stands in for what comes before `/*` in the route's match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Box<str>>,
    /// The new path, with `:name` from the match and `*` for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
}

/// A change of the path, decided once.
#[derive(Debug, Clone)]
pub enum Rewrite {
    /// The segments that go, as routes see them.
    Strip(Box<[Box<str>]>),
    /// The path that is built instead.
    Build(Template),
}

impl Rewrite {
    /// `offers` is what the route's matches give, one each.
    pub fn compile(config: &Config, offers: &[Offer], at: &Path, problems: &mut Problems) -> Option<Self> {
        let (key, made) = match (&config.strip, &config.prefix, &config.path) {
            (Some(strip), None, None) => ("strip", Self::strip(strip, offers)),
            (None, Some(prefix), None) => ("prefix", Self::prefix(prefix, offers)),
            (None, None, Some(path)) => ("path", Template::compile(path, offers).map(Self::Build)),
            _ => {
                problems.error(at.clone(), "takes exactly one of `strip`, `prefix` and `path`");
                return None;
            }
        };
        made.map_err(|why| problems.error(at.key(key), why)).ok()
    }

    fn strip(text: &str, offers: &[Offer]) -> Result<Self, String> {
        let segments = parse(text)?;
        let front = segments.iter().map(|segment| match segment {
            Segment::Literal(name) if !name.is_empty() => Ok(canonical::key(name).into()),
            _ => Err(format!("`{text}` has to be plain segments, e.g. /api")),
        });
        let front = front.collect::<Result<Box<[Box<str>]>, String>>()?;
        let covers = |offer: &Offer| offer.literal.as_ref().is_none_or(|literal| literal.starts_with(&front));
        if offers.iter().all(covers) {
            Ok(Self::Strip(front))
        } else {
            Err(format!("the route's match does not begin with `{text}`"))
        }
    }

    fn prefix(text: &str, offers: &[Offer]) -> Result<Self, String> {
        if !offers.iter().all(|offer| offer.rest) {
            return Err("needs a match that ends in `/*`".to_owned());
        }
        if text.contains(['*', ':']) {
            return Err(format!("`{text}` has to be plain, e.g. /v2; parts of the match go into `path`"));
        }
        Template::compile(&format!("{}/*", text.trim_end_matches('/')), offers).map(Self::Build)
    }

    /// The path that the upstream gets.
    pub fn apply(&self, path: &str, params: &Params) -> Result<String, Fault> {
        match self {
            Self::Build(template) => template.render(path, params),
            Self::Strip(front) => checked(strip(path, front).unwrap_or(path).to_owned()),
        }
    }
}

/// The path behind these segments, if it begins with them.
fn strip<'p>(path: &'p str, front: &[Box<str>]) -> Option<&'p str> {
    let mut rest = path;
    for name in front {
        let inner = rest.strip_prefix('/')?;
        let (segment, after) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
        if canonical::key(segment) != **name {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(yaml: &str, offer: Offer) -> Result<Rewrite, String> {
        let mut problems = Problems::default();
        let config = serde_yaml::from_str(yaml).unwrap();
        let made = Rewrite::compile(&config, &[offer], &Path::of(["rewrite"]), &mut problems);
        made.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect::<Vec<_>>().join("; "))
    }

    fn below(literal: &str) -> Offer {
        let literal = Some(literal.split('/').skip(1).map(Into::into).collect());
        Offer { names: Vec::new(), rest: true, literal }
    }

    #[test]
    fn strip_takes_whole_segments_away() {
        let table = [
            ("/api/x", "/x"),
            ("/api", "/"),
            ("/api/", "/"),
            ("/apix/y", "/apix/y"),
            ("/api;v=1/x", "/x"),
            ("/%61pi/x", "/x"),
        ];
        let rewrite = compile("{ strip: /api }", below("/api")).unwrap();
        for (from, to) in table {
            assert_eq!(rewrite.apply(from, &Params::default()).as_deref(), Ok(to), "{from}");
        }
    }

    #[test]
    fn a_template_is_built_from_the_match() {
        let mut params = Params::default();
        params.name(Some(["id".into()].into()));
        params.push(8, 9);
        params.set_rest(Some(9));
        let offer = Offer { names: vec!["id".into()], rest: true, literal: None };
        let rewrite = compile("{ path: /v2/:id/all/* }", offer.clone()).unwrap();
        assert_eq!(rewrite.apply("/orders/7/x", &params).as_deref(), Ok("/v2/7/all/x"));
        let rewrite = compile("{ prefix: / }", offer).unwrap();
        assert_eq!(rewrite.apply("/orders/7/x", &params).as_deref(), Ok("/x"));
        assert_eq!(rewrite.apply("/orders/7", &params).as_deref(), Ok("/"));
    }

    #[test]
    fn what_cannot_be_built_is_refused_when_read() {
        let table = [
            ("{}", "rewrite: takes exactly one of `strip`, `prefix` and `path`"),
            ("{ strip: /a, prefix: /b }", "rewrite: takes exactly one of `strip`, `prefix` and `path`"),
            ("{ strip: /other }", "rewrite.strip: the route's match does not begin with `/other`"),
            ("{ strip: / }", "rewrite.strip: `/` has to be plain segments, e.g. /api"),
            ("{ path: /x/:id }", "rewrite.path: `:id` is not in the route's match"),
            ("{ path: /x/../y }", "rewrite.path: `/x/../y` is not a path that a request can have"),
        ];
        for (yaml, sentence) in table {
            assert_eq!(compile(yaml, below("/api")).unwrap_err(), sentence, "{yaml}");
        }
    }
}
