//! What takes over a client's connection when a request has turned it into something else.

use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes of a client, both ways.
pub type Client = Box<dyn Duplex>;

/// What bytes go through both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Serves a connection after the request that asked for it, to its end.
pub trait Successor: Send {
    fn serve(self: Box<Self>, client: Client) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
