//! The answers of a call as a client over HTTP reads them: one document, lines of JSON, or events.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;
use prost_reflect::DynamicMessage;
use serde_json::Value;

use super::Stream;
use super::frame::{Broken, Frames};
use super::print::Print;
use super::rule::Binding;
use crate::policy::compress::weighed;

/// A message that is a body as it stands, with its own type.
const RAW: &str = "google.api.HttpBody";

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One document, after the call has ended.
    Document,
    /// A line a message, each at once.
    Lines,
    /// An event a message, each at once.
    Events,
    /// The bytes of messages that are bodies, each at once.
    Raw,
}

/// Why an answer cannot be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Failed {
    Wire(Broken),
    /// It is not what the description says, or holds what no description knows.
    Message(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wire(Broken::TooLarge(length)) => write!(f, "a message of {length} bytes, more than `max_message`"),
            Self::Wire(Broken::Flag(flag)) => write!(f, "a message with the flag {flag}: compressed, or none at all"),
            Self::Message(why) => f.write_str(why),
        }
    }
}

/// Whether a stream comes as events: as the client likes it, or else the route.
fn wants_events(accept: &[&str], stream: Stream) -> bool {
    const LINES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
    let said = || accept.iter().flat_map(|line| line.split(',')).filter_map(weighed);
    let best = |kinds: &[&str]| {
        let named = said().filter(|(name, _)| kinds.iter().any(|kind| kind.eq_ignore_ascii_case(name)));
        named.map(|(_, weight)| weight).max()
    };
    match best(&["text/event-stream"]) {
        Some(weight) => weight > 0 && weight >= best(&LINES).unwrap_or_default(),
        None => stream == Stream::Sse,
    }
}

/// What a client gets of one call.
#[derive(Debug)]
pub struct Answer<'t> {
    print: &'t Print,
    binding: &'t Binding,
    shape: Shape,
    frames: Frames,
}

impl<'t> Answer<'t> {
    pub(super) fn new(print: &'t Print, binding: &'t Binding, stream: Stream, accept: &[&str], most: usize) -> Self {
        let shape = match (binding.is_raw(), binding.method.gives_many, wants_events(accept, stream)) {
            (true, true, _) => Shape::Raw,
            (_, false, _) => Shape::Document,
            (_, true, true) => Shape::Events,
            (_, true, false) => Shape::Lines,
        };
        Self { print, binding, shape, frames: Frames::new(most) }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// More of what the target sends.
    pub fn push(&mut self, piece: &[u8]) {
        self.frames.push(piece);
    }

    /// Whether the target stopped inside a message.
    pub fn is_inside(&self) -> bool {
        self.frames.is_inside()
    }

    /// The next message: its type, where that is its own, and what is written of it.
    pub fn message(&mut self) -> Result<Option<(Option<String>, Bytes)>, Failed> {
        let Some(wire) = self.frames.take().map_err(Failed::Wire)? else { return Ok(None) };
        let read = DynamicMessage::decode(self.binding.method.output.clone(), wire);
        let message = read.map_err(|why| Failed::Message(format!("a message that is not what it should be: {why}")))?;
        if self.binding.is_raw() {
            return self.binding.raw(&message).map(Some);
        }
        let json = self.print.json(&message, self.binding.shown.as_ref()).map_err(Failed::Message)?;
        Ok(Some((None, self.framed(&json, ""))))
    }

    /// The last word of a stream that failed; nothing where no word fits.
    pub fn failed(&self, problem: &Value) -> Option<Bytes> {
        match self.shape {
            Shape::Document | Shape::Raw => None,
            Shape::Lines => Some(self.framed(serde_json::json!({ "error": problem }).to_string().as_bytes(), "")),
            Shape::Events => Some(self.framed(problem.to_string().as_bytes(), "event: error\n")),
        }
    }

    fn framed(&self, json: &[u8], event: &str) -> Bytes {
        let (before, after) = match self.shape {
            Shape::Document | Shape::Raw => ("", ""),
            Shape::Lines => ("", "\n"),
            Shape::Events => ("data: ", "\n\n"),
        };
        let mut text = BytesMut::with_capacity(event.len() + before.len() + json.len() + after.len());
        for part in [event.as_bytes(), before.as_bytes(), json, after.as_bytes()] {
            text.put_slice(part);
        }
        text.freeze()
    }
}

impl Binding {
    /// Whether the answer is a body as it stands.
    fn is_raw(&self) -> bool {
        match &self.shown {
            None => self.method.output.full_name() == RAW,
            Some(field) => {
                !field.is_list() && field.kind().as_message().is_some_and(|message| message.full_name() == RAW)
            }
        }
    }

    fn raw(&self, message: &DynamicMessage) -> Result<(Option<String>, Bytes), Failed> {
        let shown = self.shown.as_ref().map(|field| message.get_field(field));
        let message = shown.as_ref().and_then(|shown| shown.as_message()).unwrap_or(message);
        let kind = message.get_field_by_name("content_type");
        let kind = kind.and_then(|kind| kind.as_str().filter(|kind| !kind.is_empty()).map(str::to_owned));
        if kind.as_deref().is_some_and(|kind| HeaderValue::from_str(kind).is_err()) {
            return Err(Failed::Message("a body whose type is no value of a header field".to_owned()));
        }
        let data = message.get_field_by_name("data");
        Ok((kind, data.and_then(|data| data.as_bytes().cloned()).unwrap_or_default()))
    }
}
