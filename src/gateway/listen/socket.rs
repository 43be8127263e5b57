//! Binding: TCP over IPv4 and IPv6, unix sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::inherited::{Taken, is_socket};
use crate::units::Address;

/// Connections that may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 65_535;

/// A listening socket; the last one out removes a unix socket's file.
#[derive(Debug)]
pub(super) struct Bound {
    socket: Socket,
    address: Address,
    file: Option<File>,
    /// Whether a gateway bound it.
    ours: bool,
}

/// Another descriptor of the same socket, for one worker.
#[derive(Debug)]
pub(super) enum Copy {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    pub(super) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Ip(ip) => {
                let socket = tcp(*ip)?;
                let bound = socket.local_addr()?.as_socket().unwrap_or(*ip);
                Ok(Self { socket, address: Address::Ip(bound), file: None, ours: true })
            }
            Address::Unix(path) => {
                let (socket, file) = unix(path)?;
                Ok(Self { socket, address: address.clone(), file: Some(file), ours: true })
            }
            Address::Host { .. } => Err(io::Error::new(io::ErrorKind::InvalidInput, "a host name is not an address")),
        }
    }

    /// A socket that listens already, where this address asks.
    pub(super) fn taken(Taken { socket, ours }: Taken, asked: &Address) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (address, file) = match asked {
            Address::Unix(path) => (asked.clone(), Some(File::of(path)?)),
            Address::Ip(_) | Address::Host { .. } => {
                socket.set_tcp_nodelay(true)?;
                (socket.local_addr()?.as_socket().map_or_else(|| asked.clone(), Address::Ip), None)
            }
        };
        socket.listen(BACKLOG)?;
        let bound = Self { socket, address, file, ours };
        bound.lives_on(false);
        Ok(bound)
    }

    /// Whether a gateway bound it: this process or one before it.
    pub(super) fn is_ours(&self) -> bool {
        self.ours
    }

    /// Whether the socket lives on elsewhere when we close it, so that the file of a unix socket has to stay.
    pub(super) fn lives_on(&self, elsewhere: bool) {
        if let Some(file) = &self.file {
            file.stays.store(elsewhere || !self.ours, Ordering::Relaxed);
        }
    }

    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn copy(&self) -> io::Result<Copy> {
        let socket = self.socket.try_clone()?;
        Ok(if self.file.is_some() { Copy::Unix(socket.into()) } else { Copy::Tcp(socket.into()) })
    }
}

fn tcp(ip: SocketAddr) -> io::Result<Socket> {
    let bind = |ip: SocketAddr| {
        let socket = Socket::new(Domain::for_address(ip), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if ip.is_ipv6() {
            // `[::]` means all addresses, whatever this machine's default is.
            socket.set_only_v6(false)?;
        }
        // Accepted sockets inherit it: one system call less for each.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&ip.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    match bind(ip) {
        // All addresses of a machine without IPv6.
        Err(why) if is_without_v6(&why) && ip.ip().is_unspecified() => bind((Ipv4Addr::UNSPECIFIED, ip.port()).into()),
        other => other,
    }
}

fn is_without_v6(why: &io::Error) -> bool {
    // EAFNOSUPPORT and EADDRNOTAVAIL on Linux.
    matches!(why.raw_os_error(), Some(97 | 99))
}

fn unix(path: &Path) -> io::Result<(Socket, File)> {
    if is_socket(path) {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody is listening there")),
            // Left behind by a process that is gone.
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(why) => return Err(why),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = File::of(path)?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// The file of a unix socket, removed when we stop, if it is still ours.
#[derive(Debug)]
struct File {
    path: PathBuf,
    id: (u64, u64),
    /// Whether somebody else still listens there when we go.
    stays: AtomicBool,
}

impl File {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id(path)?, stays: AtomicBool::new(false) })
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Drop for File {
    fn drop(&mut self) {
        let stays = self.stays.load(Ordering::Relaxed);
        if !stays && id(&self.path).is_ok_and(|now| now == self.id) {
            // If it cannot be removed, the next start finds that nobody listens there.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
