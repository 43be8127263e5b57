//! Fields of messages by the names around them, set from text: what paths and queries bind.

use std::str::FromStr;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{
    DeserializeOptions, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

/// A field and those around it, the outermost first.
pub(super) type Way = Vec<FieldDescriptor>;

/// Names that lead deeper than this mean no field.
const DEEPEST: usize = 32;

/// Messages that are a text, a number or a truth in JSON.
const PLAIN: [&str; 12] = [
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.BoolValue",
    "google.protobuf.StringValue",
    "google.protobuf.BytesValue",
    "google.protobuf.DoubleValue",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
];

/// The way of `a.b.c`, by the names of the file or those of JSON; the error is the end of a sentence about it.
pub(super) fn way(name: &str, message: &MessageDescriptor) -> Result<Way, String> {
    let mut way = Way::new();
    for part in name.split('.') {
        let around = match way.last() {
            None => message.clone(),
            Some(outer) => match outer.kind() {
                Kind::Message(inner) if !outer.is_list() && !outer.is_map() && !is_plain(&inner) => inner,
                _ => return Err(format!("`{}` has no fields that a path or a query could name", outer.name())),
            },
        };
        let field = around.get_field_by_name(part).or_else(|| around.get_field_by_json_name(part));
        let Some(field) = field.filter(|_| way.len() < DEEPEST) else {
            return Err(format!("{} has no field `{part}`", around.full_name()));
        };
        way.push(field);
    }
    Ok(way)
}

/// Whether text says what the field is; the error is the end of a sentence about it.
pub(super) fn takes_text(field: &FieldDescriptor) -> Result<(), &'static str> {
    match field.kind() {
        _ if field.is_map() => Err("is a map, which no path or query can say"),
        Kind::Message(message) if !is_plain(&message) => Err("is a message: only its fields can be said"),
        _ => Ok(()),
    }
}

fn is_plain(message: &MessageDescriptor) -> bool {
    PLAIN.contains(&message.full_name())
}

/// Sets the field, or adds to it where it is a list; the error is what should stand there.
pub(super) fn set(message: &mut DynamicMessage, way: &[FieldDescriptor], text: &str) -> Result<(), String> {
    let Some((field, inner)) = way.split_first() else { return Ok(()) };
    if !inner.is_empty() {
        return match message.get_field_mut(field) {
            Value::Message(message) => set(message, inner, text),
            _ => Err("a message".to_owned()),
        };
    }
    let value = value(&field.kind(), text)?;
    if field.is_list() {
        if let Value::List(list) = message.get_field_mut(field) {
            list.push(value);
        }
        return Ok(());
    }
    message.try_set_field(field, value).map_err(|why| why.to_string())
}

/// Whether not both can be said: they are the same, or only one of them may be.
pub(super) fn exclude(one: &[FieldDescriptor], other: &[FieldDescriptor]) -> bool {
    match one.iter().zip(other).find(|(one, other)| one != other) {
        Some((one, other)) => one.containing_oneof().is_some_and(|both| Some(both) == other.containing_oneof()),
        None => one.last().is_some_and(|field| !field.is_list()),
    }
}

fn value(kind: &Kind, text: &str) -> Result<Value, String> {
    fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
        text.parse().map_err(|_| what.to_owned())
    }
    Ok(match kind {
        Kind::Double => Value::F64(parsed(text, "a number")?),
        Kind::Float => Value::F32(parsed(text, "a number")?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(parsed(text, "a whole number of 32 bits")?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(parsed(text, "a whole number of 64 bits")?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(parsed(text, "a whole number of 32 bits, not below 0")?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(parsed(text, "a whole number of 64 bits, not below 0")?),
        Kind::Bool => Value::Bool(parsed(text, "true or false")?),
        Kind::String => Value::String(text.to_owned()),
        Kind::Bytes => Value::Bytes(bytes(text).ok_or("base64")?.into()),
        Kind::Enum(names) => Value::EnumNumber(number(names, text)?),
        Kind::Message(message) => Value::Message(plain(message, text)?),
    })
}

/// Both alphabets, padded or not (proto3 JSON).
fn bytes(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}

/// The name of a value, or its number.
fn number(values: &EnumDescriptor, text: &str) -> Result<i32, String> {
    let by_name = values.get_value_by_name(text).map(|value| value.number());
    by_name.or_else(|| text.parse().ok()).ok_or_else(|| {
        let known: Vec<_> = values.values().take(8).map(|value| value.name().to_owned()).collect();
        format!("one of {}", known.join(", "))
    })
}

/// A message that is a text in JSON.
fn plain(message: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let json = match message.full_name() {
        "google.protobuf.BoolValue" => serde_json::Value::Bool(text.parse().map_err(|_| "true or false")?),
        _ => serde_json::Value::from(text),
    };
    let read = DynamicMessage::deserialize_with_options(message.clone(), json, &DeserializeOptions::new());
    read.map_err(|why| format!("a {} ({why})", message.name()))
}
