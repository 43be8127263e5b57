//! As a service: what the manager is told, what it keeps for the process after us, and its watchdog.

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::harness::tools::run;
use crate::harness::{Connection, Gateway, Request, Setup, eventually};

const SAYS: &str = "routes: { all: { match: /*, respond: { body: one } } }\n";

/// A service manager that listens, and keeps what it is given.
struct Manager {
    socket: UnixDatagram,
    kept: RefCell<Vec<(String, OwnedFd)>>,
    dir: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { socket, kept: RefCell::default(), dir }
    }

    /// Starts the program as a service, with what belongs into its environment.
    fn start(&self, setup: Setup, text: &str, more: &[(&str, &str)]) -> Gateway {
        setup.start_by(text, |mut command| {
            command.stdin(Stdio::null()).env("NOTIFY_SOCKET", self.dir.path().join("notify"));
            command.envs(more.iter().copied());
            command
        })
    }

    /// Starts it with one socket under several names.
    fn start_with(&self, setup: Setup, text: &str, socket: OwnedFd, names: &[&str]) -> Gateway {
        let descriptors: String = (3..).take(names.len()).map(|number| format!("{number}<&0 ")).collect();
        let script = format!("exec {descriptors} 0</dev/null; LISTEN_PID=$$ exec \"$@\"");
        setup.start_by(text, |command| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
            shell.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
            shell.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
            shell.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").stdin(socket);
            shell
        })
    }

    /// The next message, if one comes soon.
    fn next(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let text = String::from_utf8_lossy(&bytes[..got.bytes]).into_owned();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                let name = text.split("FDNAME=").nth(1).unwrap().lines().next().unwrap();
                self.kept.borrow_mut().extend(descriptors.map(|descriptor| (name.to_owned(), descriptor)));
            }
        }
        Some(text)
    }

    /// The next message with this in it.
    fn hears(&self, text: &str) -> String {
        eventually(text, || self.next().filter(|message| message.contains(text)))
    }

    fn takes_out(&self, name: &str) -> OwnedFd {
        let mut kept = self.kept.borrow_mut();
        let at = kept.iter().position(|(kept, _)| kept == name).unwrap_or_else(|| panic!("no {name} in {kept:?}"));
        kept.remove(at).1
    }
}

#[test]
fn the_manager_hears_that_we_serve_how_reloads_end_and_that_we_leave() {
    let manager = Manager::new();
    let mut gateway = manager.start(Setup::new(), SAYS, &[]);
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=generation 1 serves, hash "), "{ready}");
    gateway.reload(SAYS.replace("one", "two"));
    manager.hears("STATUS=generation 2 serves, hash ");
    gateway.write(SAYS.replace("match", "mtach"));
    let refused = manager.hears("the last reload was refused: ");
    assert!(refused.starts_with("STATUS=generation 2 serves") && refused.contains("yumen.yaml:"), "{refused}");
    assert!(refused.contains("routes.all.mtach: unknown key"), "{refused}");
    gateway.write(SAYS.replace("one", "two"));
    eventually("no complaint any more", || manager.next().filter(|message| !message.contains("refused")));
    gateway.signal("TERM");
    manager.hears("STOPPING=1\nSTATUS=draining");
    manager.hears("EXTEND_TIMEOUT_USEC=");
    assert_eq!(gateway.ended(), 0);
}

#[test]
fn the_manager_keeps_our_sockets_as_long_as_they_are_wanted() {
    let manager = Manager::new();
    let two = format!("listeners: {{ edge: {{ bind: 127.0.0.1:0 }}, more: {{ bind: 127.0.0.1:0 }} }}\n{SAYS}");
    let mut gateway = manager.start(Setup::new(), &two, &[]);
    manager.hears("READY=1");
    let names = |manager: &Manager| manager.kept.borrow().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&manager), ["edge@127.0.0.1,0", "more@127.0.0.1,0", "admin@127.0.0.1,0"]);
    gateway.reload(SAYS);
    manager.hears("FDSTOREREMOVE=1\nFDNAME=more@127.0.0.1,0");
    gateway.reload(&two);
    manager.hears("FDSTORE=1\nFDNAME=more@127.0.0.1,0");
}

#[test]
fn who_comes_while_nobody_runs_waits_for_the_next_start() {
    let manager = Manager::new();
    let mut gateway = manager.start(Setup::new(), SAYS, &[]);
    manager.hears("READY=1");
    let edge = gateway.edge();
    gateway.signal("KILL");
    gateway.ended();
    let mut waiting = Connection::to(&edge);
    waiting.send(Request::get("/").bytes());
    let (name, unwanted) = ("edge@127.0.0.1,0", "gone@127.0.0.1,0");
    let again = manager.start_with(Setup::new(), SAYS, manager.takes_out(name), &[name, unwanted]);
    assert_eq!(again.edge(), edge);
    assert_eq!(waiting.response().text(), "one");
    again.log.wait(&format!("no listener asks for the inherited socket {unwanted}: closed"));
    manager.hears(&format!("FDSTOREREMOVE=1\nFDNAME={unwanted}"));
}

#[test]
fn sockets_of_a_socket_unit_are_used_and_stay_its_own() {
    let manager = Manager::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = tcp.local_addr().unwrap().to_string();
    let text = format!("listeners: {{ edge: {{ bind: \"{edge}\" }} }}\n{SAYS}");
    let gateway = manager.start_with(Setup::new(), &text, tcp.into(), &["yumen.socket"]);
    assert_eq!(gateway.get("/").text(), "one");
    manager.hears("READY=1");
    assert!(manager.kept.borrow().iter().all(|(name, _)| name.starts_with("admin@")), "{:?}", manager.kept);

    let path = manager.dir.path().join("edge.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let copy = unix.as_fd().try_clone_to_owned().unwrap();
    let text = format!("listeners: {{ edge: {{ bind: \"unix:{}\" }} }}\n{SAYS}", path.display());
    let mut gateway = manager.start_with(Setup::new(), &text, copy, &["yumen.socket"]);
    assert_eq!(gateway.get("/").text(), "one");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    assert!(path.exists(), "the file belongs to whoever bound it");
    drop(unix);
}

#[test]
fn the_files_of_kept_unix_sockets_stay_for_the_next_start() {
    let manager = Manager::new();
    let path = manager.dir.path().join("edge.sock");
    let text = format!("listeners: {{ edge: {{ bind: \"unix:{}\" }} }}\n{SAYS}", path.display());
    let mut gateway = manager.start(Setup::new(), &text, &[]);
    manager.hears("READY=1");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let edge = format!("unix:{}", path.display());
    let mut waiting = Connection::to(&edge);
    waiting.send(Request::get("/").bytes());
    let name = format!("unix,{}", path.display());
    let mut again = manager.start_with(Setup::new(), &text, manager.takes_out(&name), &[&name]);
    assert_eq!(waiting.response().text(), "one");
    again.reload(SAYS);
    eventually("a file that nobody listens at goes with its listener", || (!path.exists()).then_some(()));
}

#[test]
fn the_watchdog_is_fed_in_time() {
    let manager = Manager::new();
    let gateway = manager.start(Setup::new(), SAYS, &[("WATCHDOG_USEC", "400000")]);
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    gateway.signal("STOP");
    while manager.next().is_some() {}
    assert!(manager.next().is_none() && manager.next().is_none(), "who is stopped feeds nobody");
    gateway.signal("CONT");
    manager.hears("WATCHDOG=1");
    let other = manager.start(Setup::new(), SAYS, &[("WATCHDOG_USEC", "400000"), ("WATCHDOG_PID", "1")]);
    drop(gateway);
    while manager.next().is_some() {}
    assert!(manager.next().is_none(), "another process was meant than {}", other.pid());
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).unwrap()
}

/// The units as they are shipped, around the program under test; and whether there is somebody to judge them.
fn units() -> Option<tempfile::TempDir> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("LEFT OUT: no systemd-analyze; `tests/run` installs it");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["yumen.service", "yumen.socket"] {
        let text = shipped(name).replace("/usr/bin/yumen", env!("CARGO_BIN_EXE_yumen"));
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    Some(dir)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(dir) = units() else { return };
    let unit = |name: &str| dir.path().join(name).display().to_string();
    let verify = || run("systemd-analyze", &["verify", "--man=no", &unit("yumen.service"), &unit("yumen.socket")]);
    let said = verify();
    assert_eq!((said.code, said.out + &said.err), (0, String::new()));
    let mistaken = shipped("yumen.service").replace("WatchdogSec", "WatchdogSecs");
    std::fs::write(dir.path().join("yumen.service"), mistaken).unwrap();
    assert!(verify().err.contains("WatchdogSecs"), "it would say so");
}

#[test]
fn the_service_is_exposed_as_little_as_promised() {
    let Some(dir) = units() else { return };
    let unit = dir.path().join("yumen.service").display().to_string();
    let said = run("systemd-analyze", &["security", "--offline=yes", "--threshold=20", &unit]);
    assert_eq!(said.code, 0, "more than 2.0:\n{}", said.out);
    assert!(said.out.contains("Overall exposure level for yumen.service: 1."), "{}", said.out);
}

#[test]
fn the_socket_unit_binds_what_the_default_document_asks_for() {
    let document = include_str!("../../conf/yumen.yaml");
    let socket = shipped("yumen.socket");
    let bound: Vec<_> = socket.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    assert!(!bound.is_empty());
    for address in bound {
        assert!(document.contains(&format!("bind: {address}")), "{address} in conf/yumen.yaml");
    }
}
