//! `yumen reload`: the running gateway reads its document again, and says what became of it.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::door::Door;
use super::{Exit, fail};
use crate::client::http::Answer;
use crate::config::diff::Diff;

/// How many processes in a row are asked: each may have handed over to the next.
const ASKED: u32 = 5;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// Wait for the verdict, and print what changed: exit 0 when the document serves, 78 when it was refused.
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(options: &Options) -> Exit {
    let target = if options.wait { "/reload?wait" } else { "/reload" };
    for left in (0..ASKED).rev() {
        match options.door.ask(Method::POST, target) {
            // It was faster to see the file change, and has handed over: its successor is asked.
            Ok(answer) if left > 0 && is_gone(&answer) => {}
            Ok(answer) => return verdict(&answer),
            Err(exit) => return exit,
        }
    }
    Exit::NotRunning
}

fn is_gone(answer: &Answer) -> bool {
    let outcome = serde_json::from_slice::<Value>(&answer.body);
    outcome.is_ok_and(|outcome| outcome.get("result").and_then(Value::as_str) == Some("gone"))
}

/// What is wrong although it serves: files that are held back.
fn complaints(report: &str) -> &str {
    if report.contains("\nheld back, read as before or left out: ") { report } else { "" }
}

/// What the running gateway says: its report on stdout, its verdict as the exit code.
pub(super) fn verdict(answer: &Answer) -> Exit {
    let Ok(outcome) = serde_json::from_slice::<Value>(&answer.body) else {
        let text = String::from_utf8_lossy(&answer.body);
        return fail(Exit::Internal, &format!("the gateway answered {}: {}", answer.status, text.trim()));
    };
    let word = |key: &str| outcome.get(key).and_then(Value::as_str).unwrap_or_default();
    let generation = outcome.get("generation").and_then(Value::as_u64).unwrap_or_default();
    if let Ok(changes) = serde_json::from_value::<Diff>(outcome.get("changes").cloned().unwrap_or_default()) {
        let _ = super::print(&changes.human());
    }
    if answer.status == 200 && word("result") != "handed_over" {
        eprint!("{}", complaints(word("report")));
    }
    let line = match (answer.status, word("result")) {
        (202, _) => "ordered; `/status` on the admin listener tells the verdict\n".to_owned(),
        (200, "handed_over") => format!("handed over: {}, generation {generation}\n", word("report").trim_end()),
        (200, "unchanged") => format!("unchanged: generation {generation} already serves this document\n"),
        (200, _) => format!("applied: generation {generation} serves, hash {}\n", word("hash")),
        (403, _) => return fail(Exit::NotPermitted, word("error")),
        _ => {
            eprint!("{}", word("report"));
            let exit = outcome.get("exit").and_then(Value::as_u64).and_then(|exit| u8::try_from(exit).ok());
            return fail(exit.map_or(Exit::Invalid, Exit::of), &format!("refused: generation {generation} serves on"));
        }
    };
    super::print(&line)
}
