//! Fields of messages by the names around them, set from text: what paths and queries bind.

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::known::{self, Known};
use super::scalar::{self, Said};

/// A field and those around it, the outermost first.
pub(super) type Way = Vec<FieldDescriptor>;

/// Names that lead deeper than this mean no field.
const DEEPEST: usize = 32;

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

/// Whether it is a text, a number or a truth in JSON.
fn is_plain(message: &MessageDescriptor) -> bool {
    matches!(known::kind(message.full_name()), Some(Known::Text(_) | Known::Wrapper))
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
    let said = match kind {
        Kind::Enum(names) => return number(names, text).map(Value::EnumNumber),
        Kind::Message(message) => return plain(message, text).map(Value::Message),
        Kind::Bool => Said::Truth(text.parse().map_err(|_| scalar::wanted(kind))?),
        _ => Said::Text(text),
    };
    scalar::value(kind, said).ok_or_else(|| scalar::wanted(kind).to_owned())
}

/// The name of a value, or its number.
fn number(values: &EnumDescriptor, text: &str) -> Result<i32, String> {
    let by_name = values.get_value_by_name(text).map(|value| value.number());
    by_name.or_else(|| text.parse().ok()).ok_or_else(|| {
        let known: Vec<_> = values.values().take(8).map(|value| value.name().to_owned()).collect();
        format!("one of {}", known.join(", "))
    })
}

/// A message that is a text, a number or a truth in JSON.
fn plain(message: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let (read, wanted) = match (known::kind(message.full_name()), message.get_field(1)) {
        (Some(Known::Text(known)), _) => ((known.read)(text, message), known.wanted),
        (Some(Known::Wrapper), Some(inner)) => {
            (scalar::holding(message, 1, value(&inner.kind(), text)?), message.name())
        }
        _ => (None, message.name()),
    };
    read.ok_or_else(|| wanted.to_owned())
}
