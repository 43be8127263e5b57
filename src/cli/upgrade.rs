//! `yumen upgrade`: another process takes over from the running gateway.

use std::path::PathBuf;

use clap::Args;

use super::door::Door;
use super::{Exit, fail, reload};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The program that takes over; else what now lies where the running one was started from. It reads and checks the
    /// document first: where it refuses it, or fails in any other way, the running gateway serves on.
    #[arg(value_name = "PROGRAM")]
    program: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Exit {
    let target = match options.program.as_ref().map(std::fs::canonicalize).transpose() {
        Ok(None) => "/upgrade".to_owned(),
        Ok(Some(file)) => format!("/upgrade?program={}", escaped(&file.to_string_lossy())),
        Err(why) => {
            let file = options.program.as_deref().unwrap_or(std::path::Path::new("")).display().to_string();
            return fail(Exit::FileMissing, &format!("{file}: {why}"));
        }
    };
    match options.door.ask_privately(&target) {
        Ok(answer) => reload::verdict(&answer),
        Err(exit) => exit,
    }
}

/// A path as a part of a query (RFC 3986 section 2.1).
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert_eq!(escaped("/opt/yumen 1.2/é"), "/opt/yumen%201.2/%C3%A9");
    }
}
