//! A real Redis on a port of its own: started, stopped, frozen and started again, gone when dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::eventually;
use super::tools::signal;

/// A Redis that keeps nothing.
pub struct Redis {
    dir: TempDir,
    port: u16,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[])
    }
    /// With more settings, each as on its command line.
    pub fn with(settings: &[&str]) -> Self {
        let mut redis = Self::absent(settings);
        redis.again();
        redis
    }
    /// One that will have this port when it starts.
    pub fn absent(settings: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(ToString::to_string).collect();
        Self { dir: TempDir::new().unwrap(), port, settings, child: None }
    }
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
    /// A directory of its own.
    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }
    /// Starts it, empty.
    pub fn again(&mut self) {
        eventually("a Redis", || {
            let mut command = Command::new("redis-server");
            command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.arg("--dir").arg(self.dir.path()).args(&self.settings);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.unwrap_or_else(|e| panic!("redis-server: {e}; `tests/run` installs what tests need"));
            eventually("it answers or ends", || {
                let ended = child.try_wait().unwrap().is_some();
                (ended || TcpStream::connect(self.address()).is_ok()).then_some(())
            });
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            self.child = Some(child);
            Some(())
        });
    }
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
    pub fn freeze(&self) {
        signal(self.child.as_ref().unwrap().id(), "STOP");
    }
    pub fn thaw(&self) {
        signal(self.child.as_ref().unwrap().id(), "CONT");
    }
    /// What it answers to a command, line by line as the protocol has it.
    pub fn ask(&self, command: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut lines: Vec<String> = BufReader::new(stream).lines().map_while(Result::ok).collect();
        lines.pop();
        lines
    }
    /// The names of all keys.
    pub fn keys(&self) -> Vec<String> {
        self.ask("KEYS *").into_iter().filter(|line| line.starts_with("yumen")).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
