//! What a claim, an attribute or a name has to be.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::canonical::unescape;
use crate::exchange::Request;
use crate::policy::pattern::Pattern;
use crate::problem::{Path, Problems};

/// One of these values, a number in these bounds, or like this.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Is(Vec<Value>),
    Within { min: Option<f64>, max: Option<f64> },
    Like(Pattern),
}

impl Test {
    /// The same, if it can be asked.
    pub(super) fn check(&self, at: &Path, problems: &mut Problems) -> Option<Self> {
        let unknown = match self {
            Self::Is(values) if values.is_empty() => Some("needs at least one value".to_owned()),
            Self::Is(values) => {
                let mut texts = values.iter().filter_map(Value::as_str).filter(|text| text.starts_with('$'));
                let unknown = texts.find(|text| !is_reference(text));
                unknown.map(|text| {
                    format!("`{text}` is no part of a request: $path.NAME, $query.NAME, $header.NAME, $host, $method")
                })
            }
            Self::Within { min: None, max: None } => Some("takes at least one of `min` and `max`".to_owned()),
            Self::Within { .. } | Self::Like(_) => None,
        };
        match unknown {
            Some(sentence) => {
                problems.error(at.clone(), sentence);
                None
            }
            None => Some(self.clone()),
        }
    }

    /// Whether one of these passes; `None` where a part of the request that is needed is not there.
    pub(super) fn any_of(&self, values: &[Value], request: &dyn Request) -> Option<bool> {
        match self {
            Self::Within { min, max } => Some(
                values
                    .iter()
                    .filter_map(Value::as_f64)
                    .any(|number| min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max)),
            ),
            Self::Like(pattern) => Some(values.iter().filter_map(Value::as_str).any(|text| pattern.matches(text))),
            Self::Is(wanted) => {
                let mut told = Some(false);
                for wanted in wanted {
                    let held = match wanted.as_str().and_then(|text| text.strip_prefix('$')) {
                        Some(part) => refer(part, request)
                            .map(|text| values.iter().any(|value| spelled(value) == Some(text.clone()))),
                        None => Some(values.iter().any(|value| alike(value, wanted))),
                    };
                    match held {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => told = None,
                    }
                }
                told
            }
        }
    }
}

/// Equal; numbers by their value.
fn alike(value: &Value, wanted: &Value) -> bool {
    match (value.as_f64(), wanted.as_f64()) {
        (Some(value), Some(wanted)) => value.total_cmp(&wanted).is_eq(),
        _ => value == wanted,
    }
}

/// A text, or a number or boolean as it is written.
fn spelled(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn is_reference(text: &str) -> bool {
    let named = |prefix: &str| text.strip_prefix(prefix).is_some_and(|name| !name.is_empty());
    matches!(text, "$host" | "$method") || named("$path.") || named("$query.") || named("$header.")
}

/// A part of the request, decoded; nothing where it is not there or said more than once.
fn refer(part: &str, request: &dyn Request) -> Option<String> {
    match part.split_once('.') {
        None if part == "host" => Some(request.host().to_owned()),
        None if part == "method" => Some(request.method().to_string()),
        Some(("path", name)) => request.param(name).and_then(unescape),
        Some(("query", name)) => {
            let mut pairs = request.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            let value = pairs.find(|(key, _)| *key == name)?.1;
            let once = !pairs.any(|(key, _)| key == name);
            once.then(|| unescape(&value.replace('+', " ")))?
        }
        Some(("header", name)) => {
            let mut lines = request.headers().get_all(name).iter();
            let (Some(line), None) = (lines.next(), lines.next()) else { return None };
            line.to_str().ok().map(str::to_owned)
        }
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Test {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Test;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a list of them, { min, max } or { regex }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Test, E> {
                Ok(Test::Is(vec![text.into()]))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Test, E> {
                Ok(Test::Is(vec![value.into()]))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Test, E> {
                Ok(Test::Is(vec![value.into()]))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Test, E> {
                Ok(Test::Is(vec![value.into()]))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Test, E> {
                Ok(Test::Is(vec![value.into()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Test, A::Error> {
                let mut values = Vec::new();
                while let Some(one) = list.next_element::<Test>()? {
                    let Test::Is(mut one) = one else {
                        return Err(de::Error::custom("a list holds plain values"));
                    };
                    values.append(&mut one);
                }
                Ok(Test::Is(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Test, A::Error> {
                let (mut bounds, mut like) = ((None, None), None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "min" => bounds.0 = Some(map.next_value()?),
                        "max" => bounds.1 = Some(map.next_value()?),
                        "regex" => like = Some(map.next_value()?),
                        key => return Err(de::Error::unknown_field(key, &["min", "max", "regex"])),
                    }
                }
                match (like, bounds) {
                    (Some(pattern), (None, None)) => Ok(Test::Like(pattern)),
                    (None, (min, max)) => Ok(Test::Within { min, max }),
                    _ => Err(de::Error::custom("takes `regex`, or `min` and `max`")),
                }
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Test {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = match self {
            Self::Is(values) => return values.serialize(to),
            _ => to.serialize_map(None)?,
        };
        match self {
            Self::Within { min, max } => {
                for (key, bound) in [("min", min), ("max", max)] {
                    if let Some(bound) = bound {
                        map.serialize_entry(key, bound)?;
                    }
                }
            }
            Self::Like(pattern) => map.serialize_entry("regex", pattern)?,
            Self::Is(_) => {}
        }
        map.end()
    }
}

/// A text or a list of texts.
pub(super) fn words_schema() -> Value {
    let word = json!({ "type": ["string", "number", "boolean"] });
    json!([word, { "type": "array", "items": word, "minItems": 1 }])
}

pub(super) fn schema() -> Value {
    let bounds = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "min": { "description": "At least this number.", "type": "number" },
            "max": { "description": "At most this number.", "type": "number" },
            "regex": { "description": "Like this, as a whole.", "type": "string" },
        },
    });
    let mut forms = words_schema();
    if let Some(forms) = forms.as_array_mut() {
        forms.push(bounds);
    }
    json!({ "description": "What a claim of the token or an attribute of the client has to be; of a list, one.", "anyOf": forms })
}
