//! Binding: TCP over IPv4 and IPv6, unix sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::units::Address;

/// Connections that may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 65_535;

/// A listening socket; the last one out removes a unix socket's file.
#[derive(Debug)]
pub(super) struct Bound {
    socket: Socket,
    address: Address,
    file: Option<File>,
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
                Ok(Self { socket, address: Address::Ip(bound), file: None })
            }
            Address::Unix(path) => {
                let (socket, file) = unix(path)?;
                Ok(Self { socket, address: address.clone(), file: Some(file) })
            }
            Address::Host { .. } => Err(io::Error::new(io::ErrorKind::InvalidInput, "a host name is not an address")),
        }
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
    let is_socket = |path: &Path| {
        use std::os::unix::fs::FileTypeExt;
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
    };
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
}

impl File {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id(path)? })
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Drop for File {
    fn drop(&mut self) {
        if id(&self.path).is_ok_and(|now| now == self.id) {
            // If it cannot be removed, the next start finds that nobody listens there.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
