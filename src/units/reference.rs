//! A name or the thing itself: a text refers to what is defined once, a map stands for itself.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Name;

/// What the document says where it may name a `C` or write one.
#[derive(Debug, Clone, PartialEq)]
pub enum Use<C> {
    Named(Name),
    Here(Box<C>),
}

impl<C> Use<C> {
    /// The name, where it is one.
    pub fn named(&self) -> Option<&Name> {
        match self {
            Self::Named(name) => Some(name),
            Self::Here(_) => None,
        }
    }
    /// The thing itself, where it is written here.
    pub fn here(&self) -> Option<&C> {
        match self {
            Self::Named(_) => None,
            Self::Here(thing) => Some(thing),
        }
    }
}

/// A thing that can be named or written in its place.
pub trait Inline {
    /// What is expected, for complaints.
    const EXPECTED: &'static str;
    /// The name of the choice in the schema.
    const SCHEMA: &'static str;
}

struct Visitor<C>(PhantomData<C>);

impl<'de, C: Inline + Deserialize<'de>> de::Visitor<'de> for Visitor<C> {
    type Value = Use<C>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(C::EXPECTED)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Use<C>, E> {
        text.parse().map(Use::Named).map_err(E::custom)
    }
    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Use<C>, A::Error> {
        C::deserialize(MapAccessDeserializer::new(map)).map(|config| Use::Here(Box::new(config)))
    }
}

impl<'de, C: Inline + Deserialize<'de>> Deserialize<'de> for Use<C> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor(PhantomData))
    }
}

impl<C: Serialize> Serialize for Use<C> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => name.serialize(to),
            Self::Here(config) => config.serialize(to),
        }
    }
}

impl<C: Inline + JsonSchema> JsonSchema for Use<C> {
    fn schema_name() -> Cow<'static, str> {
        C::SCHEMA.into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (name, here) = (generator.subschema_for::<Name>(), generator.subschema_for::<C>());
        schemars::json_schema!({ "description": C::EXPECTED, "anyOf": [name, here] })
    }
}
