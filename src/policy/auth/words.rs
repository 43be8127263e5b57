//! One text, or several of which any will do.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// `orders`, or `[orders, admin]`; never none at all, which would ask for nothing.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// Only this.
    One(String),
    /// Any of these.
    Any(#[schemars(length(min = 1))] Vec<String>),
}

impl Words {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Any(words) => words,
        }
        .iter()
        .map(String::as_str)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of them, e.g. orders or [orders, admin]")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
        Ok(Words::One(text.to_owned()))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        if words.is_empty() {
            Err(de::Error::custom("needs at least one; leave the key out where any will do"))
        } else {
            Ok(Words::Any(words))
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}
