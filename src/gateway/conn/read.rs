//! Reading: the bytes of one request and no more.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::chunked::Chunked;
use super::head::{Framing, Head};
use super::pace::Pace;
use super::{Body, Conn};
use crate::broken::Broken;
use crate::fault::Fault;

/// How much of what follows a request is read while that request runs.
const AHEAD: usize = 16 << 10;

thread_local! {
    /// Where a socket is read to when nobody waits with a buffer: one for all connections of a worker.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; AHEAD]);
}

impl Conn {
    /// Reads once into the inbox; 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(poll_socket(&mut self.io, cx, &mut buf))?;
            self.inbox.extend_from_slice(buf.filled());
            Poll::Ready(Ok(buf.filled().len()))
        })
    }

    /// The head at the start of the inbox was found good: pass it and its body on.
    pub(super) fn begin(&mut self, head: Head) {
        self.inbox.drain(..head.skip);
        self.head = head.len;
        self.body = match head.framing {
            Framing::None => Body::Done,
            Framing::Length(bytes) => Body::Length(bytes),
            Framing::Chunked => Body::Chunked(Chunked::default()),
        };
        self.pace = Pace::default();
        self.out.expect_answer(head.upgrade);
    }

    /// Everything passes as it is from here on.
    pub(super) fn open(&mut self) {
        self.body = Body::Open;
    }

    /// Moves up to `most` bytes from the inbox; whether any moved.
    fn take(&mut self, buf: &mut ReadBuf<'_>, most: usize) -> usize {
        let some = most.min(self.inbox.len()).min(buf.remaining());
        buf.put_slice(self.inbox.get(..some).unwrap_or_default());
        if some == self.inbox.len() {
            self.inbox = Vec::new();
        } else {
            self.inbox.drain(..some);
        }
        some
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.inbox.is_empty() {
            self.take(buf, usize::MAX);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(poll_socket(&mut self.io, cx, buf))?;
        self.eof |= buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }

    /// Up to `left` bytes of a body with a length.
    fn poll_length(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, left: u64) -> Poll<io::Result<()>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let before = buf.filled().len();
        if !self.inbox.is_empty() {
            self.take(buf, most);
        } else if buf.remaining() <= most {
            ready!(self.poll_body(cx, buf))?;
        } else {
            let mut own = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(poll_socket(&mut self.io, cx, &mut own))?;
            let some = own.filled().len();
            self.eof |= some == 0;
            buf.advance(some);
        }
        let left = left - (buf.filled().len() - before) as u64;
        self.body = if left == 0 { Body::Done } else { Body::Length(left) };
        Poll::Ready(Ok(()))
    }

    /// More of a chunked body: what came is filtered where it lies.
    fn poll_chunked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            ready!(self.poll_body(cx, buf))?;
            let came = buf.filled_mut().get_mut(before..).unwrap_or_default();
            let Body::Chunked(mut chunked) = self.body else { return Poll::Ready(Ok(())) };
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = chunked.pass(came);
            self.body = passed.map_or_else(Body::Broken, |_| Body::Chunked(chunked));
            let (kept, read) = passed.map_err(Broken)?;
            if chunked.is_end() {
                let mut rest = came.get(read..).unwrap_or_default().to_vec();
                rest.append(&mut self.inbox);
                self.inbox = rest;
                self.body = Body::Done;
            }
            buf.set_filled(before + kept);
            if kept > 0 || matches!(self.body, Body::Done) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The request is whole: watch for the client leaving, and keep what it sends for the next request.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.inbox.len() < AHEAD && !self.eof {
            self.eof = ready!(self.poll_fill(cx))? == 0;
        }
        // Requests that wait will be served, though their client has nothing more to say.
        if self.inbox.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Waits for more of the body no longer than the client's pace allows.
    fn check_pace(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let rate = self.connection().listener.limits.body_rate.bytes_per_second();
        let limit = self.pace.limit(rate, Instant::now);
        ready!(self.reading.poll(cx, limit));
        self.body = Body::Broken(Fault::RequestTimeout);
        Poll::Ready(Err(Broken(Fault::RequestTimeout).into()))
    }

    fn poll_paced(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match self.body {
            Body::Length(left) => self.poll_length(cx, buf, left),
            _ => self.poll_chunked(cx, buf),
        };
        match polled {
            Poll::Pending => self.check_pace(cx),
            done @ Poll::Ready(_) => {
                self.pace.got(buf.filled().len() - before);
                done
            }
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.head > 0 {
            let passed = this.take(buf, this.head);
            this.head -= passed;
            // The start of the body goes with the head if it is here already.
            let more = this.head == 0 && !this.inbox.is_empty() && buf.remaining() > 0;
            if !more || !matches!(this.body, Body::Length(_)) {
                return Poll::Ready(Ok(()));
            }
        }
        let polled = this.poll_request(cx, buf);
        if polled.is_pending() && this.frames.is_none() {
            this.send_what_rests(cx);
        }
        polled
    }
}

impl Conn {
    fn poll_request(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self;
        match this.body {
            Body::Done if this.out.switched() => {
                this.open();
                this.poll_body(cx, buf)
            }
            Body::Done => this.poll_watch(cx),
            Body::Open if this.is_flooded() => {
                // What else there is will not be read; the loop above is woken to say so.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Body::Open => {
                let before = buf.filled().len();
                ready!(this.poll_body(cx, buf))?;
                if let Some(frames) = &this.frames {
                    frames
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .count(buf.filled().get(before..).unwrap_or_default());
                }
                Poll::Ready(Ok(()))
            }
            Body::Length(_) | Body::Chunked(_) => this.poll_paced(cx, buf),
            Body::Broken(fault) => Poll::Ready(Err(Broken(fault).into())),
        }
    }
}

/// Reads once; a TLS connection that is cut without a goodbye has ended all the same.
fn poll_socket(io: &mut super::Io, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    match ready!(Pin::new(io).poll_read(cx, buf)) {
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
        other => Poll::Ready(other),
    }
}
