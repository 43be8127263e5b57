//! `yumen explain`: where a request would go and why, from the document alone.

use std::fmt::Write;

use clap::Args;

use super::{Document, Exit, fail, print};
use crate::config::{self, Loaded, Places, report};
use crate::exchange::Request;
use crate::fault::Fault;
use crate::policy::guard::{Mode, Rule};
use crate::problem::Path;
use crate::route::{Action, Explanation, Question, Route};
use crate::snapshot::{self, Tools};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    /// The method, e.g. GET.
    method: String,
    /// The URL, with or without scheme, e.g. api.example.com/orders/7.
    url: String,
    /// A header field, e.g. `x-canary: yes`; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
}

/// Prints the route with its place, its pools, and why the nearest others lost. Exit code 0 whatever the answer is.
pub(super) fn run(options: &Options) -> Exit {
    let question = match question(options) {
        Ok(question) => question,
        Err(sentence) => return fail(Exit::Usage, &sentence),
    };
    let tools = match Tools::new() {
        Ok(tools) => tools,
        Err(why) => return fail(Exit::Internal, &why),
    };
    let loaded = config::load(&options.document.config);
    let (table, problems) = snapshot::routes(&loaded, &tools);
    let Some(table) = table.filter(|_| loaded.code() == 0) else {
        eprint!("{}", report::human(if loaded.code() == 0 { &problems } else { &loaded.problems }, &loaded.places));
        return Exit::of(if loaded.code() == 0 { Exit::Invalid as u8 } else { loaded.code() });
    };
    print(&tell(&question, &table.explain(&question), &loaded))
}

fn question(options: &Options) -> Result<Question, String> {
    let wrong =
        |fault: Fault| format!("`{}` would be refused before any route: {} ({fault})", options.url, fault.status());
    let mut question = Question::new(&options.method, &options.url).map_err(wrong)?;
    for line in &options.headers {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("`{line}`: write it as `name: value`"))?;
        let unfit = |_| format!("`{line}` is not a header field");
        question = question.with(name.trim(), value.trim()).map_err(unfit)?;
    }
    Ok(question)
}

fn tell(question: &Question, explanation: &Explanation<'_>, loaded: &Loaded) -> String {
    let mut text = format!("{} {}{}\n", question.method(), question.host(), question.path());
    // Writing to a String cannot fail.
    let _ = match (&explanation.chosen, &explanation.allow) {
        (Some((route, _)), _) => {
            writeln!(text, "route  {}  {}{}", route.name, route.place, deed(route, question, &loaded.places))
        }
        (None, Some(allow)) => {
            writeln!(text, "no route: {} route.method, allowed here: {allow}", Fault::RouteMethod.status())
        }
        (None, None) => writeln!(text, "no route: {} route.none", Fault::RouteNone.status()),
    };
    for (name, value) in explanation.params.all(question.path()) {
        let _ = writeln!(text, "  :{name} = {value}");
    }
    for lost in &explanation.lost {
        let _ = writeln!(text, "not    {}  {}", lost, lost.route.place);
    }
    text
}

/// What the route asks for and does, one line each.
fn deed(route: &Route, question: &Question, places: &Places) -> String {
    let guard = |rule: &Rule| {
        let shadow = if rule.mode == Mode::Shadow { "  only watches" } else { "" };
        format!("\n  guard {}{shadow}", rule.name)
    };
    let guards: String = route.guards.iter().flat_map(|guards| guards.rules()).map(guard).collect();
    guards + &websocket(route, places) + &action(route, question, places)
}

fn websocket(route: &Route, places: &Places) -> String {
    let at = Path::of(["routes", route.name.as_str(), "websocket"]);
    route.websocket.as_ref().map(|kept| format!("\n  websocket  {}  {kept}", places.at(&at))).unwrap_or_default()
}

fn action(route: &Route, question: &Question, places: &Places) -> String {
    match &route.action {
        Action::Respond(respond) => format!("\n  answers {} itself", respond.status),
        Action::Redirect(redirect) => format!("\n  redirects with {}", redirect.status),
        Action::Forward(split) => {
            let line = |(pool, weight): (&str, u32)| {
                let place = places.at(&Path::of(["pools", pool]));
                format!("\n  pool {pool}  {place}  weight {weight}")
            };
            let stick = split.stick().map(|stick| format!("\n  the same user stays with one pool, by {stick}"));
            let asked = split.asked(question).map(|pool| format!("\n  this request asks for pool {pool}"));
            let copies = route.copy_to.iter().map(|copies| {
                let pool = copies.pool().name().as_str();
                format!("\n  copy_to {pool}  {}  sample {}", places.at(&Path::of(["pools", pool])), copies.sample())
            });
            split.weights().map(line).chain(stick).chain(asked).chain(copies).collect()
        }
    }
}
