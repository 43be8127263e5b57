//! Answers by itself, always the same.
//!
//! ```yaml
//! respond: 204
//! respond: { status: 200, type: application/json, body: '{"ok":true}' }
//! ```

use std::str::FromStr;

use bytes::Bytes;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Path, Problems};
use crate::units::{or_short, short_form};

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "Respond", transform = or_short)]
pub struct Config {
    /// 200 to 599.
    #[serde(default = "ok")]
    pub status: u16,
    /// The text of the answer.
    #[serde(default)]
    pub body: Box<str>,
    /// Its content type.
    #[serde(default = "plain", rename = "type")]
    pub kind: Box<str>,
}

fn ok() -> u16 {
    200
}

fn plain() -> Box<str> {
    "text/plain; charset=utf-8".into()
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let status = text.parse().map_err(|_| format!("`{text}` is not a status, e.g. 204"))?;
        Ok(Self { status, body: Box::default(), kind: plain() })
    }
}

short_form!(Config, "a status, or { status, body, type }");

/// The answer, decided once.
#[derive(Debug, Clone)]
pub struct Respond {
    pub status: u16,
    pub body: Bytes,
    /// The content type; none without a body.
    pub kind: Option<HeaderValue>,
}

impl Respond {
    pub fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if !(200..600).contains(&config.status) {
            problems.error(at.key("status"), format!("`{}` is not a status of an answer: 200 to 599", config.status));
        }
        if !config.body.is_empty() && matches!(config.status, 204 | 205 | 304) {
            problems.error(at.key("body"), format!("an answer with status {} has no body", config.status));
        }
        let kind = HeaderValue::from_str(&config.kind);
        let kind =
            kind.map_err(|_| problems.error(at.key("type"), "is not a content type, e.g. application/json")).ok()?;
        let body = Bytes::copy_from_slice(config.body.as_bytes());
        (problems.errors() == before).then(|| Self {
            status: config.status,
            kind: Some(kind).filter(|_| !body.is_empty()),
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(yaml: &str) -> Result<Respond, String> {
        let mut problems = Problems::default();
        let made = Respond::compile(&serde_yaml::from_str(yaml).unwrap(), &Path::of(["respond"]), &mut problems);
        made.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn an_answer_is_a_status_or_more() {
        let answer = compile("204").unwrap();
        assert_eq!((answer.status, answer.body.len(), answer.kind), (204, 0, None));
        let answer = compile("{ body: hello }").unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
        assert_eq!(answer.kind.unwrap(), "text/plain; charset=utf-8");
    }

    #[test]
    fn an_answer_that_cannot_be_sent_is_refused() {
        let table = [
            ("100", "respond.status: `100` is not a status of an answer: 200 to 599"),
            ("{ status: 204, body: x }", "respond.body: an answer with status 204 has no body"),
            ("{ type: \"a\\nb\" }", "respond.type: is not a content type, e.g. application/json"),
        ];
        for (yaml, sentence) in table {
            assert_eq!(compile(yaml).unwrap_err(), sentence);
        }
    }
}
