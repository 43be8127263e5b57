//! `yumen history` and `yumen rollback`: what served before, and the way back to it.

use std::fmt::Write;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::door::Door;
use super::{Exit, Format, fail, print, reload};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// For people or for programs.
    #[arg(short, long, visible_alias = "format", value_enum, default_value = "human")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Back {
    #[command(flatten)]
    door: Door,
    /// Take the files that the document names as they are, also where they have changed since.
    #[arg(long)]
    as_they_are: bool,
    /// The generation, as `history` numbers them; the one before when left out.
    generation: Option<u64>,
}

pub(super) fn run(options: &Options) -> Exit {
    let answer = match options.door.ask(Method::GET, "/history") {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let Ok(history) = serde_json::from_slice::<Value>(&answer.body) else {
        return fail(Exit::Internal, &format!("the gateway answered {}", answer.status));
    };
    match options.output {
        Format::Json => print(&format!("{history:#}\n")),
        Format::Human => print(&told(&history)),
    }
}

/// A line for each generation, below it what it changed.
fn told(history: &Value) -> String {
    let mut text = String::new();
    for row in history.get("generations").and_then(Value::as_array).into_iter().flatten() {
        let word = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let is = |key: &str| row.get(key).and_then(Value::as_bool).unwrap_or_default();
        let serves = match row.get("serves_as").and_then(Value::as_u64) {
            Some(number) => format!("  serves, as generation {number} since a take-over"),
            None if is("serves") => "  serves".to_owned(),
            None => String::new(),
        };
        let gone = if is("kept") { "" } else { "  its document is no longer kept" };
        let number = row.get("generation").and_then(Value::as_u64).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{number:>4}  {}  {}  {}{serves}{gone}", word("time"), word("hash"), word("by"));
        for line in row.get("changes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(text, "        {line}");
        }
    }
    if history.get("kept_for_a_restart").and_then(Value::as_bool) == Some(false) {
        text.push_str("kept until the process ends: there is no directory for its state (runtime.state)\n");
    }
    text
}

pub(super) fn roll_back(options: &Back) -> Exit {
    let to = options.generation.map(|number| format!("to={number}"));
    let files = options.as_they_are.then(|| "files=now".to_owned());
    let query: Vec<String> = to.into_iter().chain(files).collect();
    match options.door.ask(Method::POST, &format!("/rollback?{}", query.join("&"))) {
        Ok(answer) => reload::verdict(&answer),
        Err(exit) => exit,
    }
}
