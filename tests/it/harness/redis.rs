//! A real Redis on a port of its own: started, stopped, frozen and started again, gone when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::eventually;
use super::tools::signal;
use super::tools::{end, serving};

/// A Redis that keeps nothing.
pub struct Redis {
    dir: TempDir,
    port: u16,
    settings: Vec<String>,
    /// What it reads first.
    file: Option<std::path::PathBuf>,
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
    /// A sentinel that watches this one under the name `main`.
    pub fn sentinel(of: &Self) -> Self {
        let mut sentinel = Self::absent(&["--sentinel"]);
        let text = format!(
            "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            of.port
        );
        let file = sentinel.dir.path().join("sentinel.conf");
        std::fs::write(&file, text).unwrap();
        sentinel.file = Some(file);
        sentinel.again();
        sentinel
    }
    /// One that will have this port when it starts.
    pub fn absent(settings: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(ToString::to_string).collect();
        Self { dir: TempDir::new().unwrap(), port, settings, file: None, child: None }
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
            command.args(&self.file).args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
            command.arg("--dir").arg(self.dir.path()).args(&self.settings);
            self.child = serving(&mut command, || TcpStream::connect(self.address()).is_ok());
            self.child.is_some().then_some(())
        });
    }
    pub fn stop(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
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

impl Redis {
    /// A connection for many scripts.
    pub fn talk(&self) -> Talk {
        Talk(BufReader::new(TcpStream::connect(self.address()).unwrap()))
    }
}

/// A connection of our own.
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
    /// Runs a script on one key; it answers with three numbers.
    pub fn script(&mut self, text: &str, key: &str, algorithm: &str, arguments: &[String]) -> Vec<u64> {
        let mut words = vec!["EVAL", text, "1", key, algorithm];
        words.extend(arguments.iter().map(String::as_str));
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(command.as_bytes()).unwrap();
        let first = self.line();
        assert_eq!(first, "*3");
        (0..3).map(|_| self.line().trim_start_matches(':').parse().unwrap()).collect()
    }
}

/// Stands before a Redis and takes its time with answers.
pub struct Slow {
    pub address: String,
    delay: Arc<Mutex<Duration>>,
}

impl Slow {
    pub fn before(redis: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, redis) = (listener.local_addr().unwrap().to_string(), redis.to_owned());
        let delay: Arc<Mutex<Duration>> = Arc::default();
        let wait = Arc::clone(&delay);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&redis) else { continue };
                let (ours, theirs) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || relay(ours, server, &Mutex::default()));
                let wait = Arc::clone(&wait);
                thread::spawn(move || relay(theirs, client, &wait));
            }
        });
        Self { address, delay }
    }
    pub fn delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, delay: &Mutex<Duration>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        thread::park_timeout(*delay.lock().unwrap());
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
