//! -0.0, which equals what is left out on the wire and is not the same.

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};

/// Which is not the default, though it equals it.
pub(super) fn is_negative(value: &Value) -> bool {
    match value {
        Value::F64(value) => *value == 0.0 && value.is_sign_negative(),
        Value::F32(value) => *value == 0.0 && value.is_sign_negative(),
        _ => false,
    }
}

/// What the encoder leaves out of a message and of those that are its only one in their field: behind the message it is
/// merged into it by whoever reads the wire.
pub(super) fn negatives(message: &DynamicMessage) -> Vec<u8> {
    let mut wire = Vec::new();
    for field in message.descriptor().fields().filter(|field| !field.is_list() && !field.is_map()) {
        let value = message.get_field(&field);
        match &*value {
            Value::Message(inner) if message.has_field(&field) && !field.is_group() => {
                let inner = negatives(inner);
                if !inner.is_empty() {
                    encode_key(field.number(), WireType::LengthDelimited, &mut wire);
                    encode_varint(inner.len() as u64, &mut wire);
                    wire.extend(inner);
                }
            }
            value if field.supports_presence() || !is_negative(value) => {}
            _ if field.kind() == Kind::Float => prost::encoding::float::encode(field.number(), &-0.0, &mut wire),
            _ => prost::encoding::double::encode(field.number(), &-0.0, &mut wire),
        }
    }
    wire
}
