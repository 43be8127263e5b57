//! Values with units: each type refuses bad text where it stands, and prints back what it was given.

mod address;
mod duration;
mod mode;
mod name;
mod network;
mod quota;
mod rate;
mod reference;
mod secret;
mod share;
mod short;
mod size;

pub use address::{Address, is_host_name};
pub use duration::Duration;
pub use mode::Mode;
pub use name::Name;
pub use network::Network;
pub use quota::{Period, Quota};
pub use rate::{Per, Rate};
pub use reference::{Inline, Use};
pub use secret::Text;
pub use share::Share;
pub use size::{ByteRate, Size};

/// Serde and schema of a type that is written as one scalar: `FromStr` reads, `Display` writes.
macro_rules! scalar {
    ($type:ty, $name:literal, example $example:literal, bare number $bare:expr, $description:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!($name, ", e.g. ", $example))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        let bare: fn(u64) -> Result<$type, String> = $bare;
                        bare(number).map_err(E::custom)
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                        Err(E::custom(format!("`{number}` is not {}, e.g. {}", $name, $example)))
                    }
                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$type, E> {
                        Err(E::custom(format!("`{number}` is not {}, e.g. {}", $name, $example)))
                    }
                }
                from.deserialize_any(Visitor)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "integer"], "description": $description, "examples": [$example] })
            }
        }
    };
}
pub(crate) use scalar;
pub(crate) use short::{or_short, short_form};
