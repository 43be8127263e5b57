//! What a process begins with: the document on disk, what was brought back in its place, or the last that was good.

use std::path::{Path, PathBuf};

use super::Error;
use super::held_back::{self, Read};
use super::history::{Entry, History};
use super::source::Source;
use crate::config::{Loaded, report};
use crate::snapshot::{self, Snapshot, Tools};
use crate::telemetry::program;

/// What becomes of a start whose document is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Boot {
    /// It fails.
    #[default]
    Refuse,
    /// The last generation serves that was good, and everyone is told.
    LastGood,
}

/// What serves first.
pub struct First {
    pub snapshot: Snapshot,
    pub tools: Tools,
    pub history: History,
    /// What is wrong with the document on disk, where the last good one serves in its place.
    pub wrong: Option<String>,
    /// Included files that are read as they last were good.
    pub held_back: Vec<PathBuf>,
}

/// The first snapshot, or why there is none. Warnings go to the log.
pub(super) fn first(source: &Source, boot: Boot) -> Result<First, Error> {
    let loaded = source.load();
    let history = History::open(&state(&loaded), source.file());
    let tools = Tools::new().map_err(Error::Internal)?;
    program::serve(tools.metrics.program_log_dropped());
    if let Some(snapshot) = brought_back(&history, &loaded, &tools) {
        return Ok(First { snapshot, tools, history, wrong: None, held_back: Vec::new() });
    }
    let code = loaded.code();
    let texts = history.last().and_then(|last| history.texts(&last).ok()).unwrap_or_default();
    let Read { loaded, compiled, report, held_back } = held_back::read(source, &tools, None, &|file| texts.get(file));
    match compiled.snapshot {
        Some(snapshot) => {
            program::set_level(snapshot.log);
            if !compiled.problems.is_empty() || !held_back.is_empty() {
                log::warn!("{}", report.trim_end());
            }
            history.hold(None);
            Ok(First { snapshot, tools, history, wrong: None, held_back })
        }
        None if boot == Boot::LastGood => match last_good(&history, &loaded, &tools) {
            Ok(snapshot) => Ok(First { snapshot, tools, history, wrong: Some(report), held_back: Vec::new() }),
            Err(why) => Err(Error::Document(format!("{report}no last good configuration: {why}\n"), wrong(code))),
        },
        None => Err(Error::Document(report, wrong(code))),
    }
}

fn wrong(code: u8) -> u8 {
    if code == 0 { 78 } else { code }
}

/// Where what outlives the process lies; a document that cannot be read may not say it, the service manager does then.
fn state(loaded: &Loaded) -> PathBuf {
    let said = loaded.document.runtime.state.clone();
    let managed = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from).filter(|dir| dir.is_absolute());
    said.or_else(managed).unwrap_or_else(|| loaded.document.runtime.state().to_owned())
}

/// What was brought back, as long as the files say what they said then.
fn brought_back(history: &History, disk: &Loaded, tools: &Tools) -> Option<Snapshot> {
    let held = history.held().filter(|held| held.instead_of == disk.hash)?;
    let snapshot = history.find(Some(held.to), held.to).and_then(|entry| again(history, &entry, disk, tools));
    match snapshot {
        Ok(snapshot) => {
            log::warn!("generation {} was brought back and serves in place of the document on disk", held.to);
            Some(snapshot)
        }
        Err(why) => {
            log::error!("generation {} was brought back and cannot serve: {}", held.to, why.trim_end());
            None
        }
    }
}

fn last_good(history: &History, disk: &Loaded, tools: &Tools) -> Result<Snapshot, String> {
    let entry = history.last().ok_or_else(|| "nothing is known of earlier generations".to_owned())?;
    again(history, &entry, disk, tools)
}

/// A generation as it was; the error says what is wrong with it now.
fn again(history: &History, entry: &Entry, disk: &Loaded, tools: &Tools) -> Result<Snapshot, String> {
    let mut loaded = Loaded::again(&history.texts(entry)?);
    let compiled = snapshot::compile(&mut loaded, tools, None);
    let mut snapshot = compiled.snapshot.ok_or_else(|| report::human(&compiled.problems, &loaded.places))?;
    follow(&mut snapshot, disk);
    program::set_level(snapshot.log);
    Ok(snapshot)
}

/// The files on disk matter too: when they change, they are read again.
pub(super) fn follow(snapshot: &mut Snapshot, disk: &Loaded) {
    let more = disk.files.iter().chain(&disk.directories);
    let more: Vec<PathBuf> = more.filter(|file| !snapshot.files.contains(file)).cloned().collect();
    snapshot.files.extend(more);
}

impl Source {
    /// The file in which it lies.
    pub fn file(&self) -> Option<&Path> {
        if let Self::File(file) = self { Some(file) } else { None }
    }
}
