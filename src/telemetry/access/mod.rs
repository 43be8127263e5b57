//! The access log: one line per request, written by a thread of its own.

mod config;
mod escape;
mod line;
pub(super) mod writer;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

pub use config::{Config, Destination, Format};
pub use line::{Entry, Timings, Tunnel};

use writer::Desk;

/// Where requests leave their lines. They never wait: what the writer has no room for is dropped and counted.
pub struct AccessLog {
    config: Config,
    desk: Option<Arc<Desk>>,
}

thread_local! {
    /// The line in the making, so that a line costs no allocation.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A line that needed more than this gives its memory back.
const USUAL_LINE: usize = 16 * 1024;

impl AccessLog {
    /// Opens the destination and starts its writer; lost lines are counted in `dropped`.
    pub fn open(config: &Config, dropped: IntCounter) -> io::Result<Arc<Self>> {
        let desk = match config.to {
            Destination::Off => None,
            _ => Some(writer::start(config.to.clone(), dropped)?),
        };
        Ok(Arc::new(Self { config: config.clone(), desk }))
    }

    /// What it was opened with: while this stays the same, a reload keeps the log.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether lines go anywhere; when not, an entry need not be gathered.
    pub fn is_on(&self) -> bool {
        self.desk.is_some()
    }

    /// Writes the line of one request.
    pub fn write(&self, entry: &Entry<'_>) {
        let Some(desk) = &self.desk else { return };
        LINE.with_borrow_mut(|line| {
            line.clear();
            entry.write(line, self.config.format, self.config.query);
            desk.leave(line);
            line.shrink_to(USUAL_LINE);
        });
    }

    /// Opens the file again before the next line, because the old one was moved away.
    pub fn reopen(&self) {
        if let Some(desk) = &self.desk {
            desk.reopen();
        }
    }

    /// Waits until every line so far is written; false when it takes longer than `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        self.desk.as_ref().is_none_or(|desk| desk.flush(patience))
    }
}

impl Drop for AccessLog {
    /// The writer writes what is there and ends.
    fn drop(&mut self) {
        if let Some(desk) = &self.desk {
            desk.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_writes_nothing_and_never_fails() {
        let config = Config { to: Destination::Off, ..Config::default() };
        let log = AccessLog::open(&config, IntCounter::new("dropped", "dropped").unwrap()).unwrap();
        log.write(&line::tests::entry());
        assert!(!log.is_on() && log.flush(Duration::ZERO));
    }

    #[test]
    fn every_request_is_a_line_from_whichever_thread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let config = Config { to: Destination::File(path.clone()), ..Config::default() };
        let log = AccessLog::open(&config, IntCounter::new("dropped", "dropped").unwrap()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| log.write(&line::tests::entry())));
            }
        });
        assert!(log.flush(Duration::from_secs(10)));
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count(), 2000);
    }
}
