//! One span as the receiver gets it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use crate::telemetry::trace::{Trace, number};

/// What a client may say about itself is cut there: the room for what waits is bounded.
const LONGEST: usize = 1024;

/// A span in the making.
pub struct Draft(Span);

impl Draft {
    /// The request itself, as the client sees it.
    pub fn server(trace: &Trace, name: String, began: SystemTime, took: Duration) -> Self {
        let parent = trace.parent().and_then(|parent| parent.as_bytes().try_into().ok());
        let parent = parent.map(|parent| number(parent).to_be_bytes().to_vec()).unwrap_or_default();
        let span = trace.span().as_bytes().try_into().map_or(0, number);
        let mut draft = Self::new(trace, span, parent, SpanKind::Server, name, (began, took));
        draft.0.flags |= SpanFlags::ContextHasIsRemoteMask as u32;
        if trace.is_continued() {
            draft.0.flags |= SpanFlags::ContextIsRemoteMask as u32;
        }
        draft
    }

    /// One of the requests that it leads to, by its number.
    pub fn client(trace: &Trace, part: u32, name: String, began: SystemTime, took: Duration) -> Self {
        let parent = trace.span().as_bytes().try_into().map_or(0, number);
        let span = number(&trace.span_of(part));
        let mut draft = Self::new(trace, span, parent.to_be_bytes().to_vec(), SpanKind::Client, name, (began, took));
        draft.0.flags |= SpanFlags::ContextHasIsRemoteMask as u32;
        draft
    }

    fn new(
        trace: &Trace,
        span: u64,
        parent: Vec<u8>,
        kind: SpanKind,
        name: String,
        (began, took): (SystemTime, Duration),
    ) -> Self {
        let nanos = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
        };
        Self(Span {
            trace_id: trace.id_bytes().to_vec(),
            span_id: span.to_be_bytes().to_vec(),
            parent_span_id: parent,
            flags: u32::from(trace.is_sampled()),
            name,
            kind: kind.into(),
            start_time_unix_nano: nanos(began),
            end_time_unix_nano: nanos(began + took),
            attributes: Vec::with_capacity(16),
            ..Span::default()
        })
    }

    /// What others have written beside the id of the trace.
    pub fn state(&mut self, state: &[u8]) {
        self.0.trace_state = String::from_utf8_lossy(state.get(..LONGEST).unwrap_or(state)).into_owned();
    }

    pub fn text(&mut self, key: &str, value: &str) {
        let end = value.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST).unwrap_or(value.len());
        let value = value.get(..end).unwrap_or_default().to_owned();
        self.0.attributes.push(attribute(key, Value::StringValue(value)));
    }

    /// The same of bytes that a client sent.
    pub fn bytes(&mut self, key: &str, value: &[u8]) {
        let value = value.get(..LONGEST).unwrap_or(value);
        self.text(key, &String::from_utf8_lossy(value));
    }

    pub fn number(&mut self, key: &str, value: i64) {
        self.0.attributes.push(attribute(key, Value::IntValue(value)));
    }

    pub fn address(&mut self, key: &str, value: IpAddr) {
        self.text(key, &value.to_string());
    }

    /// It went wrong, and so is its kind called.
    pub fn failed(&mut self, kind: &str) {
        self.text("error.type", kind);
        self.0.status = Some(Status { message: String::new(), code: StatusCode::Error.into() });
    }

    pub fn done(self) -> Span {
        self.0
    }
}

pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
