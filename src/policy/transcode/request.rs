//! A request over HTTP as the messages of a call: path, query and body, each into its fields.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::field::{self, Way};
use super::frame;
use super::read::Reader;
use super::rule::{Binding, Body};
use super::zero;

/// What is wrong with a request: where, and a sentence.
pub type Wrong = (Box<str>, Box<str>);

/// Where a body is wrong: as a whole.
const BODY: &str = "#";

/// Messages that are a list or anything in JSON: in their stream an array is one of them.
const ARRAYS: [&str; 2] = ["google.protobuf.ListValue", "google.protobuf.Value"];

/// A message that is a body as it stands, whatever is in it.
const RAW: &str = "google.api.HttpBody";

/// What there is of a request.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The path as far as its template goes.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

/// How requests are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub ignore_unknown: bool,
    /// The longest message, as JSON and on the wire.
    pub most: usize,
}

/// Puts every message of the request on the wire.
pub(super) fn read(binding: &Binding, parts: &Parts<'_>, reading: Reading) -> Result<Bytes, Wrong> {
    let negative = |text: &[u8]| memmem::find(text, b"-0").is_some();
    let has_negative_zero = negative(parts.body)
        || [parts.path, parts.query.unwrap_or_default()].iter().any(|text| negative(text.as_bytes()));
    let mut said = Said { binding, reading, bound: Vec::new(), has_negative_zero };
    said.path(parts.path)?;
    said.query(parts.query.unwrap_or_default())?;
    let mut wire = BytesMut::new();
    said.bodies(parts, &mut wire)?;
    Ok(wire.freeze())
}

/// What path and query say, which goes into every message.
struct Said<'a> {
    binding: &'a Binding,
    reading: Reading,
    bound: Vec<(Way, Box<str>, String)>,
    /// Whether -0.0 could be said anywhere.
    has_negative_zero: bool,
}

impl Said<'_> {
    fn path(&mut self, path: &str) -> Result<(), Wrong> {
        for (way, name, raw) in self.binding.captured(path) {
            let Some(text) = decoded(raw, false) else {
                return Err((name.into(), "is no text in UTF-8".into()));
            };
            self.bound.push((way.clone(), name.into(), text));
        }
        Ok(())
    }

    fn query(&mut self, query: &str) -> Result<(), Wrong> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(text)) = (decoded(name, true), decoded(value, true)) else {
                return Err((name.into(), "is no text in UTF-8".into()));
            };
            let Some(way) = self.parameter(&name)? else { continue };
            if self.bound.iter().any(|(bound, ..)| field::exclude(bound, &way)) {
                return Err((name.into(), "is said already, or another of which only one may be".into()));
            }
            self.bound.push((way, name.into(), text));
        }
        Ok(())
    }

    /// The message of path and query alone.
    fn alone(&self) -> Result<DynamicMessage, Wrong> {
        let mut message = DynamicMessage::new(self.binding.method.input.clone());
        self.over(&mut message)?;
        Ok(message)
    }

    fn over(&self, message: &mut DynamicMessage) -> Result<(), Wrong> {
        self.bound.iter().try_for_each(|(way, name, text)| {
            let set = field::set(message, way, text);
            set.map_err(|wanted| (name.clone(), format!("has to be {wanted}").into()))
        })
    }

    /// The field that a parameter of the query means; nothing where it may mean nothing.
    fn parameter(&self, name: &str) -> Result<Option<Way>, Wrong> {
        let wrong = |why: String| Err((Box::from(name), why.into()));
        let way = match (&self.binding.body, field::way(name, &self.binding.method.input)) {
            (_, Err(_)) if self.reading.ignore_unknown => return Ok(None),
            (_, Err(why)) => return wrong(format!("means nothing here: {why}")),
            (Body::Whole, Ok(_)) => return wrong("belongs into the body, which is the whole message here".to_owned()),
            (Body::Field(body), Ok(way)) if way.first() == Some(body) => {
                return wrong("belongs into the body".to_owned());
            }
            (_, Ok(way)) => way,
        };
        if let Some(Err(why)) = way.last().map(field::takes_text) {
            return wrong(why.to_owned());
        }
        Ok(Some(way))
    }

    fn bodies(&self, parts: &Parts<'_>, wire: &mut BytesMut) -> Result<(), Wrong> {
        // What path and query say is looked at before anything else is read.
        let alone = self.alone()?;
        let blank = parts.body.iter().all(u8::is_ascii_whitespace);
        match self.binding.raw_body() {
            Some(message) => {
                let mut message = self.within(raw(&message, parts));
                self.over(&mut message)?;
                return self.put(&message, wire);
            }
            None if self.binding.body == Body::None && !blank => {
                return Err((BODY.into(), "no body is taken here".into()));
            }
            None if !blank => {
                let reader = Reader::new(self.reading.ignore_unknown);
                return Seed { said: self, reader, wire }.read(parts.body);
            }
            None => {}
        }
        // A stream without a body has no messages, unless it takes none.
        let none = self.binding.method.takes_many && self.binding.body != Body::None;
        if none { Ok(()) } else { self.put(&alone, wire) }
    }

    /// The message around what the body holds.
    fn within(&self, inner: DynamicMessage) -> DynamicMessage {
        let Body::Field(field) = &self.binding.body else { return inner };
        let mut message = DynamicMessage::new(self.binding.method.input.clone());
        message.set_field(field, prost_reflect::Value::Message(inner));
        message
    }

    fn put(&self, message: &DynamicMessage, wire: &mut BytesMut) -> Result<(), Wrong> {
        let mut bytes = message.encode_to_vec();
        if self.has_negative_zero {
            bytes.extend(zero::negatives(message));
        }
        if bytes.len() > self.reading.most {
            return Err((BODY.into(), format!("is a message of more than {} bytes", self.reading.most).into()));
        }
        frame::put(&bytes, wire);
        Ok(())
    }
}

impl Binding {
    /// Whether a body of this content type is taken: JSON, or lines of it, unless it goes in as it stands.
    pub fn takes_kind(&self, kind: &str) -> bool {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let json = ["application/json", "application/x-ndjson", "application/ndjson", "application/jsonl"];
        let any = self.body == Body::None || self.raw_body().is_some();
        any || json.contains(&kind.as_str()) || (kind.starts_with("application/") && kind.ends_with("+json"))
    }

    /// The message that is a body as it stands, where the body is one.
    fn raw_body(&self) -> Option<MessageDescriptor> {
        let message = match &self.body {
            Body::None => return None,
            Body::Whole => self.method.input.clone(),
            Body::Field(field) => field.kind().as_message().filter(|_| !field.is_list())?.clone(),
        };
        (message.full_name() == RAW).then_some(message)
    }
}

fn raw(message: &MessageDescriptor, parts: &Parts<'_>) -> DynamicMessage {
    let mut raw = DynamicMessage::new(message.clone());
    // A description may say otherwise of a message of that name.
    let kind = parts.content_type.unwrap_or("application/octet-stream").to_owned();
    let _ = raw.try_set_field_by_name("content_type", prost_reflect::Value::String(kind));
    let _ = raw.try_set_field_by_name("data", prost_reflect::Value::Bytes(Bytes::copy_from_slice(parts.body)));
    raw
}

/// JSON into messages, each of which goes on the wire as soon as it was read.
struct Seed<'s, 'a> {
    said: &'s Said<'a>,
    reader: Reader,
    wire: &'s mut BytesMut,
}

impl Seed<'_, '_> {
    fn read(mut self, body: &[u8]) -> Result<(), Wrong> {
        let read = self.all(body);
        read.map_err(|why| (self.reader.at().into(), why.to_string().into()))
    }

    fn all(&mut self, body: &[u8]) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let method = &self.said.binding.method;
        if !method.takes_many {
            self.one(&mut json)?;
            return json.end();
        }
        if is_array(body) && !ARRAYS.contains(&method.input.full_name()) {
            json.deserialize_seq(Each(&mut *self))?;
            return json.end();
        }
        while json.end().is_err() {
            self.one(&mut json)?;
        }
        Ok(())
    }

    fn one<'de, D: Deserializer<'de>>(&mut self, json: D) -> Result<(), D::Error> {
        let binding = self.said.binding;
        let mut message = match &binding.body {
            Body::Field(field) => {
                let mut message = DynamicMessage::new(binding.method.input.clone());
                if let Some(value) = self.reader.field(field, json)? {
                    message.set_field(field, value);
                }
                message
            }
            _ => self.reader.message(&binding.method.input, json)?,
        };
        // Path and query go over the body.
        let put = self.said.over(&mut message).and_then(|()| self.said.put(&message, self.wire));
        put.map_err(|(at, why)| serde::de::Error::custom(format!("{at} {why}")))
    }
}

fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

struct Each<'e, 's, 'a>(&'e mut Seed<'s, 'a>);

impl<'de> Visitor<'de> for Each<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(One(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct One<'o, 's, 'a>(&'o mut Seed<'s, 'a>);

impl<'de> DeserializeSeed<'de> for One<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.0.one(json)
    }
}

/// Text without its escapes; nothing where it is not UTF-8.
fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let plain = |byte: u8| byte != b'%' && !(plus_is_space && byte == b'+');
    if text.bytes().all(plain) {
        return Some(text.to_owned());
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, hex(after.first()).zip(hex(after.get(1)))) {
            (b'%', Some((high, low))) => {
                bytes.push(u8::try_from(high * 16 + low).ok()?);
                rest = after.get(2..)?;
            }
            (b'+', _) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}
