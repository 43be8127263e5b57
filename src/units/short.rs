//! Values that have a short form: one scalar instead of a map.

/// Serde of a struct that may also be written as one scalar, which its `FromStr` reads.
///
/// The struct derives `Serialize` and `Deserialize` with `#[serde(remote = "Self")]`, which gives it the long form
/// as plain functions, and its schema gets the short form by `#[schemars(transform = or_short)]`.
macro_rules! short_form {
    ($type:ty, $expecting:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        <$type>::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }
                from.deserialize_any(Visitor)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                <$type>::serialize(self, to)
            }
        }
    };
}
pub(crate) use short_form;

/// Adds the short form to the schema of the long one.
pub(crate) fn or_short(schema: &mut schemars::Schema) {
    let description = schema.remove("description");
    let long = std::mem::take(schema);
    *schema = schemars::json_schema!({ "anyOf": [{ "type": ["string", "integer"] }, long] });
    if let Some(description) = description {
        schema.insert("description".to_owned(), description);
    }
}
