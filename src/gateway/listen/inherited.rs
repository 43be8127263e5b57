//! Sockets that listen already when we start: from systemd's store, from a socket unit, from the process before us.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use socket2::{Socket, Type};

use super::Key;
use crate::units::Address;

/// The name of a socket that neither we nor a gateway before us bound.
pub(super) const FOREIGN: &str = "foreign";

/// What somebody else bound for us, until a listener asks for it.
#[derive(Debug, Default)]
pub struct Inheritance(Mutex<Vec<Heirloom>>);

#[derive(Debug)]
struct Heirloom {
    name: String,
    socket: Socket,
    address: Address,
}

/// A socket that found its listener.
pub(super) struct Taken {
    pub(super) socket: Socket,
    /// Whether a gateway bound it: it is a gateway's to keep, and to remove the file of a unix socket.
    pub(super) ours: bool,
}

impl Inheritance {
    /// Descriptors with their names; what is no stream socket with an address is closed, with a line in the log.
    pub fn of(named: Vec<(String, OwnedFd)>) -> Self {
        let known = named.into_iter().filter_map(|(name, descriptor)| {
            let socket = Socket::from(descriptor);
            match address(&socket) {
                Ok(address) => Some(Heirloom { name, socket, address }),
                Err(why) => {
                    log::warn!("the inherited descriptor {name} is of no use: {why}");
                    None
                }
            }
        });
        Self(Mutex::new(known.collect()))
    }

    /// The socket that listens where this key asks, if there is one.
    pub(super) fn take(&self, key: &Key) -> Option<Taken> {
        let label = label(key);
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = left.iter().position(|one| one.name == label && one.is_there());
        let any_port = key.1.is_some();
        let there = || left.iter().position(|one| !any_port && one.address == key.0 && one.is_there());
        let found = named.or_else(there)?;
        let Heirloom { name, socket, .. } = left.remove(found);
        Some(Taken { socket, ours: name == label })
    }

    /// The names of what nobody asked for, which is closed.
    pub fn rest(&self) -> Vec<String> {
        let left = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        left.into_iter().map(|one| one.name).collect()
    }
}

impl Heirloom {
    /// Whether clients can reach it: a unix socket whose file is gone listens to nobody.
    fn is_there(&self) -> bool {
        self.address.socket_file().is_none_or(is_socket)
    }
}

pub(super) fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn address(socket: &Socket) -> io::Result<Address> {
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a stream socket"));
    }
    let local = socket.local_addr()?;
    let unix = || local.as_pathname().map(|path| Address::Unix(path.to_owned()));
    let found = local.as_socket().map(Address::Ip).or_else(unix);
    found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no address"))
}

/// The name under which a socket is kept and handed on: its address as the document says it, and where that is any port,
/// the listener before it. systemd takes visible ASCII without colons.
pub(super) fn label((address, listener): &Key) -> String {
    let mut label = listener.as_ref().map(|name| format!("{name}@")).unwrap_or_default();
    for byte in address.to_string().bytes() {
        match byte {
            b':' => label.push(','),
            b',' | b'%' | b'@' => drop(write!(label, "%{byte:02x}")),
            seen if seen.is_ascii_graphic() => label.push(seen.into()),
            other => drop(write!(label, "%{other:02x}")),
        }
    }
    // A path of 107 bytes may be longer than the 255 that a name has; the address finds such a socket too.
    label.truncate(255);
    label
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn key(address: &str) -> Key {
        (address.parse().unwrap(), None)
    }

    fn any_port(listener: &str) -> Key {
        ("127.0.0.1:0".parse().unwrap(), Some(listener.parse().unwrap()))
    }

    #[test]
    fn a_socket_is_found_by_its_address_whatever_its_name_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b.sock");
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        let bound = key(&tcp.local_addr().unwrap().to_string());
        let unix = UnixListener::bind(&path).unwrap();
        let left = Inheritance::of(vec![
            ("yumen.socket".to_owned(), tcp.into()),
            ("yumen.socket".to_owned(), unix.into()),
            ("odd".to_owned(), UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ]);
        assert!(left.take(&key("[::1]:1")).is_none());
        let taken = left.take(&bound).unwrap();
        assert_eq!(taken.socket.local_addr().unwrap().as_socket().unwrap().to_string(), bound.0.to_string());
        assert!(!taken.ours && left.take(&bound).is_none());
        assert!(left.take(&(Address::Unix(path), None)).is_some());
        assert!(left.rest().is_empty());
    }

    #[test]
    fn any_port_is_found_by_its_listener() {
        let sockets = ["a", "b"].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [at_a, at_b] = [&sockets[0], &sockets[1]].map(|socket| socket.local_addr().unwrap());
        let names = ["a", "b"].map(|name| label(&any_port(name)));
        let left = Inheritance::of(names.into_iter().zip(sockets.map(OwnedFd::from)).collect());
        assert!(left.take(&any_port("c")).is_none());
        let b = left.take(&any_port("b")).unwrap();
        assert!(b.ours);
        assert_eq!(b.socket.local_addr().unwrap().as_socket(), Some(at_b));
        assert_ne!(at_a, at_b);
        assert_eq!(left.rest(), ["a@127.0.0.1,0"], "what nobody asks for is told and closed");
        assert!(TcpListener::bind(at_a).is_ok(), "it is closed");
    }

    #[test]
    fn a_unix_socket_without_its_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone.sock");
        let unix = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let left = Inheritance::of(vec![("gone".to_owned(), unix.into())]);
        assert!(left.take(&(Address::Unix(path), None)).is_none());
        assert_eq!(left.rest(), ["gone"]);
    }

    #[test]
    fn labels_are_what_systemd_takes_and_differ_where_keys_do() {
        let labels = ["[::1]:80", "unix:/run/a,b c.sock", "unix:/run/a:b c.sock"].map(|text| label(&key(text)));
        assert_eq!(labels, ["[,,1],80", "unix,/run/a%2cb%20c.sock", "unix,/run/a,b%20c.sock"]);
    }
}
