//! `yumen reload`: the running gateway reads its document again, and says what became of it.

use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::{Document, Exit, fail};
use crate::client::http::{Answer, Call};
use crate::config;
use crate::units::Address;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    /// The admin address; else what the document says.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
    /// Wait for the verdict: exit 0 when the document serves, 78 when it was refused.
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(options: &Options) -> Exit {
    let admin = match options.admin.clone().map_or_else(|| admin_of(&options.document), Ok) {
        Ok(admin) => admin,
        Err(why) => return fail(Exit::FileMissing, &why),
    };
    let target = if options.wait { "/reload?wait" } else { "/reload" };
    let call = Call { to: &admin, method: Method::POST, target, deadline: Duration::from_mins(1), cap: 16 << 20 };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(Exit::Internal, &format!("cannot start a runtime: {why}")),
    };
    match runtime.block_on(call.send()) {
        Ok(answer) => verdict(&answer),
        Err(why) => fail(Exit::NotRunning, &format!("no running gateway: {why}")),
    }
}

/// What the running gateway says: its report on stdout, its verdict as the exit code.
fn verdict(answer: &Answer) -> Exit {
    let Ok(outcome) = serde_json::from_slice::<Value>(&answer.body) else {
        let text = String::from_utf8_lossy(&answer.body);
        return fail(Exit::Internal, &format!("the gateway answered {}: {}", answer.status, text.trim()));
    };
    let word = |key: &str| outcome.get(key).and_then(Value::as_str).unwrap_or_default();
    let generation = outcome.get("generation").and_then(Value::as_u64).unwrap_or_default();
    let line = match (answer.status, word("result")) {
        (202, _) => "ordered; `/status` on the admin listener tells the verdict\n".to_owned(),
        (200, "unchanged") => format!("unchanged: generation {generation} already serves this document\n"),
        (200, _) => format!("applied: generation {generation} serves, hash {}\n", word("hash")),
        _ => {
            eprint!("{}", word("report"));
            return fail(Exit::Invalid, &format!("refused: generation {generation} serves on"));
        }
    };
    super::print(&line)
}

/// Where the running gateway is asked, by the document; one that is wrong elsewhere may still say it.
pub(super) fn admin_of(document: &Document) -> Result<Address, String> {
    let loaded = config::load(&document.config);
    match loaded.unreadable {
        Some(why) => Err(format!("{}: {why}", document.config.display())),
        None => Ok(loaded.document.admin.bind),
    }
}
