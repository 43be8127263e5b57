//! Messages as JSON, by the rules of proto3.
//!
//! ```yaml
//! transcode: { proto: [protos/shop.proto], print: { enum_numbers: true, default_fields: true, proto_names: true } }
//! ```

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, SerializeOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
pub struct Print(SerializeOptions);

impl Print {
    pub fn new(config: &Config) -> Self {
        let options = SerializeOptions::new()
            .use_enum_numbers(config.enum_numbers)
            .skip_default_fields(!config.default_fields)
            .use_proto_field_name(config.proto_names);
        Self(options)
    }

    /// The message, or one field of it; fails where an `Any` holds what no description knows.
    pub fn json(&self, message: &DynamicMessage, field: Option<&FieldDescriptor>) -> Result<Vec<u8>, String> {
        let Some(field) = field else {
            let mut text = Vec::with_capacity(256);
            let mut to = serde_json::Serializer::new(&mut text);
            message.serialize_with_options(&mut to, &self.0).map_err(|why| why.to_string())?;
            return Ok(text);
        };
        let value = self.field(message, field)?;
        serde_json::to_vec(&value).map_err(|why| why.to_string())
    }

    pub(super) fn value(&self, message: &DynamicMessage) -> Result<Value, String> {
        message.serialize_with_options(serde_json::value::Serializer, &self.0).map_err(|why| why.to_string())
    }

    /// Alone in its message the field is what is written of it, be it a default.
    fn field(&self, message: &DynamicMessage, field: &FieldDescriptor) -> Result<Value, String> {
        let mut alone = DynamicMessage::new(field.parent_message().clone());
        alone.set_field(field, message.get_field(field).into_owned());
        if alone.has_field(field) {
            return Ok(first(self.value(&alone)?));
        }
        if field.is_list() {
            return Ok(Value::Array(Vec::new()));
        }
        if field.is_map() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        if matches!(field.kind(), Kind::Message(_)) {
            return Ok(Value::Null);
        }
        let all = Self(self.0.clone().skip_default_fields(false).use_proto_field_name(true)).value(&alone)?;
        Ok(all.get(field.name()).cloned().unwrap_or_default())
    }
}

/// The value of the only field.
fn first(object: Value) -> Value {
    match object {
        Value::Object(fields) => fields.into_iter().next().map(|(_, value)| value).unwrap_or_default(),
        other => other,
    }
}
