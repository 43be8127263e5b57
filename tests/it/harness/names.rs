//! A real name server (dnsmasq) on a port of its own: its records change, it stops, it is gone when dropped.

use std::fmt;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command};

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
