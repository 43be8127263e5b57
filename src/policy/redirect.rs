//! Sends the client elsewhere.
//!
//! ```yaml
//! redirect: https                                             # the same, over TLS
//! redirect: { to: "https://new.example.com/x/:id", status: 302 }
//! ```

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{Offer, Params, Template};
use crate::canonical;
use crate::exchange::Request;
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::units::{or_short, short_form};

/// Where the client is sent; the query is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "Redirect", transform = or_short)]
pub struct Config {
    /// `https`, a path, or an URL; `:name` and `*` stand for parts of the match, no path keeps the path.
    pub to: Box<str>,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { to: text.into(), status: permanent() })
    }
}

short_form!(Config, "`https`, a path or an URL, or { to, status }");

/// A redirect, decided once.
#[derive(Debug, Clone)]
pub struct Redirect {
    pub status: u16,
    /// What stands before the path: nothing, or scheme and host.
    origin: Origin,
    /// The path; the request's own when there is none.
    path: Option<Template>,
}

#[derive(Debug, Clone)]
enum Origin {
    Same,
    Https,
    Other(Box<str>),
}

impl Redirect {
    /// `offers` is what the route's matches give, one each.
    pub fn compile(config: &Config, offers: &[Offer], at: &Path, problems: &mut Problems) -> Option<Self> {
        let status = matches!(config.status, 301 | 302 | 303 | 307 | 308);
        if !status {
            problems.error(at.key("status"), format!("`{}` is not one of 301, 302, 303, 307 and 308", config.status));
        }
        let (origin, path) = read(&config.to, offers).map_err(|why| problems.error(at.key("to"), why)).ok()?;
        status.then_some(Self { status: config.status, origin, path })
    }

    /// The value of `Location`.
    pub fn location(&self, request: &dyn Request, params: &Params) -> Result<String, Fault> {
        let mut out = match &self.origin {
            Origin::Same => String::new(),
            Origin::Https => format!("https://{}", request.host()),
            Origin::Other(origin) => origin.to_string(),
        };
        match &self.path {
            Some(template) => out.push_str(&template.render(request.path(), params)?),
            None => out.push_str(request.path()),
        }
        if let Some(query) = request.query() {
            out.extend(["?", query]);
        }
        Ok(out)
    }
}

fn read(to: &str, offers: &[Offer]) -> Result<(Origin, Option<Template>), String> {
    if to == "https" {
        return Ok((Origin::Https, None));
    }
    if to.starts_with('/') {
        return Ok((Origin::Same, Some(Template::compile(to, offers)?)));
    }
    let after = to.strip_prefix("https://").or_else(|| to.strip_prefix("http://"));
    let after =
        after.ok_or_else(|| format!("`{to}` is not `https`, a path or an URL, e.g. https://new.example.com/x"))?;
    let path = after.find('/').unwrap_or(after.len());
    let (authority, path) = after.split_at(path);
    canonical::host(authority).map_err(|_| format!("`{authority}` is not a host, e.g. new.example.com"))?;
    let origin = to.get(..to.len() - path.len()).unwrap_or(to);
    let path = if path.is_empty() { None } else { Some(Template::compile(path, offers)?) };
    Ok((Origin::Other(origin.into()), path))
}
