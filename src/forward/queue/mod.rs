//! Messages on disk until their pool has them: files in a row, written at the end, removed at the front.
//!
//! A message is safe when [`Queue::append`] returns: it was written and `fdatasync` has returned. What was delivered is
//! remembered without that, so that a loss of power may bring messages twice, under the same id, and loses none.

mod reader;
mod record;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use self::reader::Reader;
use self::record::{HEAD, Head, Message, Record};
use crate::telemetry::random;

/// Shortest and longest file, before its last message.
const SHORTEST: u64 = 16 << 10;
const LONGEST: u64 = 8 << 20;

/// A message to be kept.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The broker's number of it; 0 where it has none.
    pub packet: u16,
    /// The broker may have sent it before.
    pub again: bool,
    pub topic: Box<str>,
    pub payload: Bytes,
}

/// What became of a message to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Written,
    /// It was there already.
    Again,
    /// It is longer than the whole queue.
    TooLong,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub number: u64,
    /// The same for this message, however often it is sent, and for no other.
    pub id: Box<str>,
    pub topic: Arc<str>,
    /// Milliseconds since 1970.
    pub received: u64,
    pub payload: Bytes,
}

/// A file of messages.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    head: Head,
    length: u64,
}

/// The messages of one forward.
#[derive(Debug)]
pub struct Queue {
    dir: PathBuf,
    most: u64,
    segments: VecDeque<Segment>,
    /// The last of them, open for more.
    end: Option<File>,
    /// The number of the next message.
    next: u64,
    /// The first message that was not delivered, and those behind it that were.
    first: u64,
    done: BTreeSet<u64>,
    marks: Option<File>,
    reader: Reader,
    /// Messages that the broker may not know to be here, by its numbers: their print and their number.
    unheard: HashMap<u16, (u64, u64)>,
    /// It knows of all before this one; and whether that stands on disk.
    heard: u64,
    told: bool,
    waiting: u64,
    oldest: Option<u64>,
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Queue {
    /// What lies in this directory, which is made. A message that is not whole was not acknowledged, and is dropped.
    pub fn open(dir: &Path, most: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let marks = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("done"))?;
        let mut queue = Self {
            dir: dir.to_owned(),
            most,
            segments: VecDeque::new(),
            end: None,
            next: 1,
            first: 0,
            done: BTreeSet::new(),
            reader: Reader::default(),
            unheard: HashMap::new(),
            heard: 0,
            told: true,
            waiting: 0,
            oldest: None,
            marks: None,
        };
        queue.first = delivered(&marks).unwrap_or(0);
        queue.marks = Some(marks);
        queue.next = queue.first.max(1);
        let mut found: Vec<PathBuf> = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|path| path.extension().is_some_and(|end| end == "log"));
        found.sort();
        for path in found {
            queue.scan(path)?;
        }
        queue.forget();
        Ok(queue)
    }

    /// Counts what is in a file; one without a head has nothing.
    fn scan(&mut self, path: PathBuf) -> io::Result<()> {
        let bytes = Bytes::from(fs::read(&path)?);
        let Some(head) = Head::read(&bytes) else {
            log::warn!("{} holds no messages and is removed", path.display());
            return fs::remove_file(&path);
        };
        if self.segments.is_empty() {
            self.first = self.first.max(head.first);
        }
        // What is missing between two files was lost with one that is damaged.
        self.done.extend(self.next.max(self.first)..head.first);
        let mut at = HEAD;
        while let Some((record, length)) = record::read(&bytes.slice(at.min(bytes.len())..)) {
            at += length;
            match record {
                Record::Message(message) => {
                    self.next = self.next.max(message.number + 1);
                    if message.packet > 0 {
                        let print = record::print(&message.topic, &message.payload);
                        self.unheard.insert(message.packet, (print, message.number));
                    }
                    if message.number >= self.first {
                        self.waiting += 1;
                        self.oldest.get_or_insert(message.received);
                    }
                }
                Record::Acknowledged(before) => self.unheard.retain(|_, (_, number)| *number >= before),
            }
        }
        if at == HEAD {
            return fs::remove_file(&path);
        }
        if at < bytes.len() {
            let lost = bytes.len() - at;
            log::warn!("{}: the last {lost} bytes are no whole message, and no acknowledged one", path.display());
        }
        self.segments.push_back(Segment { path, head, length: bytes.len() as u64 });
        Ok(())
    }

    pub fn limit(&mut self, most: u64) {
        self.most = most;
    }

    /// What the files take.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Messages that were not delivered.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// When the first of them came, in milliseconds since 1970.
    pub fn oldest(&self) -> Option<u64> {
        self.oldest
    }

    /// The broker remembers nothing: its numbers begin anew.
    pub fn forgotten(&mut self) {
        self.unheard.clear();
        self.forget();
    }

    /// The number of the next message.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The broker knows that all before this one are here: it does not send them again.
    pub fn acknowledged(&mut self, before: u64) {
        let unheard = self.unheard.len();
        self.unheard.retain(|_, (_, number)| *number >= before);
        if self.unheard.len() < unheard {
            (self.heard, self.told) = (before, false);
            self.forget();
        }
    }

    /// Keeps these, safe from the moment at which it returns: what became of each, as far as there is room. An error means
    /// that none was kept.
    pub fn append(&mut self, messages: &[Incoming]) -> io::Result<Vec<Kept>> {
        let (mut bytes, mut kept, mut number) = (Vec::new(), Vec::new(), self.next);
        let first = messages.first().map_or(0, |message| Message::length(&message.topic, &message.payload));
        if self.waiting == 0 && self.bytes() + first > self.most {
            self.clear();
        }
        let mut room = self.most.saturating_sub(self.bytes());
        if !self.told {
            record::write(&Record::Acknowledged(self.heard), &mut bytes);
        }
        let mut unheard = Vec::new();
        for message in messages {
            let print = record::print(&message.topic, &message.payload);
            let length = Message::length(&message.topic, &message.payload);
            if message.again
                && message.packet > 0
                && self.unheard.get(&message.packet).is_some_and(|known| known.0 == print)
            {
                kept.push(Kept::Again);
                continue;
            }
            if length + HEAD as u64 > self.most {
                kept.push(Kept::TooLong);
                continue;
            }
            let Some(left) = room.checked_sub(length) else { break };
            room = left;
            let (topic, payload) = (message.topic.clone(), message.payload.clone());
            let packet = message.packet;
            record::write(&Record::Message(Message { number, received: now(), packet, topic, payload }), &mut bytes);
            unheard.extend((packet > 0).then_some((packet, (print, number))));
            kept.push(Kept::Written);
            number += 1;
        }
        if number > self.next {
            self.write(&bytes)?;
            self.waiting += number - self.next;
            self.oldest.get_or_insert_with(now);
            (self.next, self.told) = (number, true);
            self.unheard.extend(unheard);
        }
        Ok(kept)
    }

    /// Writes behind the last message, or nothing at all.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let longest = (self.most / 16).clamp(SHORTEST, LONGEST);
        if self.end.is_none() || self.segments.back().is_none_or(|last| last.length >= longest) {
            self.begin()?;
        }
        let (Some(end), Some(segment)) = (&mut self.end, self.segments.back_mut()) else {
            return Err(io::Error::other("there is no file to write to"));
        };
        let written = end.write_all(bytes).and_then(|()| end.sync_data());
        if let Err(why) = written {
            // What is behind the last whole message is taken back; where that fails too, another file is begun.
            if end.set_len(segment.length).and_then(|()| end.seek(SeekFrom::End(0))).is_err() {
                self.end = None;
                if segment.length == HEAD as u64 {
                    let _ = fs::remove_file(&segment.path);
                    self.segments.pop_back();
                }
            }
            return Err(why);
        }
        segment.length += bytes.len() as u64;
        Ok(())
    }

    /// Begins a file.
    fn begin(&mut self) -> io::Result<()> {
        let head = Head { own: random::next(), first: self.next };
        let path = self.dir.join(format!("{:016x}-{:08x}.log", head.first, head.own >> 32));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = file
            .write_all(&head.bytes())
            .and_then(|()| file.sync_data())
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(why) = made {
            let _ = fs::remove_file(&path);
            return Err(why);
        }
        self.segments.push_back(Segment { path, head, length: HEAD as u64 });
        self.end = Some(file);
        Ok(())
    }

    /// The pool has these messages, or never will; `oldest` is the time of the first that it does not have.
    pub fn done(&mut self, numbers: &[u64], oldest: Option<u64>) {
        if numbers.is_empty() {
            return;
        }
        for number in numbers {
            if *number >= self.first && self.done.insert(*number) {
                self.waiting = self.waiting.saturating_sub(1);
            }
        }
        self.oldest = if self.waiting == 0 { None } else { oldest.or(self.oldest) };
        self.first = self.first.max(1);
        while self.done.remove(&self.first) {
            self.first += 1;
        }
        self.mark();
        self.forget();
    }

    fn mark(&self) {
        let Some(marks) = &self.marks else { return };
        let number = self.first.to_le_bytes();
        let bytes = [number, (!self.first).to_le_bytes()].concat();
        if let Err(why) = marks.write_all_at(&bytes, 0) {
            log::debug!("{}: what was delivered is not remembered: {why}", self.dir.display());
        }
    }

    /// Removes the files, of which everything was delivered: what the broker sends again is another message then.
    fn clear(&mut self) {
        self.end = None;
        self.remove_before(self.next);
    }

    /// Removes the files of which everything was delivered and the broker knows all: it would not be recognised otherwise,
    /// were it sent again to one who comes after us.
    fn forget(&mut self) {
        let unheard = self.unheard.values().map(|(_, number)| *number).min();
        self.remove_before(unheard.map_or(self.first, |number| number.min(self.first)));
    }

    fn remove_before(&mut self, needed: u64) {
        while let Some(first) = self.segments.front() {
            let last = self.segments.len() == 1;
            let ends = self.segments.get(1).map_or(self.next, |next| next.head.first);
            // The last one only where it has grown: another one costs more than a few bytes.
            if ends > needed || (last && self.end.is_some() && first.length < SHORTEST) {
                return;
            }
            if let Err(why) = fs::remove_file(&first.path)
                && why.kind() != ErrorKind::NotFound
            {
                log::warn!("{} is not removed: {why}", first.path.display());
            }
            if last {
                self.end = None;
            }
            self.segments.pop_front();
        }
    }
}

/// The first message that was not delivered, as far as that is remembered.
fn delivered(marks: &File) -> Option<u64> {
    let mut bytes = [0; 16];
    marks.read_exact_at(&mut bytes, 0).ok()?;
    let (number, check) = bytes.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    (u64::from_le_bytes(check.try_into().ok()?) == !number).then_some(number)
}

#[cfg(test)]
mod tests;
