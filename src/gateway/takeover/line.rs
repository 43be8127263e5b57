//! What two generations of the process say to each other, and the descriptors that go with it.
//!
//! A pair of connected sockets without a name: the successor inherits its end, so nobody else can have it. Messages
//! keep their bounds, and the descriptors of one come with it (`SCM_RIGHTS`, at most 253 at a time).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// Descriptors in one message; the kernel takes 253.
pub(super) const AT_A_TIME: usize = 250;
/// How long the other end may leave what it was told unread.
const STUCK: Duration = Duration::from_secs(20);
/// The longest message; a report is cut to fit.
const LONGEST: usize = 128 << 10;

/// One end.
#[derive(Debug)]
pub struct Line(OwnedFd);

/// A listening socket with the name that its listener knows it by.
pub type Named = (String, OwnedFd);

/// What is said. Unknown fields are passed over, so that a later version may say more.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Word {
    /// From the predecessor: sockets, one descriptor each. More may follow.
    Sockets { names: Vec<String> },
    /// From the predecessor: the lines to generations that still drain, one descriptor each; and that this was all.
    Begin { generation: u64, watchdog: Option<Duration>, draining: usize },
    /// From the successor: it has given up, and its document is why, or the machine.
    Refused { code: u8, report: String },
    /// From the successor: everything is built and bound, nothing is accepted yet.
    Ready { pid: u32 },
    /// From the predecessor, which accepts no more: its live state, in a file without a name.
    State,
    /// From the successor: it accepts, and its workers answer.
    Serving,
    /// From the predecessor: the service is yours.
    Commit,
    /// From a predecessor that drains: what is still in flight.
    Draining { pid: u32, connections: usize },
    /// To a predecessor that drains: leave soon.
    Leave,
}

impl Line {
    /// Our end, and the successor's.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// Says something; the other end gets copies of the descriptors.
    pub fn say(&self, word: &Word, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(word)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_A_TIME))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
        }
        loop {
            let sent =
                sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, STUCK)?,
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Says something that nobody waits for: where the other end does not listen, it is not said.
    pub fn mention(&self, word: &Word) -> io::Result<()> {
        match self.wait(PollFlags::OUT, Duration::ZERO) {
            Err(why) if why.kind() == io::ErrorKind::TimedOut => Ok(()),
            other => other.and_then(|()| self.say(word, &[])),
        }
    }

    /// What the other end says next; the error tells a silence from an end.
    pub fn hear(&self, patience: Duration) -> io::Result<(Word, Vec<OwnedFd>)> {
        self.wait(PollFlags::IN, patience)?;
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_A_TIME))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if got.bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other end is gone"));
        }
        let word = serde_json::from_slice(bytes.get(..got.bytes).unwrap_or_default())?;
        Ok((word, descriptors))
    }

    /// What has been said already, if anything.
    pub fn overhear(&self) -> io::Result<Option<Word>> {
        match self.hear(Duration::ZERO) {
            Ok((word, _)) => Ok(Some(word)),
            Err(why) if why.kind() == io::ErrorKind::TimedOut => Ok(None),
            Err(why) => Err(why),
        }
    }

    fn wait(&self, what: PollFlags, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        loop {
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            let mut ends = [PollFd::new(&self.0, what)];
            match poll(&mut ends, left.as_ref()) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }
}

impl Word {
    /// A refusal whose report fits into a message.
    pub fn refused(code: u8, report: &str) -> Self {
        let mut end = report.len().min(LONGEST / 4);
        while !report.is_char_boundary(end) {
            end -= 1;
        }
        Self::Refused { code, report: report.get(..end).unwrap_or_default().to_owned() }
    }
}

impl From<OwnedFd> for Line {
    fn from(end: OwnedFd) -> Self {
        Self(end)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_go_over_with_their_names() {
        let (ours, theirs) = Line::pair().unwrap();
        let theirs = Line::from(theirs);
        let sockets: Vec<_> = (0..AT_A_TIME).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let names: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
        let ends: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        ours.say(&Word::Sockets { names: names.clone() }, &ends).unwrap();
        drop(sockets);
        let (word, descriptors) = theirs.hear(Duration::from_secs(5)).unwrap();
        assert!(matches!(word, Word::Sockets { names: heard } if heard == names));
        for (address, descriptor) in names.into_iter().zip(descriptors) {
            let listener = TcpListener::from(descriptor);
            TcpStream::connect(address).unwrap().write_all(b"x").unwrap();
            let mut heard = [0];
            listener.accept().unwrap().0.read_exact(&mut heard).unwrap();
        }
    }

    #[test]
    fn silence_an_end_and_nonsense_are_told_apart() {
        let (ours, theirs) = Line::pair().unwrap();
        assert_eq!(ours.hear(Duration::from_millis(1)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(ours.overhear().unwrap().is_none());
        rustix::io::write(&theirs, b"{\"say\":\"sing\"}").unwrap();
        assert_eq!(ours.hear(Duration::from_secs(5)).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(theirs);
        assert_eq!(ours.overhear().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(ours.say(&Word::Leave, &[]).is_err());
    }

    #[test]
    fn a_report_is_cut_between_letters() {
        let Word::Refused { report, .. } = Word::refused(78, &"é".repeat(LONGEST)) else { panic!() };
        assert!(report.len() <= LONGEST / 4 && report.ends_with('é'));
    }
}
