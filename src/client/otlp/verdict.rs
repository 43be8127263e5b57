//! What a receiver says of a batch: taken, taken in part, refused for now, refused for good.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

/// The receiver has the batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// So many spans of it are refused.
    pub(super) rejected: usize,
    pub(super) why: String,
}

/// The receiver does not have it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) again: Again,
}

/// Whether another try may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    Soon,
    /// When the receiver says.
    In(Duration),
}

impl From<Option<Duration>> for Again {
    fn from(said: Option<Duration>) -> Self {
        said.map_or(Self::Soon, Self::In)
    }
}

impl Refused {
    /// No answer came.
    pub(super) fn lost(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Soon }
    }

    pub(super) fn for_good(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Never }
    }
}

/// What the message of a good answer says; one that cannot be read is none that we need.
pub(super) fn taken(message: &[u8]) -> Taken {
    let said = ExportTraceServiceResponse::decode(message).unwrap_or_default().partial_success.unwrap_or_default();
    Taken { rejected: usize::try_from(said.rejected_spans).unwrap_or_default(), why: short(&said.error_message) }
}

/// What a receiver says may be long.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}
