//! Writing: head and body leave in one send, and a client that takes nothing is given up.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{Conn, Io};
use crate::deadline::Deadline;

/// What is collected before it is sent without being asked to.
const FULL: usize = 8 << 10;

/// What waits to be sent, and what is known of the answer that is being sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    answer: Answer,
    deadline: Deadline,
    /// Since when the client has taken nothing.
    stuck: Option<Instant>,
    /// Nothing was added since the request was last waited for.
    resting: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Nothing was asked yet.
    #[default]
    None,
    /// Its status line is still to come; `true` if a 101 may be among it.
    Awaited {
        upgrade: bool,
    },
    Sent,
    /// A 101 went out: another protocol follows.
    Switched,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    pub(super) fn answered(&self) -> bool {
        matches!(self.answer, Answer::Sent | Answer::Switched)
    }
    pub(super) fn switched(&self) -> bool {
        self.answer == Answer::Switched
    }
    /// The client has asked for another protocol, and was not answered.
    pub(super) fn may_switch(&self) -> bool {
        self.answer == Answer::Awaited { upgrade: true }
    }
    pub(super) fn expect_answer(&mut self, upgrade: bool) {
        self.answer = Answer::Awaited { upgrade };
    }

    /// Looks for the status line of the answer; interim answers come before it.
    fn look(&mut self, start: &[u8]) {
        let Answer::Awaited { upgrade } = self.answer else { return };
        self.answer = match start.get(9..12) {
            Some(b"101") if upgrade => Answer::Switched,
            Some([b'1', ..]) => return,
            _ => Answer::Sent,
        };
    }

    /// Sends what waits, then `more`; returns how much of `more` was sent once nothing waits.
    fn poll_send(&mut self, io: &mut Io, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.bytes.len();
            let sent = if waiting == 0 {
                Pin::new(&mut *io).poll_write(cx, more)
            } else if more.is_empty() {
                Pin::new(&mut *io).poll_write(cx, &self.bytes)
            } else {
                Pin::new(&mut *io).poll_write_vectored(cx, &[IoSlice::new(&self.bytes), IoSlice::new(more)])
            };
            let sent = ready!(sent)?;
            self.stuck = None;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if sent < waiting {
                self.bytes.drain(..sent);
                continue;
            }
            self.bytes = Vec::new();
            if more.is_empty() || sent > waiting {
                return Poll::Ready(Ok(sent - waiting));
            }
        }
    }
}

impl Conn {
    /// Turns a wait that is too long into an error.
    fn or_too_slow<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.out.stuck = None;
            return polled;
        }
        let since = *self.out.stuck.get_or_insert_with(Instant::now);
        let limit = since + self.facts.connection.listener.timeout.write.get();
        ready!(self.out.deadline.poll(cx, limit));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of the answer")))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            ready!(self.out.poll_send(&mut self.io, cx, &[]))?;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl Conn {
    /// An answer that comes in drips is not kept back until it is whole: what still waits when its task comes here
    /// again without having added anything is sent. (The first time the rest may be about to come in the same turn.)
    pub(super) fn send_what_rests(&mut self, cx: &mut Context<'_>) {
        if self.out.is_empty() {
            return;
        }
        if self.out.resting {
            // An error shows at the next write.
            let _ = self.poll_drain(cx);
        } else {
            self.out.resting = true;
            cx.waker().wake_by_ref();
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.out.resting = false;
        this.out.look(buf);
        if this.out.bytes.len() + buf.len() <= FULL {
            if this.out.is_empty() {
                // A head, and a small body behind it.
                this.out.bytes.reserve_exact((buf.len() + 1280).min(FULL));
            }
            this.out.bytes.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        let sent = this.out.poll_send(&mut this.io, cx, buf);
        this.or_too_slow(cx, sent)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let drained = this.poll_drain(cx);
        this.or_too_slow(cx, drained)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let drained = this.poll_drain(cx);
        ready!(this.or_too_slow(cx, drained))?;
        let closed = Pin::new(&mut this.io).poll_shutdown(cx);
        this.or_too_slow(cx, closed)
    }
}
