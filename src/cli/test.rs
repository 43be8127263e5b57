//! `yumen test`: runs the tests that stand in the document, and says of each what came of it.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::table::Table;
use super::{Document, Exit, Format, Output, fail, print};
use crate::config::{self, Places, report};
use crate::gateway::rehearse::{self, Answer, Outcome};
use crate::snapshot::{self, Tools};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    #[command(flatten)]
    output: Output,
}

/// Nobody is asked and nothing is sent. The exit code is 0 where all hold and 78 where one does not.
pub(super) fn run(options: &Options) -> Exit {
    let tools = match Tools::new() {
        Ok(tools) => tools,
        Err(why) => return fail(Exit::Internal, &why),
    };
    let mut loaded = config::load(&options.document.config);
    let (deciding, further) = snapshot::deciding(&loaded, &tools);
    loaded.problems.append(further);
    let Some(deciding) = deciding.filter(|_| loaded.code() == 0) else {
        eprint!("{}", report::human(&loaded.problems, &loaded.places));
        return Exit::of(loaded.code());
    };
    let outcomes = match rehearse::outcomes(&loaded.document.tests, (&deciding).into()) {
        Ok(outcomes) => outcomes,
        Err(why) => return fail(Exit::Internal, &format!("the tests {why}")),
    };
    let text = match options.output.output {
        Format::Human => told(&outcomes, &loaded.places),
        Format::Json => {
            let all: Vec<Value> = outcomes.iter().map(|outcome| page(outcome, &loaded.places)).collect();
            format!("{:#}\n", Value::Array(all))
        }
    };
    match print(&text) {
        Exit::Fine if outcomes.iter().any(|outcome| outcome.wrong.is_some()) => Exit::Invalid,
        printed => printed,
    }
}

fn told(outcomes: &[Outcome<'_>], places: &Places) -> String {
    let mut table = Table::bare(0);
    for outcome in outcomes {
        let word = if outcome.wrong.is_some() { "fails" } else { "holds" };
        let said = match (&outcome.wrong, outcome.uncounted.as_slice()) {
            (Some(wrong), _) => wrong.clone(),
            (None, []) => outcome.case.expect.to_string(),
            (None, limits) => format!("{} (not counted here: {})", outcome.case.expect, limits.join(", ")),
        };
        let place = places.at(&outcome.at).to_string();
        table.row([word.to_owned(), place, outcome.case.send.to_string(), said]);
    }
    let mut text = if outcomes.is_empty() { String::new() } else { table.to_string() };
    let failed = outcomes.iter().filter(|outcome| outcome.wrong.is_some()).count();
    let plural = if outcomes.len() == 1 { "" } else { "s" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} test{plural}, {failed} failed", outcomes.len());
    text
}

/// The same for programs.
fn page(outcome: &Outcome<'_>, places: &Places) -> Value {
    let (mut status, mut code, mut pools) = (None, None, Vec::new());
    match &outcome.became.end {
        Answer::Status(is) => status = Some(*is),
        Answer::Refused { status: is, code: of, .. } => (status, code) = (Some(*is), Some(*of)),
        Answer::Forwarded(Ok(pool)) => pools.push(pool.clone()),
        Answer::Forwarded(Err(all)) => pools.clone_from(all),
        Answer::Undecided(_) => {}
    }
    json!({
        "place": places.at(&outcome.at).to_string(),
        "send": outcome.case.send,
        "expect": outcome.case.expect,
        "holds": outcome.wrong.is_none(),
        "detail": outcome.wrong,
        "became": { "route": outcome.became.route, "status": status, "code": code, "pools": pools },
        "not_counted": outcome.uncounted,
    })
}
