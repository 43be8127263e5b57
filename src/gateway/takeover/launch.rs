//! Starting a successor.
//!
//! It must not be our child: systemd watches the main process only if that is a child of its own, and so must be the
//! next one. So the program is started to start itself once more and to end: whose parent has ended is adopted by the
//! first process of the machine. All of it is one process group, which can be ended whatever it turns out to be.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// The argument by which a process knows that it is to take over, and how far it has come.
pub const ARGUMENT: &str = "--takeover";

/// A program with its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    file: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// What runs now, by the file that it was started from: an upgrade puts another one there.
    pub fn ours() -> io::Result<Self> {
        let mine = format!("{ARGUMENT}=");
        let arguments = std::env::args_os().skip(1);
        let arguments = arguments.filter(|one| !one.as_encoded_bytes().starts_with(mine.as_bytes())).collect();
        Ok(Self { file: std::env::current_exe()?, arguments })
    }

    /// Another file with the same arguments.
    #[must_use]
    pub fn at(&self, file: PathBuf) -> Self {
        Self { file, arguments: self.arguments.clone() }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Starts it with one end of a line as its standard input.
    pub(super) fn start(&self, line: OwnedFd) -> io::Result<Started> {
        let mut command = self.command("launch");
        let launcher = command.stdin(Stdio::from(line)).process_group(0).spawn()?;
        Ok(Started { group: i32::try_from(launcher.id()).ok().and_then(Pid::from_raw), launcher })
    }

    fn command(&self, stage: &str) -> Command {
        let mut command = Command::new(&self.file);
        command.args(&self.arguments).arg(format!("{ARGUMENT}={stage}"));
        // Said to us alone: the successor is told by us.
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command
    }
}

/// The launcher's whole work: starts the program that takes over, and leaves it alone.
pub fn launch() -> io::Result<()> {
    Program::ours()?.command("serve").stdin(Stdio::inherit()).spawn().map(drop)
}

/// A successor that has been started.
#[derive(Debug)]
pub(super) struct Started {
    launcher: Child,
    group: Option<Pid>,
}

impl Started {
    /// Ends it, whatever it is doing.
    pub(super) fn kill(mut self) {
        if let Some(group) = self.group {
            // Nobody may be left.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.launcher.wait();
    }

    /// It lives on; the launcher has ended or is about to.
    pub(super) fn release(mut self) {
        let _ = self.launcher.wait();
    }
}
