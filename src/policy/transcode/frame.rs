//! Messages of gRPC on the wire: a flag, four bytes of length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What stands before each message.
const HEAD: usize = 5;

/// Puts `message` on the wire; nothing is compressed.
pub fn put(message: &[u8], to: &mut BytesMut) {
    to.put_u8(0);
    to.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    to.put_slice(message);
}

/// What is wrong with what a target sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A message is longer than what is taken.
    TooLarge(usize),
    /// It is compressed, which nobody has asked for, or is no message at all.
    Flag(u8),
}

/// Messages out of pieces of any length.
#[derive(Debug)]
pub struct Frames {
    held: BytesMut,
    most: usize,
}

impl Frames {
    /// Takes messages of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { held: BytesMut::new(), most }
    }

    pub fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// The next message that is whole.
    pub fn take(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some((&[flag, a, b, c, d], _)) = self.held.split_first_chunk::<HEAD>() else { return Ok(None) };
        if flag != 0 {
            return Err(Broken::Flag(flag));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.most {
            return Err(Broken::TooLarge(length));
        }
        if self.held.len() < HEAD + length {
            return Ok(None);
        }
        self.held.advance(HEAD);
        Ok(Some(self.held.split_to(length).freeze()))
    }

    /// Whether a message has begun that is not whole.
    pub fn is_inside(&self) -> bool {
        !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let mut wire = BytesMut::new();
        for message in [&b"one"[..], b"", b"three"] {
            put(message, &mut wire);
        }
        for size in 1..wire.len() {
            let mut frames = Frames::new(5);
            let mut messages = Vec::new();
            for piece in wire.chunks(size) {
                frames.push(piece);
                while let Some(message) = frames.take().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, ["one", "", "three"], "in pieces of {size}");
            assert!(!frames.is_inside());
        }
    }

    #[test]
    fn what_is_too_large_or_compressed_is_broken() {
        let mut frames = Frames::new(4);
        frames.push(&[0, 0, 0, 0, 5]);
        assert_eq!(frames.take(), Err(Broken::TooLarge(5)), "before it is there");
        let mut frames = Frames::new(4);
        frames.push(&[1, 0, 0, 0, 0]);
        assert_eq!(frames.take(), Err(Broken::Flag(1)));
        let mut frames = Frames::new(4);
        frames.push(&[0, 0, 0, 0, 2, 7]);
        assert_eq!((frames.take(), frames.is_inside()), (Ok(None), true));
    }
}
