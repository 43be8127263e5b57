//! `yumen diff`: what differs in effect between two documents, or between what serves and a document on disk.

use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::door::Door;
use super::{Exit, Format, fail, print};
use crate::config::diff::{Candidate, Diff, Effective, Nonce};
use crate::config::{self, Seals, report};
use crate::snapshot::{self, Tools};

#[derive(Args)]
#[command(after_help = "Exit codes: 0 nothing differs, 1 something does, 66, 69, 77 and 78 as for other verbs.")]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// Compare what the running gateway serves with NEW, or with the document on disk.
    #[arg(long)]
    running: bool,
    /// For people or for programs.
    #[arg(short, long, visible_alias = "format", value_enum, default_value = "human")]
    output: Format,
    /// The documents: OLD and NEW; with --running only NEW, or none.
    #[arg(value_name = "FILE", num_args = 0..=2)]
    documents: Vec<PathBuf>,
}

/// Prints a line for each difference, with whether it is hot or needs a hand-over.
pub(super) fn run(options: &Options) -> Exit {
    let nonce = match Nonce::new() {
        Ok(nonce) => nonce,
        Err(why) => return fail(Exit::Internal, &why),
    };
    let diff = match (options.running, options.documents.as_slice()) {
        (false, [old, new]) => two(old, new, &nonce),
        (true, []) => running(&options.door, &options.door.document.config, nonce),
        (true, [new]) => running(&options.door, new, nonce),
        (false, _) => Err(fail(Exit::Usage, "name two documents, OLD and NEW, or say --running")),
        (true, _) => Err(fail(Exit::Usage, "with --running name one document, or none for the one on disk")),
    };
    match diff {
        Ok(diff) => tell(&diff, options.output),
        Err(exit) => exit,
    }
}

fn tell(diff: &Diff, output: Format) -> Exit {
    let text = match output {
        Format::Json => format!("{:#}\n", json!({ "changes": diff })),
        Format::Human if diff.is_empty() => "nothing differs\n".to_owned(),
        Format::Human => diff.human(),
    };
    match print(&text) {
        Exit::Fine if !diff.is_empty() => Exit::No,
        exit => exit,
    }
}

fn two(old: &Path, new: &Path, nonce: &Nonce) -> Result<Diff, Exit> {
    Ok(Diff::between(&effective(old, nonce)?, &effective(new, nonce)?))
}

/// What a document means; one that is wrong is told as `check` does.
fn effective(path: &Path, nonce: &Nonce) -> Result<Effective, Exit> {
    let tools = Tools::new().map_err(|why| fail(Exit::Internal, &why))?;
    let loaded = config::load(path);
    if loaded.code() > 0 {
        eprint!("{}", report::human(&loaded.problems, &loaded.places));
        return Err(Exit::of(loaded.code()));
    }
    let seals = Seals::of(&snapshot::files(&loaded, &tools), &loaded.texts);
    Ok(snapshot::effective(&loaded, &seals, nonce))
}

fn running(door: &Door, new: &Path, nonce: Nonce) -> Result<Diff, Exit> {
    let effective = effective(new, &nonce)?;
    let body = serde_json::to_vec(&Candidate { nonce, effective }).unwrap_or_default();
    let answer = door.say(Method::POST, "/diff", &body)?;
    let told = serde_json::from_slice::<Value>(&answer.body).ok().filter(|_| answer.status == 200);
    let diff = told.and_then(|mut told| serde_json::from_value(told.get_mut("changes")?.take()).ok());
    diff.ok_or_else(|| {
        let text = String::from_utf8_lossy(&answer.body);
        fail(Exit::Internal, &format!("the gateway answered {}: {}", answer.status, text.trim()))
    })
}
