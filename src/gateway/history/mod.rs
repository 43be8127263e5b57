//! What served before: who asked for it, what it changed, and its texts to bring it back.
//!
//! Files that a document only names, keys and certificates for some, are never copied: of those that decide what the
//! document means it is known what was in them, and that is all.

mod shelf;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::shelf::Shelf;
use crate::config::diff::Diff;
use crate::config::seals::hex;
use crate::config::{Seals, Texts};
use crate::snapshot::Snapshot;
use crate::telemetry::clock::Moment;

/// Generations that are known, and bytes of the texts of all of them.
const MOST: usize = 50;
const MOST_BYTES: u64 = 64 << 20;

/// One generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number.
    pub generation: u64,
    /// Since when it served, in seconds since 1970.
    pub time: u64,
    /// Of the document and of every file that it names.
    pub hash: String,
    /// Who asked for it: start, file, signal, admin or rollback.
    pub by: String,
    /// The first of what it changed.
    pub changes: Vec<String>,
    /// The files of the document, and the names of their texts; none where they are no longer kept.
    texts: Vec<(PathBuf, String)>,
    /// The files that decide what it means, and what was in them.
    means: Vec<(PathBuf, String)>,
}

/// A generation that was brought back and serves in place of what the files say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its number.
    pub to: u64,
    /// The hash of the texts that do not serve.
    pub instead_of: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// The oldest first.
    entries: Vec<Entry>,
    /// What was brought back, until the files change.
    held: Option<Held>,
}

/// All that is known of earlier generations.
pub struct History {
    shelf: Shelf,
    index: Mutex<Index>,
}

impl History {
    /// Of the document in this file, if it is one.
    pub fn open(state: &Path, document: Option<&Path>) -> Self {
        let shelf = document.map_or_else(Shelf::none, |document| Shelf::below(state, document));
        let index = shelf.index().and_then(|bytes| {
            serde_json::from_slice(&bytes).inspect_err(|why| log::error!("the history begins anew: {why}")).ok()
        });
        Self { shelf, index: Mutex::new(index.unwrap_or_default()) }
    }

    /// The number with which a process begins that serves this: the last one, or the next where it is something else.
    pub fn number(&self, hash: &str) -> u64 {
        self.last().map_or(1, |last| if last.hash == hash { last.generation } else { last.generation + 1 })
    }

    pub fn last(&self) -> Option<Entry> {
        self.index().entries.last().cloned()
    }

    /// What serves from now on; nothing new where it served before the process began.
    pub fn add(&self, now: &Snapshot, by: &str, changes: &Diff) {
        if now.texts.main().is_none() || self.last().is_some_and(|last| last.hash == now.hash) {
            return;
        }
        let seal = |file: &PathBuf| {
            let seal = now.seals.get(file).flatten().map_or(String::new(), |seal| hex(seal));
            (file.clone(), seal)
        };
        let entry = Entry {
            generation: now.generation,
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            hash: now.hash.clone(),
            by: by.to_owned(),
            changes: changes.brief(),
            texts: now.texts.iter().map(|(file, text)| (file.to_owned(), self.shelf.put(text))).collect(),
            means: now.means.iter().map(seal).collect(),
        };
        let mut index = self.index();
        index.entries.push(entry);
        let surplus = index.entries.len().saturating_sub(MOST);
        index.entries.drain(..surplus);
        self.bound(&mut index);
        self.write(&index);
    }

    /// The generation `wanted`, or the one before that served something else; the error is a sentence.
    pub fn find(&self, wanted: Option<u64>, now: u64) -> Result<Entry, String> {
        let index = self.index();
        let at = |number: u64| index.entries.iter().rev().find(|entry| entry.generation <= number);
        match wanted {
            Some(number) if number > now => Err(format!("there is no generation {number}, the last is {now}")),
            Some(number) => at(number).cloned().ok_or_else(|| format!("generation {number} is no longer known")),
            None => {
                let serves = at(now).ok_or("nothing is known of earlier generations")?;
                let before = index.entries.iter().rev().filter(|entry| entry.generation < serves.generation);
                let other = before.into_iter().find(|entry| entry.hash != serves.hash);
                other.cloned().ok_or_else(|| "there is no generation before this one".to_owned())
            }
        }
    }

    /// The document of a generation; the error is a sentence.
    pub fn texts(&self, entry: &Entry) -> Result<Texts, String> {
        let gone = || format!("the document of generation {} is no longer kept", entry.generation);
        let mut texts = Texts::default();
        for (file, name) in &entry.texts {
            texts.push(file, &self.shelf.get(name).ok_or_else(gone)?);
        }
        if texts.main().is_none() { Err(gone()) } else { Ok(texts) }
    }

    pub fn held(&self) -> Option<Held> {
        self.index().held.clone()
    }

    /// What was brought back serves, or no longer does.
    pub fn hold(&self, held: Option<Held>) {
        let mut index = self.index();
        if index.held != held {
            index.held = held;
            self.write(&index);
        }
    }

    /// For the admin door: the latest first.
    pub fn describe(&self, serves: u64) -> Value {
        let index = self.index();
        let last = index.entries.iter().rev().find(|entry| entry.generation <= serves).map(|entry| entry.generation);
        let rows = index.entries.iter().rev().map(|entry| {
            let time = Moment::of(UNIX_EPOCH + std::time::Duration::from_secs(entry.time)).rfc3339();
            json!({
                "generation": entry.generation, "time": String::from_utf8_lossy(&time), "hash": entry.hash,
                "by": entry.by, "changes": entry.changes, "serves": Some(entry.generation) == last,
                // A process that took over counts on, though nothing has changed.
                "serves_as": (Some(entry.generation) == last && entry.generation != serves).then_some(serves),
                "kept": !entry.texts.is_empty(),
            })
        });
        json!({ "kept_for_a_restart": self.shelf.is_on_disk(), "generations": rows.collect::<Vec<_>>() })
    }

    /// The texts of old generations go first.
    fn bound(&self, index: &mut Index) {
        let mut known = BTreeSet::new();
        let mut bytes = 0;
        for entry in index.entries.iter_mut().rev() {
            let new: Vec<&String> =
                entry.texts.iter().map(|(_, name)| name).filter(|name| !known.contains(*name)).collect();
            bytes += new.iter().map(|name| self.shelf.size(name)).sum::<u64>();
            if bytes > MOST_BYTES {
                entry.texts.clear();
            } else {
                known.extend(new.into_iter().cloned());
            }
        }
        self.shelf.keep_only(&known.iter().map(String::as_str).collect());
    }

    fn write(&self, index: &Index) {
        match serde_json::to_vec(index) {
            Ok(bytes) => self.shelf.write_index(&bytes),
            Err(why) => log::error!("the history cannot be written: {why}"),
        }
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// A file that decides what the document means and is not what it was.
    pub fn differs(&self) -> Option<&Path> {
        let files: Vec<PathBuf> = self.means.iter().map(|(file, _)| file.clone()).collect();
        let seals = Seals::of(&files, &Texts::default());
        let now = |file: &Path| seals.get(file).flatten().map_or(String::new(), |seal| hex(seal));
        self.means.iter().find(|(file, was)| now(file) != *was).map(|(file, _)| file.as_path())
    }
}
