//! Header fields and query parameters: whether they are there, and what they look like.

use std::borrow::Cow;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::unescape;
use crate::exchange::Request;
use crate::policy::pattern::Pattern;

/// What a header field or a query parameter has to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// Whether it has to be there.
    #[serde(default)]
    pub required: bool,
    /// What each of its values looks like, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Pattern>,
}

impl Param {
    /// Sees every value of this name; one that is no text is `None`.
    fn check<'v>(&self, name: &str, values: impl Iterator<Item = Option<Cow<'v, str>>>, errors: &mut Errors) {
        let mut there = false;
        for value in values {
            there = true;
            let fits = match (&value, &self.regex) {
                (Some(text), Some(pattern)) => pattern.matches(text),
                (value, _) => value.is_some(),
            };
            if !fits {
                errors.push((name.into(), "does not look as it has to".into()));
                return;
            }
        }
        if self.required && !there {
            errors.push((name.into(), "is required".into()));
        }
    }
}

/// What is wrong where.
pub(super) type Errors = Vec<(Box<str>, Box<str>)>;

pub(super) fn header(name: &HeaderName, param: &Param, request: &dyn Request, errors: &mut Errors) {
    let lines = request.headers().get_all(name).iter();
    param.check(name.as_str(), lines.map(|line| line.to_str().ok().map(Cow::Borrowed)), errors);
}

pub(super) fn query(name: &str, param: &Param, request: &dyn Request, errors: &mut Errors) {
    param.check(name, pairs(request, name), errors);
}

/// The values of a query parameter; a name in another spelling is the same name to the target.
pub(super) fn pairs<'r>(request: &'r dyn Request, name: &str) -> impl Iterator<Item = Option<Cow<'r, str>>> {
    let pairs = request.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(move |(key, _)| decoded(key).as_deref() == Some(name)).map(|(_, value)| decoded(value))
}

/// As forms write it; nothing where that is no text.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    unescape(&text.replace('+', " ")).map(Cow::Owned)
}
