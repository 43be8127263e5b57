//! `yumen password NAME`: asks for a password and prints the line with its hash for the file of `basic`.

use std::io::{IsTerminal, Read, Stdin, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Exit, fail, print};
use crate::policy::auth::password;

/// Reads one line, from a terminal twice and unseen. It never stands on the command line, which others can see.
pub(super) fn run(name: &str) -> Exit {
    if name.is_empty() || name.starts_with('#') || name.chars().any(|letter| letter == ':' || letter.is_control()) {
        return fail(Exit::Usage, "a name has no `:`, begins with no `#`, and is not empty");
    }
    let password = match read() {
        Ok(password) => password,
        Err(why) => return fail(Exit::Usage, &why),
    };
    match password::hash(password.as_bytes()) {
        Some(hash) => print(&format!("{name}:{hash}\n")),
        None => fail(Exit::Internal, "this machine has no randomness to make a hash with"),
    }
}

fn read() -> Result<String, String> {
    let input = std::io::stdin();
    let password = if input.is_terminal() {
        let password = unseen(&input, "password: ")?;
        if unseen(&input, "once more: ")? != password {
            return Err("these were two different passwords".to_owned());
        }
        password
    } else {
        let mut text = String::new();
        let read = input.take(4096).read_to_string(&mut text);
        read.map_err(|why| format!("cannot read the password: {why}"))?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() || password.chars().any(char::is_control) {
        return Err("a password is one line of text, e.g. `yumen password acme < file`".to_owned());
    }
    Ok(password)
}

/// One line, while the terminal shows nothing of it.
fn unseen(terminal: &Stdin, question: &str) -> Result<String, String> {
    let failed = |why: std::io::Error| format!("cannot read the password: {why}");
    let before = tcgetattr(terminal).map_err(|why| failed(why.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    tcsetattr(terminal, OptionalActions::Flush, &silent).map_err(|why| failed(why.into()))?;
    let mut line = String::new();
    let read = terminal.read_line(&mut line);
    let back = tcsetattr(terminal, OptionalActions::Flush, &before);
    eprintln!();
    back.map_err(|why| failed(why.into()))?;
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
