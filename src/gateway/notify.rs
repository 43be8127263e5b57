//! What we say to the service manager, by `sd_notify(3)`, and what it gave us; nothing where there is none.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

use super::listen::Keep;

/// How long a manager that is stuck may hold us up with one message.
const PATIENCE: Duration = Duration::from_millis(500);

/// The way to the service manager, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Notify(Option<Arc<Line>>);

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    to: SocketAddrUnix,
}

impl Notify {
    /// Where `NOTIFY_SOCKET` leads.
    pub fn from_environment() -> Self {
        let Some(place) = std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else {
            return Self::default();
        };
        Self::to(&place).unwrap_or_else(|why| {
            log::warn!("the service manager cannot be told anything: {}: {why}", place.display());
            Self::default()
        })
    }

    /// To a socket's path, or to an abstract name after `@`.
    pub fn to(place: &OsStr) -> io::Result<Self> {
        let to = match place.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            path => SocketAddrUnix::new(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Some(Arc::new(Line { socket, to }))))
    }

    /// Whether somebody listens.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// We serve.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// How we are, for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", one_line(status)));
    }

    /// We finish what is in flight and leave.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// From now on that process is the service.
    pub fn main_pid(&self, pid: u32) {
        self.say(&format!("MAINPID={pid}"));
    }

    /// We are well.
    pub fn watchdog(&self) {
        self.say("WATCHDOG=1");
    }

    /// What we are at may take so long from now on.
    pub fn extend_timeout(&self, by: Duration) {
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
    }

    /// Keeps a descriptor for the process after us; the name is visible ASCII without colons.
    pub fn store(&self, name: &str, descriptor: BorrowedFd<'_>) {
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), &[descriptor]);
    }

    fn say(&self, text: &str) {
        self.send(text, &[]);
    }

    fn send(&self, text: &str, descriptors: &[BorrowedFd<'_>]) {
        let Some(line) = &self.0 else { return };
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let text = [IoSlice::new(text.as_bytes())];
        if let Err(why) = sendmsg_addr(&line.socket, &line.to, &text, &mut control, SendFlags::NOSIGNAL) {
            log::warn!("the service manager does not listen: {why}");
        }
    }
}

impl Keep for Notify {
    fn keep(&self, name: &str, socket: BorrowedFd<'_>) {
        self.store(name, socket);
    }

    fn forget(&self, name: &str) {
        self.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }
}

/// A message has a line for each thing that it says.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// How often the manager wants to hear that we are well, if at all.
pub fn watchdog_period() -> Option<Duration> {
    let said = |name| std::env::var(name).ok();
    period(said("WATCHDOG_USEC").as_deref(), said("WATCHDOG_PID").as_deref(), std::process::id())
}

fn period(micros: Option<&str>, pid: Option<&str>, mine: u32) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(mine));
    let period = Duration::from_micros(micros?.parse().ok()?);
    (meant && !period.is_zero()).then_some(period)
}

/// The sockets that the manager gave us, with their names: once, and to this process alone.
pub fn inherited() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let meant = std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    if !meant || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    // Takes the variables out of the environment, and sets each descriptor to be closed in processes that we start.
    let mut given = ListenFd::from_env();
    let mut found = Vec::new();
    for index in 0..given.len() {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        let tcp = given.take_tcp_listener(index).ok().flatten().map(OwnedFd::from);
        let socket = tcp.or_else(|| given.take_unix_listener(index).ok().flatten().map(OwnedFd::from));
        match socket {
            Some(socket) => found.push((name, socket)),
            None => log::warn!("{name}, from the service manager, is no socket that connections come in by"),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    struct Manager {
        socket: UnixDatagram,
        notify: Notify,
        _dir: tempfile::TempDir,
    }

    impl Manager {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            Self { socket, notify: Notify::to(path.as_os_str()).unwrap(), _dir: dir }
        }
        fn heard(&self) -> (String, Vec<OwnedFd>) {
            let mut bytes = [0; 1024];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
            let rights = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            });
            let descriptors = rights.flatten().collect();
            (String::from_utf8_lossy(&bytes[..got.bytes]).into_owned(), descriptors)
        }
    }

    #[test]
    fn each_thing_is_said_as_systemd_reads_it() {
        let manager = Manager::new();
        let says = |deed: &dyn Fn(&Notify)| {
            deed(&manager.notify);
            manager.heard().0
        };
        assert_eq!(says(&|to| to.ready("generation 1\nserves")), "READY=1\nSTATUS=generation 1 serves");
        assert_eq!(says(&|to| to.status("well")), "STATUS=well");
        assert_eq!(says(&|to| to.stopping("draining")), "STOPPING=1\nSTATUS=draining");
        assert_eq!(says(&|to| to.main_pid(7)), "MAINPID=7");
        assert_eq!(says(&Notify::watchdog), "WATCHDOG=1");
        assert_eq!(says(&|to| to.extend_timeout(Duration::from_secs(2))), "EXTEND_TIMEOUT_USEC=2000000");
        assert_eq!(says(&|to| to.forget("a,80")), "FDSTOREREMOVE=1\nFDNAME=a,80");
    }

    #[test]
    fn a_stored_descriptor_is_the_socket_itself() {
        let manager = Manager::new();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        manager.notify.keep("127.0.0.1,80", socket.as_fd());
        let (text, mut descriptors) = manager.heard();
        assert_eq!(text, "FDSTORE=1\nFDNAME=127.0.0.1,80");
        let stored = TcpListener::from(descriptors.pop().unwrap());
        assert_eq!(stored.local_addr().unwrap(), socket.local_addr().unwrap());
    }

    #[test]
    fn abstract_names_are_reached_and_nobody_is_no_error() {
        let name = format!("yumen-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::to(OsStr::new(&format!("@{name}"))).unwrap().watchdog();
        let mut bytes = [0; 64];
        assert_eq!(socket.recv(&mut bytes).unwrap(), "WATCHDOG=1".len());
        drop(socket);
        Notify::to(OsStr::new(&format!("@{name}"))).unwrap().watchdog();
        Notify::default().watchdog();
        assert!(!Notify::default().is_heard());
    }

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(period(Some("1000000"), None, 7), second);
        assert_eq!(period(Some("1000000"), Some("7"), 7), second);
        assert_eq!(period(Some("1000000"), Some("8"), 7), None);
        assert_eq!(period(Some("0"), None, 7), None);
        assert_eq!(period(Some("soon"), None, 7), None);
        assert_eq!(period(None, None, 7), None);
    }
}
