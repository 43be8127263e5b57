//! One open connection to a target, with the timers that stay with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::Place;
use crate::deadline::Deadline;

/// Less than this waits for what follows it, so that the size of a chunk does not travel alone.
const SMALL: usize = 64;
/// As much as is copied to go out in one piece.
const COPIED: usize = 16 << 10;
/// A buffer larger than this is not kept while the connection rests.
const KEPT: usize = 1 << 10;

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug)]
pub(super) struct Line {
    place: Place,
    socket: Socket,
    /// Written and not yet sent.
    out: Vec<u8>,
    /// When a byte last went either way, or the connection came to rest.
    moved: Instant,
    /// When it has rested long enough.
    rests_until: Instant,
    is_sure: bool,
    reading: Deadline,
    writing: Deadline,
}

impl Line {
    /// Opens a connection before `until`.
    pub(super) async fn open(
        address: &SocketAddr,
        until: Instant,
        alive: &TcpKeepalive,
    ) -> pingora_error::Result<Self> {
        let open = async {
            match address {
                SocketAddr::Inet(ip) => {
                    let tcp = ext::connect(ip, None).await?;
                    ext::set_tcp_keepalive(&tcp, alive)?;
                    // A socket that takes no option is told of by its first use.
                    let _ = tcp.set_nodelay(true);
                    Ok(Socket::Tcp(tcp))
                }
                SocketAddr::Unix(path) => match path.as_pathname() {
                    Some(path) => ext::connect_uds(path).await.map(Socket::Unix),
                    None => Error::e_explain(ErrorType::SocketError, "a unix socket without a path"),
                },
            }
        };
        let Ok(socket) = tokio::time::timeout_at(until, open).await else {
            return Error::e_explain(ErrorType::ConnectTimedout, "no connection in time");
        };
        let now = Instant::now();
        Ok(Self {
            place: Place(address.clone()),
            socket: socket?,
            out: Vec::new(),
            moved: now,
            rests_until: now,
            is_sure: false,
            reading: Deadline::default(),
            writing: Deadline::default(),
        })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn rests_since(&self) -> Instant {
        self.moved
    }

    /// Between two requests, for at most `keep`.
    pub(super) fn rest(&mut self, keep: Duration) {
        self.moved = Instant::now();
        self.rests_until = self.moved + keep;
        self.is_sure = false;
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
    }

    /// As long as its target is known to keep it.
    pub(super) fn rest_safely(&mut self, limit: Duration) {
        self.rests_until = self.rests_until.min(self.moved + limit);
        self.is_sure = true;
    }

    /// Whether its target is known to keep it as long as it rests.
    pub(super) fn is_sure(&self) -> bool {
        self.is_sure
    }

    /// The moment from which the time of the next request counts.
    pub(super) fn begin(&mut self) {
        self.moved = Instant::now();
    }

    /// Whether a resting connection can be used: not for too long, and nothing has come that nobody asked for, be it
    /// the end.
    pub(super) fn serves(&self, now: Instant) -> bool {
        now < self.rests_until && self.is_quiet()
    }

    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match &self.socket {
            Socket::Tcp(tcp) => tcp.try_read(&mut byte),
            Socket::Unix(unix) => unix.try_read(&mut byte),
        };
        self.out.is_empty() && matches!(read, Err(why) if why.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads; an error where nothing moved for `silence`, or `end` has come.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        until: impl FnOnce(Instant) -> Instant,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.socket {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        };
        match read {
            Poll::Pending => self.reading.poll(cx, until(self.moved)).map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready @ Poll::Ready(_) => {
                self.moved = Instant::now();
                ready
            }
        }
    }

    /// Takes bytes to be sent: small ones go with the next, or when they are flushed.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        until: impl Fn(Instant) -> Instant,
    ) -> Poll<io::Result<usize>> {
        let waits = bytes.len() < SMALL || !self.out.is_empty();
        if waits && self.out.len() + bytes.len() <= COPIED {
            self.out.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_flush(cx, &until))?;
        self.poll_send(cx, bytes, until)
    }

    /// Sends what waits.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        until: impl Fn(Instant) -> Instant,
    ) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let mut out = std::mem::take(&mut self.out);
            let sent = self.poll_send(cx, &out, &until);
            if let Poll::Ready(Ok(some)) = &sent {
                out.drain(..*some);
            }
            self.out = out;
            if let 0 = ready!(sent)? {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        until: impl FnOnce(Instant) -> Instant,
    ) -> Poll<io::Result<usize>> {
        let sent = match &mut self.socket {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Socket::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        };
        match sent {
            Poll::Pending => self.writing.poll(cx, until(self.moved)).map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready @ Poll::Ready(_) => {
                self.moved = Instant::now();
                ready
            }
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}
