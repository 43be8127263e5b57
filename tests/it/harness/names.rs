//! A real name server (dnsmasq) on a port of its own: its records change, it stops, it is gone when dropped.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::thread;

use super::eventually;
use super::tools::{end, serving};

/// A name server that knows what lies below `test`, each record for a second.
pub struct Names {
    port: u16,
    child: Option<Child>,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.0.0.1:{}", self.port)
    }
}

impl Names {
    /// With these records, as its command line has them without the dashes.
    pub fn with(records: &[String]) -> Self {
        let both = || {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            UdpSocket::bind(("127.0.0.1", port)).is_ok().then_some(port)
        };
        let mut names = Self { port: eventually("a port for TCP and UDP", both), child: None };
        names.now(records);
        names
    }
    /// `app.test` with these addresses.
    pub fn of_app(addresses: &[&str]) -> Self {
        Self::with(&Self::app(addresses))
    }
    pub fn app(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|address| format!("host-record=app.test,{address}")).collect()
    }
    /// Knows these records from now on and no others.
    pub fn now(&mut self, records: &[String]) {
        self.stop();
        eventually("a name server", || {
            let port = self.port.to_string();
            let mut command = Command::new("dnsmasq");
            command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
            command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="]);
            command.args([
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--local=/test/",
                "--local-ttl=1",
                "--port",
            ]);
            command.arg(&port).args(records.iter().map(|record| format!("--{record}")));
            self.child = serving(&mut command, || TcpStream::connect(self.to_string()).is_ok());
            self.child.is_some().then_some(())
        });
    }
    pub fn stop(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A name server that answers every question with one address for a second, or with a code of failure (RFC 1035 section
/// 4.1.1): a real one cannot be made to fail.
pub struct Answering {
    address: SocketAddr,
    code: Arc<AtomicU8>,
}

impl fmt::Display for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// What ends a server.
const ENOUGH: &[u8] = b"enough";

impl Answering {
    pub fn with(ip: Ipv4Addr) -> Self {
        let (socket, code) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Arc::new(AtomicU8::new(0)));
        let (address, mine) = (socket.local_addr().unwrap(), code.clone());
        thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                if &packet[..length] == ENOUGH {
                    return;
                }
                let _ = socket.send_to(&answer(&packet[..length], ip, mine.load(SeqCst)), from);
            }
        });
        Self { address, code }
    }
    /// 2: it fails, 5: it refuses, 0: it answers.
    pub fn fails(&self, code: u8) {
        self.code.store(code, SeqCst);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(ENOUGH, self.address));
    }
}

/// The question said back, and an address where one was asked for.
fn answer(question: &[u8], ip: Ipv4Addr, code: u8) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).unwrap() + 13;
    let (asked, is_address) = (&question[12..name + 4], question[name..name + 2] == [0, 1]);
    let answers = u8::from(is_address && code == 0);
    let mut out = [&question[..2], &[0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0], asked].concat();
    if answers > 0 {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        out.extend(ip.octets());
    }
    out
}
