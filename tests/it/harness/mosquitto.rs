//! A real mosquitto on a port of its own: started, killed, and started again with what it had kept.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;
use super::gateway::Lines;
use super::tls::{Authority, Pair};
use super::tools::{self, end, serving, signal};

/// A broker that keeps sessions and their messages through its restarts.
pub struct Mosquitto {
    pub dir: TempDir,
    port: u16,
    child: Option<Child>,
    /// Further arguments of its clients.
    client: Vec<String>,
}

impl Mosquitto {
    pub fn start() -> Self {
        Self::with("allow_anonymous true\n")
    }
    /// Lets only `plant` in, with this password.
    pub fn guarded(password: &str) -> Self {
        let mut broker = Self::absent();
        let file = broker.file("users", "");
        let made = tools::run("mosquitto_passwd", &["-b", &file, "plant", password]);
        assert_eq!(made.code, 0, "{made:?}");
        broker.client = ["-u", "plant", "-P", password].map(str::to_owned).into();
        broker.configure(&format!("allow_anonymous false\npassword_file {file}\n"));
        broker.again();
        broker
    }
    /// Speaks TLS only, with a certificate for 127.0.0.1.
    pub fn secured(authority: &Authority, pair: &Pair) -> Self {
        let mut broker = Self::absent();
        let ca = broker.file("ca.pem", &authority.pem);
        let (cert, key) = (broker.file("broker.pem", &pair.cert), broker.file("broker.key", &pair.key));
        broker.client = ["--cafile", &ca].map(str::to_owned).into();
        broker.configure(&format!("allow_anonymous true\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n"));
        broker.again();
        broker
    }
    /// With these settings.
    pub fn with(settings: &str) -> Self {
        let mut broker = Self::absent();
        broker.configure(settings);
        broker.again();
        broker
    }
    /// One that will have this port when it starts.
    pub fn absent() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let broker = Self { dir: TempDir::new().unwrap(), port, child: None, client: Vec::new() };
        broker.configure("allow_anonymous true\n");
        broker
    }
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
    fn configure(&self, settings: &str) {
        let dir = self.dir.path().display();
        // As root it would become another user, who may not read what is ours.
        let user = if tools::run("id", &["-u"]).out.trim() == "0" { "user root\n" } else { "" };
        let whole = format!(
            "listener {} 127.0.0.1\n{user}persistence true\npersistence_location {dir}/\nautosave_interval 1\nautosave_on_changes true\nlog_dest file {dir}/log\nmax_queued_messages 100000\n{settings}",
            self.port
        );
        self.file("mosquitto.conf", &whole);
    }
    /// What it writes of itself, from now on.
    pub fn log(&self) -> Log {
        Log(self.dir.path().join("log"))
    }
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
    /// Starts it, with what it had kept.
    pub fn again(&mut self) {
        eventually("a mosquitto", || {
            let mut command = Command::new("/usr/sbin/mosquitto");
            command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
            self.child = serving(&mut command, || TcpStream::connect(self.address()).is_ok());
            self.child.is_some().then_some(())
        });
    }
    /// Ends it without a word; what it has acknowledged it has kept.
    pub fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
        }
    }
    /// Ends it as an operator does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            eventually("the end of mosquitto", || child.try_wait().unwrap());
        }
    }
    pub fn freeze(&self) {
        signal(self.child.as_ref().unwrap().id(), "STOP");
    }
    pub fn thaw(&self) {
        signal(self.child.as_ref().unwrap().id(), "CONT");
    }
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-h", "127.0.0.1", "-p", &self.port.to_string()].map(str::to_owned).into();
        arguments.extend(self.client.iter().cloned());
        arguments
    }
    /// Publishes one message.
    pub fn publish(&self, topic: &str, qos: u8, message: &str, more: &[&str]) {
        let mut command = Command::new("mosquitto_pub");
        command.args(self.arguments()).args(["-t", topic, "-q", &qos.to_string(), "-m", message]).args(more);
        let ended = tools::finish(&mut command);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    /// Publishes each line as a message.
    pub fn publish_lines(&self, topic: &str, qos: u8, lines: &[String]) {
        let file = self.file("lines", &(lines.join("\n") + "\n"));
        let mut command = Command::new("mosquitto_pub");
        command.args(self.arguments()).args(["-t", topic, "-q", &qos.to_string(), "-l"]);
        let child = command.stdin(std::fs::File::open(file).unwrap()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let status = eventually("the end of mosquitto_pub", || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
    /// What comes in a topic from now on: `topic qos retained message` a line.
    pub fn listen(&self, topic: &str, qos: u8) -> Heard {
        // It says each line at once only to a terminal.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub"]).args(self.arguments()).args([
            "-t",
            topic,
            "-q",
            &qos.to_string(),
            "-F",
            "%t %q %r %p",
            "-d",
        ]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let heard = Heard { child: Some(child), lines };
        heard.lines.wait("SUBACK");
        heard
    }
}

/// The log of a broker.
pub struct Log(std::path::PathBuf);

impl Log {
    pub fn wait(&self, text: &str) {
        eventually(text, || std::fs::read_to_string(&self.0).unwrap_or_default().contains(text).then_some(()));
    }
}

/// A client that listens.
pub struct Heard {
    child: Option<Child>,
    pub lines: Lines,
}

impl Drop for Heard {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
