//! The fields of a message out of JSON, and what an `Any` holds.

use std::collections::BTreeSet;

use prost::Message;
use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess};

use super::known;
use super::read::{Form, Reader, Spot, otherwise};
use super::scalar::holding;
use crate::policy::once::Once;

const TYPE: &str = "@type";
const VALUE: &str = "value";

fn unrecognized<E: Error>(key: &str) -> E {
    E::custom(format!("unrecognized field name '{key}'"))
}

impl Spot<'_> {
    /// A `google.protobuf.Any`. What stands before its type is kept until that is known.
    pub(super) fn any<'de, A: MapAccess<'de>>(
        self,
        message: &MessageDescriptor,
        mut entries: A,
    ) -> Result<DynamicMessage, A::Error> {
        let (mut before, mut url) = (Vec::new(), None);
        while let Some(key) = entries.next_key::<String>()? {
            if key == TYPE {
                url = Some(entries.next_value::<String>()?);
                break;
            }
            before.push((key, entries.next_value::<Once>()?.0));
        }
        let Some(url) = url else {
            let empty = before.is_empty().then(|| DynamicMessage::new(message.clone()));
            return empty.ok_or_else(|| A::Error::custom("an Any without its '@type'"));
        };
        let inner = known::named(&url, message.parent_pool()).map_err(A::Error::custom)?;
        let inner = match known::kind(inner.full_name()) {
            None => {
                let mut fields = Fields::of(self.reader, &inner, self.level + 1);
                fields.is_typed = true;
                for (key, value) in before {
                    fields.one(&key, |spot| spot.deserialize(value).map_err(A::Error::custom))?;
                }
                fields.read(&mut entries)?;
                fields.message
            }
            Some(_) => self.value_of_any(&inner, before, &mut entries)?,
        };
        let whole = holding(message, 1, Value::String(url)).and_then(|mut whole| {
            whole.try_set_field_by_number(2, Value::Bytes(inner.encode_to_vec().into())).ok().map(|()| whole)
        });
        whole.ok_or_else(|| otherwise(message))
    }

    /// What a message with a form of its own is in an `Any`.
    fn value_of_any<'de, A: MapAccess<'de>>(
        self,
        inner: &MessageDescriptor,
        before: Vec<(String, serde_json::Value)>,
        entries: &mut A,
    ) -> Result<DynamicMessage, A::Error> {
        let kind = Kind::Message(inner.clone());
        let spot = Spot { kind: &kind, form: Form::One, level: self.level + 1, may_be_null: false, ..self };
        let mut read = None;
        let mut keep = |key: &str, value: Result<Option<Value>, A::Error>| {
            let value = self.reader.within(&key, value)?;
            match read.replace(value) {
                Some(_) => Err(A::Error::custom(format!("'{key}' stands twice"))),
                None => Ok(()),
            }
        };
        for (key, value) in before {
            if key == VALUE {
                keep(VALUE, spot.deserialize(value).map_err(A::Error::custom))?;
            } else if !self.reader.ignore_unknown {
                return Err(unrecognized(&key));
            }
        }
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                VALUE => keep(VALUE, entries.next_value_seed(spot))?,
                TYPE => return Err(A::Error::custom("'@type' stands twice")),
                _ if self.reader.ignore_unknown => drop(entries.next_value::<IgnoredAny>()?),
                _ => return Err(unrecognized(&key)),
            }
        }
        match read {
            Some(Some(Value::Message(message))) => Ok(message),
            _ => Err(A::Error::custom("an Any without its 'value'")),
        }
    }
}

/// The fields of a message while it is read.
pub(super) struct Fields<'r> {
    reader: &'r Reader,
    pub(super) message: DynamicMessage,
    /// Numbers of those that were there, null or not.
    seen: BTreeSet<u32>,
    level: usize,
    /// Whether its type has been said.
    is_typed: bool,
}

enum Place {
    Field(FieldDescriptor),
    Extension(ExtensionDescriptor),
}

impl<'r> Fields<'r> {
    pub(super) fn of(reader: &'r Reader, message: &MessageDescriptor, level: usize) -> Self {
        Self { reader, message: DynamicMessage::new(message.clone()), seen: BTreeSet::new(), level, is_typed: false }
    }

    /// All that is left.
    pub(super) fn read<'de, A: MapAccess<'de>>(&mut self, entries: &mut A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            if key == TYPE && self.is_typed {
                return Err(A::Error::custom("'@type' stands twice"));
            }
            if !self.one(&key, |spot| entries.next_value_seed(spot))? {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    /// One field by its name; whether there is one of this name.
    fn one<E: Error>(&mut self, key: &str, read: impl FnOnce(Spot<'_>) -> Result<Option<Value>, E>) -> Result<bool, E> {
        let described = self.message.descriptor();
        let field = described.get_field_by_json_name(key).or_else(|| described.get_field_by_name(key));
        let place = field.map(Place::Field);
        let place = place.or_else(|| described.get_extension_by_json_name(key).map(Place::Extension));
        let (number, kind, form) = match &place {
            Some(Place::Field(field)) => (field.number(), field.kind(), Form::of(field.is_list(), field.is_map())),
            Some(Place::Extension(one)) => (one.number(), one.kind(), Form::of(one.is_list(), one.is_map())),
            None if self.reader.ignore_unknown => return Ok(false),
            None => return Err(unrecognized(key)),
        };
        if !self.seen.insert(number) {
            return Err(E::custom(format!("'{key}' stands twice")));
        }
        let spot = Spot { reader: self.reader, kind: &kind, form, level: self.level + 1, may_be_null: true };
        match (self.reader.within(&key, read(spot))?, place) {
            (Some(value), Some(Place::Field(field))) => {
                let rivals = field.containing_oneof().into_iter().flat_map(|one| one.fields().collect::<Vec<_>>());
                if rivals.into_iter().any(|rival| self.message.has_field(&rival)) {
                    return Err(E::custom(format!("'{key}' stands beside another of which only one may be")));
                }
                self.message.set_field(&field, value);
            }
            (Some(value), Some(Place::Extension(extension))) => self.message.set_extension(&extension, value),
            _ => {}
        }
        Ok(true)
    }
}
