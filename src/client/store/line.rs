//! One connection to a store: opened by us, driven by whoever keeps it, used by all at once.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::tls::Tls;
use crate::units::Address;

/// Commands that wait to be written.
const WAITING: usize = 1024;

/// What makes a connection work for as long as it is polled; it ends with the connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(in crate::client) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects and says who we are. The error is one sentence.
pub(super) async fn open(
    address: &Address,
    tls: Option<&Tls>,
    who: &RedisConnectionInfo,
) -> Result<(Arc<MultiplexedConnection>, Driver), String> {
    let wrong = |why: std::io::Error| format!("cannot connect to {address}: {why}");
    let mut stream = reach(address).await.map_err(wrong)?;
    if let Some(tls) = tls {
        let name = tls.name(address).ok_or_else(|| format!("{address} has no name that a certificate could carry"))?;
        stream = Box::new(tls.connector().connect(name, stream).await.map_err(wrong)?);
    }
    let settings = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(WAITING);
    let opened = MultiplexedConnection::new_with_config(who, stream, settings).await;
    let (line, driver) = opened.map_err(|why| format!("{address} does not let us in: {why}"))?;
    Ok((Arc::new(line), Box::pin(driver)))
}

pub(in crate::client) async fn reach(address: &Address) -> std::io::Result<Box<dyn Stream>> {
    match address {
        Address::Ip(ip) => tcp(*ip).await,
        Address::Host { name, port } => {
            let mut last = std::io::Error::other("the name has no address");
            for ip in tokio::net::lookup_host((&**name, *port)).await? {
                match tcp(ip).await {
                    Ok(stream) => return Ok(stream),
                    Err(why) => last = why,
                }
            }
            Err(last)
        }
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

async fn tcp(ip: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(ip).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
