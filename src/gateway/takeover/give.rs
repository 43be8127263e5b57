//! The predecessor's part: start a successor, give it everything, and let go once it serves.
//!
//! Until the last step nothing is lost: whatever the successor does instead of what it should, it is ended, and this
//! process serves on as if nothing had been.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use super::launch::{Program, Started};
use super::line::{AT_A_TIME, Line, Named, Word};

/// How long a successor may take to read its document, build and bind everything.
const BUILDING: Duration = Duration::from_secs(45);
/// How long it may then take to serve; nobody accepts meanwhile.
const SWITCHING: Duration = Duration::from_secs(10);

/// What a successor gets.
#[derive(Debug)]
pub struct Estate {
    pub sockets: Vec<Named>,
    /// Lines to the generations that still drain.
    pub draining: Vec<OwnedFd>,
    pub generation: u64,
    pub watchdog: Option<Duration>,
}

/// Why there is no successor; the predecessor serves on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 66 and 78: the document, in the successor's eyes. 75: anything else.
    pub code: u8,
    pub report: String,
}

/// What the predecessor does at the moments at which it must.
pub trait Owner {
    /// Accepts nothing more, or again.
    fn accept(&self, accept: bool);
    /// The live state of this moment.
    fn pack(&self) -> Vec<u8>;
}

/// A successor that serves, and waits for the word that the service is its own.
#[derive(Debug)]
pub struct Heir {
    line: Line,
    started: Started,
    pub pid: u32,
}

impl Heir {
    /// Ends the successor; the service stays here.
    pub fn dismiss(self) {
        self.started.kill();
    }

    /// Lets go: from now on the service is the successor's, and the line tells it how far the drain is.
    pub fn commit(self) -> Result<Line, Refusal> {
        let said = self.line.say(&Word::Commit, &[]);
        match said {
            Ok(()) => {
                self.started.release();
                Ok(self.line)
            }
            Err(why) => {
                self.started.kill();
                Err(failed(&format!("the successor has ended: {why}")))
            }
        }
    }
}

/// Brings a successor to where it serves. The caller accepts again if this fails.
pub fn give(program: &Program, estate: &Estate, owner: &dyn Owner) -> Result<Heir, Refusal> {
    let unable = |why: io::Error| failed(&format!("cannot start {}: {why}", program.file().display()));
    let (line, theirs) = Line::pair().map_err(unable)?;
    let started = program.start(theirs).map_err(unable)?;
    match talk(&line, estate, owner) {
        Ok(pid) => Ok(Heir { line, started, pid }),
        Err(refusal) => {
            started.kill();
            Err(refusal)
        }
    }
}

/// The conversation, up to the moment at which the successor serves.
fn talk(line: &Line, estate: &Estate, owner: &dyn Owner) -> Result<u32, Refusal> {
    tell(line, estate).map_err(|why| lost(&why, "was not ready"))?;
    let pid = match expect(line, BUILDING, "was not ready")? {
        Word::Ready { pid } => pid,
        other => return Err(confused(&other)),
    };
    let began = Instant::now();
    owner.accept(false);
    let state = state(&owner.pack()).and_then(|state| line.say(&Word::State, &[state.as_fd()]));
    state.map_err(|why| failed(&format!("the state cannot be handed over: {why}")))?;
    match expect(line, SWITCHING, "did not serve")? {
        Word::Serving => {
            log::info!("the successor {pid} serves; nobody accepted for {:?}", began.elapsed());
            Ok(pid)
        }
        other => Err(confused(&other)),
    }
}

/// Everything that the successor needs to build.
fn tell(line: &Line, estate: &Estate) -> io::Result<()> {
    for some in estate.sockets.chunks(AT_A_TIME) {
        let names = some.iter().map(|(name, _)| name.clone()).collect();
        let ends: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
        line.say(&Word::Sockets { names }, &ends)?;
    }
    let ends: Vec<_> = estate.draining.iter().map(AsFd::as_fd).collect();
    let begin =
        Word::Begin { generation: estate.generation, watchdog: estate.watchdog, draining: estate.draining.len() };
    line.say(&begin, &ends)
}

fn expect(line: &Line, patience: Duration, otherwise: &str) -> Result<Word, Refusal> {
    match line.hear(patience) {
        Ok((Word::Refused { code, report }, _)) => Err(Refusal { code, report }),
        Ok((word, _)) => Ok(word),
        Err(why) if why.kind() == io::ErrorKind::TimedOut => {
            Err(failed(&format!("the successor {otherwise} within {patience:?}")))
        }
        Err(why) => Err(lost(&why, otherwise)),
    }
}

fn lost(why: &io::Error, otherwise: &str) -> Refusal {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    // Whichever comes first: it ended while it was told, before it had read it, or afterwards.
    if matches!(why.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) {
        return failed(&format!("the successor ended and {otherwise}"));
    }
    failed(&format!("the successor {otherwise}: {why}"))
}

fn confused(word: &Word) -> Refusal {
    failed(&format!("the successor speaks out of turn: {word:?}"))
}

/// 75: the take-over was not committed, this instance is intact (`EX_TEMPFAIL`).
fn failed(sentence: &str) -> Refusal {
    Refusal { code: 75, report: format!("{sentence}\n") }
}

/// A file without a name, which holds the state: as large as it has to be, and gone with its last reader.
fn state(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("yumen-state", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}
