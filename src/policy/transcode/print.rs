//! Messages as JSON, by the rules of proto3.
//!
//! ```yaml
//! transcode: { proto: [protos/shop.proto], print: { enum_numbers: true, default_fields: true, proto_names: true } }
//! ```
//!
//! How deep a message lies is counted through every `Any`: what it holds is read where it is written, so that nothing
//! recurses deeper than `known::DEEPEST`, and no byte is copied for it.

use std::collections::BTreeMap;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use schemars::JsonSchema;
use serde::ser::{Error, SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::{known, zero};

/// How messages are written as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TranscodePrint")]
pub struct Config {
    /// Enum values by number instead of by name.
    #[serde(default)]
    pub enum_numbers: bool,
    /// Fields that have their default value, too.
    #[serde(default)]
    pub default_fields: bool,
    /// Names of fields as the .proto file writes them, instead of in lower camel case.
    #[serde(default)]
    pub proto_names: bool,
}

/// The same, decided once.
#[derive(Debug)]
pub struct Print(Config);

impl Print {
    pub fn new(config: &Config) -> Self {
        Self(config.clone())
    }

    /// The message, or one field of it; fails where it holds what JSON cannot say.
    pub fn json(&self, message: &DynamicMessage, field: Option<&FieldDescriptor>) -> Result<Vec<u8>, String> {
        let mut text = Vec::with_capacity(256);
        let mut to = serde_json::Serializer::new(&mut text);
        let done = match field {
            None => self.whole(message, 0).serialize(&mut to),
            // A message that is not there is nothing; all else that is not there has its default.
            Some(field) if matches!(field.kind(), Kind::Message(_)) && !is_many(field) && !message.has_field(field) => {
                to.serialize_none()
            }
            Some(field) => self.one(&message.get_field(field), &field.kind(), 0).serialize(&mut to),
        };
        done.map_err(|why| why.to_string())?;
        Ok(text)
    }

    /// What an `Any` of this type holds, as it would be written.
    pub fn any(&self, url: &str, value: &Bytes, pool: &DescriptorPool) -> Result<serde_json::Value, String> {
        let any = Any { url, value, pool, print: self, level: 0 };
        serde_json::to_value(any).map_err(|why| why.to_string())
    }

    #[cfg(test)]
    pub(super) fn value(&self, message: &DynamicMessage) -> Result<serde_json::Value, String> {
        serde_json::to_value(self.whole(message, 0)).map_err(|why| why.to_string())
    }

    fn whole<'a>(&'a self, message: &'a DynamicMessage, level: usize) -> Whole<'a> {
        Whole { message, print: self, level }
    }

    fn one<'a>(&'a self, value: &'a Value, kind: &'a Kind, level: usize) -> One<'a> {
        One { value, kind, print: self, level }
    }
}

fn is_many(field: &FieldDescriptor) -> bool {
    field.is_list() || field.is_map()
}

/// A message, and how many others lie around it.
struct Whole<'a> {
    message: &'a DynamicMessage,
    print: &'a Print,
    level: usize,
}

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.level > known::DEEPEST {
            return Err(S::Error::custom(known::TOO_DEEP));
        }
        let descriptor = self.message.descriptor();
        match known::kind(descriptor.full_name()) {
            None | Some(known::Known::Empty) => {
                let mut map = to.serialize_map(None)?;
                self.fields(&mut map)?;
                map.end()
            }
            Some(known::Known::Any) => {
                let (url, value) = (self.message.get_field_by_number(1), self.message.get_field_by_number(2));
                let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
                let none = Bytes::new();
                let value = value.as_deref().and_then(Value::as_bytes).unwrap_or(&none);
                let pool = descriptor.parent_pool();
                Any { url, value, pool, print: self.print, level: self.level }.serialize(to)
            }
            Some(known::Known::Text(text)) => to.serialize_str(&(text.write)(self.message).map_err(S::Error::custom)?),
            Some(known::Known::Wrapper | known::Known::Struct | known::Known::List) => match descriptor.get_field(1) {
                Some(inner) => {
                    let value = self.message.get_field(&inner);
                    self.print.one(&value, &inner.kind(), self.level).serialize(to)
                }
                None => to.serialize_none(),
            },
            Some(known::Known::Value) => self.anything(to),
        }
    }
}

impl Whole<'_> {
    /// The fields that are there, in the order of their numbers.
    fn fields<M: SerializeMap>(&self, to: &mut M) -> Result<(), M::Error> {
        for field in self.message.descriptor().fields() {
            let value = self.message.get_field(&field);
            let there = self.message.has_field(&field) || zero::is_negative(&value);
            if !there && (field.supports_presence() || !self.print.0.default_fields) {
                continue;
            }
            let name = if self.print.0.proto_names { field.name() } else { field.json_name() };
            to.serialize_entry(name, &self.print.one(&value, &field.kind(), self.level))?;
        }
        for (extension, value) in self.message.extensions() {
            to.serialize_entry(extension.json_name(), &self.print.one(value, &extension.kind(), self.level))?;
        }
        Ok(())
    }

    /// A `google.protobuf.Value`: the one of its fields that is set.
    fn anything<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.message.fields().next() {
            Some((_, Value::F64(number))) if !number.is_finite() => {
                Err(S::Error::custom("a google.protobuf.Value that is no finite number"))
            }
            Some((field, value)) => self.print.one(value, &field.kind(), self.level).serialize(to),
            None => to.serialize_none(),
        }
    }
}

/// A value of a field, be it many.
struct One<'a> {
    value: &'a Value,
    kind: &'a Kind,
    print: &'a Print,
    level: usize,
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => to.serialize_bool(*value),
            Value::I32(value) => to.serialize_i32(*value),
            Value::U32(value) => to.serialize_u32(*value),
            Value::I64(value) => to.collect_str(value),
            Value::U64(value) => to.collect_str(value),
            Value::F32(value) if value.is_finite() => to.serialize_f32(*value),
            Value::F64(value) if value.is_finite() => to.serialize_f64(*value),
            Value::F32(value) => to.serialize_str(known::infinite(f64::from(*value))),
            Value::F64(value) => to.serialize_str(known::infinite(*value)),
            Value::String(value) => to.serialize_str(value),
            Value::Bytes(value) => to.collect_str(&Base64Display::new(value, &STANDARD)),
            Value::EnumNumber(number) => self.enumerated(*number, to),
            Value::Message(message) => self.print.whole(message, self.level + 1).serialize(to),
            Value::List(values) => {
                to.collect_seq(values.iter().map(|value| self.print.one(value, self.kind, self.level)))
            }
            Value::Map(values) => {
                let entry = self.kind.as_message().filter(|entry| entry.is_map_entry());
                let kind = entry.map(|entry| entry.map_entry_value_field().kind());
                let Some(kind) = kind else { return Err(S::Error::custom("a map of what is no entry")) };
                let sorted: BTreeMap<&MapKey, &Value> = values.iter().collect();
                to.collect_map(
                    sorted.into_iter().map(|(key, value)| (key_text(key), self.print.one(value, &kind, self.level))),
                )
            }
        }
    }
}

impl One<'_> {
    /// By its name, where it has one.
    fn enumerated<S: Serializer>(&self, number: i32, to: S) -> Result<S::Ok, S::Error> {
        let Some(values) = self.kind.as_enum() else { return to.serialize_i32(number) };
        if values.full_name() == known::NULL {
            return to.serialize_none();
        }
        match values.get_value(number).filter(|_| !self.print.0.enum_numbers) {
            Some(value) => to.serialize_str(value.name()),
            None => to.serialize_i32(number),
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// A message of any type, read where it is written.
struct Any<'a> {
    url: &'a str,
    value: &'a Bytes,
    pool: &'a DescriptorPool,
    print: &'a Print,
    /// That of the `Any` itself.
    level: usize,
}

impl Serialize for Any<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        if self.url.is_empty() && self.value.is_empty() {
            return map.end();
        }
        let inner = known::named(self.url, self.pool).map_err(S::Error::custom)?;
        let has_own_form = known::kind(inner.full_name()).is_some();
        if self.level >= known::DEEPEST {
            return Err(S::Error::custom(known::TOO_DEEP));
        }
        // A slice of what is there already: nothing is copied, however deep it lies.
        let message = DynamicMessage::decode(inner, self.value.clone());
        let message = message.map_err(|why| S::Error::custom(format!("an Any that is not what it says: {why}")))?;
        let whole = self.print.whole(&message, self.level + 1);
        map.serialize_entry("@type", self.url)?;
        if has_own_form {
            map.serialize_entry("value", &whole)?;
        } else {
            whole.fields(&mut map)?;
        }
        map.end()
    }
}
