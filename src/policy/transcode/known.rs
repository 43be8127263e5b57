//! The messages of `google.protobuf` that have a form of their own in JSON, and what the form is.

use prost_reflect::prost_types::{Duration, Timestamp};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

/// How many messages may lie around another, in an `Any` or not; as protobuf itself has it.
pub(super) const DEEPEST: usize = 100;
pub(super) const TOO_DEEP: &str = "more than 100 messages lie within each other";

/// The enum whose only value is null.
pub(super) const NULL: &str = "google.protobuf.NullValue";

/// What a message is in JSON, where that is no object of its fields.
#[derive(Clone, Copy)]
pub(super) enum Known {
    Any,
    /// A text.
    Text(&'static Text),
    /// The value of its field.
    Wrapper,
    /// Any object.
    Struct,
    /// Any list.
    List,
    /// Anything.
    Value,
    /// An object without fields; in an `Any` it stands as a value.
    Empty,
}

/// A message that is a text.
pub(super) struct Text {
    /// The error is a sentence.
    pub(super) write: fn(&DynamicMessage) -> Result<String, &'static str>,
    /// Nothing where it is no such text.
    pub(super) read: fn(&str, &MessageDescriptor) -> Option<DynamicMessage>,
    pub(super) wanted: &'static str,
}

const TIMESTAMP: Text =
    Text { write: said_timestamp, read: read_timestamp, wanted: "a Timestamp, such as 2026-01-31T12:00:00Z" };
const DURATION: Text = Text { write: said_duration, read: read_duration, wanted: "a Duration, such as 1.5s" };
const FIELD_MASK: Text =
    Text { write: said_mask, read: read_mask, wanted: "a FieldMask: names in lower camel case, between commas" };

pub(super) fn kind(name: &str) -> Option<Known> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Any" => Known::Any,
        "Timestamp" => Known::Text(&TIMESTAMP),
        "Duration" => Known::Text(&DURATION),
        "FieldMask" => Known::Text(&FIELD_MASK),
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value" | "BoolValue"
        | "StringValue" | "BytesValue" => Known::Wrapper,
        "Struct" => Known::Struct,
        "ListValue" => Known::List,
        "Value" => Known::Value,
        "Empty" => Known::Empty,
        _ => return None,
    })
}

/// The message of a type's address; the error is a sentence.
pub(super) fn named(url: &str, pool: &DescriptorPool) -> Result<MessageDescriptor, String> {
    let (_, name) = url.rsplit_once('/').ok_or_else(|| format!("`{url}` is no address of a type: it has no `/`"))?;
    pool.get_message_by_name(name).ok_or_else(|| format!("no description knows the type `{name}`"))
}

/// What no number of JSON can say.
pub(super) fn infinite(number: f64) -> &'static str {
    match number {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

/// Seconds and their thousand millionth parts, as Timestamp and Duration have them.
fn parts(message: &DynamicMessage) -> (i64, i32) {
    let (seconds, nanos) = (message.get_field_by_number(1), message.get_field_by_number(2));
    let seconds = seconds.as_deref().and_then(Value::as_i64).unwrap_or_default();
    (seconds, nanos.as_deref().and_then(Value::as_i32).unwrap_or_default())
}

fn of_parts(seconds: i64, nanos: i32, message: &MessageDescriptor) -> Option<DynamicMessage> {
    let mut of = DynamicMessage::new(message.clone());
    // A description may say otherwise of a message of that name.
    of.try_set_field_by_number(1, Value::I64(seconds)).ok()?;
    of.try_set_field_by_number(2, Value::I32(nanos)).ok()?;
    Some(of)
}

fn said_timestamp(message: &DynamicMessage) -> Result<String, &'static str> {
    match parts(message) {
        (seconds @ -62_135_596_800..=253_402_300_799, nanos @ 0..=999_999_999) => {
            Ok(Timestamp { seconds, nanos }.to_string())
        }
        _ => Err("a Timestamp out of the years 1 to 9999"),
    }
}

/// Strictly as RFC 3339 has it, in capitals; no leap seconds, and nothing finer than what a Timestamp holds.
fn read_timestamp(text: &str, message: &MessageDescriptor) -> Option<DynamicMessage> {
    let shape: Vec<u8> = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect();
    let rest = shape.strip_prefix(b"0000-00-00T00:00:00")?;
    let zone = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| **byte == b'0').count();
            fraction.get(digits..).filter(|_| (1..=9).contains(&digits))?
        }
        None => rest,
    };
    if !matches!(zone, b"Z" | b"+00:00" | b"-00:00") || text.get(17..19)? > "59" {
        return None;
    }
    let read: Timestamp = text.parse().ok()?;
    let read = of_parts(read.seconds, read.nanos, message)?;
    said_timestamp(&read).is_ok().then_some(read)
}

fn said_duration(message: &DynamicMessage) -> Result<String, &'static str> {
    let (seconds, nanos) = parts(message);
    let within = seconds.unsigned_abs() <= 315_576_000_000 && nanos.unsigned_abs() <= 999_999_999;
    let one_way = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    if !within || !one_way {
        return Err("a Duration of more than 10000 years, or whose parts differ in sign");
    }
    Ok(Duration { seconds, nanos }.to_string())
}

fn read_duration(text: &str, message: &MessageDescriptor) -> Option<DynamicMessage> {
    let (sign, plain) = text.strip_prefix('-').map_or((1, text), |plain| (-1, plain));
    let number = plain.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let (seconds, nanos): (i64, i32) = (whole.parse().ok()?, format!("{fraction:0<9}").parse().ok()?);
    let read = of_parts(sign * seconds, i32::try_from(sign).ok()? * nanos, message)?;
    said_duration(&read).is_ok().then_some(read)
}

fn said_mask(message: &DynamicMessage) -> Result<String, &'static str> {
    let paths = message.get_field_by_number(1);
    let mut text = String::new();
    for path in paths.as_deref().and_then(Value::as_list).into_iter().flatten().filter_map(Value::as_str) {
        if !text.is_empty() {
            text.push(',');
        }
        let mut raise = false;
        for letter in path.chars() {
            let back = if raise { letter.is_ascii_lowercase() } else { !letter.is_ascii_uppercase() };
            if !back {
                return Err("a FieldMask with a name that camel case cannot say");
            }
            match letter {
                '_' => raise = true,
                letter if std::mem::take(&mut raise) => text.push(letter.to_ascii_uppercase()),
                letter => text.push(letter),
            }
        }
    }
    Ok(text)
}

fn read_mask(text: &str, message: &MessageDescriptor) -> Option<DynamicMessage> {
    if text.contains('_') {
        return None;
    }
    let path = |said: &str| {
        let mut path = String::with_capacity(said.len() + 4);
        for letter in said.chars() {
            if letter.is_ascii_uppercase() {
                path.push('_');
            }
            path.push(letter.to_ascii_lowercase());
        }
        Value::String(path)
    };
    let mut mask = DynamicMessage::new(message.clone());
    let paths = text.split(',').filter(|path| !path.is_empty()).map(path).collect();
    mask.try_set_field_by_number(1, Value::List(paths)).ok()?;
    Some(mask)
}
