//! Messages out of JSON, by the rules of proto3 and no laxer: nothing twice, nothing out of range, nothing too deep.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Display, Formatter};

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::fields::Fields;
use super::known::{self, Known};
use super::scalar::{self, Said, holding};

/// Reads one body.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) ignore_unknown: bool,
    /// Where it went wrong, from the outside in.
    at: RefCell<String>,
}

impl Reader {
    pub(super) fn new(ignore_unknown: bool) -> Self {
        Self { ignore_unknown, at: RefCell::default() }
    }

    pub(super) fn message<'de, D: Deserializer<'de>>(
        &self,
        message: &MessageDescriptor,
        from: D,
    ) -> Result<DynamicMessage, D::Error> {
        let kind = Kind::Message(message.clone());
        let spot = Spot { reader: self, kind: &kind, form: Form::One, level: 0, may_be_null: true };
        match spot.deserialize(from)? {
            Some(Value::Message(message)) => Ok(message),
            _ => Err(D::Error::invalid_type(Unexpected::Unit, &scalar::wanted(&kind))),
        }
    }

    /// The value of a field; nothing where it is null.
    pub(super) fn field<'de, D: Deserializer<'de>>(
        &self,
        field: &FieldDescriptor,
        from: D,
    ) -> Result<Option<Value>, D::Error> {
        let form = Form::of(field.is_list(), field.is_map());
        Spot { reader: self, kind: &field.kind(), form, level: 1, may_be_null: true }.deserialize(from)
    }

    /// Where it went wrong, as a JSON pointer.
    pub(super) fn at(&self) -> String {
        format!("#{}", self.at.borrow())
    }

    pub(super) fn within<T, E>(&self, step: &dyn Display, read: Result<T, E>) -> Result<T, E> {
        if read.is_err() {
            let step = step.to_string().replace('~', "~0").replace('/', "~1");
            self.at.borrow_mut().insert_str(0, &format!("/{step}"));
        }
        read
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form {
    One,
    List,
    Map,
}

impl Form {
    pub(super) fn of(is_list: bool, is_map: bool) -> Self {
        match (is_list, is_map) {
            (true, _) => Self::List,
            (_, true) => Self::Map,
            _ => Self::One,
        }
    }
}

/// What is to be read. It is nothing where null stands, or what may be ignored.
#[derive(Clone, Copy)]
pub(super) struct Spot<'r> {
    pub(super) reader: &'r Reader,
    pub(super) kind: &'r Kind,
    pub(super) form: Form,
    /// How many messages lie around it.
    pub(super) level: usize,
    pub(super) may_be_null: bool,
}

impl<'de> DeserializeSeed<'de> for Spot<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Value>, D::Error> {
        if self.level > known::DEEPEST && matches!(self.kind, Kind::Message(_)) {
            return Err(D::Error::custom(known::TOO_DEEP));
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Spot<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let known = self.kind.as_message().and_then(|message| known::kind(message.full_name()));
        f.write_str(match (self.form, known) {
            (Form::List, _) | (_, Some(Known::List)) => "a list",
            (Form::One, Some(Known::Text(text))) => text.wanted,
            (Form::One, Some(Known::Wrapper)) => {
                let inner = self.kind.as_message().and_then(|message| message.get_field(1));
                inner.map_or("a value", |inner| scalar::wanted(&inner.kind()))
            }
            _ => scalar::wanted(self.kind),
        })
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Value>, E> {
        match self.kind {
            _ if self.form != Form::One => {}
            Kind::Message(message) if matches!(known::kind(message.full_name()), Some(Known::Value)) => {
                return Ok(holding(message, 1, Value::EnumNumber(0)).map(Value::Message));
            }
            Kind::Enum(values) if values.full_name() == known::NULL => return Ok(Some(Value::EnumNumber(0))),
            _ => {}
        }
        if self.may_be_null { Ok(None) } else { Err(E::invalid_type(Unexpected::Unit, &self)) }
    }

    fn visit_bool<E: Error>(self, said: bool) -> Result<Option<Value>, E> {
        self.said(Said::Truth(said))
    }

    fn visit_i64<E: Error>(self, said: i64) -> Result<Option<Value>, E> {
        self.said(Said::Whole(said.into()))
    }

    fn visit_u64<E: Error>(self, said: u64) -> Result<Option<Value>, E> {
        self.said(Said::Whole(said.into()))
    }

    fn visit_f64<E: Error>(self, said: f64) -> Result<Option<Value>, E> {
        self.said(Said::Number(said))
    }

    fn visit_str<E: Error>(self, said: &str) -> Result<Option<Value>, E> {
        self.said(Said::Text(said))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Option<Value>, A::Error> {
        let other = || A::Error::invalid_type(Unexpected::Seq, &self);
        if self.form == Form::List {
            let spot = Spot { form: Form::One, may_be_null: false, ..self };
            return spot.each(elements).map(|list| Some(Value::List(list)));
        }
        let message = self.kind.as_message().filter(|_| self.form == Form::One).ok_or_else(other)?;
        match known::kind(message.full_name()) {
            Some(Known::List) => self.list(message, elements).map(|list| Some(Value::Message(list))),
            Some(Known::Value) => self.inside(message, 6, |spot, inner| spot.list(inner, elements)),
            _ => Err(other()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Option<Value>, A::Error> {
        let other = || A::Error::invalid_type(Unexpected::Map, &self);
        let message = self.kind.as_message().filter(|_| self.form != Form::List).ok_or_else(other)?;
        if self.form == Form::Map {
            return self.map(message, entries).map(|map| Some(Value::Map(map)));
        }
        let whole = match known::kind(message.full_name()) {
            None | Some(Known::Empty) => {
                let mut fields = Fields::of(self.reader, message, self.level);
                fields.read(&mut entries)?;
                fields.message
            }
            Some(Known::Any) => self.any(message, entries)?,
            Some(Known::Struct) => self.object(message, entries)?,
            Some(Known::Value) => return self.inside(message, 5, |spot, inner| spot.object(inner, entries)),
            _ => return Err(other()),
        };
        Ok(Some(Value::Message(whole)))
    }
}

pub(super) fn otherwise<E: Error>(message: &MessageDescriptor) -> E {
    E::custom(format!("{} is not described as it is known", message.full_name()))
}

impl Spot<'_> {
    /// Neither an object nor a list nor null.
    fn said<E: Error>(self, said: Said<'_>) -> Result<Option<Value>, E> {
        if self.form != Form::One {
            return Err(E::invalid_type(said.unexpected(), &self));
        }
        let value = match self.kind {
            Kind::Enum(values) => return self.enumerated(values, said),
            Kind::Message(message) => of_message(message, said).map(Value::Message),
            kind => scalar::value(kind, said),
        };
        value.map(Some).ok_or_else(|| E::invalid_value(said.unexpected(), &self))
    }

    fn enumerated<E: Error>(self, values: &EnumDescriptor, said: Said<'_>) -> Result<Option<Value>, E> {
        if let Said::Text(name) = said {
            return match values.get_value_by_name(name) {
                Some(value) => Ok(Some(Value::EnumNumber(value.number()))),
                None if self.reader.ignore_unknown => Ok(None),
                None => Err(E::custom(format!("unrecognized enum value '{name}'"))),
            };
        }
        match scalar::value(&Kind::Int32, said) {
            Some(Value::I32(number)) => Ok(Some(Value::EnumNumber(number))),
            _ => Err(E::invalid_value(said.unexpected(), &self)),
        }
    }

    /// Elements of a list.
    fn each<'de, A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<Value>, A::Error> {
        let mut list = Vec::new();
        for index in 0_usize.. {
            match self.reader.within(&index, elements.next_element_seed(self))? {
                Some(element) => list.extend(element),
                None => break,
            }
        }
        Ok(list)
    }

    /// The entries of a map, whose message is the kind of its entries.
    fn map<'de, A: MapAccess<'de>>(
        self,
        entry: &MessageDescriptor,
        mut entries: A,
    ) -> Result<HashMap<MapKey, Value>, A::Error> {
        let (key_kind, kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let spot = Spot { kind: &kind, form: Form::One, may_be_null: false, ..self };
        let mut map = HashMap::new();
        while let Some(name) = entries.next_key::<String>()? {
            let Some(key) = key(&key_kind, &name) else {
                let wanted = scalar::wanted(&key_kind);
                return Err(A::Error::invalid_value(Unexpected::Str(&name), &wanted));
            };
            let Some(value) = self.reader.within(&name, entries.next_value_seed(spot))? else { continue };
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom(format!("'{name}' stands twice")));
            }
        }
        Ok(map)
    }

    /// A `google.protobuf.Value` whose field of this number is what `read` reads.
    fn inside<E: Error>(
        self,
        message: &MessageDescriptor,
        number: u32,
        read: impl FnOnce(Self, &MessageDescriptor) -> Result<DynamicMessage, E>,
    ) -> Result<Option<Value>, E> {
        let inner = message.get_field(number).and_then(|field| field.kind().as_message().cloned());
        let inner = inner.ok_or_else(|| otherwise(message))?;
        let read = read(Spot { level: self.level + 1, ..self }, &inner)?;
        let whole = holding(message, number, Value::Message(read)).ok_or_else(|| otherwise(message))?;
        Ok(Some(Value::Message(whole)))
    }

    /// A `google.protobuf.ListValue`.
    fn list<'de, A: SeqAccess<'de>>(
        self,
        message: &MessageDescriptor,
        elements: A,
    ) -> Result<DynamicMessage, A::Error> {
        let field = message.get_field(1).ok_or_else(|| otherwise(message))?;
        let spot = Spot { kind: &field.kind(), form: Form::One, level: self.level + 1, may_be_null: false, ..self };
        holding(message, 1, Value::List(spot.each(elements)?)).ok_or_else(|| otherwise(message))
    }

    /// A `google.protobuf.Struct`.
    fn object<'de, A: MapAccess<'de>>(
        self,
        message: &MessageDescriptor,
        entries: A,
    ) -> Result<DynamicMessage, A::Error> {
        let kind = message.get_field(1).filter(FieldDescriptor::is_map).map(|field| field.kind());
        let entry = kind.as_ref().and_then(Kind::as_message).ok_or_else(|| otherwise(message))?;
        let map = Spot { level: self.level + 1, ..self }.map(entry, entries)?;
        holding(message, 1, Value::Map(map)).ok_or_else(|| otherwise(message))
    }
}

/// A message that has a form of its own, of what is neither an object nor a list.
fn of_message(message: &MessageDescriptor, said: Said<'_>) -> Option<DynamicMessage> {
    match (known::kind(message.full_name())?, said) {
        (Known::Text(text), Said::Text(said)) => (text.read)(said, message),
        (Known::Wrapper, said) => holding(message, 1, scalar::value(&message.get_field(1)?.kind(), said)?),
        (Known::Value, Said::Truth(said)) => holding(message, 4, Value::Bool(said)),
        (Known::Value, Said::Text(said)) => holding(message, 3, Value::String(said.to_owned())),
        (Known::Value, said) => holding(message, 2, Value::F64(said.double()?)),
        _ => None,
    }
}

/// The key of an entry.
fn key(kind: &Kind, name: &str) -> Option<MapKey> {
    Some(match scalar::value(kind, Said::Text(name)) {
        Some(Value::I32(key)) => MapKey::I32(key),
        Some(Value::I64(key)) => MapKey::I64(key),
        Some(Value::U32(key)) => MapKey::U32(key),
        Some(Value::U64(key)) => MapKey::U64(key),
        Some(Value::String(key)) => MapKey::String(key),
        _ if *kind == Kind::Bool => MapKey::Bool(name.parse().ok()?),
        _ => return None,
    })
}
