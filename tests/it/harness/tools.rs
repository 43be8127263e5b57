//! Programs from outside: started, read to their end, never left behind.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{eventually, times};

/// A program that ended: its exit code and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end, at most a minute.
pub fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Ended {
    finish(Command::new(program.as_ref()).args(arguments))
}

pub fn finish(command: &mut Command) -> Ended {
    finish_within(command, Duration::from_mins(1))
}

/// The same of one that takes longer.
pub fn finish_within(command: &mut Command, patience: Duration) -> Ended {
    let name = format!("{command:?}");
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = started.unwrap_or_else(|e| panic!("{name}: {e}; `tests/run` installs what tests need"));
    let Output { status, stdout, stderr } = within(child, patience, &name);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

/// Starts a server, and waits until it answers; none where it ends instead, for want of its port.
pub fn serving(command: &mut Command, answers: impl Fn() -> bool) -> Option<Child> {
    let name = command.get_program().to_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{}: {e}; `tests/run` installs what tests need", name.display()));
    eventually("it answers or ends", || (child.try_wait().unwrap().is_some() || answers()).then_some(()));
    child.try_wait().unwrap().is_none().then_some(child)
}

/// Ends a server.
pub fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn within(mut child: Child, patience: Duration, name: &str) -> Output {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = thread::spawn(move || drained(out));
    let err = thread::spawn(move || drained(err));
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} did not end in {patience:?}");
        }
        thread::park_timeout(Duration::from_millis(5));
    };
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn drained(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.map(|mut from| from.read_to_end(&mut bytes));
    bytes
}

/// Runs `yumen` with these arguments to its end.
pub fn yumen(arguments: &[&str]) -> Ended {
    run(env!("CARGO_BIN_EXE_yumen"), arguments)
}

/// Sends a signal to a process of ours.
pub fn signal(pid: u32, name: &str) {
    assert!(try_signal(pid, name), "kill -{name}");
}

/// The same, to one that may have ended.
pub fn try_signal(pid: u32, name: &str) -> bool {
    run("kill", &[&format!("-{name}"), &pid.to_string()]).code == 0
}

/// An address whose connections never open: a listener with a full backlog drops further SYN packets (listen(2)).
pub fn unreachable() -> (socket2::Socket, std::net::SocketAddr, Vec<TcpStream>) {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let filling = times(4, connect).into_iter().flatten().collect();
    (full, address, filling)
}
