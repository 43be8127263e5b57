//! The successor's part: take what the predecessor gives, build, bind, and serve when it has stopped accepting.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::line::{Line, Named, Word};
use crate::gateway::notify;

/// How long the predecessor may be silent before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the predecessor has given before anything was built.
#[derive(Debug)]
pub struct Inherited {
    terms: Terms,
    predecessor: Predecessor,
}

/// What a process begins with; a first one with nothing.
#[derive(Debug, Default)]
pub struct Terms {
    /// Sockets that listen already.
    pub sockets: Vec<Named>,
    /// Lines to generations that drain.
    pub draining: Vec<Line>,
    /// How many configurations were applied before.
    pub generation: u64,
    /// How often systemd wants to hear of us.
    pub watchdog: Option<Duration>,
}

impl Terms {
    /// What systemd gives to a process that it starts.
    pub fn of_service_manager() -> Self {
        Self { sockets: notify::inherited(), watchdog: notify::watchdog_period(), ..Self::default() }
    }
}

impl Inherited {
    pub fn part(self) -> (Terms, Predecessor) {
        (self.terms, self.predecessor)
    }
}

/// The process that serves until we do.
#[derive(Debug)]
pub struct Predecessor(Line);

/// Takes the line that is our standard input, and what comes over it.
pub fn take() -> io::Result<Inherited> {
    let line = Line::from(io::stdin().as_fd().try_clone_to_owned()?);
    // What reads from standard input later finds nothing.
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nothing)?;
    hear(line)
}

fn hear(line: Line) -> io::Result<Inherited> {
    let mut all = Vec::new();
    loop {
        match line.hear(PATIENCE)? {
            (Word::Sockets { names }, descriptors) if names.len() == descriptors.len() => {
                all.extend(names.into_iter().zip(descriptors));
            }
            (Word::Begin { generation, watchdog, draining }, descriptors) if draining == descriptors.len() => {
                let draining = descriptors.into_iter().map(Line::from).collect();
                let terms = Terms { sockets: all, draining, generation, watchdog };
                return Ok(Inherited { terms, predecessor: Predecessor(line) });
            }
            (word, descriptors) => return Err(out_of_turn(&word, descriptors.len())),
        }
    }
}

impl Predecessor {
    /// We give up, and this is why. The predecessor may be gone; then nobody hears it.
    pub fn refuse(&self, code: u8, report: &str) {
        let _ = self.0.say(&Word::refused(code, report), &[]);
    }

    /// Everything is built and bound: the predecessor stops accepting and says how things are.
    pub fn ready(&self) -> io::Result<Vec<u8>> {
        self.0.say(&Word::Ready { pid: std::process::id() }, &[])?;
        match self.0.hear(PATIENCE)? {
            (Word::State, descriptors) => {
                let file = descriptors.into_iter().next().ok_or_else(|| out_of_turn(&Word::State, 0))?;
                let (mut file, mut bytes) = (File::from(file), Vec::new());
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            (word, descriptors) => Err(out_of_turn(&word, descriptors.len())),
        }
    }

    /// We accept. Waits until the service is ours; a predecessor that is gone meanwhile leaves it to us.
    pub fn serving(self) -> io::Result<Line> {
        match self.0.say(&Word::Serving, &[]).and_then(|()| self.0.hear(PATIENCE)) {
            Ok((Word::Commit, _)) => Ok(self.0),
            Ok((word, descriptors)) => Err(out_of_turn(&word, descriptors.len())),
            Err(why)
                if matches!(
                    why.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                log::warn!("the predecessor ended before it had let go; the service is ours");
                Ok(self.0)
            }
            Err(why) => Err(why),
        }
    }
}

fn out_of_turn(word: &Word, descriptors: usize) -> io::Error {
    let sentence = format!("the predecessor speaks out of turn: {word:?} with {descriptors} descriptors");
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;
    use std::sync::Mutex;

    use super::*;

    fn pair() -> (Line, Line) {
        let (ours, theirs) = Line::pair().unwrap();
        (ours, theirs.into())
    }

    #[test]
    fn what_comes_in_pieces_is_put_together() {
        let (old, new) = pair();
        let sockets: Vec<_> = (0..300).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for (at, some) in sockets.chunks(250).enumerate() {
            let names = (0..some.len()).map(|number| format!("l{}", at * 250 + number)).collect();
            let ends: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            old.say(&Word::Sockets { names }, &ends).unwrap();
        }
        let (elder, _kept) = Line::pair().unwrap();
        old.say(&Word::Begin { generation: 7, watchdog: None, draining: 1 }, &[elder.as_fd()]).unwrap();
        let (inherited, _) = hear(new).unwrap().part();
        assert_eq!((inherited.sockets.len(), inherited.draining.len(), inherited.generation), (300, 1, 7));
        for (number, ((name, socket), was)) in inherited.sockets.into_iter().zip(&sockets).enumerate() {
            assert_eq!(name, format!("l{number}"));
            assert_eq!(std::net::TcpListener::from(socket).local_addr().unwrap(), was.local_addr().unwrap());
        }
    }

    #[test]
    fn a_count_that_does_not_fit_is_refused() {
        let (old, new) = pair();
        old.say(&Word::Begin { generation: 1, watchdog: None, draining: 2 }, &[]).unwrap();
        assert_eq!(hear(new).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_predecessor_that_dies_at_the_last_moment_leaves_the_service() {
        let heard = Mutex::new(Vec::new());
        let (old, new) = pair();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                heard.lock().unwrap().push(format!("{:?}", old.hear(PATIENCE).unwrap().0));
                drop(old);
            });
            Predecessor(new).serving().unwrap();
        });
        assert_eq!(heard.into_inner().unwrap(), ["Serving"]);
    }
}
