//! The tests of a document, run on what was compiled from it before it serves: nobody is asked, nothing is counted.

use std::fmt;

use super::ask::Ask;
use crate::config::Loaded;
use crate::config::case::{Body, Case, Expect, Who};
use crate::policy::foresee::Foreseen;
use crate::problem::{Path, Problems};
use crate::proxy::trial::{End, Ground, Refused, Unknown, Verdict};
use crate::route::Action;
use crate::snapshot::{self, Compiled, Snapshot, Tools};
use crate::units::Name;

/// What came of one test.
pub struct Outcome<'a> {
    pub at: Path,
    pub case: &'a Case,
    pub became: Became,
    /// Limits on the way, which count only where the gateway serves: they were taken to have room.
    pub uncounted: Vec<String>,
    /// Why it does not hold, in a sentence.
    pub wrong: Option<String>,
}

/// What becomes of a request.
#[derive(Debug, Default)]
pub struct Became {
    pub route: Option<Name>,
    pub end: Answer,
}

/// How it ends.
#[derive(Debug)]
pub enum Answer {
    /// A guard or the route answers.
    Status(u16),
    /// It is refused: the status and the code, and by what and why.
    Refused { status: u16, code: &'static str, outside: &'static str, why: String },
    /// It goes to a pool: to this one, or to one of several by their weights.
    Forwarded(Result<Name, Vec<Name>>),
    /// It cannot be known here, and why.
    Undecided(&'static str),
}

impl Default for Answer {
    fn default() -> Self {
        Self::Undecided("it was not sent")
    }
}

/// Compiles; a document whose tests fail is as wrong as one with a mistake.
pub(super) fn compile(loaded: &mut Loaded, tools: &Tools, before: Option<&Snapshot>) -> Compiled {
    let mut compiled = snapshot::compile(loaded, tools, before);
    if let Some(snapshot) = &compiled.snapshot {
        let failing = problems(loaded, snapshot.into());
        if failing.errors() > 0 {
            compiled.snapshot = None;
        }
        compiled.problems.append(failing);
    }
    compiled
}

/// The tests that fail, as errors of the document; `ground` is of this document.
pub fn problems(loaded: &Loaded, ground: Ground<'_>) -> Problems {
    let mut problems = Problems::default();
    match outcomes(&loaded.document.tests, ground) {
        Ok(outcomes) => {
            for Outcome { at, wrong, .. } in outcomes {
                if let Some(sentence) = wrong {
                    problems.error(at, sentence);
                }
            }
        }
        Err(why) => problems.error(Path::of(["tests"]), why),
    }
    problems
}

/// What comes of every test, in their order. The error says why none could be run.
pub fn outcomes<'a>(tests: &'a [Case], ground: Ground<'_>) -> Result<Vec<Outcome<'a>>, String> {
    if tests.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| format!("cannot be run, there is no runtime: {why}"))?;
    let run = |(index, case): (usize, &'a Case)| {
        let verdict = runtime.block_on(ask(case).judge(ground));
        outcome(Path::of(["tests"]).index(index), case, verdict)
    };
    Ok(tests.iter().enumerate().map(run).collect())
}

fn ask(case: &Case) -> Ask<'_> {
    let (body, length) = match &case.body {
        Some(Body::Text(text)) => (text.as_bytes().to_vec(), None),
        Some(Body::Length(length)) => (Vec::new(), Some(*length)),
        None => (Vec::new(), None),
    };
    Ask {
        method: case.send.method(),
        url: case.send.url(),
        head: case.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        client: case.client,
        listener: case.listener.as_ref(),
        sni: None,
        who: case.who.as_ref().map(Who::identity),
        body,
        length,
    }
}

fn outcome<'a>(at: Path, case: &'a Case, verdict: Result<Verdict<'_>, String>) -> Outcome<'a> {
    let (became, uncounted, unasked) = match verdict {
        Ok(verdict) => {
            let counts = verdict.steps.iter().filter(|step| matches!(step.said, Foreseen::Counts));
            let name = |rule: &str| rule.split(" (").next().unwrap_or(rule).to_owned();
            let uncounted = counts.map(|step| name(&step.rule)).collect();
            (Became::of(verdict), uncounted, None)
        }
        Err(why) => (Became::default(), Vec::new(), Some(why)),
    };
    let wrong = unasked.or_else(|| became.differs(&case.expect, &uncounted));
    Outcome { at, case, became, uncounted, wrong }
}

impl Became {
    fn of(verdict: Verdict<'_>) -> Self {
        let chosen = verdict.explanation.as_ref().and_then(|said| said.chosen).map(|(route, _)| route);
        let end = match verdict.end {
            End::Refused(refused) => Answer::refused(&refused),
            End::Replied(status) => Answer::Status(status),
            End::Unknown(Unknown::Who) => Answer::Undecided("`auth` would ask somebody; say who it is with `as`"),
            End::Unknown(Unknown::Body) => Answer::Undecided("`validate` reads the body; write it instead of its size"),
            End::Served => match chosen.map(|route| &route.action) {
                Some(Action::Respond(respond)) => Answer::Status(respond.status),
                Some(Action::Redirect(redirect)) => Answer::Status(redirect.status),
                Some(Action::Publish(_)) => Answer::Status(202),
                Some(Action::Subscribe(_) | Action::Batch(_)) => Answer::Status(200),
                Some(Action::Gather(gather)) => {
                    let pools: Vec<_> = gather.pools().iter().map(|pool| pool.name().clone()).collect();
                    Answer::Forwarded(<[_; 1]>::try_from(pools).map(|[only]| only))
                }
                Some(Action::Forward(split)) => {
                    let all = || split.pools().iter().map(|pool| pool.name().clone()).collect();
                    Answer::Forwarded(verdict.settled.ok_or_else(all))
                }
                None => Answer::default(),
            },
        };
        Self { route: chosen.map(|route| route.name.clone()), end }
    }

    /// What is not as expected, in a sentence.
    fn differs(&self, expect: &Expect, uncounted: &[String]) -> Option<String> {
        if expect.is_empty() {
            return Some("`expect` expects nothing, e.g. 401 auth.missing or { route: orders }".to_owned());
        }
        let other_route = expect.route.is_some() && expect.route != self.route;
        let answer = expect.status.is_some() || expect.code.is_some();
        let limited = expect.code.filter(|code| code.0.code().starts_with("limit."));
        let undecided = match &self.end {
            _ if other_route => None,
            Answer::Undecided(why) if answer || expect.pool.is_some() => Some((*why).to_owned()),
            Answer::Status(_) | Answer::Forwarded(_) if limited.is_some() && !uncounted.is_empty() => {
                Some(format!("{} counts only where the gateway serves", uncounted.join(", ")))
            }
            Answer::Forwarded(Err(_)) if !answer && expect.pool.is_some() => {
                Some("the weights of the pools decide; write { route: .. }".to_owned())
            }
            _ => None,
        };
        if let Some(why) = undecided {
            return Some(format!("expected {expect}: not decided here, {why}"));
        }
        if !other_route && self.end.is(expect) {
            return None;
        }
        let forwarded = matches!(self.end, Answer::Forwarded(_)) && answer && !other_route;
        let hint =
            if forwarded { "; what a target answers is not known here, write { route: .., pool: .. }" } else { "" };
        Some(format!("expected {expect}, but {self}{hint}"))
    }
}

impl Answer {
    fn refused(refused: &Refused) -> Self {
        let by = refused.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
        let why = refused.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let (fault, why) = (refused.fault, format!("{by}{why}"));
        Self::Refused { status: fault.status(), code: fault.code(), outside: fault.outside().code(), why }
    }

    fn is(&self, expect: &Expect) -> bool {
        let code = expect.code.map(|code| code.0.code());
        match self {
            Self::Status(is) => {
                code.is_none() && expect.pool.is_none() && expect.status.is_none_or(|status| status == *is)
            }
            Self::Refused { status: is, code: exactly, outside, .. } => {
                let same = code.is_none_or(|code| code == *exactly || code == *outside);
                same && expect.pool.is_none() && expect.status.is_none_or(|status| status == *is)
            }
            Self::Forwarded(pool) => {
                let same = expect.pool.as_ref().is_none_or(|wanted| pool.as_ref().is_ok_and(|pool| pool == wanted));
                same && code.is_none() && expect.status.is_none()
            }
            Self::Undecided(_) => code.is_none() && expect.status.is_none() && expect.pool.is_none(),
        }
    }
}

impl fmt::Display for Became {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Some(route) => write!(f, "route {route} takes it and {}", self.end),
            None => write!(f, "it {}", self.end),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answers {status}"),
            Self::Refused { status, code, why, .. } => write!(f, "is refused with {status} {code}{why}"),
            Self::Forwarded(Ok(pool)) => write!(f, "forwards it to pool {pool}"),
            Self::Forwarded(Err(pools)) => {
                let all: Vec<&str> = pools.iter().map(Name::as_str).collect();
                write!(f, "forwards it to one of the pools {}", all.join(", "))
            }
            Self::Undecided(why) => write!(f, "is not decided here: {why}"),
        }
    }
}
