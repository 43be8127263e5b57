//! One direction of a tunnel: what one side says, looked at where it lies, on its way to the other.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frame::{Control, Frames, LONGEST, Violation};

/// What is read at once.
const PIECE: usize = 16 << 10;

thread_local! {
    /// Where both directions of all tunnels of a worker read to: a tunnel that rests holds no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST + PIECE]);
}

/// What came of a look at one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Something came; `said` if it was more than the answer to our ping.
    Came {
        said: bool,
    },
    /// Who speaks here has ended.
    Ended,
    /// Who listens here has ended.
    Deaf,
    Wrong(Violation),
}

/// The last word of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Goodbye {
    pub(super) code: Option<u16>,
}

/// What one side says to the other.
#[derive(Debug)]
pub(super) struct Lane {
    /// Nothing where it turned out that these are no frames, and nobody minds.
    frames: Option<Frames>,
    strict: bool,
    /// What came with the head of the answer.
    first: Vec<u8>,
    /// The start of a frame that is not whole.
    carry: Vec<u8>,
    /// What the other side has not yet taken.
    waits: Vec<u8>,
    stuck: Option<Instant>,
    unflushed: bool,
    broken: bool,
    /// What is said in the place of all that follows the present frame.
    goodbye: Vec<u8>,
    muted: bool,
    /// Its speaker has said goodbye, perhaps with a code.
    pub(super) closed: Option<Goodbye>,
    pub(super) ended: bool,
    pub(super) bytes: u64,
    /// Messages that have passed before it turned out that these are no frames.
    before: u64,
}

impl Lane {
    pub(super) fn new(frames: Frames, strict: bool, first: Vec<u8>) -> Self {
        Self {
            frames: Some(frames),
            strict,
            first,
            carry: Vec::new(),
            waits: Vec::new(),
            stuck: None,
            unflushed: false,
            broken: false,
            goodbye: Vec::new(),
            muted: false,
            closed: None,
            ended: false,
            bytes: 0,
            before: 0,
        }
    }

    /// Messages that have passed.
    pub(super) fn messages(&self) -> u64 {
        self.frames.as_ref().map_or(self.before, |frames| frames.messages)
    }

    /// Since when the other side takes nothing of what waits for it.
    pub(super) fn stuck(&self) -> Option<Instant> {
        self.stuck
    }

    /// Nothing more comes from here.
    pub(super) fn is_silent(&self) -> bool {
        self.ended || self.closed.is_some()
    }

    /// Everything that came has arrived, as far as it can.
    pub(super) fn is_empty(&self) -> bool {
        self.broken || (self.waits.is_empty() && self.goodbye.is_empty())
    }

    /// Puts a frame of ours between the others; `false` where one of those is not whole.
    pub(super) fn insert(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let between = self.frames.as_ref().is_some_and(Frames::is_between);
        if between {
            write(&mut self.waits);
        }
        between
    }

    /// Says this as soon as a frame has ended, and nothing after it. `false` where no frame can be said.
    pub(super) fn say_goodbye(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(frames) = &mut self.frames else { return false };
        frames.halt = true;
        write(&mut self.goodbye);
        self.end_between();
        true
    }

    fn end_between(&mut self) {
        if !self.goodbye.is_empty() && self.frames.as_ref().is_none_or(Frames::is_between) {
            self.waits.append(&mut self.goodbye);
            self.muted = true;
            if let Some(frames) = &mut self.frames {
                frames.halt = false;
            }
        }
    }

    /// Passes on what is there. `word` is what our last ping to the speaker said.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin + ?Sized),
        to: &mut (impl AsyncWrite + Unpin + ?Sized),
        word: Option<[u8; 8]>,
    ) -> Poll<Event> {
        let heard = !self.broken;
        let _ = self.poll_send(cx, to);
        if heard && self.broken {
            return Poll::Ready(Event::Deaf);
        }
        if self.ended || !(self.waits.is_empty() || self.broken) {
            return Poll::Pending;
        }
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.bytes += first.len() as u64;
            return Poll::Ready(self.take(cx, &first, to, word));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let held = self.carry.len();
            if let Some(room) = scratch.get_mut(..held) {
                room.copy_from_slice(&self.carry);
            }
            let mut buf = ReadBuf::new(scratch.get_mut(held..held + PIECE).unwrap_or_default());
            let read = ready!(Pin::new(from).poll_read(cx, &mut buf));
            let got = buf.filled().len();
            if read.is_err() || got == 0 {
                self.ended = true;
                return Poll::Ready(Event::Ended);
            }
            self.bytes += got as u64;
            self.carry.clear();
            Poll::Ready(self.take(cx, scratch.get(..held + got).unwrap_or_default(), to, word))
        })
    }

    /// Sends what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin + ?Sized)) -> Poll<()> {
        while !self.waits.is_empty() && !self.broken {
            match Pin::new(&mut *to).poll_write(cx, &self.waits) {
                Poll::Ready(Ok(some)) if some > 0 => {
                    self.waits.drain(..some);
                    self.unflushed = true;
                    self.stuck = None;
                }
                Poll::Ready(_) => {
                    self.break_off();
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    self.stuck.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        if self.waits.capacity() > 0 {
            self.waits = Vec::new();
        }
        if self.unflushed && !self.broken {
            if ready!(Pin::new(to).poll_flush(cx)).is_err() {
                self.break_off();
            }
            self.unflushed = false;
        }
        Poll::Ready(())
    }

    /// The other side takes nothing any more.
    fn break_off(&mut self) {
        self.broken = true;
        self.stuck.get_or_insert_with(Instant::now);
    }

    fn send(&mut self, cx: &mut Context<'_>, mut bytes: &[u8], to: &mut (impl AsyncWrite + Unpin + ?Sized)) {
        if self.muted || self.broken {
            return;
        }
        while self.waits.is_empty() && !bytes.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, bytes) {
                Poll::Ready(Ok(some)) if some > 0 => {
                    bytes = bytes.get(some..).unwrap_or_default();
                    self.unflushed = true;
                }
                Poll::Ready(_) => {
                    self.break_off();
                    return;
                }
                Poll::Pending => {
                    self.stuck.get_or_insert_with(Instant::now);
                    break;
                }
            }
        }
        self.waits.extend_from_slice(bytes);
    }

    fn take(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin + ?Sized),
        word: Option<[u8; 8]>,
    ) -> Event {
        if self.closed.is_some() {
            // Nothing counts behind a goodbye.
            return Event::Came { said: false };
        }
        let part = |from: usize, until: usize| bytes.get(from..until).unwrap_or_default();
        let (mut from, mut at, mut said) = (0, 0, false);
        loop {
            let Some(frames) = &mut self.frames else {
                self.send(cx, part(from, bytes.len()), to);
                return self.unless_deaf(Event::Came { said: true });
            };
            let (pass, behind) = frames.next(part(at, bytes.len()));
            at += pass;
            said |= pass > 0;
            match behind {
                Err(_) if !self.strict => {
                    self.before = frames.messages;
                    self.frames = None;
                }
                Err(wrong) => {
                    self.send(cx, part(from, at), to);
                    return Event::Wrong(wrong);
                }
                Ok(None) => break,
                Ok(Some((Control::Pong(Some(answer)), size))) if word == Some(answer) => {
                    self.send(cx, part(from, at), to);
                    at += size;
                    from = at;
                }
                Ok(Some((Control::Close(code), size))) => {
                    at += size;
                    (said, self.closed) = (true, Some(Goodbye { code }));
                    break;
                }
                Ok(Some((_, size))) => {
                    at += size;
                    said = true;
                }
            }
        }
        self.send(cx, part(from, at), to);
        let halted = !self.goodbye.is_empty();
        self.end_between();
        if halted && self.muted {
            // Nobody hears the rest, and yet it may hold a goodbye.
            return self.take(cx, part(at, bytes.len()), to, word);
        }
        if self.closed.is_none() {
            self.carry.extend_from_slice(part(at, bytes.len()));
        }
        self.unless_deaf(Event::Came { said })
    }

    fn unless_deaf(&self, event: Event) -> Event {
        if self.broken { Event::Deaf } else { event }
    }
}

#[cfg(test)]
mod tests;
