//! Where requests go, or what they are told, while no target of a pool takes any.
//!
//! ```yaml
//! fallback: orders-elsewhere
//! fallback: { status: 200, type: application/json, body: '{"items":[]}' }
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Pool;
use crate::problem::{Path, Problems};
use crate::units::{Inline, Use};

/// Another pool by its name, or an answer.
pub type Config = Use<Said>;

/// The answer that is given instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PoolFallback")]
pub struct Said {
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

impl Inline for Said {
    const EXPECTED: &'static str = "the name of another pool, or an answer: { status, body, type }";
    const SCHEMA: &'static str = "PoolFallbackUse";
}

fn ok() -> u16 {
    200
}

fn plain() -> Box<str> {
    "text/plain; charset=utf-8".into()
}

/// The answer, decided once.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
    /// The content type; none without a body.
    pub kind: Option<HeaderValue>,
}

impl Answer {
    pub(super) fn compile(said: &Said, at: &Path, problems: &mut Problems) -> Self {
        if !(200..600).contains(&said.status) {
            problems.error(at.key("status"), format!("`{}` is not a status of an answer: 200 to 599", said.status));
        }
        if !said.body.is_empty() && matches!(said.status, 204 | 205 | 304) {
            problems.error(at.key("body"), format!("an answer with status {} has no body", said.status));
        }
        let kind = HeaderValue::from_str(&said.kind);
        let kind =
            kind.map_err(|_| problems.error(at.key("type"), "is not a content type, e.g. application/json")).ok();
        let body = Bytes::copy_from_slice(said.body.as_bytes());
        Self { status: said.status, kind: kind.filter(|_| !body.is_empty()), body }
    }
}

/// What a pool falls back on.
#[derive(Debug, Clone)]
pub enum Fallback {
    Pool(Arc<Pool>),
    Answer(Arc<Answer>),
}

impl Pool {
    /// Who serves, or what is answered, while no target takes requests.
    pub fn fallback(&self) -> Option<&Fallback> {
        self.fallback.get()
    }
    /// Names the pool that serves then: once, and never one that leads back here.
    pub fn fall_back_on(&self, pool: &Arc<Self>) {
        self.fallback.get_or_init(|| Fallback::Pool(Arc::clone(pool)));
    }
}
