//! How a message lies on disk: its length, a checksum, and what it is.
//!
//! A file begins with a mark, a number of its own and the number of its first message. A record that is not whole ends it:
//! nothing behind such a one was ever acknowledged.

use std::hash::Hasher;

use bytes::Bytes;
use siphasher::sip::SipHasher13;

const MARK: &[u8; 8] = b"yumenmq1";
/// Mark, number of the file, number of its first message, checksum.
pub(super) const HEAD: usize = 32;
/// Length and checksum.
const FRAME: usize = 12;
/// Kind, number, time, packet, length of the topic.
const FIXED: usize = 1 + 8 + 8 + 2 + 2;

const MESSAGE: u8 = 1;
const ACKNOWLEDGED: u8 = 2;

/// What stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Message(Message),
    /// The broker was told that all before this number are here.
    Acknowledged(u64),
}

/// A message and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) number: u64,
    /// Milliseconds since 1970.
    pub(super) received: u64,
    /// The broker's number of it; 0 where it has none.
    pub(super) packet: u16,
    pub(super) topic: Box<str>,
    pub(super) payload: Bytes,
}

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) own: u64,
    pub(super) first: u64,
}

fn sum(bytes: &[u8]) -> u64 {
    let mut sum = SipHasher13::new();
    sum.write(bytes);
    sum.finish()
}

/// Tells messages of one packet number apart.
pub(super) fn print(topic: &str, payload: &[u8]) -> u64 {
    let mut sum = SipHasher13::new();
    sum.write_usize(topic.len());
    sum.write(topic.as_bytes());
    sum.write(payload);
    sum.finish()
}

impl Head {
    pub(super) fn bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let body = [&MARK[..], &self.own.to_le_bytes(), &self.first.to_le_bytes()].concat();
        let whole = [&body[..], &sum(&body).to_le_bytes()].concat();
        bytes.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (body, check) = bytes.get(..HEAD)?.split_last_chunk::<8>()?;
        if sum(body) != u64::from_le_bytes(*check) {
            return None;
        }
        let (own, first) = body.strip_prefix(MARK)?.split_first_chunk::<8>()?;
        Some(Self { own: u64::from_le_bytes(*own), first: u64::from_le_bytes(first.try_into().ok()?) })
    }
}

impl Message {
    /// How long it is on disk.
    pub(super) fn length(topic: &str, payload: &[u8]) -> u64 {
        (FRAME + FIXED + topic.len() + payload.len()) as u64
    }
}

/// Writes a record behind what is there.
pub(super) fn write(record: &Record, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&[0; FRAME]);
    match record {
        Record::Message(message) => {
            to.push(MESSAGE);
            to.extend_from_slice(&message.number.to_le_bytes());
            to.extend_from_slice(&message.received.to_le_bytes());
            to.extend_from_slice(&message.packet.to_le_bytes());
            to.extend_from_slice(&u16::try_from(message.topic.len()).unwrap_or(u16::MAX).to_le_bytes());
            to.extend_from_slice(message.topic.as_bytes());
            to.extend_from_slice(&message.payload);
        }
        Record::Acknowledged(number) => {
            to.push(ACKNOWLEDGED);
            to.extend_from_slice(&number.to_le_bytes());
        }
    }
    let body = to.get(start + FRAME..).unwrap_or_default();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let frame = [&length.to_le_bytes()[..], &sum(body).to_le_bytes()].concat();
    to.iter_mut().skip(start).zip(frame).for_each(|(to, from)| *to = from);
}

/// The record at the beginning of these bytes, and how long it is; nothing where none is whole.
pub(super) fn read(bytes: &Bytes) -> Option<(Record, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (check, rest) = rest.split_first_chunk::<8>()?;
    let body = rest.get(..length)?;
    if sum(body) != u64::from_le_bytes(*check) {
        return None;
    }
    let (kind, body) = body.split_first()?;
    let (number, body) = body.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    let record = match *kind {
        MESSAGE => {
            let (received, body) = body.split_first_chunk::<8>()?;
            let (packet, body) = body.split_first_chunk::<2>()?;
            let (named, body) = body.split_first_chunk::<2>()?;
            let (topic, payload) = body.split_at_checked(u16::from_le_bytes(*named).into())?;
            Record::Message(Message {
                number,
                received: u64::from_le_bytes(*received),
                packet: u16::from_le_bytes(*packet),
                topic: std::str::from_utf8(topic).ok()?.into(),
                payload: bytes.slice_ref(payload),
            })
        }
        ACKNOWLEDGED => Record::Acknowledged(number),
        _ => return None,
    };
    Some((record, FRAME + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Record {
        let (topic, payload) = ("devices/7/data".into(), Bytes::from_static(b"21.5"));
        Record::Message(Message { number: 9, received: 1, packet: 3, topic, payload })
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_none_that_is_not_whole() {
        let mut bytes = Vec::new();
        write(&message(), &mut bytes);
        write(&Record::Acknowledged(10), &mut bytes);
        let whole = Bytes::from(bytes);
        let (first, length) = read(&whole).unwrap();
        assert_eq!((first, length as u64), (message(), Message::length("devices/7/data", b"21.5")));
        assert_eq!(read(&whole.slice(length..)).unwrap().0, Record::Acknowledged(10));
        for end in 0..length {
            assert!(read(&whole.slice(..end)).is_none(), "{end}");
            let mut other = whole.to_vec();
            other[end] ^= 1;
            assert!(read(&Bytes::from(other)).is_none(), "{end}");
        }
    }

    #[test]
    fn a_file_says_which_one_it_is() {
        let head = Head { own: 7, first: 9 };
        let bytes = head.bytes();
        assert_eq!(Head::read(&bytes), Some(head));
        assert_eq!(Head::read(&bytes[..HEAD - 1]), None);
        let mut other = bytes;
        other[10] ^= 1;
        assert_eq!(Head::read(&other), None);
    }
}
