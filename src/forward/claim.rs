//! Who may take messages from a broker and send them on: one process at a time, whatever upgrades and reloads do.
//!
//! The directory of a store is locked for as long as its process holds it (flock(2)): the kernel lets go where that
//! crashes. A successor waits for it; the process before it lets go when it begins to drain.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::telemetry::random;

/// A directory that nobody else uses.
#[derive(Debug)]
pub(super) struct Claim {
    dir: PathBuf,
    _lock: File,
}

impl Claim {
    /// Nothing where another process has it.
    pub(super) fn try_take(dir: &Path) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(dir)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { dir: dir.to_owned(), _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name under which the broker knows this directory's gateway, made once.
    pub(super) fn client_id(&self) -> io::Result<String> {
        let file = self.dir.join("client_id");
        let mut known = String::new();
        if let Ok(mut file) = File::open(&file) {
            file.read_to_string(&mut known)?;
        }
        let known = known.trim();
        if !known.is_empty() {
            return Ok(known.to_owned());
        }
        // 23 letters at most: every broker takes those.
        let made = format!("yumen{:016x}", random::next());
        self.write(&file, &made)?;
        Ok(made)
    }

    /// What the broker was last asked for under that name.
    pub(super) fn subscribed(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.dir.join("subscribed")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn subscribe(&self, filters: &BTreeSet<String>) -> io::Result<()> {
        let lines: Vec<&str> = filters.iter().map(String::as_str).collect();
        self.write(&self.dir.join("subscribed"), &lines.join("\n"))
    }

    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        let new = self.dir.join("new");
        let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_data()?;
        std::fs::rename(new, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it_under_a_name_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("plant");
        let first = Claim::try_take(&dir).unwrap().unwrap();
        assert!(Claim::try_take(&dir).unwrap().is_none());
        let id = first.client_id().unwrap();
        assert!(id.len() <= 23 && first.client_id().unwrap() == id, "{id}");
        first.subscribe(&["a/+".to_owned(), "b".to_owned()].into()).unwrap();
        drop(first);
        let second = Claim::try_take(&dir).unwrap().unwrap();
        assert_eq!((second.client_id().unwrap(), second.subscribed().len()), (id, 2));
    }
}
