//! A connection in Pingora's hands: it comes back when Pingora lets it go in good order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::errand::Errand;
use super::line::Line;
use crate::broken::Broken;
use crate::fault::Fault;

#[derive(Debug)]
pub(super) struct Lease {
    line: Option<Line>,
    errand: Option<Arc<Errand>>,
    /// Pingora has read the answer to its end and is done with the connection.
    done: bool,
}

impl Lease {
    pub(super) fn new(mut line: Line, errand: Option<Arc<Errand>>) -> Self {
        line.begin();
        Self { line: Some(line), errand, done: false }
    }

    fn parts(&mut self) -> io::Result<(&mut Line, &Errand)> {
        match (&mut self.line, &self.errand) {
            (Some(line), Some(errand)) => Ok((line, errand)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// What Pingora does with a connection whose answer is whole and that may be kept: it reads one byte, to see whether the
/// target has closed it (0.9.1, `test_reusable_stream`). Nothing else reads that little.
fn is_farewell(errand: &Errand, buf: &ReadBuf<'_>) -> bool {
    buf.capacity() == 1 && errand.is_answered()
}

/// Tells what a silence was, where it was one.
fn named<T>(polled: Poll<io::Result<T>>, fault: Fault) -> Poll<io::Result<T>> {
    polled.map_err(|why| match why.kind() {
        io::ErrorKind::TimedOut if why.raw_os_error().is_none() => Broken(fault).into(),
        _ => why,
    })
}

impl AsyncRead for Lease {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (line, errand) = self.parts()?;
        if is_farewell(errand, buf) {
            self.done = line.is_quiet();
            // Closed, as far as Pingora is concerned: it lets go.
            return Poll::Ready(Ok(()));
        }
        // Not every write is followed by a flush, but every one by a look at what the target says.
        if let Poll::Ready(Err(why)) = line.poll_flush(cx, |since| errand.stuck_until(since)) {
            return named(Poll::Ready(Err(why)), Fault::UpstreamTimeoutIdle);
        }
        named(line.poll_read(cx, buf, |since| errand.silent_until(since)), errand.silence())
    }
}

impl AsyncWrite for Lease {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (line, errand) = self.parts()?;
        named(line.poll_write(cx, bytes, |since| errand.stuck_until(since)), Fault::UpstreamTimeoutIdle)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (line, errand) = self.parts()?;
        named(line.poll_flush(cx, |since| errand.stuck_until(since)), Fault::UpstreamTimeoutIdle)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.parts()?.0.poll_shutdown(cx)
    }
}

impl VirtualSocket for Lease {
    /// They were set when the connection was opened.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.done
            && let (Some(line), Some(errand)) = (self.line.take(), &self.errand)
        {
            errand.give_back(line);
        }
    }
}
