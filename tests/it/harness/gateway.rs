//! The real program: started on free ports with a document of its own, ready when `start` returns, gone when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::tools::{self, Ended};
use super::wire::{self, Connection, Request, Response};
use super::{Origin, PATIENCE, eventually};

/// A directory with a document and the files that it names; `$DIR` in texts stands for its path.
pub struct Setup {
    dir: TempDir,
}

impl Setup {
    pub fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }
    pub fn file(self, name: &str, text: impl AsRef<str>) -> Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.filled(text.as_ref())).unwrap();
        self
    }
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
    fn filled(&self, text: &str) -> String {
        text.replace("$DIR", self.dir.path().to_str().unwrap())
    }
    fn document(&self) -> PathBuf {
        self.dir.path().join("yumen.yaml")
    }
    fn write(&self, text: &str) {
        let new = self.dir.path().join("yumen.yaml.new");
        fs::write(&new, self.filled(&completed(text))).unwrap();
        fs::rename(new, self.document()).unwrap();
    }
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yumen"));
        command.arg(verb).arg("--config").arg(self.document()).current_dir(self.dir.path());
        command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        command
    }
    /// `yumen VERB --config DOCUMENT ARGUMENTS`, to its end.
    pub fn run(self, text: &str, verb: &str, arguments: &[&str]) -> Ended {
        self.write(text);
        tools::finish(self.command(verb).args(arguments))
    }
    /// The program, serving.
    pub fn start(self, text: impl AsRef<str>) -> Gateway {
        self.start_by(text, |mut command| {
            command.stdin(Stdio::null());
            command
        })
    }
    /// The program, started in another way or with other things around it.
    pub fn start_by(self, text: impl AsRef<str>, way: impl FnOnce(Command) -> Command) -> Gateway {
        self.write(text.as_ref());
        let mut command = way(self.command("run"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let out = Lines::of(child.stdout.take().unwrap());
        let mut gateway = Gateway {
            setup: self,
            child,
            log,
            out,
            listeners: BTreeMap::new(),
            admin: String::new(),
            successors: Vec::new(),
        };
        let ready = gateway.log.wait("listening on admin ");
        ready.rsplit(' ').next().unwrap().clone_into(&mut gateway.admin);
        gateway.learn_listeners();
        gateway
    }
}

/// What a document of a test leaves out.
fn completed(text: &str) -> String {
    let said = |key: &str| text.lines().any(|line| line.starts_with(key));
    let mut whole = String::new();
    for (key, rest) in [
        ("version:", " 1"),
        ("admin:", " { bind: 127.0.0.1:0 }"),
        ("listeners:", " { edge: { bind: 127.0.0.1:0 } }"),
        ("observe:", " { access_log: { to: \"file:$DIR/access.log\" } }"),
    ] {
        if !said(key) {
            whole += &format!("{key}{rest}\n");
        }
    }
    whole + text
}

/// A running gateway.
pub struct Gateway {
    pub setup: Setup,
    child: Child,
    pub log: Lines,
    pub out: Lines,
    listeners: BTreeMap<String, Vec<String>>,
    admin: String,
    /// Processes that have taken over, the one that serves last.
    successors: Vec<u32>,
}

impl Gateway {
    pub fn start(text: impl AsRef<str>) -> Self {
        Setup::new().start(text)
    }
    /// With one pool `app` that is this origin, and these routes.
    pub fn before(origin: &Origin, routes: &str) -> Self {
        Self::start(Self::document(origin, routes))
    }
    pub fn document(origin: &Origin, routes: &str) -> String {
        let routes: String = routes.lines().map(|line| format!("  {line}\n")).collect();
        format!("pools: {{ app: [\"{origin}\"] }}\nroutes:\n{routes}")
    }
    /// Passes everything to this origin.
    pub fn passing(origin: &Origin) -> Self {
        Self::before(origin, "all: { match: /*, to: app }")
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.successors.last().copied().unwrap_or(self.child.id())
    }
    /// Waits until another process than `before` serves, and knows it from then on.
    pub fn succeeded(&mut self, before: u32) -> u32 {
        let pid = eventually("a successor", || {
            let pid = self.status()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
            (pid != before).then_some(pid)
        });
        self.successors.push(pid);
        pid
    }
    /// `yumen upgrade`, which must succeed.
    pub fn upgrade(&mut self) -> u32 {
        let before = self.pid();
        let ended = self.yumen("upgrade", &[]);
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        self.succeeded(before)
    }
    /// The first address of a listener.
    pub fn listener(&self, name: &str) -> String {
        self.addresses(name)[0].clone()
    }
    pub fn addresses(&self, name: &str) -> &[String] {
        self.listeners.get(name).unwrap_or_else(|| panic!("no listener {name} in {:?}", self.listeners))
    }
    /// The address of the only listener, `edge`.
    pub fn edge(&self) -> String {
        self.listener("edge")
    }
    pub fn admin_address(&self) -> &str {
        &self.admin
    }
    pub fn learn_listeners(&mut self) {
        let listeners = self.status()["listeners"].clone();
        self.listeners = serde_json::from_value(listeners).expect("listeners: { name: [address] } in /status");
    }

    pub fn connect(&self) -> Connection {
        Connection::to(&self.edge())
    }
    pub fn ask(&self, request: Request) -> Response {
        self.connect().ask(&request)
    }
    pub fn get(&self, target: &str) -> Response {
        self.ask(Request::get(target))
    }
    /// GET of `host/path`.
    pub fn get_at(&self, url: &str) -> Response {
        let slash = url.find('/').unwrap();
        self.ask(Request::get(&url[slash..]).host(&url[..slash]))
    }
    /// These bytes on a connection of their own: the answers until the gateway ends it, and whether it did so within 8 s.
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> (Vec<Response>, bool) {
        let (said, ended) = self.connect().send(bytes).rest(Duration::from_secs(8));
        (wire::answers(&said), ended)
    }

    pub fn admin(&self, target: &str) -> Response {
        self.admin_ask(Request::get(target))
    }
    pub fn admin_ask(&self, request: Request) -> Response {
        let host = if self.admin.starts_with("unix:") { "localhost" } else { &self.admin };
        let named = request.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let request = if named { request } else { request.host(host) };
        Connection::to(&self.admin).ask(&request)
    }
    pub fn status(&self) -> Value {
        self.admin("/status").json()
    }
    pub fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().expect("generation in /status")
    }
    pub fn metrics(&self) -> Metrics {
        Metrics(self.admin("/metrics").text())
    }

    /// Replaces the document as a careful editor does: a new file renamed over the old one.
    pub fn write(&self, text: impl AsRef<str>) {
        self.setup.write(text.as_ref());
    }
    /// Writes a new document and waits until it serves.
    pub fn reload(&mut self, text: impl AsRef<str>) {
        let before = self.generation();
        self.write(text);
        eventually("a new generation", || (self.generation() > before).then_some(()));
        self.learn_listeners();
        let pid = u32::try_from(self.status()["pid"].as_u64().unwrap()).unwrap();
        if pid != self.pid() {
            self.successors.push(pid);
        }
    }
    pub fn yumen(&self, verb: &str, arguments: &[&str]) -> Ended {
        tools::finish(self.setup.command(verb).args(arguments))
    }
    pub fn signal(&self, name: &str) {
        tools::signal(self.pid(), name);
    }
    /// The exit code, once the process has ended.
    pub fn ended(&mut self) -> i32 {
        eventually("the end of the process", || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
    /// Resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.setup.path().join(name)).unwrap_or_default()
    }
    /// The access lines written so far.
    pub fn access(&self) -> Vec<Value> {
        let text = self.read("access.log");
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
    /// The access line that this is true of.
    pub fn access_line(&self, meant: impl Fn(&Value) -> bool) -> Value {
        eventually("an access line", || self.access().into_iter().rev().find(&meant))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for pid in &self.successors {
            let _ = tools::try_signal(*pid, "KILL");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the log of the gateway:\n{}", self.log.all().join("\n"));
        }
    }
}

/// Lines of text as they come.
#[derive(Clone)]
pub struct Lines(Arc<(Mutex<Heard>, Condvar)>);

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub fn of(from: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let mine = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                mine.change(|heard| heard.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            mine.change(|heard| heard.ended = true);
        });
        lines
    }
    fn change(&self, deed: impl FnOnce(&mut Heard)) {
        deed(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }
    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }
    /// The first line with this text in it, waited for.
    pub fn wait(&self, text: &str) -> String {
        self.wait_for(text, PATIENCE)
    }
    pub fn wait_for(&self, text: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = held.lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!held.ended && !left.is_zero(), "no line with `{text}` in:\n{}", held.lines.join("\n"));
            held = self.0.1.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An exposition of metrics.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum over all series of this name with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let lines = self.0.lines().filter(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
            rest.is_some_and(|rest| labels.iter().all(|(key, value)| rest.contains(&format!("{key}=\"{value}\""))))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
    pub fn series(&self) -> usize {
        self.0.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count()
    }
}
