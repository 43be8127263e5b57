//! Where a queue is read: on from the last message, file after file, a piece at a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;

use super::record::{self, HEAD, Message, Record};
use super::{Entry, Queue};

/// What of a file is read at once.
const PIECE: usize = 256 << 10;

/// Where the next message is read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The first message of the file that is read, and what comes next in it.
    first: u64,
    at: u64,
    open: Option<File>,
    rest: Bytes,
}

impl Queue {
    /// The next messages to be sent, so many at most.
    pub fn read(&mut self, most: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while entries.len() < most {
            let Some((message, own)) = self.read_one()? else { break };
            if message.number < self.first || self.done.contains(&message.number) {
                continue;
            }
            entries.push(Entry {
                number: message.number,
                id: format!("{own:016x}-{}", message.number).into(),
                topic: (*message.topic).into(),
                received: message.received,
                payload: Bytes::copy_from_slice(&message.payload),
            });
        }
        Ok(entries)
    }

    fn read_one(&mut self) -> io::Result<Option<(Message, u64)>> {
        loop {
            let here = self.segments.iter().position(|segment| segment.head.first >= self.reader.first);
            let Some(segment) = here.and_then(|at| self.segments.get(at)) else { return Ok(None) };
            if segment.head.first != self.reader.first || self.reader.open.is_none() {
                let mut open = File::open(&segment.path)?;
                open.seek(SeekFrom::Start(HEAD as u64))?;
                self.reader =
                    Reader { first: segment.head.first, at: HEAD as u64, open: Some(open), rest: Bytes::new() };
            }
            if let Some((record, length)) = record::read(&self.reader.rest) {
                self.reader.rest = self.reader.rest.slice(length..);
                self.reader.at += length as u64;
                match record {
                    Record::Message(message) => return Ok(Some((message, segment.head.own))),
                    Record::Acknowledged(_) => continue,
                }
            }
            let left = segment.length.saturating_sub(self.reader.at + self.reader.rest.len() as u64);
            if left > 0 {
                self.reader.more(left)?;
            } else if here.is_some_and(|at| at + 1 < self.segments.len()) {
                // What is left of it is no message.
                self.reader = Reader { first: segment.head.first + 1, ..Reader::default() };
            } else {
                return Ok(None);
            }
        }
    }
}

impl Reader {
    /// Reads on in the file.
    fn more(&mut self, left: u64) -> io::Result<()> {
        // A record that is longer than a piece needs a longer one.
        let wanted = (self.rest.len() + PIECE) as u64;
        let Some(open) = &mut self.open else { return Ok(()) };
        let mut bytes = self.rest.to_vec();
        open.take(wanted.min(left)).read_to_end(&mut bytes)?;
        self.rest = bytes.into();
        Ok(())
    }
}
