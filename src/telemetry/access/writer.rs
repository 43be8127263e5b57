//! The thread that writes lines, of the access log and of the program itself: few writes when many come, no delay when few do.
//!
//! Requests append to one buffer under a lock that is held for the time of a copy. They wake the writer only when
//! it sleeps without an alarm; after each write it naps, so that a busy gateway pays fifty wake-ups a second, not one
//! a request. The buffer has a limit: a destination that does not take lines costs lines, never requests.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::config::Destination;

/// How much may wait: about ten thousand lines.
const MOST: usize = 4 << 20;
/// The same of the program's own lines, which are few.
const MOST_OF_PROGRAM: usize = 256 << 10;
/// How much is written before the nap is over.
const PLENTY: usize = 256 << 10;
/// How long lines are gathered when they come quickly.
const NAP: Duration = Duration::from_millis(20);
/// How long a destination that refuses is left alone.
const PAUSE: Duration = Duration::from_millis(100);
/// How often lost lines are told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What requests and the writer share.
pub(in crate::telemetry) struct Desk {
    /// What its lines are called, and how many bytes of them may wait.
    what: &'static str,
    most: usize,
    state: Mutex<State>,
    /// To the writer: there is something to do.
    wake: Condvar,
    /// From the writer: everything is written.
    done: Condvar,
    dropped: IntCounter,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// The writer sleeps without an alarm.
    idle: bool,
    /// How many bytes were left here, and how many of them are written or lost, since the start.
    left: u64,
    settled: u64,
    /// Someone waits, or has an order.
    hurry: bool,
    reopen: bool,
    closed: bool,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::telemetry) fn leave(&self, line: &[u8]) {
        let mut state = self.state();
        if state.lines.len() + line.len() > self.most {
            drop(state);
            return self.dropped.inc();
        }
        let before = state.lines.len();
        state.lines.extend_from_slice(line);
        state.left += line.len() as u64;
        let wake = mem::take(&mut state.idle) || (before < PLENTY && state.lines.len() >= PLENTY);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    pub(super) fn reopen(&self) {
        self.tell(|state| state.reopen = true);
    }

    pub(super) fn close(&self) {
        self.tell(|state| state.closed = true);
    }

    pub(in crate::telemetry) fn flush(&self, patience: Duration) -> bool {
        self.tell(|_| ());
        let state = self.state();
        let so_far = state.left;
        let waited = self.done.wait_timeout_while(state, patience, |state| state.settled < so_far);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn tell(&self, what: impl FnOnce(&mut State)) {
        let mut state = self.state();
        what(&mut state);
        state.hurry = true;
        state.idle = false;
        drop(state);
        self.wake.notify_one();
    }

    /// Gives back the lines that are settled, waits for new ones or for orders, and takes them.
    fn exchange(&self, lines: &mut Vec<u8>) -> Orders {
        let quiet = |state: &mut State| state.lines.is_empty() && !state.hurry && !state.closed;
        let mut state = self.state();
        state.settled += lines.len() as u64;
        self.done.notify_all();
        lines.clear();
        lines.shrink_to(PLENTY);
        if quiet(&mut state) {
            state.idle = true;
            state = self.wake.wait_while(state, |state| quiet(state)).unwrap_or_else(PoisonError::into_inner);
            state.idle = false;
        }
        mem::swap(&mut state.lines, lines);
        state.hurry = false;
        Orders { reopen: mem::take(&mut state.reopen), close: state.closed && lines.is_empty() }
    }

    /// Lets lines gather, unless there are plenty or someone waits for them.
    fn nap(&self) {
        let gathering = |state: &mut State| state.lines.len() < PLENTY && !state.hurry && !state.closed;
        let state = self.state();
        drop(self.wake.wait_timeout_while(state, NAP, gathering));
    }
}

struct Orders {
    reopen: bool,
    /// Nothing is left and nothing will come.
    close: bool,
}

/// Opens the destination and starts a thread that writes to it until the desk is closed.
pub(super) fn start(to: Destination, dropped: IntCounter) -> io::Result<Arc<Desk>> {
    let file = open(&to)?;
    start_on(file, to, dropped, ("access lines", MOST))
}

/// The same for the lines of the program itself, to standard error.
pub(in crate::telemetry) fn program(dropped: IntCounter) -> io::Result<Arc<Desk>> {
    let to = Destination::Stderr;
    start_on(open(&to)?, to, dropped, ("lines of the program", MOST_OF_PROGRAM))
}

fn start_on(
    file: File,
    to: Destination,
    dropped: IntCounter,
    (what, most): (&'static str, usize),
) -> io::Result<Arc<Desk>> {
    let lost = dropped.get();
    let (wake, done) = (Condvar::new(), Condvar::new());
    let desk = Arc::new(Desk { what, most, state: Mutex::default(), wake, done, dropped });
    let mut pen = Pen { to, file, torn: false, told: None, lost };
    let theirs = Arc::clone(&desk);
    thread::Builder::new().name("access-log".into()).spawn(move || pen.work(&theirs))?;
    Ok(desk)
}

/// A descriptor of its own, past the standard library's line buffer and its lock.
fn open(to: &Destination) -> io::Result<File> {
    Ok(match to {
        Destination::Stdout | Destination::Off => io::stdout().as_fd().try_clone_to_owned()?.into(),
        Destination::Stderr => io::stderr().as_fd().try_clone_to_owned()?.into(),
        Destination::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path)?,
    })
}

struct Pen {
    to: Destination,
    file: File,
    /// The last write broke off inside a line.
    torn: bool,
    /// When lost lines were last told, and how many had been lost by then.
    told: Option<Instant>,
    lost: u64,
}

impl Pen {
    fn work(&mut self, desk: &Desk) {
        let mut lines = Vec::new();
        loop {
            let orders = desk.exchange(&mut lines);
            if orders.close {
                return;
            }
            if orders.reopen {
                self.reopen();
            }
            let outcome = self.write(&lines);
            if outcome.is_err() {
                desk.dropped.inc_by(count(&lines));
                thread::park_timeout(PAUSE);
            }
            self.tell_lost(desk, outcome.err());
            desk.nap();
        }
    }

    fn reopen(&mut self) {
        match open(&self.to) {
            Ok(file) => self.file = file,
            Err(why) => log::warn!("cannot reopen {}, writing on to the old file: {why}", self.to),
        }
    }

    /// Writes all of it, also into a pipe that someone made non-blocking.
    fn write(&mut self, mut lines: &[u8]) -> io::Result<()> {
        if mem::take(&mut self.torn) && !lines.is_empty() {
            self.file.write_all(b"\n").inspect_err(|_| self.torn = true)?;
        }
        let whole = lines.len();
        while !lines.is_empty() {
            match self.file.write(lines) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => lines = lines.get(written..).unwrap_or_default(),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(PAUSE),
                Err(why) => {
                    self.torn = lines.len() < whole;
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    fn tell_lost(&mut self, desk: &Desk, why: Option<io::Error>) {
        let dropped = desk.dropped.get();
        let due = self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if dropped > self.lost && due {
            let why = why.map_or_else(|| "it takes them too slowly".into(), |why| why.to_string());
            log::warn!("{} {} to {} were lost: {why}", dropped - self.lost, desk.what, self.to);
            (self.told, self.lost) = (Some(Instant::now()), dropped);
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    fn pipe() -> (io::PipeReader, Arc<Desk>, IntCounter) {
        let (reader, writer) = io::pipe().unwrap();
        let (file, dropped) = (File::from(std::os::fd::OwnedFd::from(writer)), counter());
        (reader, start_on(file, Destination::Stdout, dropped.clone(), ("lines", MOST)).unwrap(), dropped)
    }

    #[test]
    fn lines_arrive_whole_and_in_order_also_when_the_log_is_closed() {
        let (mut reader, desk, dropped) = pipe();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let lines: Vec<String> = (0..50_000).map(|number| format!("line {number}\n")).collect();
        for line in &lines {
            desk.leave(line.as_bytes());
        }
        desk.close();
        assert_eq!(reading.join().unwrap().unwrap(), lines.concat());
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn a_blocked_destination_costs_lines_and_never_waits() {
        let (mut reader, desk, dropped) = pipe();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let left = 3 * MOST / line.len();
        (0..left).for_each(|_| desk.leave(&line));
        let lost = dropped.get();
        assert!(lost > 0);
        assert!(!desk.flush(Duration::from_millis(1)));
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        assert!(desk.flush(PATIENCE));
        desk.close();
        assert_eq!(reading.join().unwrap().unwrap().len(), (left - usize::try_from(lost).unwrap()) * line.len());
    }

    #[test]
    fn a_closed_destination_counts_what_is_lost() {
        let (reader, desk, dropped) = pipe();
        drop(reader);
        desk.leave(b"one\n");
        desk.leave(b"two\n");
        assert!(desk.flush(PATIENCE));
        assert_eq!(dropped.get(), 2);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let desk = start(Destination::File(path.clone()), counter()).unwrap();
        desk.leave(b"one\n");
        assert!(desk.flush(PATIENCE));
        fs::rename(&path, &old).unwrap();
        desk.leave(b"two\n");
        assert!(desk.flush(PATIENCE));
        desk.reopen();
        desk.leave(b"three\n");
        assert!(desk.flush(PATIENCE));
        assert_eq!(fs::read_to_string(old).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_at_once() {
        assert!(start(Destination::File("/nowhere/at/all/access.log".into()), counter()).is_err());
    }
}
