//! One client's connection: what lies between its socket and Pingora.
//!
//! Between requests it holds next to nothing. A request's head is checked here before Pingora sees it, and Pingora
//! is given exactly the bytes of that request: what follows waits for the next one.

mod chunked;
mod frames;
mod h1;
mod h2;
mod head;
mod io;
mod pace;
mod read;
mod write;

use std::fmt;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::deadline::Deadline;
use crate::fault::Fault;
use crate::listener::Connection;
use chunked::Chunked;
pub(super) use io::{Io, Raw, Socket};
use pace::Pace;

pub(super) use h1::serve as serve_h1;
pub(super) use h2::serve as serve_h2;
pub use head::check as check_head;

/// A connection as Pingora's stream.
pub(super) struct Conn {
    io: Io,
    facts: Facts,
    /// Read from the socket and not yet passed on.
    inbox: Vec<u8>,
    /// How much of `inbox` is the head of the running request.
    head: usize,
    body: Body,
    pace: Pace,
    /// The client has said its last byte.
    eof: bool,
    out: write::Outbox,
    reading: Deadline,
    /// Counts frames and looks for floods; on HTTP/2 only.
    frames: Option<Arc<Mutex<frames::Meter>>>,
}

/// What of the running request is still to come from the client.
#[derive(Debug)]
enum Body {
    Done,
    Length(u64),
    Chunked(Chunked),
    /// Bytes pass as they are: HTTP/2, or after a 101.
    Open,
    Broken(Fault),
}

/// What Pingora asks of a stream.
struct Facts {
    connection: Arc<Connection>,
    proxy: Arc<ProxyDigest>,
    socket: Arc<SocketDigest>,
}

impl Conn {
    pub(super) fn new(io: Io, connection: Arc<Connection>) -> Result<Box<Self>, Box<pingora_error::Error>> {
        let socket = SocketDigest::from_raw_fd(io.fd());
        let addresses = [(&socket.peer_addr, connection.peer), (&socket.local_addr, connection.local)];
        for (cell, address) in addresses {
            // Set here so that Pingora sees the address of the PROXY header and asks the kernel nothing.
            let _ = cell.set(Some(PingoraAddr::Inet(address)));
        }
        let user_data = Box::new(connection.clone());
        let proxy = ProxyDigest::new(Box::new(ResponseHeader::build(200, Some(0))?), Some(user_data));
        Ok(Box::new(Self {
            io,
            facts: Facts { connection, proxy: Arc::new(proxy), socket: Arc::new(socket) },
            inbox: Vec::new(),
            head: 0,
            body: Body::Done,
            pace: Pace::default(),
            eof: false,
            out: write::Outbox::default(),
            reading: Deadline::default(),
            frames: None,
        }))
    }

    fn connection(&self) -> &Arc<Connection> {
        &self.facts.connection
    }

    fn is_flooded(&self) -> bool {
        let flood = |meter: &Arc<Mutex<frames::Meter>>| meter.lock().unwrap_or_else(PoisonError::into_inner).is_flood();
        self.frames.as_ref().is_some_and(flood)
    }

    /// Whether the next request may follow on this connection.
    fn is_reusable(&self) -> bool {
        matches!(self.body, Body::Done) && self.head == 0 && self.out.is_empty() && !(self.eof && self.inbox.is_empty())
    }
}

/// What the client sent and nobody read makes the kernel reset the connection when it is closed, and a reset
/// destroys our last answer on its way: so the rest is read for a moment first.
impl Drop for Conn {
    fn drop(&mut self) {
        let unread = !matches!(self.body, Body::Done | Body::Open) || !self.inbox.is_empty();
        let telling = (unread && self.out.answered()) || self.is_flooded();
        if telling && !self.eof && tokio::runtime::Handle::try_current().is_ok() {
            tokio::spawn(linger(std::mem::replace(&mut self.io, Io::Gone)));
        }
    }
}

async fn linger(mut io: Io) {
    const AT_MOST: usize = 1 << 20;
    let drain = async {
        io.shutdown().await?;
        let (mut buffer, mut read) = (vec![0; 4096], 0);
        while read < AT_MOST {
            match io.read(&mut buffer).await? {
                0 => break,
                some => read += some,
            }
        }
        std::io::Result::Ok(())
    };
    // Whatever the outcome, the connection ends here.
    let _ = tokio::time::timeout(Duration::from_secs(2), drain).await;
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("peer", &self.facts.connection.peer)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        // The client may be gone already.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        let fd: RawFd = self.io.fd();
        fd
    }
}

impl Ssl for Conn {}

#[async_trait]
impl Peek for Conn {}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.facts.proxy.clone())
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.facts.socket.clone())
    }
}
