//! What tells clients apart: whose requests are counted together, or stay on one side.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderName, header};
use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::exchange::{Exchange, Request};
use crate::problem::nearest;

/// One part of what tells clients apart, or several together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub Vec<Part>);

/// Something that a request says, or that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The client's address; of IPv6 the network of 64 bits, which is one customer.
    Client,
    /// Who `auth` found it to be.
    Consumer,
    /// A claim of a verified token.
    Claim(Box<str>),
    Header(HeaderName),
    Cookie(Box<str>),
    /// What `:name` of the match stands for.
    Param(Box<str>),
    Host,
    Route,
    /// The name of a listed operation of GraphQL; `other` for the rest.
    Operation,
}

const WORDS: [&str; 9] =
    ["client.ip", "consumer", "jwt.", "header.", "cookie.", "path.", "host", "route", "graphql.operation"];

impl Key {
    /// Writes what the key is for this request; nothing where a part of it is not there.
    pub fn write(&self, exchange: &Exchange<'_>, route: &str, to: &mut impl Hasher) -> Option<()> {
        self.0.iter().try_for_each(|part| part.write(exchange, route, to))
    }

    /// Whether it tells clients apart.
    pub fn is_personal(&self) -> bool {
        !self.0.iter().all(|part| matches!(part, Part::Host | Part::Route | Part::Param(_) | Part::Operation))
    }

    /// Whether only `auth` can tell it.
    pub fn asks_who(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Consumer | Part::Claim(_)))
    }

    /// Whether it goes by what GraphQL asks for.
    pub fn asks_what(&self) -> bool {
        self.0.contains(&Part::Operation)
    }

    /// The names of its path parameters.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Param(name) => Some(&**name),
            _ => None,
        })
    }

    /// Whether there are requests without it.
    pub fn can_be_empty(&self) -> bool {
        !self.0.iter().all(|part| matches!(part, Part::Client | Part::Host | Part::Route | Part::Operation))
    }
}

impl Part {
    pub(in crate::policy) fn write(&self, exchange: &Exchange<'_>, route: &str, to: &mut impl Hasher) -> Option<()> {
        let (request, identity) = (exchange.request, &exchange.found.identity);
        match self {
            Self::Client => client(request.client(), to),
            Self::Consumer => text(identity.consumer.as_deref()?.as_bytes(), to)?,
            Self::Claim(name) => text(claim(identity.claims.as_ref()?.get(&**name)?)?.as_bytes(), to)?,
            Self::Header(name) => text(only(request.headers().get_all(name).into_iter())?.as_bytes(), to)?,
            Self::Cookie(name) => text(cookie(request, name)?.as_bytes(), to)?,
            Self::Param(name) => text(request.param(name)?.as_bytes(), to)?,
            Self::Host => text(request.host().as_bytes(), to)?,
            Self::Route => text(route.as_bytes(), to)?,
            Self::Operation => {
                text(exchange.found.graphql.as_ref().map_or("other", |asked| &asked.listed).as_bytes(), to)?;
            }
        }
        Some(())
    }
}

impl Part {
    /// What it is for this request, as text; nothing where it is not there.
    pub(in crate::policy) fn text<'e>(&self, exchange: &'e Exchange<'_>, route: &str) -> Option<Cow<'e, str>> {
        let (request, identity) = (exchange.request, &exchange.found.identity);
        let said = match self {
            Self::Client => request.client().to_canonical().to_string().into(),
            Self::Consumer => identity.consumer.as_deref()?.into(),
            Self::Claim(name) => claim(identity.claims.as_ref()?.get(&**name)?)?,
            Self::Header(name) => only(request.headers().get_all(name).into_iter())?.to_str().ok()?.into(),
            Self::Cookie(name) => cookie(request, name)?.into(),
            Self::Param(name) => request.param(name)?.into(),
            Self::Host => request.host().into(),
            Self::Route => route.to_owned().into(),
            Self::Operation => exchange.found.graphql.as_ref().map_or("other", |asked| &asked.listed).into(),
        };
        Some(said).filter(|said| !said.is_empty())
    }

    /// Writes what it is for a request that says this text.
    pub(in crate::policy) fn spell(&self, said: &str, to: &mut impl Hasher) -> Option<()> {
        match self {
            Self::Client => client(said.parse().ok()?, to),
            Self::Host => text(said.to_ascii_lowercase().as_bytes(), to)?,
            Self::Route if !said.starts_with("routes.") => text(format!("routes.{said}").as_bytes(), to)?,
            _ => text(said.as_bytes(), to)?,
        }
        Some(())
    }
}

fn client(address: IpAddr, to: &mut impl Hasher) {
    match address.to_canonical() {
        IpAddr::V4(address) => to.write_u32(address.to_bits()),
        IpAddr::V6(address) => to.write_u128(address.to_bits() >> 64),
    }
}

/// Its length comes first, so that two texts in a row are never two others.
fn text(bytes: &[u8], to: &mut impl Hasher) -> Option<()> {
    to.write_usize(bytes.len());
    to.write(bytes);
    (!bytes.is_empty()).then_some(())
}

/// Said twice, nobody knows which one the target believes: that is as good as not said.
fn only<T>(mut said: impl Iterator<Item = T>) -> Option<T> {
    said.next().filter(|_| said.next().is_none())
}

fn cookie<'r>(request: &'r dyn Request, name: &str) -> Option<&'r str> {
    let lines = request.headers().get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    only(pairs.filter(|(key, _)| *key == name).map(|(_, value)| value))
}

fn claim(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |name: &str| match name {
            "" => Err(format!("`{text}` needs a name behind the dot, e.g. {text}id")),
            name => Ok(Box::from(name)),
        };
        match text.split_once('.') {
            Some(("client", "ip")) => Ok(Self::Client),
            Some(("graphql", "operation")) => Ok(Self::Operation),
            Some(("jwt", claim)) => name(claim).map(Self::Claim),
            Some(("cookie", cookie)) => name(cookie).map(Self::Cookie),
            Some(("path", param)) => name(param).map(Self::Param),
            Some(("header", field)) => HeaderName::from_bytes(field.as_bytes())
                .map(Self::Header)
                .map_err(|_| format!("`{field}` is not the name of a header field")),
            None if text == "consumer" => Ok(Self::Consumer),
            None if text == "host" => Ok(Self::Host),
            None if text == "route" => Ok(Self::Route),
            _ => {
                let near = nearest(text, WORDS).map(|near| format!("Did you mean `{near}`?"));
                let all = "Keys: client.ip, consumer, jwt.CLAIM, header.NAME, cookie.NAME, path.NAME, host, route, graphql.operation";
                Err(format!("`{text}` is no key. {}", near.unwrap_or_else(|| all.to_owned())))
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if at > 0 { " and " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client.ip"),
            Self::Consumer => f.write_str("consumer"),
            Self::Claim(name) => write!(f, "jwt.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Cookie(name) => write!(f, "cookie.{name}"),
            Self::Param(name) => write!(f, "path.{name}"),
            Self::Host => f.write_str("host"),
            Self::Route => f.write_str("route"),
            Self::Operation => f.write_str("graphql.operation"),
        }
    }
}

crate::units::scalar!(Part, "what tells requests apart", example "client.ip",
    bare number |n| n.to_string().parse(),
    "client.ip (IPv6 by /64), consumer, jwt.CLAIM, header.NAME, cookie.NAME, path.NAME, host, route or graphql.operation.");

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what tells requests apart, e.g. client.ip, or a list of it")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
                Ok(Key(vec![text.parse().map_err(E::custom)?]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Key, A::Error> {
                let parts = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                if parts.is_empty() {
                    return Err(de::Error::custom("an empty list is no key, e.g. client.ip"));
                }
                Ok(Key(parts))
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => Serialize::serialize(only, to),
            list => Serialize::serialize(list, to),
        }
    }
}

impl JsonSchema for Key {
    fn schema_name() -> Cow<'static, str> {
        "Key".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let part = generator.subschema_for::<Part>();
        schemars::json_schema!({ "anyOf": [part, { "type": "array", "items": part, "minItems": 1 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Found;
    use crate::exchange::asked::Asked;
    use serde_json::json;
    use std::collections::hash_map::DefaultHasher;
    use std::sync::Arc;

    fn asked(client: &str, fields: &[(&'static str, &str)]) -> Asked {
        fields.iter().fold(Asked::from_client(client), |asked, (name, value)| asked.with(name, value))
    }

    fn number(key: &str, request: &Asked, found: &mut Found) -> Option<u64> {
        let (key, mut to): (Key, _) = (serde_yaml::from_str(key).unwrap(), DefaultHasher::new());
        key.write(&Exchange { request, found }, "orders", &mut to)?;
        Some(to.finish())
    }

    #[test]
    fn one_network_of_64_bits_is_one_client() {
        let of = |client: &str| number("client.ip", &asked(client, &[]), &mut Found::default()).unwrap();
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn what_is_not_there_or_said_twice_is_no_key() {
        let request = asked("10.0.0.1", &[("x-id", "a"), ("x-two", "a"), ("x-two", "b"), ("x-none", "")]);
        let is = |key: &str| number(key, &request, &mut Found::default()).is_some();
        assert!(is("header.x-id") && is("path.id") && is("host") && is("route") && is("[host, header.x-id]"));
        for key in ["header.x-two", "header.x-none", "header.x", "cookie.a", "path.x", "consumer", "jwt.sub"] {
            assert!(!is(key) && !is(&format!("[host, {key}]")), "{key}");
        }
        let twice = asked("10.0.0.1", &[("cookie", "a=1; b=2"), ("cookie", "a=3")]);
        assert!(number("cookie.a", &twice, &mut Found::default()).is_none());
        assert!(number("cookie.b", &twice, &mut Found::default()).is_some());
    }

    #[test]
    fn who_was_found_is_a_key() {
        let mut found = Found::default();
        found.identity.consumer = Some("acme".into());
        let claims = json!({ "sub": "u1", "tenant": 7, "roles": ["a"], "https://id/x": true });
        found.identity.claims = claims.as_object().cloned().map(Arc::new);
        let request = asked("10.0.0.1", &[]);
        for key in ["consumer", "jwt.sub", "jwt.tenant", "jwt.https://id/x", "[consumer, jwt.sub]"] {
            assert!(number(key, &request, &mut found).is_some(), "{key}");
        }
        assert!(number("jwt.roles", &request, &mut found).is_none());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |a, b| {
            number("[header.a, header.b]", &asked("10.0.0.1", &[("a", a), ("b", b)]), &mut Found::default()).unwrap()
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }

    #[test]
    fn keys_read_and_print_back() {
        for text in ["client.ip", "jwt.sub", "header.x-a", "cookie.s", "path.id", "host", "route", "consumer"] {
            assert_eq!(text.parse::<Part>().unwrap().to_string(), text);
        }
        assert_eq!("clientip".parse::<Part>().unwrap_err(), "`clientip` is no key. Did you mean `client.ip`?");
        for text in ["", "jwt.", "header.a b", "path.", "client.port"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
        assert!(serde_yaml::from_str::<Key>("[]").is_err());
    }
}
