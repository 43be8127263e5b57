//! Generations of the process that have handed over and still drain: never more than a few.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::line::{Line, Word};

/// How many generations may drain; one more makes the oldest leave.
const MOST: usize = 4;
/// How often they are listened to.
const EVERY: Duration = Duration::from_secs(1);

/// The generations before this one, the oldest first.
#[derive(Debug, Default)]
pub struct Elders(Mutex<Vec<Elder>>);

#[derive(Debug)]
struct Elder {
    line: Line,
    last: Draining,
}

/// How far one is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Draining {
    pub pid: u32,
    /// Connections of clients that are still open.
    pub connections: usize,
}

impl Elders {
    pub fn add(&self, line: Line) {
        let mut elders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        elders.push(Elder { line, last: Draining::default() });
        let surplus = elders.len().saturating_sub(MOST);
        for elder in elders.drain(..surplus) {
            log::warn!("more than {MOST} generations drain: the oldest ({}) has to leave", elder.last.pid);
            // It may have left already.
            let _ = elder.line.mention(&Word::Leave);
        }
    }

    /// Copies of the lines, for a successor.
    pub fn lines(&self) -> io::Result<Vec<OwnedFd>> {
        let elders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        elders.iter().map(|elder| elder.line.as_fd().try_clone_to_owned()).collect()
    }

    /// Who still drains, as far as they have said.
    pub fn look(&self) -> Vec<Draining> {
        let mut elders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        elders.retain_mut(Elder::listen);
        elders.iter().map(|elder| elder.last).collect()
    }

    /// Hears them all the time, so that no line fills up.
    pub async fn follow(&self) {
        loop {
            self.look();
            tokio::time::sleep(EVERY).await;
        }
    }
}

impl Elder {
    /// Takes up what it has said; whether it is still there.
    fn listen(&mut self) -> bool {
        loop {
            match self.line.overhear() {
                Ok(Some(Word::Draining { pid, connections })) => self.last = Draining { pid, connections },
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leaves_when_there_are_too_many() {
        let elders = Elders::default();
        let ends: Vec<Line> = (0..MOST)
            .map(|_| {
                let (line, end) = Line::pair().unwrap();
                elders.add(line);
                end.into()
            })
            .collect();
        ends[1].say(&Word::Draining { pid: 7, connections: 9 }, &[]).unwrap();
        ends[1].say(&Word::Draining { pid: 7, connections: 3 }, &[]).unwrap();
        assert_eq!(elders.look()[1], Draining { pid: 7, connections: 3 });
        let (line, _sixth) = Line::pair().unwrap();
        elders.add(line);
        assert!(matches!(ends[0].overhear(), Ok(Some(Word::Leave))));
        assert!(matches!(ends[1].overhear(), Ok(None)));
        drop(ends);
        assert_eq!(elders.look().len(), 1, "who has gone is forgotten");
    }
}
