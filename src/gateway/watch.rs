//! Notices that a file has changed, however it was written.
//!
//! Directories are watched, not files: an editor renames over the file, a Kubernetes volume swaps a symlink.
//! Events lie (bind mounts send none), so the content is also compared every few seconds.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long a directory must be quiet before its files are read: writers often write in pieces.
const QUIET: Duration = Duration::from_millis(80);
/// How long it is waited for quiet.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the content is compared when no event came.
const POLL: Duration = Duration::from_secs(5);

/// The files of the live snapshot, and who is told when their content changes.
#[derive(Default)]
pub struct Watch {
    event: Arc<Notify>,
    followed: Mutex<Followed>,
}

/// A number that differs when the content differs.
pub type Content = u64;

#[derive(Default)]
struct Followed {
    files: Vec<PathBuf>,
    places: Places,
    watcher: Option<RecommendedWatcher>,
    content: Content,
}

impl Watch {
    /// From now on these files matter, with what was in them when they were read.
    pub fn follow(&self, files: Vec<PathBuf>, read: Content) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let places = Places::of(&files);
        if followed.watcher.is_none() || followed.places != places {
            followed.watcher = watcher(&self.event, &places);
            followed.places = places;
        }
        followed.content = read;
        followed.files = files;
        // A change since then may have sent its event to nobody.
        self.event.notify_one();
    }

    /// What is in the files that are followed.
    pub fn look(&self) -> Content {
        let files = self.followed.lock().unwrap_or_else(PoisonError::into_inner).files.clone();
        content(&files)
    }

    /// Returns when the content of the followed files is no longer what it was when they were followed
    /// or when this last returned.
    pub async fn changed(&self) {
        loop {
            let _ = tokio::time::timeout(POLL, self.event.notified()).await;
            let quiet = async { while tokio::time::timeout(QUIET, self.event.notified()).await.is_ok() {} };
            // A directory that is never quiet (a log lies there too) is looked at all the same.
            let _ = tokio::time::timeout(PATIENCE, quiet).await;
            if self.differs() {
                return;
            }
        }
    }

    fn differs(&self) -> bool {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = content(&followed.files);
        std::mem::replace(&mut followed.content, now) != now
    }
}

/// Where to look: the directories that hold the files, and those that hold what symlinks lead to.
#[derive(Default, Clone, PartialEq)]
struct Places {
    directories: BTreeSet<PathBuf>,
    /// What the files are called there.
    names: BTreeSet<OsString>,
}

impl Places {
    fn of(files: &[PathBuf]) -> Self {
        let real = files.iter().filter_map(|file| std::fs::canonicalize(file).ok());
        let all: Vec<_> = files.iter().cloned().chain(real).collect();
        Self {
            directories: all.iter().filter_map(|file| file.parent()).map(Path::to_path_buf).collect(),
            names: all.iter().filter_map(|file| file.file_name()).map(OsStr::to_os_string).collect(),
        }
    }

    /// Whether files of ours may have changed. What is written to another file, a log that lies there too, is not
    /// looked into; what comes, goes or is renamed may be a link on the way to one of ours.
    fn concerned(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                event.paths.iter().any(|path| path.file_name().is_none_or(|name| self.names.contains(name)))
            }
            _ => true,
        }
    }
}

/// Watches what can be watched; where nothing can (inotify exhausted), the comparison every few seconds remains.
fn watcher(event: &Arc<Notify>, places: &Places) -> Option<RecommendedWatcher> {
    let (event, concerned) = (event.clone(), places.clone());
    let tell = move |what: notify::Result<Event>| {
        if what.map_or(true, |what| concerned.concerned(&what)) {
            event.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(tell)
        .inspect_err(|why| log::warn!("cannot watch files, comparing every {POLL:?} instead: {why}"))
        .ok()?;
    for directory in &places.directories {
        let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        if let Err(why) = watcher.watch(place, RecursiveMode::NonRecursive) {
            log::warn!("cannot watch {}, comparing every {POLL:?} instead: {why}", place.display());
        }
    }
    Some(watcher)
}

/// Of each file its bytes, of each directory its names.
pub fn content(files: &[PathBuf]) -> Content {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        if let Ok(names) = std::fs::read_dir(file) {
            let names: BTreeSet<_> = names.flatten().map(|entry| entry.file_name()).collect();
            names.hash(&mut hasher);
        } else {
            std::fs::read(file).ok().hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn noticed(watch: &Watch) {
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.expect("the change was noticed");
    }

    #[tokio::test]
    async fn a_log_beside_the_files_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("y.yaml"), dir.path().join("access.log"));
        std::fs::write(&file, "a").unwrap();
        std::fs::write(&log, "").unwrap();
        let watch = Watch::default();
        watch.follow(vec![file.clone()], content(std::slice::from_ref(&file)));
        watch.event.notified().await;
        let mut log = std::fs::OpenOptions::new().append(true).open(log).unwrap();
        for _ in 0..100 {
            std::io::Write::write_all(&mut log, b"line\n").unwrap();
        }
        // Events come in order: what is written now comes after those of the log.
        assert!(tokio::time::timeout(Duration::from_millis(300), watch.event.notified()).await.is_err());
        std::fs::write(&file, "b").unwrap();
        tokio::time::timeout(Duration::from_secs(20), watch.event.notified()).await.expect("our own file wakes");
    }

    #[tokio::test]
    async fn a_write_a_rename_and_a_symlink_swap_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, first, second) = (dir.path().join("y.yaml"), dir.path().join("1"), dir.path().join("2"));
        std::fs::write(&file, "a").unwrap();
        let watch = Watch::default();
        watch.follow(vec![file.clone()], content(std::slice::from_ref(&file)));
        std::fs::write(&file, "b").unwrap();
        noticed(&watch).await;
        std::fs::write(&first, "c").unwrap();
        std::fs::rename(&first, &file).unwrap();
        noticed(&watch).await;
        std::fs::write(&first, "d").unwrap();
        std::os::unix::fs::symlink(&first, &second).unwrap();
        std::fs::rename(&second, &file).unwrap();
        noticed(&watch).await;
    }

    #[tokio::test]
    async fn touching_a_file_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("y.yaml");
        std::fs::write(&file, "a").unwrap();
        let watch = Watch::default();
        watch.follow(vec![file.clone()], content(std::slice::from_ref(&file)));
        std::fs::write(&file, "a").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(400), watch.changed()).await.is_err());
    }
}
