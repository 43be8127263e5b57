//! Which request goes where.
//!
//! The order of routes in the document never matters. Of all routes that fit a request, the most specific one takes it:
//!
//! 1. by path: an exact path; then the longer literal text in front of what varies, and where that is the same,
//!    `/*` before `:id` (of two templates, the one with plain text where they first differ); then regular expressions,
//!    the higher `priority` first; `/*`, which names no path at all, comes last;
//! 2. by host: exact, then the longest wildcard, then any;
//! 3. by the number of conditions (methods are one, each header, query parameter and cookie is one): more come first.
//!
//! Two routes that are equal in all three and can fit the same request are a problem of the document. A route whose
//! condition fails is passed over, and the next most specific one is asked.
//!
//! Paths are compared decoded and without `;` parameters (see [`crate::canonical::key`]), regular expressions too, so
//! that no spelling of a path gets around a route; what is forwarded keeps its spelling.

mod build;
pub mod copy;
pub mod explain;
pub mod host;
pub mod matches;
pub mod opt_in;
pub mod path;
pub mod predicate;
mod preflight;
pub mod split;
pub mod stick;
pub mod table;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::sync::Arc;

use crate::policy::auth;
use crate::policy::body;
use crate::policy::cors;
use crate::policy::guard::{self, Guards};
use crate::policy::headers::{self, Fields};
use crate::policy::ip;
use crate::policy::limit;
use crate::policy::redirect::{self, Redirect};
use crate::policy::require;
use crate::policy::respond::{self, Respond};
use crate::policy::rewrite::{self, Rewrite};
use crate::policy::template::Offer;
use crate::policy::validate;
use crate::policy::websocket::{self, Websocket};
use crate::pool::{Pool, Retry, Timeout};
use crate::problem::{Path, Problems};
use crate::telemetry::counted::Counted;
use crate::units::Name;

pub use crate::policy::template::Params;
pub use copy::Copies;
pub use explain::{Explanation, Nearest, Question, Why};
pub use predicate::{Methods, Predicate};
pub use split::{Pools, Split};
pub use table::{Found, Table};

/// One route: which requests, under which rules, to where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub struct Config {
    /// Which requests, e.g. `GET,POST api.example.com/orders/*`; a list means any of them.
    #[serde(rename = "match")]
    pub matches: matches::Matches,
    /// Another route whose settings hold where this one says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Name>,
    /// Which regex comes first where two match; the higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Which networks may enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<ip::Config>,
    /// Which pages of other origins may read the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<cors::Config>,
    /// Who may come in: the name of an `auth`, `none`, or one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<auth::Use>,
    /// How often: a name of the section `limits`, a limit of its own, or a list of them that must all admit.
    #[serde(default, skip_serializing_if = "limit::Uses::is_empty")]
    pub limit: limit::Uses,
    /// How large bodies may be, and of what kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<body::Config>,
    /// Who has the right to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<require::Config>,
    /// What parameters and bodies have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<validate::Config>,
    /// How its WebSockets are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<websocket::Config>,
    /// The pool, or pools with their weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<split::To>,
    /// By what a user is known who stays with the same of several pools, e.g. jwt.sub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stick: Option<stick::Config>,
    /// Who gets one of the pools for the asking, whatever the weights say.
    #[serde(default, skip_serializing_if = "opt_in::Config::is_empty")]
    pub opt_in: opt_in::Config,
    /// Another pool that gets copies of the requests; nobody waits for its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_to: Option<copy::Config>,
    /// Sends the client elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<redirect::Config>,
    /// Answers by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<respond::Config>,
    /// How the path changes before it is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<rewrite::Config>,
    /// The host that the upstream sees: `pass` keeps the client's.
    #[serde(default)]
    pub host: host::UpstreamHost,
    /// Header fields of the request, on its way to the upstream.
    #[serde(default, skip_serializing_if = "headers::Config::is_empty")]
    pub request: headers::Config,
    /// Header fields of the response, on its way to the client.
    #[serde(default, skip_serializing_if = "headers::Config::is_empty")]
    pub response: headers::Config,
    /// Where this route waits shorter or longer than its pools say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Timeout,
    /// Where this route tries again otherwise than its pools say; `off` for never.
    #[serde(default, skip_serializing_if = "Retry::is_default")]
    pub retry: Retry,
}

impl Config {
    /// What only has a meaning on the way to a target would do nothing.
    fn forwards_nothing(&self, guards: Option<&Guards>, at: &Path, problems: &mut Problems) {
        for (key, there) in [("stick", self.stick.is_some()), ("opt_in", !self.opt_in.is_empty())] {
            if there {
                problems.error(at.key(key), "decides between pools, and this route forwards nothing");
            }
        }
        if self.rewrite.is_some() {
            problems.error(at.key("rewrite"), "changes what is forwarded, and this route forwards nothing");
        }
        if self.websocket.is_some() {
            problems.error(at.key("websocket"), "keeps WebSockets to a pool, and this route forwards nothing");
        }
        if self.copy_to.is_some() {
            problems.error(at.key("copy_to"), "copies what is forwarded, and this route forwards nothing");
        }
        if guards.is_some_and(|guards| guards.looks_at_bodies().is_some()) {
            let described = self.validate.as_ref().is_some_and(|validate| validate.openapi.is_some());
            let sentence = "looks at bodies on their way to a pool, and this route forwards nothing";
            problems.error(at.key("validate").key(if described { "openapi" } else { "body" }), sentence);
        }
    }

    fn guards(&self) -> guard::Settings<'_> {
        guard::Settings {
            ip: self.ip.as_ref(),
            cors: self.cors.as_ref(),
            body: self.body.as_ref(),
            auth: self.auth.as_ref(),
            require: self.require.as_ref(),
            limit: &self.limit,
            validate: self.validate.as_ref(),
        }
    }
}

fn is_default(timeout: &Timeout) -> bool {
    *timeout == Timeout::default()
}

/// A route, decided once: a request looks nothing up by name.
#[derive(Debug)]
pub struct Route {
    pub name: Name,
    /// Where it stands in the document, e.g. `yumen.yaml:31:3`.
    pub place: Box<str>,
    /// What it matches, as the document says it.
    pub matches: Box<[matches::Match]>,
    pub priority: u32,
    /// What a request must pass; nothing where everyone may.
    pub guards: Option<Box<Guards>>,
    pub websocket: Option<Box<Websocket>>,
    pub action: Action,
    /// Copies for another pool; nothing where there are none.
    pub copy_to: Option<Arc<Copies>>,
    pub rewrite: Option<Rewrite>,
    pub host: host::UpstreamHost,
    pub request: Fields,
    pub response: Fields,
    /// `None` where the pool's own hold.
    pub timeout: Option<Timeout>,
    /// `None` where the pool's own holds.
    pub retry: Option<Retry>,
    /// What its requests count.
    pub counted: Counted,
    predicates: Box<[Box<[Predicate]>]>,
}

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    Forward(Split),
    Redirect(Redirect),
    Respond(Respond),
}

impl Route {
    /// Names become things: pools, templates, secrets. `at` is `routes.NAME`.
    pub fn compile(
        name: &Name,
        config: &Config,
        at: &Path,
        pools: &split::Pools,
        counted: Counted,
        tools: &guard::Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Arc<Self>> {
        let before = problems.errors();
        let guards = Guards::compile(config.guards(), at, tools, problems);
        let predicates = matches::compile(&config.matches.0, config.priority, at, problems);
        let offers: Vec<Offer> = config.matches.0.iter().map(matches::Match::offer).collect();
        let known = |name: &str| offers.iter().any(|offer| offer.names.iter().any(|known| **known == *name));
        let counted_by = guards.iter().flat_map(|guards| guards.params()).map(|name| ("limit", "counts", name));
        let kept_by = config.stick.iter().flat_map(stick::Config::params).map(|name| ("stick", "goes", name));
        for (key, does, name) in counted_by.chain(kept_by).filter(|(_, _, name)| !known(name)) {
            problems.error(at.key(key), format!("{does} by `path.{name}`, and `:{name}` is not in the route's match"));
        }
        if config.stick.as_ref().is_some_and(stick::Config::asks_who) && config.auth.is_none() {
            let sentence = "goes by what `auth` finds out, and the route has none: nobody stays on one side by that";
            problems.warn(at.key("stick"), sentence);
        }
        let websocket = config.websocket.as_ref();
        let websocket = websocket.and_then(|said| Websocket::compile(said, &at.key("websocket"), tools, problems));
        let action = Action::compile(config, &offers, at, pools, problems);
        let copies = config.copy_to.as_ref().and_then(|config| {
            let counted = tools.metrics.map(|metrics| metrics.copies(name.as_str()));
            Copies::compile(config, pools, &at.key("copy_to"), counted, problems)
        });
        let rewrite = config.rewrite.as_ref();
        let rewrite = rewrite.and_then(|config| Rewrite::compile(config, &offers, &at.key("rewrite"), problems));
        if config.to.is_none() {
            config.forwards_nothing(guards.as_deref(), at, problems);
        }
        config.retry.complain(&at.key("retry"), problems);
        let request = Fields::compile(&config.request, &at.key("request"), problems);
        let response = Fields::compile(&config.response, &at.key("response"), problems);
        config.timeout.complain(&at.key("timeout"), problems);
        let route = Self {
            name: name.clone(),
            place: (tools.place)(at).into(),
            matches: config.matches.0.clone().into(),
            priority: config.priority.unwrap_or(0),
            guards,
            websocket,
            action: action?,
            copy_to: copies,
            rewrite,
            host: config.host.clone(),
            request,
            response,
            timeout: Some(config.timeout.clone()).filter(|timeout| !is_default(timeout)),
            retry: Some(config.retry.clone()).filter(|retry| !retry.is_default()),
            counted,
            predicates,
        };
        (problems.errors() == before).then(|| Arc::new(route))
    }

    /// Its pools and whose turn it is; none where the route answers itself.
    pub fn split(&self) -> Option<&Split> {
        match &self.action {
            Action::Forward(split) => Some(split),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }

    pub fn pools(&self) -> &[Arc<Pool>] {
        self.split().map_or(&[], Split::pools)
    }

    /// Each match with its conditions.
    fn entries(&self) -> impl Iterator<Item = (&matches::Match, &[Predicate])> {
        self.matches.iter().zip(self.predicates.iter().map(|predicates| &**predicates))
    }
}

impl Action {
    fn compile(
        config: &Config,
        offers: &[Offer],
        at: &Path,
        pools: &split::Pools,
        problems: &mut Problems,
    ) -> Option<Self> {
        match (&config.to, &config.redirect, &config.respond) {
            (Some(to), None, None) => {
                let settings = split::Settings { to, stick: config.stick.as_ref(), opt_in: &config.opt_in };
                let split = Split::compile(&settings, pools, at, problems)?;
                if config.websocket.is_some() {
                    split.complain_of_websockets(&at.key("websocket"), problems);
                }
                Some(Self::Forward(split))
            }
            (None, Some(redirect), None) => {
                Redirect::compile(redirect, offers, &at.key("redirect"), problems).map(Self::Redirect)
            }
            (None, None, Some(respond)) => Respond::compile(respond, &at.key("respond"), problems).map(Self::Respond),
            _ => {
                problems.error(at.clone(), "takes exactly one of `to`, `redirect` and `respond`");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    #[test]
    fn short_and_long_forms_are_the_same() {
        let same = [
            (
                "{ match: 'GET,POST api.example.com/orders/:id', to: catalog }",
                "{ match: { methods: [GET, POST], host: api.example.com, path: /orders/:id }, to: { catalog: 100 } }",
            ),
            ("{ match: /x, respond: 204 }", "{ match: [/x], respond: { status: 204 } }"),
            (
                "{ match: '*.example.com/*', redirect: https }",
                "{ match: [{ host: '*.example.com', path: /* }], redirect: { to: https, status: 308 } }",
            ),
            (
                "{ match: { headers: { X-Beta: '1' } }, to: a, host: pass }",
                "{ match: { headers: { x-beta: { is: '1' } } }, to: { a: 100 } }",
            ),
        ];
        for (short, long) in same {
            let (short, long) = (read(short).unwrap(), read(long).unwrap());
            assert_eq!(short, long);
            assert_eq!(read(&serde_yaml::to_string(&short).unwrap()).unwrap(), short);
        }
    }

    #[test]
    fn long_forms_are_strict() {
        for wrong in
            ["redirect: { too: https }", "respond: { code: 204 }", "match: { hots: a }", "respond: { status: yes }"]
        {
            assert!(read(&format!("{{ match: /x, {wrong} }}")).is_err(), "{wrong}");
        }
        assert!(read("{ match: { headers: { x: { iss: a } } }, respond: 204 }").is_err());
    }

    #[test]
    fn a_redirect_keeps_the_query_and_what_it_is_not_told_to_change() {
        let table = table::tests::table(
            "
            https: { match: /a/*, redirect: https }
            moved: { match: '/b/:id/*', redirect: { to: 'https://new.example.com:8443/x/:id/*', status: 302 } }
            origin: { match: /c/*, redirect: 'http://c.example.com' }
            path: { match: /d, redirect: /e }
            ",
        );
        let sent = [
            ("GET www.example.com/a/%2e/b?x=1&y", 308, "https://www.example.com/a/b?x=1&y"),
            ("GET /b/7/y/z?q", 302, "https://new.example.com:8443/x/7/y/z?q"),
            ("GET /c/d", 308, "http://c.example.com/c/d"),
            ("GET /d", 308, "/e"),
        ];
        for (line, status, location) in sent {
            let (question, mut params) = (table::tests::ask(line), Params::default());
            let Found::Route(route) = table.find(&question, &mut params) else { panic!("{line}") };
            let Action::Redirect(redirect) = &route.action else { panic!("{line}") };
            assert_eq!(
                (redirect.status, redirect.location(&question, &params)),
                (status, Ok(location.to_owned())),
                "{line}"
            );
        }
    }

    #[test]
    fn many_routes_that_differ_by_one_header_are_no_ties() {
        let route = |at: usize| format!("t{at}: {{ match: {{ path: /x, headers: {{ x-tenant: t{at}, x-all: a }} }} }}");
        let mut routes: Vec<String> = (0..3000).map(route).collect();
        assert_eq!(table::tests::compile(&routes.join("\n")).1, Vec::<String>::new());
        routes.push("twice: { match: { path: /x, headers: { x-tenant: t7, x-all: a } } }".to_owned());
        assert_eq!(table::tests::compile(&routes.join("\n")).1.len(), 1);
    }
}
