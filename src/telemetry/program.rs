//! The program's own log: one line per event on standard error, its level changeable while it runs.

mod hand;

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use log::{LevelFilter, Log, Metadata, Record};
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::writer::{self, Desk};
use super::clock::Moment;
pub use hand::{Held, held, hold, let_go, settle};

/// How much the program says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The least important message that is still written. `RUST_LOG`, when set, wins.
    pub level: Level,
}

/// How important a message is, most important first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

const WORDS: [(&str, Level); 5] = [
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORDS.iter().find(|(_, level)| level == self).map_or("", |(word, _)| word))
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = WORDS.iter().find(|(word, _)| *word == text).map(|(_, level)| *level);
        known.ok_or_else(|| format!("`{text}` is not error, warn, info, debug or trace"))
    }
}

/// Libraries that tell of each failed request what our own lines tell better; they are heard only when someone digs.
const CHATTY: [&str; 8] = ["pingora", "h2", "rustls", "tokio_rustls", "hickory", "hyper", "mio", "notify"];

/// What tells of each client that leaves while it gets a remembered answer, as if that were an error.
const ABORTED: &str = "pingora_proxy::proxy_cache";

/// Begins the log. `RUST_LOG`, when set, decides alone; else the level that `set_level` says.
pub fn start(level: Level) {
    let directives = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is(&stream, Path::new("/proc/self/fd/2")));
    let mut builder = env_logger::Builder::new();
    match &directives {
        Some(text) => builder.parse_filters(text),
        None => builder.filter_level(LevelFilter::Trace),
    };
    builder.format(move |to, record| write(to, record, SystemTime::now(), journal));
    let inner = builder.build();
    let most = inner.filter();
    // A second start, as in tests, keeps the first log.
    if log::set_boxed_logger(Box::new(Logger { inner, fixed: directives.is_some(), journal })).is_ok() {
        if directives.is_some() {
            log::set_max_level(most);
        } else {
            hand::say(level.into());
        }
    }
}

/// Whether a file is the one of this `device:inode`: standard error may lead elsewhere than to the journal that the
/// service manager gave us.
fn is(stream: &str, file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| format!("{}:{}", found.dev(), found.ino()) == stream)
}

/// Where lines are left while the program serves.
static DESK: OnceLock<Arc<Desk>> = OnceLock::new();
/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(2);

/// From now on a thread of its own writes: standard error that nobody reads stops no request, it costs lines, which are
/// counted. They are written when the log is flushed, and soon anyway.
pub fn serve(dropped: IntCounter) {
    match writer::program(dropped) {
        Ok(desk) => drop(DESK.set(desk)),
        Err(why) => log::warn!("whoever reads standard error slowly slows us down: {why}"),
    }
}

/// Changes the level of a running program, unless `RUST_LOG` has decided it, or a hand does for a while.
pub fn set_level(level: Level) {
    if !is_fixed() {
        hand::say(level.into());
    }
}

fn is_fixed() -> bool {
    std::env::var_os("RUST_LOG").is_some_and(|text| !text.is_empty())
}

/// `env_logger` writes; which records it sees changes while it runs, which its own filter cannot.
struct Logger {
    inner: env_logger::Logger,
    /// `RUST_LOG` has decided.
    fixed: bool,
    journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        (self.fixed || metadata.level() <= heard(target, hand::level_of(target))) && self.inner.enabled(metadata)
    }
    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(desk) = DESK.get() else { return self.inner.log(record) };
        let mut line = Vec::with_capacity(256);
        // Into memory everything can be written.
        let _ = write(&mut line, record, SystemTime::now(), self.journal);
        desk.leave(&line);
    }
    fn flush(&self) {
        self.inner.flush();
        if let Some(desk) = DESK.get() {
            desk.flush(LAST_LINES);
        }
    }
}

/// How much of a target's messages is written when ours are written at `level`.
fn heard(target: &str, level: LevelFilter) -> LevelFilter {
    if target == ABORTED && level < LevelFilter::Debug {
        return LevelFilter::Off;
    }
    let chatty = CHATTY.iter().any(|name| target.starts_with(name));
    if chatty && level < LevelFilter::Debug { level.min(LevelFilter::Error) } else { level }
}

/// `2026-11-21T10:00:00Z WARN message`, or with the journal's priority and without the time, which it adds itself.
fn write(to: &mut impl Write, record: &Record<'_>, now: SystemTime, journal: bool) -> io::Result<()> {
    let mut line = Vec::with_capacity(256);
    if journal {
        let priority = match record.level() {
            log::Level::Error => 3,
            log::Level::Warn => 4,
            log::Level::Info => 6,
            log::Level::Debug | log::Level::Trace => 7,
        };
        write!(line, "<{priority}>")?;
    } else {
        line.extend_from_slice(&Moment::of(now).rfc3339());
        write!(line, " {} ", record.level())?;
    }
    if !record.target().starts_with("yumen") {
        write!(line, "{}: ", record.target())?;
    }
    let start = line.len();
    write!(line, "{}", record.args())?;
    let message = line.split_off(start);
    one_line(&mut line, &message);
    line.push(b'\n');
    to.write_all(&line)
}

/// A message stays on its line and cannot steer a terminal, whoever's text is in it.
fn one_line(to: &mut Vec<u8>, message: &[u8]) {
    let message = String::from_utf8_lossy(message);
    for letter in message.chars() {
        if letter.is_control() {
            to.extend(letter.escape_default().map(|part| u8::try_from(part).unwrap_or(b'?')));
        } else {
            to.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn line(target: &str, level: log::Level, message: &str, journal: bool) -> String {
        let mut to = Vec::new();
        let now = UNIX_EPOCH + Duration::from_hours(498_682);
        let args = format_args!("{message}");
        write(&mut to, &Record::builder().target(target).level(level).args(args).build(), now, journal).unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_line_has_its_time_or_its_priority() {
        assert_eq!(line("yumen::gateway", log::Level::Warn, "late", false), "2026-11-21T10:00:00Z WARN late\n");
        assert_eq!(line("yumen", log::Level::Error, "late", true), "<3>late\n");
        assert_eq!(line("pingora_core", log::Level::Info, "late", true), "<6>pingora_core: late\n");
    }

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let (file, other) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let found = file.path().metadata().unwrap();
        let stream = format!("{}:{}", found.dev(), found.ino());
        assert!(is(&stream, file.path()));
        assert!(!is(&stream, other.path()) && !is("", file.path()) && !is(&stream, Path::new("/nowhere")));
    }

    #[test]
    fn a_message_cannot_forge_another_line() {
        let forged = "GET /\n2026-11-21T10:00:00Z ERROR all is lost\x1b[31m";
        assert_eq!(
            line("yumen", log::Level::Info, forged, false),
            "2026-11-21T10:00:00Z INFO GET /\\n2026-11-21T10:00:00Z ERROR all is lost\\u{1b}[31m\n"
        );
    }

    #[test]
    fn libraries_are_heard_only_when_someone_digs() {
        assert_eq!(heard("pingora_proxy", LevelFilter::Info), LevelFilter::Error);
        assert_eq!(heard("pingora_proxy", LevelFilter::Debug), LevelFilter::Debug);
        assert_eq!(heard(ABORTED, LevelFilter::Info), LevelFilter::Off);
        assert_eq!(heard("yumen::proxy", LevelFilter::Info), LevelFilter::Info);
        assert_eq!(heard("yumen::proxy", LevelFilter::Warn), LevelFilter::Warn);
    }
}
