//! Numbers, texts and truths of JSON, a path or a query as values of fields: what does not fit is none.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use serde::de::Unexpected;

/// The least number of 64 bits.
const LEAST: f64 = -9_223_372_036_854_775_808.0;

/// What was said.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said<'a> {
    Truth(bool),
    Whole(i128),
    Number(f64),
    Text(&'a str),
}

impl<'a> Said<'a> {
    pub(super) fn unexpected(self) -> Unexpected<'a> {
        match self {
            Self::Truth(said) => Unexpected::Bool(said),
            Self::Whole(said) => match (i64::try_from(said), u64::try_from(said)) {
                (Ok(said), _) => Unexpected::Signed(said),
                (_, Ok(said)) => Unexpected::Unsigned(said),
                _ => Unexpected::Other("a number"),
            },
            Self::Number(said) => Unexpected::Float(said),
            Self::Text(said) => Unexpected::Str(said),
        }
    }

    /// Nothing where it is no whole number.
    fn whole(self) -> Option<i128> {
        match self {
            Self::Whole(said) => Some(said),
            // What is less than any number of 64 bits may have been rounded up to the least of them.
            Self::Number(said) if said.fract() == 0.0 && said > LEAST && said < 1e20 => {
                format!("{said:.0}").parse().ok()
            }
            Self::Truth(_) | Self::Number(_) => None,
            Self::Text(said) => said.parse().ok().or_else(|| Self::Number(plain(said)?.parse().ok()?).whole()),
        }
    }

    /// Nothing where it is no number of 64 bits.
    pub(super) fn double(self) -> Option<f64> {
        match self {
            Self::Truth(_) => None,
            #[expect(clippy::cast_precision_loss, reason = "the nearest is what is meant")]
            Self::Whole(said) => Some(said as f64),
            Self::Number(said) => Some(said),
            Self::Text("NaN") => Some(f64::NAN),
            Self::Text("Infinity") => Some(f64::INFINITY),
            Self::Text("-Infinity") => Some(f64::NEG_INFINITY),
            Self::Text(said) => plain(said)?.parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }

    fn float(self) -> Option<f32> {
        if let Self::Text(said) = self
            && let Some(said) = plain(said)
        {
            return said.parse().ok().filter(|number: &f32| number.is_finite());
        }
        let number = self.double()?;
        #[expect(clippy::cast_possible_truncation, reason = "the nearest is what is meant, and the range is looked at")]
        let nearest = number as f32;
        (nearest.is_finite() || !number.is_finite()).then_some(nearest)
    }
}

/// A text that has only what numbers are made of.
fn plain(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)).then_some(text)
}

/// The value of a field of this kind, which is neither a message nor an enum.
pub(super) fn value(kind: &Kind, said: Said<'_>) -> Option<Value> {
    Some(match (kind, said) {
        (Kind::Double, said) => Value::F64(said.double()?),
        (Kind::Float, said) => Value::F32(said.float()?),
        (Kind::Int32 | Kind::Sint32 | Kind::Sfixed32, said) => Value::I32(said.whole()?.try_into().ok()?),
        (Kind::Int64 | Kind::Sint64 | Kind::Sfixed64, said) => Value::I64(said.whole()?.try_into().ok()?),
        (Kind::Uint32 | Kind::Fixed32, said) => Value::U32(said.whole()?.try_into().ok()?),
        (Kind::Uint64 | Kind::Fixed64, said) => Value::U64(said.whole()?.try_into().ok()?),
        (Kind::Bool, Said::Truth(said)) => Value::Bool(said),
        (Kind::String, Said::Text(said)) => Value::String(said.to_owned()),
        (Kind::Bytes, Said::Text(said)) => Value::Bytes(bytes(said)?.into()),
        _ => return None,
    })
}

/// What should stand there.
pub(super) fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "a number",
        Kind::Float => "a number of 32 bits",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a whole number of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a whole number of 64 bits",
        Kind::Uint32 | Kind::Fixed32 => "a whole number of 32 bits, not below 0",
        Kind::Uint64 | Kind::Fixed64 => "a whole number of 64 bits, not below 0",
        Kind::Bool => "true or false",
        Kind::String => "a text",
        Kind::Bytes => "base64",
        Kind::Enum(_) => "the name of a value",
        Kind::Message(_) => "an object",
    }
}

/// A message with one field; nothing where a description says otherwise of a message of that name.
pub(super) fn holding(message: &MessageDescriptor, number: u32, value: Value) -> Option<DynamicMessage> {
    let mut holding = DynamicMessage::new(message.clone());
    holding.try_set_field_by_number(number, value).ok()?;
    Some(holding)
}

/// Both alphabets, padded or not (proto3 JSON).
fn bytes(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}
