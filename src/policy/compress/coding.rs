//! The codings, and what makes them piece by piece.

use std::io::{self, Write};
use std::sync::Arc;

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Level;
use crate::telemetry::metrics::CompressMetrics;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ContentCoding")]
pub enum Coding {
    /// Zstandard (RFC 8878): as small as gzip in a third of the time.
    Zstd,
    /// Brotli (RFC 7932): the smallest texts.
    Br,
    /// What every client takes.
    Gzip,
}

impl Coding {
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// Whether this is a name of it (RFC 9110 section 8.4.1).
    pub fn is_called(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.word()) || (self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    }

    /// How hard its maker tries.
    const fn effort(self, level: Level) -> u32 {
        match (self, level) {
            (Self::Zstd | Self::Gzip, Level::Fast) => 1,
            (Self::Zstd, Level::Normal) => 3,
            (Self::Zstd, Level::Small) => 9,
            (Self::Br, Level::Fast) => 2,
            (Self::Br | Self::Gzip, Level::Normal) => 4,
            (Self::Br | Self::Gzip, Level::Small) => 6,
        }
    }
}

/// How far back an encoder looks, as a power of two: what one answer may hold in memory.
const WINDOW: u32 = 19;

enum Maker {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

/// Codes one answer, piece by piece.
pub struct Encoder {
    coding: Coding,
    /// Nothing once the end was made.
    maker: Option<Maker>,
    counted: Option<Arc<CompressMetrics>>,
}

impl Encoder {
    /// Nothing where the coding has no memory for it. A known length makes it smaller.
    pub(super) fn new(
        coding: Coding,
        level: Level,
        length: Option<u64>,
        counted: Option<Arc<CompressMetrics>>,
    ) -> Option<Self> {
        let effort = coding.effort(level);
        // What is told may be anything.
        let whole = |length: u64| length.checked_next_power_of_two().map_or(WINDOW, u64::ilog2);
        let window = length.map_or(WINDOW, |length| whole(length).clamp(10, WINDOW));
        let maker = match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), i32::try_from(effort).ok()?).ok()?;
                encoder.window_log(window).ok()?;
                Maker::Zstd(encoder)
            }
            Coding::Br => Maker::Br(Box::new(CompressorWriter::new(Vec::new(), 4096, effort, window))),
            Coding::Gzip => Maker::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(effort))),
        };
        Some(Self { coding, maker: Some(maker), counted })
    }

    /// What the client gets for this piece: all of it, so that it waits for no other.
    pub fn piece(&mut self, piece: &[u8], end: bool) -> io::Result<Bytes> {
        let Some(maker) = &mut self.maker else { return Ok(Bytes::new()) };
        let made = match maker {
            Maker::Zstd(encoder) => feed(encoder, piece, end).map(|()| std::mem::take(encoder.get_mut())),
            Maker::Br(encoder) => feed(encoder, piece, end).map(|()| std::mem::take(encoder.get_mut())),
            Maker::Gzip(encoder) => feed(encoder, piece, end).map(|()| std::mem::take(encoder.get_mut())),
        };
        let mut made = made?;
        if end {
            let rest = match self.maker.take() {
                Some(Maker::Zstd(encoder)) => encoder.finish()?,
                Some(Maker::Br(encoder)) => encoder.into_inner(),
                Some(Maker::Gzip(encoder)) => encoder.finish()?,
                None => Vec::new(),
            };
            made.extend_from_slice(&rest);
        }
        if let Some(counted) = &self.counted {
            counted.coded(self.coding.word(), piece.len(), made.len());
        }
        Ok(made.into())
    }
}

fn feed(encoder: &mut impl Write, piece: &[u8], end: bool) -> io::Result<()> {
    encoder.write_all(piece)?;
    if end { Ok(()) } else { encoder.flush() }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({})", self.coding.word())
    }
}
