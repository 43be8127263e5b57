//! Where texts of old documents lie: in a directory of their own, for our user alone, or in memory where there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::seals::{hex, seal};

/// A larger file is none of ours.
const MOST: u64 = 64 << 20;
const INDEX: &str = "index.json";

/// Texts by their names, which are made of what they say; and the index of them.
pub(super) struct Shelf {
    dir: Option<PathBuf>,
    /// What the disk did not take.
    memory: Mutex<BTreeMap<String, Arc<str>>>,
}

impl Shelf {
    /// `state` has to be there; what belongs to this document lies below it.
    pub(super) fn below(state: &Path, document: &Path) -> Self {
        let document = std::path::absolute(document).unwrap_or_else(|_| document.to_owned());
        let name = seal(document.as_os_str().as_encoded_bytes());
        let name = hex(name.get(..8).unwrap_or_default());
        Self { dir: state.is_dir().then(|| state.join("history").join(name)), memory: Mutex::default() }
    }

    pub(super) fn none() -> Self {
        Self { dir: None, memory: Mutex::default() }
    }

    /// Whether what is kept outlives the process.
    pub(super) fn is_on_disk(&self) -> bool {
        self.dir.is_some()
    }

    /// Keeps a text; its name.
    pub(super) fn put(&self, text: &Arc<str>) -> String {
        let name = hex(seal(text.as_bytes()).get(..16).unwrap_or_default());
        let written = match &self.dir {
            Some(dir) if dir.join(&name).is_file() => Ok(()),
            Some(dir) => write(dir, &name, text.as_bytes()),
            None => Err(ErrorKind::NotFound.into()),
        };
        if let Err(why) = written {
            self.complain(&why);
            self.memory().insert(name.clone(), Arc::clone(text));
        }
        name
    }

    /// The text of this name, if it is whole.
    pub(super) fn get(&self, name: &str) -> Option<Arc<str>> {
        if let Some(text) = self.memory().get(name) {
            return Some(Arc::clone(text));
        }
        let text = String::from_utf8(read(&self.dir.as_ref()?.join(name)).ok()?).ok()?;
        let whole = hex(seal(text.as_bytes()).get(..16).unwrap_or_default()) == name;
        whole.then(|| text.into())
    }

    pub(super) fn size(&self, name: &str) -> u64 {
        let kept = self.memory().get(name).map(|text| text.len() as u64);
        let on_disk = || Some(self.dir.as_ref()?.join(name).metadata().ok()?.len());
        kept.or_else(on_disk).unwrap_or_default()
    }

    /// Throws away every text but these.
    pub(super) fn keep_only(&self, names: &BTreeSet<&str>) {
        self.memory().retain(|name, _| names.contains(name.as_str()));
        for entry in self.dir.iter().filter_map(|dir| dir.read_dir().ok()).flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name != INDEX && !names.contains(name)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// What was written last; nothing where there is nothing, and the log says so where it cannot be read.
    pub(super) fn index(&self) -> Option<Vec<u8>> {
        let file = self.dir.as_ref()?.join(INDEX);
        match read(&file) {
            Ok(bytes) => Some(bytes),
            Err(why) if why.kind() == ErrorKind::NotFound => None,
            Err(why) => {
                log::error!("the history cannot be read, it begins anew: {}: {why}", file.display());
                None
            }
        }
    }

    pub(super) fn write_index(&self, bytes: &[u8]) {
        if let Some(Err(why)) = self.dir.as_ref().map(|dir| write(dir, INDEX, bytes)) {
            self.complain(&why);
        }
    }

    fn complain(&self, why: &std::io::Error) {
        if let Some(dir) = &self.dir {
            log::warn!("the history is not kept for a restart: {}: {why}", dir.display());
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<str>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a file in place, whole or not at all.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let new = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&new, dir.join(name))
}
