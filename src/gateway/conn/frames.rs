//! HTTP/2 frames, counted as they come in: cheap frames that cost us work and bring no request are a flood.

use tokio::time::Instant;

/// Reads frame headers only (RFC 9113 section 4.1).
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Bytes of the client's preface still to come.
    preface: usize,
    header: [u8; 9],
    have: usize,
    /// Payload bytes of the running frame still to come.
    skip: usize,
    /// Frames without use since the last useful ones.
    idle: u32,
    /// A header block whose last frame has not come.
    block: bool,
    /// Since when a request head is unfinished.
    open: Option<Instant>,
}

/// Useless frames that a client may be ahead of its useful ones.
const PATIENCE: u32 = 1000;

impl Meter {
    /// A meter for a connection whose preface has not been read yet.
    pub(super) fn new() -> Self {
        Self { preface: super::head::PREFACE.len(), ..Self::default() }
    }

    pub(super) fn is_flood(&self) -> bool {
        self.idle > PATIENCE
    }

    /// Since when the client owes us the rest of a request head.
    pub(super) fn open(&self) -> Option<Instant> {
        self.open
    }

    /// Takes what was read.
    pub(super) fn count(&mut self, bytes: &[u8]) {
        self.read(bytes);
        let within = self.skip > 0 && matches!(self.header, [_, _, _, 1 | 9, ..]);
        let open = self.block || within || self.have > 0;
        self.open = if open { self.open.or_else(|| Some(Instant::now())) } else { None };
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skip = if self.preface > 0 { &mut self.preface } else { &mut self.skip };
            if *skip > 0 {
                let some = (*skip).min(bytes.len());
                *skip -= some;
                bytes = bytes.get(some..).unwrap_or_default();
                continue;
            }
            let some = (self.header.len() - self.have).min(bytes.len());
            let (now, rest) = bytes.split_at(some);
            if let Some(slot) = self.header.get_mut(self.have..self.have + some) {
                slot.copy_from_slice(now);
            }
            self.have += some;
            bytes = rest;
            if self.have == self.header.len() {
                self.frame();
            }
        }
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.have = 0;
        self.skip = usize::try_from(length).unwrap_or(usize::MAX);
        let ends = flags & 1 != 0;
        if matches!(kind, 1 | 9) {
            self.block = flags & 4 == 0;
        }
        // What each frame earns or costs; a request of our own answering takes a few window updates along.
        self.idle = match kind {
            // DATA with something in it, or the end of a body.
            0 if length > 0 || ends => self.idle.saturating_sub(4),
            // HEADERS: a request. Resets of it cost on their own.
            1 => self.idle.saturating_sub(8),
            // RST_STREAM and WINDOW_UPDATE come with ordinary work, at most a few for each request.
            3 => self.idle + 4,
            // A window update pays for the data that we sent: one for each few frames.
            8 => self.idle + u32::from(self.idle < PATIENCE / 2),
            // PRIORITY, SETTINGS, PING, CONTINUATION, empty DATA, unknown frames.
            _ => self.idle + 2,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn after(frames: &[Vec<u8>], times: usize) -> bool {
        let mut meter = Meter::new();
        let bytes = [super::super::head::PREFACE.to_vec(), frames.concat().repeat(times)].concat();
        for piece in bytes.chunks(7) {
            meter.count(piece);
        }
        meter.is_flood()
    }

    #[test]
    fn an_unfinished_head_is_noticed() {
        let mut meter = Meter::default();
        meter.count(&frame(1, 4, b"abc"));
        assert_eq!(meter.open(), None);
        meter.count(&frame(1, 0, b"abc"));
        assert!(meter.open().is_some(), "CONTINUATION must follow");
        meter.count(&frame(9, 4, b"abc"));
        assert_eq!(meter.open(), None);
        meter.count(&frame(1, 4, b"abc")[..10]);
        assert!(meter.open().is_some(), "half a frame");
        meter.count(b"bc");
        assert_eq!(meter.open(), None);
        meter.count(&frame(0, 0, b"abc")[..10]);
        assert_eq!(meter.open(), None, "a body may take its time");
    }

    #[test]
    fn frames_that_bring_nothing_are_a_flood() {
        let (headers, data, ping) = (frame(1, 5, b"abc"), frame(0, 0, b"data"), frame(6, 0, b"12345678"));
        let (reset, empty, window) = (frame(3, 0, b"0000"), frame(0, 0, b""), frame(8, 0, b"1234"));
        assert!(!after(&[headers.clone(), data, window.clone(), reset], 10_000), "ordinary work");
        assert!(!after(&[headers, ping.clone(), window], 10_000));
        assert!(!after(std::slice::from_ref(&ping), 400));
        assert!(after(&[ping], 600));
        assert!(after(&[empty], 600));
        assert!(after(&[frame(4, 0, b"")], 600));
    }
}
