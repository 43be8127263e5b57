//! Sets, adds and removes header fields of the request or of the response.
//!
//! ```yaml
//! request:
//!   set: { x-tenant: acme, authorization: file:/run/credentials/yumen.service/orders }
//!   remove: [x-debug]
//! response:
//!   add: { cache-control: no-store }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Path, Problems};
use crate::units::Text;

/// What happens to the header fields: first `remove`, then `set`, then `add`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Fields")]
pub struct Config {
    /// Fields that get this one value, whatever they had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<Field, Text>,
    /// Fields that get this value beside those that they have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<Field, Text>,
    /// Fields that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Field>,
}

impl Config {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Fields that usually carry a secret and stand in the document with their value.
    fn literal_secrets(&self) -> impl Iterator<Item = (&'static str, &Field)> {
        let set = self.set.iter().map(|entry| ("set", entry));
        let all = set.chain(self.add.iter().map(|entry| ("add", entry)));
        all.filter(|(_, (field, value))| field.is_secret() && value.is_literal()).map(|(key, (field, _))| (key, field))
    }
}

/// The changes, decided once.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

impl Fields {
    /// Reads secrets; one that cannot be read is a problem.
    pub fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Self {
        for (key, field) in config.literal_secrets() {
            let sentence = "a secret stands in the document; write `file:/path` or `env:NAME`";
            problems.warn(at.key(key).key(field.as_str()), sentence);
        }
        let set = values(&config.set, &at.key("set"), problems);
        let add = values(&config.add, &at.key("add"), problems);
        Self { remove: config.remove.iter().filter_map(Field::name).collect(), set, add }
    }

    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Changes a request. (Pingora refuses only names and values that are wrong, and these are not.)
    pub fn request(&self, head: &mut RequestHeader) {
        for name in &self.remove {
            head.remove_header(name);
        }
        for (name, value) in &self.set {
            let _ = head.insert_header(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            let _ = head.append_header(name.clone(), value.clone());
        }
    }

    /// Changes a response.
    pub fn response(&self, head: &mut ResponseHeader) {
        for name in &self.remove {
            head.remove_header(name);
        }
        for (name, value) in &self.set {
            let _ = head.insert_header(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            let _ = head.append_header(name.clone(), value.clone());
        }
    }
}

fn values(config: &BTreeMap<Field, Text>, at: &Path, problems: &mut Problems) -> Box<[(HeaderName, HeaderValue)]> {
    let mut read = |field: &Field, text: &Text| -> Option<(HeaderName, HeaderValue)> {
        let value = text.resolve().and_then(|value| {
            let value = HeaderValue::from_bytes(value.as_bytes());
            value.map_err(|_| "has characters that a header field cannot carry".to_owned())
        });
        let mut value = value.map_err(|why| problems.error(at.key(field.as_str()), why)).ok()?;
        value.set_sensitive(field.is_secret() || !text.is_literal());
        Some((field.name()?, value))
    };
    config.iter().filter_map(|(field, text)| read(field, text)).collect()
}

/// The name of a header field that a route may change, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(Box<str>);

/// Framing and connection belong to the gateway: a route that changed them could smuggle.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

impl Field {
    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub(in crate::policy) fn name(&self) -> Option<HeaderName> {
        HeaderName::from_bytes(self.0.as_bytes()).ok()
    }
    fn is_secret(&self) -> bool {
        matches!(&*self.0, "authorization" | "proxy-authorization" | "cookie" | "set-cookie")
            || ["api-key", "apikey", "token", "secret", "password"].iter().any(|word| self.0.contains(word))
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = http::HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| format!("`{text}` is not the name of a header field"))?;
        match name.as_str() {
            "host" => Err("the field `host` is set by the route's key `host`".to_owned()),
            ours if OURS.contains(&ours) => {
                Err(format!("the field `{ours}` belongs to the gateway and cannot be changed"))
            }
            name => Ok(Self(name.into())),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::units::scalar!(Field, "the name of a header field", example "x-tenant",
    bare number |n| n.to_string().parse(),
    "The name of a header field; those of framing and connection cannot be changed.");

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(yaml: &str) -> (Fields, Vec<String>) {
        let mut problems = Problems::default();
        let fields = Fields::compile(&serde_yaml::from_str(yaml).unwrap(), &Path::of(["request"]), &mut problems);
        (fields, problems.iter().map(|p| format!("{:?} {}: {}", p.level, p.at, p.sentence)).collect())
    }

    #[test]
    fn fields_go_then_are_set_then_added() {
        let (fields, problems) = compile("{ set: { X-Tenant: acme }, add: { x-via: us }, remove: [x-debug, x-old] }");
        assert_eq!(problems, Vec::<String>::new());
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [("x-tenant", "a"), ("x-tenant", "b"), ("x-debug", "1"), ("x-via", "me")] {
            head.append_header(name, value).unwrap();
        }
        fields.request(&mut head);
        let all = |name| head.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (all("x-tenant"), all("x-debug"), all("x-via")),
            (vec!["acme".into()], vec![], vec!["me".into(), "us".into()])
        );
    }

    #[test]
    fn framing_and_connection_cannot_be_changed() {
        for name in ["Connection", "content-length", "Transfer-Encoding", "host", "te", "upgrade", "a b", "", ":path"] {
            assert!(name.parse::<Field>().is_err(), "{name}");
        }
    }

    #[test]
    fn values_that_cannot_be_had_or_carried_are_problems_and_literal_secrets_warn() {
        let (_, problems) = compile(
            "{ set: { x-a: 'env:YUMEN_NOT_SET', x-b: \"a\\nb\", authorization: Bearer abc, x-c: plain }, add: { x-api-key: k } }",
        );
        assert_eq!(
            problems,
            [
                "Warn request.set.authorization: a secret stands in the document; write `file:/path` or `env:NAME`",
                "Warn request.add.x-api-key: a secret stands in the document; write `file:/path` or `env:NAME`",
                "Error request.set.x-a: environment variable YUMEN_NOT_SET is not set",
                "Error request.set.x-b: has characters that a header field cannot carry",
            ]
        );
    }
}
