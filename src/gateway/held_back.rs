//! Included files that may be wrong without stopping the others: they are read as they last were good, and that is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::rehearse;
use super::source::Source;
use crate::config::{Instead, Loaded, Texts, report};
use crate::problem::Level;
use crate::snapshot::{self, Compiled, Snapshot, Tools};

/// Files that are held back, and since when.
pub(super) type HeldBack = BTreeMap<PathBuf, SystemTime>;

/// What came of reading.
pub(super) struct Read {
    pub(super) loaded: Loaded,
    pub(super) compiled: Compiled,
    /// What is wrong, with its places; of files that are held back what is wrong with them now.
    pub(super) report: String,
    pub(super) held_back: Vec<PathBuf>,
}

/// Reads and compiles. `last` knows what an included file last said; where it knows nothing the file is not left out.
pub(super) fn read(
    source: &Source,
    tools: &Tools,
    before: Option<&Snapshot>,
    last: &dyn Fn(&Path) -> Option<Arc<str>>,
) -> Read {
    let mut instead = Instead::new();
    let mut first: Option<Read> = None;
    loop {
        let mut loaded = source.load_with(&instead);
        let compiled = rehearse::compile(&mut loaded, tools, before);
        let held_back = instead.keys().cloned().collect();
        let mut read = Read { report: report::human(&compiled.problems, &loaded.places), loaded, compiled, held_back };
        if read.compiled.snapshot.is_some() {
            if let Some(first) = first {
                let files: Vec<String> = instead.keys().map(|file| file.display().to_string()).collect();
                // The others are applied.
                let wrong = first.report.replace(": not applied\n", "\n");
                read.report = format!("{wrong}held back, read as before or left out: {}\n", files.join(", "));
            }
            return read;
        }
        let wrong = wrong(&read, &instead);
        let kept: Option<Instead> = wrong.iter().map(|file| Some((file.clone(), last(file)?))).collect();
        match kept.filter(|kept| !kept.is_empty()) {
            Some(kept) => instead.extend(kept),
            // What is wrong on disk says more than what is wrong with an attempt to do without.
            None => return first.unwrap_or(read),
        }
        first.get_or_insert(read);
    }
}

impl Read {
    /// A document as it once was.
    pub(super) fn again(texts: &Texts, tools: &Tools, now: &Snapshot) -> Self {
        let mut loaded = Loaded::again(texts);
        let compiled = snapshot::compile(&mut loaded, tools, Some(now));
        let report = report::human(&compiled.problems, &loaded.places);
        Self { loaded, compiled, report, held_back: Vec::new() }
    }
}

/// Files that may be held back, are not yet, and in which something is wrong.
fn wrong(read: &Read, instead: &Instead) -> Vec<PathBuf> {
    let (loaded, problems) = (&read.loaded, &read.compiled.problems);
    let errors = problems.iter().filter(|problem| problem.level == Level::Error);
    let places: Vec<&str> = errors.map(|problem| loaded.places.of(problem).file).collect();
    let is_wrong = |file: &PathBuf| {
        let name = file.display().to_string();
        loaded.unread.contains(file) || places.contains(&name.as_str())
    };
    loaded.soft.iter().filter(|file| !instead.contains_key(*file) && is_wrong(file)).cloned().collect()
}

/// Those that were held back before keep their time; the log says which are and which no longer.
pub(super) fn update(known: &mut HeldBack, now: &[PathBuf]) {
    for file in known.keys().filter(|file| !now.contains(file)) {
        log::info!("{} is no longer held back", file.display());
    }
    known.retain(|file, _| now.contains(file));
    for file in now {
        let since = known.entry(file.clone()).or_insert_with(SystemTime::now);
        let seconds = since.elapsed().map_or(0, |since| since.as_secs());
        log::error!(
            "{} is wrong and held back since {seconds} s: it is read as it last was good, or left out",
            file.display()
        );
    }
}

/// For `/status`: each file with the seconds for which it has been held back.
pub(super) fn describe(known: &HeldBack) -> Value {
    let row = |(file, since): (&PathBuf, &SystemTime)| {
        (file.display().to_string(), json!(since.elapsed().map_or(0, |since| since.as_secs())))
    };
    Value::Object(known.iter().map(row).collect())
}
