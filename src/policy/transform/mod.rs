//! Changes JSON bodies: by field rules, or by a template that makes them anew.
//!
//! ```yaml
//! transform:
//!   request: { rename: { item_no: sku }, add: { tenant: $jwt.tenant } }
//!   response: { pick: [id, "items[].sku"], drop: ["items[].cost"] }
//! ```
//!
//! A body that cannot be changed goes nowhere: never as it was, and never half changed.

mod json;
mod mark;
mod rules;
mod template;

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::json::Json;
pub use self::mark::Mark;
use self::rules::Rules;
use self::template::Template;
use super::decode::{Coded, Unreadable};
use super::guard::{Mode, Rule, Tools};
use super::key::Part;
use crate::exchange::{Identity, Refusal, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::units::Size;

/// How bodies change on their way there and back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TransformBoth")]
pub struct Both {
    /// The body of a request, once it was found good and before a target is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Config>,
    /// The body of an answer with a status of 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Config>,
}

/// How a body changes: by a template, or by `pick`, `drop`, `rename` and `add` in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Transform")]
pub struct Config {
    /// The file of a template that makes the body anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<str>>,
    /// The template itself, in place of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// The content type of what the template makes, `application/json` when left out.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Box<str>>,
    /// What stays, e.g. `id` or `items[].sku`; all of it when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pick: Vec<Box<str>>,
    /// What goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<Box<str>>,
    /// What is called otherwise from now on, in its place.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<Box<str>, Box<str>>,
    /// What is put in: a value, or what is known of the request, e.g. `$jwt.sub`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<Box<str>, Value>,
    /// The largest body that is changed; larger ones are refused.
    pub max: Size,
    /// What becomes of a body that is no JSON: it passes as it is, or is refused.
    #[serde(rename = "else", skip_serializing_if = "Otherwise::is_default")]
    pub otherwise: Otherwise,
}

/// What becomes of a body that is no JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TransformElse")]
pub enum Otherwise {
    /// It passes as it is.
    #[default]
    Pass,
    /// It is refused.
    Refuse,
}

impl Otherwise {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            template: None,
            text: None,
            kind: None,
            pick: Vec::new(),
            drop: Vec::new(),
            rename: BTreeMap::new(),
            add: BTreeMap::new(),
            max: Size::from_bytes(1 << 20),
            otherwise: Otherwise::default(),
        }
    }
}

/// Both ways, decided once.
#[derive(Debug)]
pub struct Transform {
    pub request: Option<Side>,
    pub response: Option<Side>,
}

impl Transform {
    /// `at` is `routes.NAME.transform`.
    pub fn compile(config: &Both, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Box<Self>> {
        if config.request.is_none() && config.response.is_none() {
            problems.error(at.clone(), "takes at least one of `request` and `response`");
        }
        let before = problems.errors();
        let mut side = |key: &str, fault, config: Option<&Config>| {
            config.and_then(|config| Side::compile(config, fault, &at.key(key), tools, problems))
        };
        let request = side("request", Fault::BodyInvalid, config.request.as_ref());
        let response = side("response", Fault::TransformFailed, config.response.as_ref());
        (problems.errors() == before).then(|| Box::new(Self { request, response }))
    }

    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.request.iter().chain(&self.response).filter_map(|side| side.file.as_ref())
    }

    /// The path parameters that the route's match has to have.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.parts().filter_map(|part| if let Part::Param(name) = part { Some(&**name) } else { None })
    }

    /// Whether it puts in what only `auth` finds out.
    pub fn asks_who(&self) -> bool {
        self.parts().any(|part| matches!(part, Part::Consumer | Part::Claim(_)))
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.request.iter().chain(&self.response).flat_map(Side::parts)
    }
}

/// What is known of the request whose bodies change.
pub struct Facts<'a> {
    pub request: &'a dyn Request,
    pub identity: Option<&'a Identity>,
    pub params: &'a [(String, &'a str)],
    pub route: &'a str,
    /// Of the answer, where it is one that changes.
    pub status: Option<u16>,
}

impl Facts<'_> {
    fn value(&self, part: &Part) -> Option<Value> {
        let text = |text: &str| Value::from(text);
        match part {
            Part::Client => Some(text(&self.request.client().to_string())),
            Part::Consumer => self.identity?.consumer.as_deref().map(text),
            Part::Claim(name) => self.identity?.claims.as_ref()?.get(&**name).cloned(),
            Part::Header(name) => self.request.header(name.as_str()).map(text),
            Part::Cookie(name) => self.request.cookie(name).map(text),
            Part::Param(name) => self.request.param(name).map(text),
            Part::Host => Some(text(self.request.host())),
            Part::Route => Some(text(self.route)),
            Part::Operation => None,
        }
    }
}

/// One way, decided once.
#[derive(Debug)]
pub struct Side {
    deed: Deed,
    kind: Option<HeaderValue>,
    max: usize,
    otherwise: Otherwise,
    file: Option<PathBuf>,
    /// What is said of a body that is not what it says.
    invalid: Fault,
    rule: Rule,
    pub mark: Mark,
}

#[derive(Debug)]
enum Deed {
    Template(Box<Template>),
    Rules(Rules),
}

/// How a body of this kind is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Whole,
    /// A value on each line.
    Lines,
}

impl Side {
    fn compile(config: &Config, invalid: Fault, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        config.fits(at, problems);
        let kind = config.kind.as_deref().unwrap_or("application/json");
        let written = serde_json::to_string(config).unwrap_or_default();
        let (deed, mark) = if let Some((key, text)) = config.template() {
            let compiled = text.and_then(|text| Ok((Template::compile(&text, kind)?, text)));
            let (template, text) = compiled.map_err(|why| problems.error(at.key(key), why)).ok()?;
            (Deed::Template(Box::new(template)), Mark::of_template(&written, &text))
        } else {
            let rules = Rules::compile(config, at, problems);
            let mark = Mark::of_parts(&written, rules.parts());
            (Deed::Rules(rules), mark)
        };
        let said = matches!(deed, Deed::Template(_)).then_some(kind);
        (problems.errors() == before).then(|| Self {
            deed,
            kind: said.and_then(|kind| HeaderValue::from_str(kind).ok()),
            max: config.max.len(),
            otherwise: config.otherwise,
            file: config.template.as_deref().map(PathBuf::from),
            invalid,
            rule: Rule::new(at, Mode::Enforce, tools),
            mark,
        })
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        let rules = if let Deed::Rules(rules) = &self.deed { Some(rules) } else { None };
        rules.into_iter().flat_map(Rules::parts)
    }

    /// The content type of what is made, where that is another one.
    pub fn kind(&self) -> Option<&HeaderValue> {
        self.kind.as_ref()
    }

    /// The largest body.
    pub fn most(&self) -> usize {
        self.max
    }

    /// How a body of this content type is read; nothing where it passes as it is.
    pub fn form(&self, kind: Option<&HeaderValue>) -> Result<Option<Form>, Refusal> {
        let said = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if is_lines(said) {
            return Ok(Some(Form::Lines));
        }
        if is_json(said) {
            return Ok(Some(Form::Whole));
        }
        match (self.otherwise, self.invalid) {
            (Otherwise::Pass, _) => Ok(None),
            (Otherwise::Refuse, Fault::BodyInvalid) => Err(self.rule.refuse(Fault::BodyType, "it is no JSON")),
            (Otherwise::Refuse, fault) => Err(self.rule.refuse(fault, "the answer is no JSON")),
        }
    }

    /// The changed body.
    pub fn whole(&self, body: &[u8], coded: Coded, form: Form, facts: &Facts<'_>) -> Result<Vec<u8>, Refusal> {
        let decoded = coded.decode(body, self.max).map_err(|why| self.unreadable(why))?;
        match form {
            Form::Whole => self.change(&decoded, facts),
            Form::Lines => {
                let mut out = Vec::with_capacity(decoded.len());
                for line in decoded.split(|byte| *byte == b'\n') {
                    self.line(line, facts, &mut out)?;
                }
                Ok(out)
            }
        }
    }

    /// One line of many; nothing comes of an empty one.
    pub fn line(&self, line: &[u8], facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if line.len() > self.max {
            return Err(self.too_large());
        }
        if !line.trim_ascii().is_empty() {
            let made = self.change(line, facts)?;
            out.extend(made.into_iter().filter(|byte| *byte != b'\n'));
            out.push(b'\n');
        }
        Ok(())
    }

    fn change(&self, body: &[u8], facts: &Facts<'_>) -> Result<Vec<u8>, Refusal> {
        let made = match &self.deed {
            Deed::Rules(rules) => {
                let json = Json::parse(body).map_err(|why| self.invalid(why))?;
                rules.apply(json, facts)
            }
            Deed::Template(template) => {
                let wrong =
                    |why: serde_json::Error| format!("is not JSON: line {}, column {}", why.line(), why.column());
                let value = serde_json::from_slice(body).map_err(|why| self.invalid(wrong(why)))?;
                template.render(&value, facts)
            }
        };
        match made {
            Ok(made) if made.is_empty() => Err(self.rule.refuse(Fault::TransformFailed, "nothing is left")),
            Ok(made) => Ok(made.into_bytes()),
            Err(why) => Err(self.rule.refuse(Fault::TransformFailed, why)),
        }
    }

    fn invalid(&self, why: String) -> Refusal {
        let mut refusal = self.rule.refuse(self.invalid, format!("#: {why}"));
        if self.invalid == Fault::BodyInvalid {
            refusal.errors.push(("#".into(), why.into()));
        }
        refusal
    }

    pub fn unreadable(&self, why: Unreadable) -> Refusal {
        match (why, self.invalid) {
            (Unreadable::TooLarge, _) => self.too_large(),
            (Unreadable::Unknown, Fault::BodyInvalid) => self.rule.refuse(Fault::BodyType, why.to_string()),
            _ => self.invalid(why.to_string()),
        }
    }

    /// More than can be changed.
    pub fn too_large(&self) -> Refusal {
        let fault = if self.invalid == Fault::BodyInvalid { Fault::BodyTooLarge } else { self.invalid };
        self.rule.refuse(fault, format!("more than the {} bytes that are changed as a whole", self.max))
    }

    /// A part of an answer that nobody has asked for.
    pub fn part(&self) -> Refusal {
        self.rule.refuse(self.invalid, "the answer is a part of one")
    }
}

impl Config {
    /// The template with its key; the error is a sentence.
    fn template(&self) -> Option<(&'static str, Result<String, String>)> {
        if let Some(text) = &self.text {
            return Some(("text", Ok(text.to_string())));
        }
        let name = self.template.as_deref()?;
        Some(("template", std::fs::read_to_string(name).map_err(|why| format!("cannot read {name}: {why}"))))
    }

    fn fits(&self, at: &Path, problems: &mut Problems) {
        let templates = usize::from(self.template.is_some()) + usize::from(self.text.is_some());
        let rules = !(self.pick.is_empty() && self.drop.is_empty() && self.rename.is_empty() && self.add.is_empty());
        if templates > 1 || (templates == 1 && rules) {
            problems.error(at.clone(), "takes `template`, `text`, or the rules `pick`, `drop`, `rename` and `add`");
        }
        if templates == 0 && !rules {
            problems.error(at.clone(), "takes a template or at least one of `pick`, `drop`, `rename` and `add`");
        }
        if self.kind.is_some() && templates == 0 {
            problems.error(at.key("type"), "is that of what a template makes, and there is none");
        }
        if self.max.is_empty() || self.max.len() > MOST {
            problems.error(at.key("max"), format!("from 1B to {}", Size::from_bytes(MOST as u64)));
        }
    }
}

/// What may be held of one body.
const MOST: usize = 64 << 20;

/// `application/json`, `application/problem+json`.
pub(super) fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind == "text/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn is_lines(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}
