//! Which request goes where.

pub mod host;
pub mod matches;
pub mod path;
pub mod predicate;
pub mod split;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{headers, redirect, respond, rewrite};
use crate::units::{Duration, Name};

/// One route: which requests, under which rules, to where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub struct Config {
    /// Which requests, e.g. `GET,POST api.example.com/orders/*`; a list means any of them.
    #[serde(rename = "match")]
    pub matches: matches::Matches,
    /// Another route whose settings hold where this one says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Name>,
    /// Which regex comes first where two match; the higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The pool, or pools with their weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<split::To>,
    /// Sends the client elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<redirect::Config>,
    /// Answers by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<respond::Config>,
    /// How the path changes before it is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<rewrite::Config>,
    /// The host that the upstream sees: `pass` keeps the client's.
    #[serde(default)]
    pub host: host::UpstreamHost,
    /// Header fields of the request, on its way to the upstream.
    #[serde(default, skip_serializing_if = "headers::Config::is_empty")]
    pub request: headers::Config,
    /// Header fields of the response, on its way to the client.
    #[serde(default, skip_serializing_if = "headers::Config::is_empty")]
    pub response: headers::Config,
    /// Where this route waits shorter or longer than its pools say.
    #[serde(default, skip_serializing_if = "Timeout::is_empty")]
    pub timeout: Timeout,
}

/// Limits of waiting; what is left out is as the pool says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RouteTimeout")]
pub struct Timeout {
    /// Until the upstream accepts the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
    /// Until TLS with the upstream is agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Duration>,
    /// The longest silence of the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// The longest that the upstream takes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<Duration>,
}

impl Timeout {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    #[test]
    fn short_and_long_forms_are_the_same() {
        let same = [
            (
                "{ match: 'GET,POST api.example.com/orders/:id', to: catalog }",
                "{ match: { methods: [GET, POST], host: api.example.com, path: /orders/:id }, to: { catalog: 100 } }",
            ),
            ("{ match: /x, respond: 204 }", "{ match: [/x], respond: { status: 204 } }"),
            (
                "{ match: '*.example.com/*', redirect: https }",
                "{ match: [{ host: '*.example.com', path: /* }], redirect: { to: https, status: 308 } }",
            ),
            (
                "{ match: { headers: { X-Beta: '1' } }, to: a, host: pass }",
                "{ match: { headers: { x-beta: { is: '1' } } }, to: { a: 100 } }",
            ),
        ];
        for (short, long) in same {
            let (short, long) = (read(short).unwrap(), read(long).unwrap());
            assert_eq!(short, long);
            assert_eq!(read(&serde_yaml::to_string(&short).unwrap()).unwrap(), short);
        }
    }
}
