//! Changes the path before it is forwarded.
//!
//! ```yaml
//! rewrite: { strip: /api }            # /api/orders/7 -> /orders/7
//! rewrite: { prefix: /v2 }            # on a match of /orders/*: /orders/7 -> /v2/7
//! rewrite: { path: /v2/:id/* }        # parts of the match; `*` is the rest
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
