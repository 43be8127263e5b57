//! Refuses bodies that are too large or of a kind that is not taken.
//!
//! ```yaml
//! body: { max: 1MiB, type: [application/json, "image/*"] }
//! body: { max: none }
//! ```
//!
//! `max` holds at once where the length is announced, and while the body passes where it is not: the target's request is
//! then cut, so that it never looks whole. A route that says nothing takes 10MiB; `max: none` is for uploads and for
//! streams without end, such as those of gRPC. What follows the switch to WebSocket is no body.

use std::fmt;
use std::str::FromStr;

use http::{HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::{Mode, Rule, Tools};
use crate::exchange::{Found, Refusal, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::units::Size;

/// How large bodies may be, and of what kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Body")]
pub struct Config {
    /// The largest body, e.g. `1MiB`; `none` takes what comes.
    #[serde(default)]
    pub max: Max,
    /// Media types of bodies that are taken, e.g. `application/json` or `image/*`; every type when left out.
    #[serde(default, rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Box<str>>,
    /// `shadow` only counts and logs what would be refused; the built-in 10MiB hold.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

/// The most bytes of a body, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Max(Option<Size>);

/// What a route takes that says nothing.
const BUILT_IN: Max = Max(Some(Size::from_bytes(10 << 20)));

impl Default for Max {
    fn default() -> Self {
        BUILT_IN
    }
}

impl Max {
    fn holds(self, bytes: u64) -> bool {
        self.0.is_none_or(|max| bytes <= max.bytes())
    }
}

impl FromStr for Max {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => Ok(Self(Some(text.parse::<Size>().map_err(|why| format!("{why}, or none"))?))),
        }
    }
}

impl fmt::Display for Max {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(max) => max.fmt(f),
            None => f.write_str("none"),
        }
    }
}

crate::units::scalar!(Max, "a size or `none`", example "1MiB",
    bare number |n| Err(format!("`{n}` needs a unit, e.g. {n}KiB")),
    "A number of bytes: a whole number and a unit (B, KiB, MiB, GiB), or `none`.");

/// Sizes and kinds, decided once.
#[derive(Debug)]
pub struct Body {
    max: Max,
    types: Box<[Box<str>]>,
    /// The types, as a 415 tells them.
    accept: Option<HeaderValue>,
    rule: Rule,
}

impl Body {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        for (index, kind) in config.types.iter().enumerate() {
            let is_part = |part: &str| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
            };
            let fits = kind.split_once('/').is_some_and(|(main, sub)| is_part(main) && (is_part(sub) || sub == "*"));
            if !fits {
                let sentence = format!("`{kind}` is not a media type, e.g. application/json or image/*");
                problems.error(at.key("type").index(index), sentence);
            }
        }
        let types: Box<[Box<str>]> = config.types.iter().map(|kind| kind.to_ascii_lowercase().into()).collect();
        (problems.errors() == before).then(|| Self {
            max: config.max,
            accept: HeaderValue::try_from(types.join(", ")).ok(),
            types,
            rule: Rule::new(at, config.mode, tools),
        })
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Refuses what the head announces.
    pub fn check(&self, request: &dyn Request) -> Result<(), Refusal> {
        if let Some(bytes) = announced(request)
            && !self.max.holds(bytes)
        {
            return Err(self.too_large(bytes));
        }
        if self.types.is_empty() || !request.has_body() || self.takes(request.header("content-type").unwrap_or("")) {
            return Ok(());
        }
        let mut refusal = self.rule.refuse(Fault::BodyType, "the content type is none of `type`");
        refusal.fields.extend(self.accept.clone().map(|accept| (header::ACCEPT, accept)));
        Err(refusal)
    }

    /// Refuses what came meanwhile; a shadow says so once.
    pub fn receive(&self, bytes: u64, found: &mut Found) -> Result<(), Refusal> {
        match (self.max.holds(bytes), self.rule.mode) {
            (true, _) => Ok(()),
            (false, Mode::Enforce) => Err(self.too_large(bytes)),
            (false, Mode::Shadow) => {
                if !found.would_refuse.iter().any(|refusal| refusal.fault == Fault::BodyTooLarge) {
                    found.would_refuse.push(self.too_large(bytes));
                }
                Ok(())
            }
        }
    }

    /// Whether this holds in place of what is built in.
    pub fn enforces(&self) -> bool {
        self.rule.mode == Mode::Enforce
    }

    fn too_large(&self, bytes: u64) -> Refusal {
        self.rule.refuse(Fault::BodyTooLarge, format!("{bytes} bytes are more than {}", self.max))
    }

    /// Whether the type is on the list, whatever its parameters.
    fn takes(&self, said: &str) -> bool {
        let said = said.split(';').next().unwrap_or_default().trim();
        let fits = |kind: &str| match kind.strip_suffix('*') {
            Some(main) => said.get(..main.len()).is_some_and(|start| start.eq_ignore_ascii_case(main)),
            None => said.eq_ignore_ascii_case(kind),
        };
        self.types.iter().any(|kind| fits(kind))
    }
}

fn announced(request: &dyn Request) -> Option<u64> {
    request.header("content-length")?.parse().ok()
}

/// Holds where the route says nothing, or only watches.
pub fn built_in(bytes: u64) -> Result<(), Refusal> {
    if BUILT_IN.holds(bytes) {
        return Ok(());
    }
    let why = format!("{bytes} bytes are more than {BUILT_IN}").into();
    let rule = "body.max (built in)".into();
    Err(Refusal { fault: Fault::BodyTooLarge, rule, why, fields: Vec::new(), errors: Vec::new() })
}

/// The same for what the head announces.
pub fn built_in_head(request: &dyn Request) -> Result<(), Refusal> {
    announced(request).map_or(Ok(()), built_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(yaml: &str) -> Result<Body, String> {
        let mut problems = Problems::default();
        let place = |_: &Path| "y:1:1".to_owned();
        let auth = std::collections::BTreeMap::new();
        let tools = Tools::alone(&place, &auth);
        let config: Config = serde_yaml::from_str(yaml).map_err(|e| e.to_string())?;
        let made = Body::compile(&config, &Path::of(["body"]), &tools, &mut problems);
        made.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn sizes_are_said_with_a_unit_or_none() {
        assert!(body("{ max: 1KiB }").unwrap().max.holds(1024) && !body("{ max: 1KiB }").unwrap().max.holds(1025));
        assert!(body("{ max: none }").unwrap().max.holds(u64::MAX));
        assert!(!body("{}").unwrap().max.holds((10 << 20) + 1));
        assert!(body("{ max: 10 }").unwrap_err().contains("needs a unit"));
        assert!(body("{ max: all }").unwrap_err().contains("e.g. 512B, 64KiB or 10MiB, or none"));
    }

    #[test]
    fn types_are_compared_without_their_parameters() {
        let body = body("{ type: [application/json, 'Image/*'] }").unwrap();
        for said in ["application/json", "Application/JSON; charset=utf-8", "image/png", "IMAGE/svg+xml"] {
            assert!(body.takes(said), "{said}");
        }
        for said in ["", "application/jsonx", "application", "imagex/png", "text/plain", "text/plain; application/json"]
        {
            assert!(!body.takes(said), "{said}");
        }
    }

    #[test]
    fn what_is_no_media_type_is_a_mistake() {
        for wrong in ["json", "*/*", "a/b; c=d", "/x", "a/"] {
            assert!(super::tests::body(&format!("{{ type: ['{wrong}'] }}")).is_err(), "{wrong}");
        }
    }
}
