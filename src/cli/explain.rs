//! `yumen explain`: where a request would go and why, or what refuses it, from the document alone.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use clap::Args;

use super::{Document, Exit, Format, Output, deciding, fail, print};
use crate::config::case::Who;
use crate::config::{Loaded, Places};
use crate::fault::Fault;
use crate::gateway::ask::{Ask, told as told_to_programs};
use crate::policy::foresee::Step;
use crate::policy::gather::Gather;
use crate::policy::gather::call::Call;
use crate::policy::guard::Mode;
use crate::problem::Path;
use crate::proxy::trial::{End, Unknown, Verdict};
use crate::route::{Action, Explanation, Route};
use crate::units::{Name, Size};

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
    /// Who opens the connection.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// Who it is, in place of what `auth` finds out: claims as JSON, or e.g. `sub=alice,role=admin`.
    #[arg(long = "as", value_name = "CLAIMS")]
    who: Option<String>,
    /// The body, or `@FILE`.
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// The length of a body that is not at hand, e.g. 20MiB.
    #[arg(long, value_name = "SIZE", conflicts_with = "body")]
    length: Option<Size>,
    /// The listener that it comes to; the first one that speaks the scheme of the URL, when left out.
    #[arg(long, value_name = "NAME")]
    listener: Option<Name>,
    /// The name that its TLS handshake asks for; the host of the URL, when left out.
    #[arg(long, value_name = "HOST")]
    sni: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Prints the route with its place, what each guard says, its pools, and why the nearest others lost. Exit code 0
/// whatever the answer is.
pub(super) fn run(options: &Options) -> Exit {
    let (loaded, deciding) = match deciding::of(&options.document) {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    let ask = match asked(options) {
        Ok(ask) => ask,
        Err((exit, sentence)) => return fail(exit, &sentence),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(Exit::Internal, &format!("cannot start a runtime: {why}")),
    };
    let verdict = match runtime.block_on(ask.judge((&deciding).into())) {
        Ok(verdict) => verdict,
        Err(sentence) => return fail(Exit::Usage, &sentence),
    };
    match options.output.output {
        Format::Human => print(&tell(&options.method, &verdict, &loaded)),
        Format::Json => print(&format!("{:#}\n", told_to_programs(&options.method, &verdict))),
    }
}

/// What is asked about; the error is how that ends, and a sentence.
fn asked(options: &Options) -> Result<Ask<'_>, (Exit, String)> {
    let wrong = |sentence: String| (Exit::Usage, sentence);
    let body = match options.body.as_deref().map(|body| (body, body.strip_prefix('@'))) {
        None => Vec::new(),
        Some((_, Some(file))) => read(file)?,
        Some((text, None)) => text.as_bytes().to_vec(),
    };
    let mut head = Vec::new();
    for line in &options.headers {
        let (name, value) =
            line.split_once(':').ok_or_else(|| wrong(format!("`{line}`: write it as `name: value`")))?;
        head.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(Ask {
        method: &options.method,
        url: &options.url,
        head,
        client: options.client,
        listener: options.listener.as_ref(),
        sni: options.sni.as_deref(),
        who: options.who.as_deref().map(str::parse::<Who>).transpose().map_err(wrong)?.map(|who| who.identity()),
        body,
        length: options.length,
    })
}

fn read(file: &str) -> Result<Vec<u8>, (Exit, String)> {
    std::fs::read(file).map_err(|why| match why.kind() {
        std::io::ErrorKind::NotFound => (Exit::FileMissing, format!("there is no file {file}")),
        std::io::ErrorKind::PermissionDenied => (Exit::NotPermitted, format!("{file} may not be read")),
        _ => (Exit::Internal, format!("cannot read {file}: {why}")),
    })
}

fn tell(method: &str, verdict: &Verdict<'_>, loaded: &Loaded) -> String {
    let mut text = format!("{method} {}{}\n", verdict.host, verdict.path);
    if let Some(explanation) = &verdict.explanation {
        text += &told(explanation, verdict, loaded);
    }
    // Writing to a String cannot fail.
    let _ = match &verdict.end {
        End::Refused(refused) if verdict.explanation.as_ref().is_none_or(|said| said.chosen.is_some()) => {
            let by = refused.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
            let why = refused.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            writeln!(text, "answer {} {}{by}{why}", refused.fault.status(), refused.fault)
        }
        End::Replied(status) => writeln!(text, "answer {status}"),
        End::Unknown(Unknown::Who) => writeln!(text, "answer  as `auth` decides: say who it is with --as"),
        End::Unknown(Unknown::Body) => {
            writeln!(text, "answer  as `validate` decides: say what is in the body with --body")
        }
        _ => Ok(()),
    };
    text
}

/// The route, or that there is none, and the nearest others.
fn told(explanation: &Explanation<'_>, verdict: &Verdict<'_>, loaded: &Loaded) -> String {
    let mut text = String::new();
    let _ = match (&explanation.chosen, &explanation.allow) {
        (Some((route, _)), _) => {
            writeln!(text, "route  {}  {}{}", route.name, route.place, deed(route, verdict, &loaded.places))
        }
        (None, Some(allow)) => {
            writeln!(text, "no route: {} route.method, allowed here: {allow}", Fault::RouteMethod.status())
        }
        (None, None) => writeln!(text, "no route: {} route.none", Fault::RouteNone.status()),
    };
    for (name, value) in explanation.params.all(&verdict.path) {
        let _ = writeln!(text, "  :{name} = {value}");
    }
    for lost in &explanation.lost {
        let _ = writeln!(text, "not    {}  {}", lost, lost.route.place);
    }
    text
}

/// What the route asks for and does, one line each.
fn deed(route: &Route, verdict: &Verdict<'_>, places: &Places) -> String {
    let guards: String = verdict.steps.iter().map(guard).collect();
    let call = verdict.call.as_ref().map(|call| format!("\n  calls {call}")).unwrap_or_default();
    guards + &websocket(route, places) + &bodies(route, places) + &call + &action(route, verdict, places)
}

fn guard(step: &Step) -> String {
    let shadow = if step.mode == Mode::Shadow { "  only watches" } else { "" };
    let because = step.said.refusal().map(|refusal| format!(": {}, {}", refusal.fault, refusal.why));
    format!("\n  guard {}{shadow}  {}{}", step.rule, step.said, because.unwrap_or_default())
}

fn websocket(route: &Route, places: &Places) -> String {
    let at = Path::of(["routes", route.name.as_str(), "websocket"]);
    route.websocket.as_ref().map(|kept| format!("\n  websocket  {}  {kept}", places.at(&at))).unwrap_or_default()
}

fn bodies(route: &Route, places: &Places) -> String {
    let at = |key| places.at(&Path::of(["routes", route.name.as_str(), key]));
    let graphql = route.bodies.graphql.as_ref().map(|graphql| format!("\n  graphql  {}  {graphql}", at("graphql")));
    let sides = [("request", route.bodies.request().is_some()), ("response", route.bodies.response().is_some())];
    let sides: Vec<&str> = sides.into_iter().filter(|(_, there)| *there).map(|(side, _)| side).collect();
    let changes =
        if sides.is_empty() { None } else { Some(format!("\n  transform  {}  {}", at("transform"), sides.join(", "))) };
    let with = route.bodies.compress.as_ref().map(|with| format!("\n  compress  {}  {with}", at("compress")));
    graphql.into_iter().chain(changes).chain(with).collect()
}

fn action(route: &Route, verdict: &Verdict<'_>, places: &Places) -> String {
    match &route.action {
        Action::Respond(respond) => format!("\n  answers {} itself", respond.status),
        Action::Batch(batch) => format!("\n  {batch}"),
        Action::Gather(gather) => gather.calls().iter().map(|call| self::call(call, gather, places)).collect(),
        Action::Redirect(redirect) => format!("\n  redirects with {}", redirect.status),
        Action::Publish(publish) => format!("\n  publishes to {}", publish.said),
        Action::Subscribe(subscribe) => format!("\n  streams {}", subscribe.said),
        Action::Forward(split) => {
            let at = Path::of(["routes", route.name.as_str(), "trace"]);
            let trace = route.trace.map(|trace| format!("\n  trace  {}  sample {}", places.at(&at), trace.share));
            let line = |(pool, weight): (&str, u32)| {
                let place = places.at(&Path::of(["pools", pool]));
                format!("\n  pool {pool}  {place}  weight {weight}")
            };
            let stick = split.stick().map(|stick| format!("\n  the same user stays with one pool, by {stick}"));
            let asked = verdict.pool.as_ref().map(|pool| format!("\n  this request asks for pool {pool}"));
            let copies = route.copy_to.iter().map(|copies| {
                let pool = copies.pool().name().as_str();
                format!("\n  copy_to {pool}  {}  sample {}", places.at(&Path::of(["pools", pool])), copies.sample())
            });
            let at = Path::of(["routes", route.name.as_str(), "cache"]);
            let cache = route.cache.iter().map(|cache| format!("\n  cache  {}  {cache}", places.at(&at)));
            cache.chain(split.weights().map(line)).chain(stick).chain(asked).chain(copies).chain(trace).collect()
        }
    }
}

/// One of the calls that a route answers with.
fn call(call: &Call, gather: &Gather, places: &Places) -> String {
    let pool = call.pool().name().as_str();
    let needs: Vec<_> =
        call.needs().iter().filter_map(|at| gather.calls().get(*at)).map(|call| call.name().as_str()).collect();
    let after = if needs.is_empty() { String::new() } else { format!("  after {}", needs.join(", ")) };
    format!("\n  call {}  pool {pool}  {}{after}", call.name(), places.at(&Path::of(["pools", pool])))
}
