//! What the target is told of who asks: fields of the request that only the gateway can set.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::exchange::Identity;
use crate::problem::{Path, Problems};

/// A part of what is known of a client: `jwt.sub`, `consumer` or `consumer.plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A claim of the token, and what lies in it.
    Claim(Box<[Box<str>]>),
    /// The name of the consumer.
    Consumer,
    /// What the document says of the consumer.
    Attribute(Box<str>),
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || Err(format!("`{text}` is nothing that is known of a client, e.g. jwt.sub, consumer, consumer.plan"));
        match text.split_once('.') {
            None if text == "consumer" => Ok(Self::Consumer),
            Some((_, rest)) if rest.split('.').any(str::is_empty) => wrong(),
            Some(("jwt", rest)) => Ok(Self::Claim(rest.split('.').map(Into::into).collect())),
            Some(("consumer", name)) => Ok(Self::Attribute(name.into())),
            _ => wrong(),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(way) => write!(f, "jwt.{}", way.join(".")),
            Self::Consumer => f.write_str("consumer"),
            Self::Attribute(name) => write!(f, "consumer.{name}"),
        }
    }
}

crate::units::scalar!(Part, "a part of what is known of a client", example "jwt.sub",
    bare number |n| n.to_string().parse(),
    "A part of what is known of a client: `jwt.CLAIM`, `consumer` or `consumer.ATTRIBUTE`.");

impl Part {
    /// As the value of a field; nothing where it is not known or cannot be one.
    fn value(&self, identity: &Identity) -> Option<HeaderValue> {
        let text = match self {
            Self::Consumer => identity.consumer.as_deref()?.into(),
            Self::Attribute(name) => plain(identity.attributes.as_ref()?.get(&**name)?)?,
            Self::Claim(way) => {
                let (first, rest) = way.split_first()?;
                let claim = identity.claims.as_ref()?.get(&**first)?;
                plain(rest.iter().try_fold(claim, |value, name| value.get(&**name))?)?
            }
        };
        HeaderValue::from_bytes(text.as_bytes()).ok()
    }
}

/// A text, a number, a word, or a list of texts without commas in them.
fn plain(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(yes) => Some(yes.to_string().into()),
        Value::Array(list) => {
            let one = |value: &Value| value.as_str().filter(|text| !text.contains(',')).map(str::to_owned);
            list.iter().map(one).collect::<Option<Vec<_>>>().map(|list| list.join(",").into())
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// The fields in the order in which they are set.
pub type Fields = Box<[(HeaderName, Part)]>;

/// Fields that hold the message together cannot be set.
const NEVER: [HeaderName; 6] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::TRANSFER_ENCODING,
    http::header::CONNECTION,
    http::header::UPGRADE,
    http::header::TE,
];

pub fn compile(config: &BTreeMap<String, Part>, at: &Path, problems: &mut Problems) -> Fields {
    let mut fields = Vec::new();
    for (name, part) in config {
        match field(name) {
            Ok(field) => fields.push((field, part.clone())),
            Err(why) => problems.error(at.key(name), why),
        }
    }
    fields.into()
}

/// A field that can be set, or a sentence.
pub(super) fn field(name: &str) -> Result<HeaderName, String> {
    match name.parse::<HeaderName>() {
        Ok(field) if !NEVER.contains(&field) && !name.contains('_') => Ok(field),
        Ok(_) => Err("cannot be set; choose a field of your own, e.g. x-user".to_owned()),
        Err(_) => Err(format!("`{name}` is not the name of a field, e.g. x-user")),
    }
}

/// Every field with its value, or with nothing, which takes away what the client sent.
pub fn values<'a>(
    fields: &'a Fields,
    identity: &'a Identity,
) -> impl Iterator<Item = (HeaderName, Option<HeaderValue>)> + 'a {
    fields.iter().map(|(name, part)| (name.clone(), part.value(identity)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn claims_become_plain_values_or_nothing() {
        let Value::Object(claims) = json!({
            "sub": "u1", "n": 7, "ok": true, "roles": ["a", "b"], "odd": ["a,b"], "deep": { "id": "x" },
            "evil": "a\r\nx-admin: yes", "none": null
        }) else {
            panic!("an object")
        };
        let identity = Identity { claims: Some(Arc::new(claims)), consumer: Some("c".into()), ..Identity::default() };
        let value = |part: &str| {
            let value = part.parse::<Part>().unwrap().value(&identity)?;
            Some(value.to_str().unwrap().to_owned())
        };
        for (part, expected) in [
            ("jwt.sub", Some("u1")),
            ("jwt.n", Some("7")),
            ("jwt.ok", Some("true")),
            ("jwt.roles", Some("a,b")),
            ("jwt.odd", None),
            ("jwt.deep.id", Some("x")),
            ("jwt.deep", None),
            ("jwt.evil", None),
            ("jwt.none", None),
            ("jwt.nobody", None),
            ("consumer", Some("c")),
            ("consumer.plan", None),
        ] {
            assert_eq!(value(part).as_deref(), expected, "{part}");
        }
        for wrong in ["sub", "jwt", "jwt.", "jwt..a", "header.x", "consumer."] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
