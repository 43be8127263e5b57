//! Tests that the document brings along: a request, who sends it, and what must become of it.
//!
//! ```yaml
//! tests:
//!   - { send: GET api.example.com/orders/7, expect: 401 auth.missing }
//!   - { send: POST api.example.com/orders, as: { sub: u1 }, body: 2MiB, expect: 413 body.too_large }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::exchange::Identity;
use crate::fault::Fault;
use crate::problem::nearest;
use crate::units::{Name, Size, or_short, short_form};

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Test")]
pub struct Case {
    /// The request: method, host and path as in `match`, e.g. GET api.example.com/orders/7; with https:// it comes by TLS.
    #[schemars(with = "String")]
    pub send: Line,
    /// Header fields of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Who it is, in place of what `auth` finds out: claims, or e.g. `sub=alice,role=admin`.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
    /// The body; a size, e.g. 2MiB, is a body of which only the length is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub body: Option<Body>,
    /// Who opens the connection.
    #[serde(default = "here", deserialize_with = "address")]
    #[schemars(with = "String")]
    pub client: IpAddr,
    /// The listener that it comes to; the first one that speaks the scheme of `send`, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Name>,
    /// What must become of it.
    pub expect: Expect,
}

fn here() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not an address, e.g. 192.0.2.7")))
}

/// The method and the URL of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(String, String);

impl Line {
    pub fn method(&self) -> &str {
        &self.0
    }
    pub fn url(&self) -> &str {
        &self.1
    }
}

impl TryFrom<String> for Line {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (method, url) = match words.as_slice() {
            [url] if url.contains('/') => ("GET", *url),
            [method, url] => (*method, *url),
            _ => return Err(format!("`{text}` is not a request, e.g. GET api.example.com/orders/7")),
        };
        Ok(Self(method.to_owned(), url.to_owned()))
    }
}

impl From<Line> for String {
    fn from(line: Line) -> Self {
        line.to_string()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// A body, or its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Body {
    Text(String),
    Length(Size),
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Text(text), Self::Length)
    }
}

impl From<Body> for String {
    fn from(body: Body) -> Self {
        match body {
            Body::Text(text) => text,
            Body::Length(size) => size.to_string(),
        }
    }
}

/// What is known of someone: claims, which are attributes too. Short: names with words, e.g. `sub=alice,role=admin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent, remote = "Self")]
#[schemars(transform = or_short)]
pub struct Who(pub Map<String, Value>);

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither claims as JSON nor e.g. sub=alice,role=admin");
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map(Self).map_err(|_| wrong());
        }
        let pair = |pair: &str| pair.split_once('=').map(|(name, word)| (name.trim().to_owned(), json!(word.trim())));
        text.split(',').map(pair).collect::<Option<_>>().map(Self).ok_or_else(wrong)
    }
}

short_form!(Who, "claims, e.g. { sub: alice }, or sub=alice,role=admin");

impl Who {
    /// The identity that `auth` would have found; what the document would say of a consumer is taken from the claims.
    pub fn identity(&self) -> Identity {
        let consumer = ["consumer", "sub"].iter().find_map(|name| self.0.get(*name)?.as_str()).map(Arc::from);
        let claims = Arc::new(self.0.clone());
        Identity { consumer, attributes: Some(claims.clone()), claims: Some(claims), ..Identity::default() }
    }
}

/// What must become of a request. A status and a code are short for themselves, e.g. `401 auth.missing`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(transform = or_short)]
pub struct Expect {
    /// The status of the answer, where the gateway answers itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The reason code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub code: Option<Reason>,
    /// The route that takes it, whatever becomes of it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Name>,
    /// The pool that it is forwarded to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
}

impl FromStr for Expect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut expect = Self::default();
        for word in text.split_whitespace() {
            if word.bytes().all(|byte| byte.is_ascii_digit()) && expect.status.is_none() && expect.code.is_none() {
                let status = word.parse().ok().filter(|status| (100..600).contains(status));
                expect.status = Some(status.ok_or_else(|| format!("`{word}` is no status, e.g. 401"))?);
            } else if expect.code.is_none() {
                expect.code = Some(word.to_owned().try_into()?);
            } else {
                return Err(format!("`{text}` is not a status and a code, e.g. 401 auth.missing"));
            }
        }
        Ok(expect)
    }
}

short_form!(Expect, "a status and a code, e.g. 401 auth.missing, or { status, code, route, pool }");

impl Expect {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.status.is_none() && self.code.is_none() && self.route.is_none() && self.pool.is_none()
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.status.map(|status| status.to_string()),
            self.code.map(|code| code.0.to_string()),
            self.route.as_ref().map(|route| format!("route {route}")),
            self.pool.as_ref().map(|pool| format!("pool {pool}")),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

/// A reason of the one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(pub Fault);

impl TryFrom<String> for Reason {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        let known = Fault::ALL.iter().find(|fault| fault.code() == code);
        known.map(|fault| Self(*fault)).ok_or_else(|| {
            let near = nearest(&code, Fault::ALL.iter().map(|fault| fault.code()));
            let near = near.map(|near| format!(". Did you mean `{near}`?"));
            format!("`{code}` is no reason code{}", near.unwrap_or_default())
        })
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0.code().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_the_long_form() {
        let read = |yaml: &str| serde_yaml::from_str::<Expect>(yaml).map_err(|why| why.to_string());
        assert_eq!(read("401 auth.missing"), read("{ status: 401, code: auth.missing }"));
        assert_eq!(read("204"), read("{ status: 204 }"));
        assert_eq!(read("body.too_large"), read("{ code: body.too_large }"));
        for (yaml, sentence) in [
            ("401 auth.mising", "`auth.mising` is no reason code. Did you mean `auth.missing`?"),
            ("999", "`999` is no status, e.g. 401"),
            ("401 auth.missing orders", "`401 auth.missing orders` is not a status and a code, e.g. 401 auth.missing"),
        ] {
            assert_eq!(read(yaml), Err(sentence.to_owned()), "{yaml}");
        }
    }

    #[test]
    fn a_request_is_a_method_and_a_url() {
        let read = |text: &str| Line::try_from(text.to_owned()).map(|line| line.to_string());
        assert_eq!(read("POST a.example/x"), Ok("POST a.example/x".to_owned()));
        assert_eq!(read("a.example/x"), Ok("GET a.example/x".to_owned()));
        for wrong in ["", "GET", "GET a.example/x HTTP/1.1"] {
            assert!(read(wrong).is_err_and(|why| why.contains("is not a request")), "{wrong}");
        }
    }

    #[test]
    fn a_body_that_is_written_as_a_size_is_a_length() {
        assert_eq!(Body::from("2MiB".to_owned()), Body::Length(Size::from_bytes(2 << 20)));
        assert_eq!(Body::from("{}".to_owned()), Body::Text("{}".to_owned()));
    }
}
