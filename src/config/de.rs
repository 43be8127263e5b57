//! Serde over the tree: a node gives its value to whatever type asks, and a mishap remembers the way to it.

use std::fmt;

use serde::Deserializer;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::broken;
use super::mishap::{Mishap, Wanted};
use super::node::{Entry, Node, Value};
use super::scalar::{self, Number};
use crate::problem::Step;

/// A node on its way into a type.
#[derive(Clone, Copy)]
pub(super) struct At<'de>(pub(super) &'de Node);

impl<'de> At<'de> {
    /// What serde calls the value, for sentences.
    fn unexpected(self) -> Unexpected<'de> {
        match &self.0.value {
            Value::Null | Value::Gone => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Number(text) => match scalar::number(text) {
                Ok(Number::Positive(number)) => Unexpected::Unsigned(number),
                Ok(Number::Negative(number)) => Unexpected::Signed(number),
                Ok(Number::Fraction(number)) => Unexpected::Float(number),
                Err(_) => Unexpected::Str(text),
            },
            Value::Text(text) | Value::Doubtful(text) => Unexpected::Str(text),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
        }
    }

    fn refuse<T>(self, expected: &dyn Expected) -> Result<T, Mishap> {
        Err(Mishap::invalid_type(self.unexpected(), expected))
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Doubtful(word) => Self::doubtful(word, visitor),
            Value::Number(text) => {
                Err(Mishap::wrong(format!("expected a text, found a number; write it in quotes, \"{text}\"")))
            }
            Value::Bool(value) => {
                Err(Mishap::wrong(format!("expected a text, found `{value}`; write it in quotes, \"{value}\"")))
            }
            _ => self.refuse(&visitor),
        }
    }

    /// A word on which YAML 1.1 and 1.2 disagree is refused, unless the type that asks knows the word.
    fn doubtful<V: Visitor<'de>>(word: &'de str, visitor: V) -> Result<V::Value, Mishap> {
        let expecting = (&visitor as &dyn Expected).to_string();
        if expecting.split(|c: char| !c.is_alphanumeric()).any(|known| known == word) {
            return visitor.visit_borrowed_str(word);
        }
        let two = format!("`{word}` is a boolean to some readers and a text to others; write");
        Err(Mishap::wrong(match expecting.as_str() {
            "any valid JSON value" => format!("{two} {}, or \"{word}\" in quotes", scalar::meant(word)),
            "a string" | "a borrowed string" => format!("{two} \"{word}\" in quotes if it is a text"),
            text if text.starts_with("a text") => format!("{two} \"{word}\" in quotes if it is a text"),
            _ => format!("expected {}, found `{word}`", Wanted(&visitor)),
        }))
    }
}

impl<'de> Deserializer<'de> for At<'de> {
    type Error = Mishap;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        match &self.0.value {
            Value::Null | Value::Gone => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(text) => match scalar::number(text).map_err(Mishap::wrong)? {
                Number::Positive(number) => visitor.visit_u64(number),
                Number::Negative(number) => visitor.visit_i64(number),
                Number::Fraction(number) => visitor.visit_f64(number),
            },
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Doubtful(word) => Self::doubtful(word, visitor),
            Value::List(items) => visitor.visit_seq(Items { items, at: 0 }),
            Value::Map(map) => visitor.visit_map(Entries { entries: map.iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        match &self.0.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Doubtful(word) => {
                let meant = scalar::meant(word);
                Err(Mishap::wrong(format!("expected true or false, found `{word}`; write {meant}")))
            }
            _ => self.refuse(&visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        if matches!(self.0.value, Value::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        if matches!(self.0.value, Value::List(_)) { self.deserialize_any(visitor) } else { self.refuse(&visitor) }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mishap> {
        if matches!(self.0.value, Value::Map(_)) { self.deserialize_any(visitor) } else { self.refuse(&visitor) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mishap> {
        match &self.0.value {
            Value::Map(_) => self.deserialize_any(visitor),
            Value::Text(text) if broken::lacks_space(text) => Err(Mishap::wrong(broken::no_space(text))),
            _ => self.refuse(&MapOf(keys)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mishap> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mishap> {
        match &self.0.value {
            Value::Doubtful(word) if !words.contains(&&**word) => Err(Mishap::unknown_variant(word, words)),
            Value::Text(word) | Value::Doubtful(word) => visitor.visit_enum(Choice { word, value: None }),
            Value::Map(map) => match map.iter().as_slice() {
                [Entry { key, node, .. }] => visitor.visit_enum(Choice { word: key, value: Some(node) }),
                _ => Err(Mishap::wrong(format!("expected one key of: {}", words.join(", ")))),
            },
            Value::Number(text) => {
                let known = words.iter().any(|word| **word == **text);
                let form = if known {
                    format!("write it in quotes, \"{text}\"")
                } else {
                    format!("known words: {}", words.join(", "))
                };
                Err(Mishap::wrong(format!("expected a text, found a number; {form}")))
            }
            _ => Err(Mishap::wrong(format!("expected one of: {}", words.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// A map that was expected, with the keys that it may have.
struct MapOf(&'static [&'static str]);

impl Expected for MapOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map {{ {} }}", self.0.join(", "))
    }
}

/// The elements of a list that are still there.
struct Items<'de> {
    items: &'de [Node],
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mishap;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mishap> {
        while let Some(node) = self.items.get(self.at) {
            let index = self.at;
            self.at += 1;
            if !matches!(node.value, Value::Gone) {
                return seed.deserialize(At(node)).map(Some).map_err(|mishap| mishap.below(Step::Index(index)));
            }
        }
        Ok(None)
    }
}

/// The entries of a map that are still there.
struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mishap;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mishap> {
        let Some(entry) = self.entries.find(|entry| !matches!(entry.node.value, Value::Gone)) else { return Ok(None) };
        self.value = Some(entry);
        let key = seed.deserialize(StrDeserializer::new(&entry.key));
        key.map(Some).map_err(|mishap: Mishap| mishap.at_key(&entry.key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mishap> {
        let entry = self.value.take().ok_or_else(|| Mishap::wrong("a value was asked for before its key"))?;
        seed.deserialize(At(&entry.node)).map_err(|mishap| mishap.below(Step::Key(entry.key.clone())))
    }
}

/// A word, or a map of one word to its value.
struct Choice<'de> {
    word: &'de str,
    value: Option<&'de Node>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Mishap;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mishap> {
        let word = seed.deserialize(StrDeserializer::new(self.word));
        let word =
            word.map_err(|mishap: Mishap| if self.value.is_some() { mishap.at_key(self.word) } else { mishap })?;
        Ok((word, self))
    }
}

impl<'de> Choice<'de> {
    fn node(&self) -> Result<At<'de>, Mishap> {
        self.value.map(At).ok_or_else(|| Mishap::wrong(format!("`{0}` needs a value: {0}: ...", self.word)))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Mishap;

    fn unit_variant(self) -> Result<(), Mishap> {
        match self.value.map(|node| &node.value) {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(Mishap::wrong(format!("`{}` takes no value", self.word))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mishap> {
        seed.deserialize(self.node()?).map_err(|mishap| mishap.below(Step::Key(self.word.into())))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mishap> {
        self.node()?.deserialize_seq(visitor).map_err(|mishap| mishap.below(Step::Key(self.word.into())))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Mishap> {
        self.node()?.deserialize_map(visitor).map_err(|mishap| mishap.below(Step::Key(self.word.into())))
    }
}
