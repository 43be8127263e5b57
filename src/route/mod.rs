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

mod action;
mod bodies;
mod build;
mod config;
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
pub mod trace;

use std::sync::Arc;

use crate::policy::cache::{self, Cache};
use crate::policy::guard::{self, Guards};
use crate::policy::headers::Fields;
use crate::policy::rewrite::Rewrite;
use crate::policy::template::Offer;
use crate::policy::websocket::Websocket;
use crate::pool::{Pool, Retry, Timeout};
use crate::problem::{Path, Problems};
use crate::telemetry::counted::Counted;
use crate::units::Name;

pub use crate::policy::template::Params;
pub use action::Action;
pub use bodies::Bodies;
pub use config::Config;
pub use copy::Copies;
pub use explain::{Explanation, Nearest, Question, Why};
pub use predicate::{Methods, Predicate};
pub use split::{Pools, Split};
pub use table::{Found, Table};

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
    pub cache: Option<Box<Cache>>,
    /// Where answers lie that its requests may make void.
    pub touches: Option<Arc<[Arc<cache::store::Store>]>>,
    pub action: Action,
    /// Copies for another pool; nothing where there are none.
    pub copy_to: Option<Arc<Copies>>,
    pub rewrite: Option<Rewrite>,
    pub host: host::UpstreamHost,
    pub request: Fields,
    pub response: Fields,
    /// What becomes of bodies.
    pub bodies: Bodies,
    /// `None` where the pool's own hold.
    pub timeout: Option<Timeout>,
    /// `None` where the pool's own holds.
    pub retry: Option<Retry>,
    /// `None` where that of `observe.traces` holds.
    pub trace: Option<trace::Sample>,
    /// What its requests count.
    pub counted: Counted,
    predicates: Box<[Box<[Predicate]>]>,
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
        let guards = Guards::compile(config.guards(&config.methods()), at, tools, problems);
        let predicates = matches::compile(&config.matches.0, config.priority, at, problems);
        let offers: Vec<Offer> = config.matches.0.iter().map(matches::Match::offer).collect();
        config.asks_for_nothing_else(&offers, guards.as_deref(), at, problems);
        let websocket = config.websocket.as_ref();
        let websocket = websocket.and_then(|said| Websocket::compile(said, &at.key("websocket"), tools, problems));
        let cache = config.cache.as_ref().zip(tools.caches);
        let cache = cache.and_then(|(config, stores)| Cache::compile(config, &at.key("cache"), stores, problems));
        let action = Action::compile(config, &offers, at, pools, (name, tools), problems);
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
        let bodies = Bodies::compile(config, name, &offers, at, tools, problems);
        config.timeout.complain(&at.key("timeout"), problems);
        let route = Self {
            name: name.clone(),
            place: (tools.place)(at).into(),
            matches: config.matches.0.clone().into(),
            priority: config.priority.unwrap_or(0),
            guards,
            websocket,
            cache: cache.map(Box::new),
            touches: tools.caches.and_then(cache::Stores::touched),
            action: action?,
            copy_to: copies,
            rewrite,
            host: config.host.clone(),
            request,
            response,
            bodies,
            timeout: Some(config.timeout.clone()).filter(|timeout| *timeout != Timeout::default()),
            retry: Some(config.retry.clone()).filter(|retry| !retry.is_default()),
            trace: config.trace.as_ref().map(trace::Sample::from),
            counted,
            predicates,
        };
        (problems.errors() == before).then(|| Arc::new(route))
    }

    /// Its pools and whose turn it is; none where the route answers itself.
    pub fn split(&self) -> Option<&Split> {
        match &self.action {
            Action::Forward(split) => Some(split),
            _ => None,
        }
    }

    /// What it does where it forwards nothing.
    pub fn does(&self) -> Option<String> {
        match &self.action {
            Action::Forward(_) => None,
            Action::Redirect(redirect) => Some(format!("redirects with {}", redirect.status)),
            Action::Respond(respond) => Some(format!("answers {}", respond.status)),
            Action::Publish(publish) => Some(format!("publishes to {}", publish.said)),
            Action::Subscribe(subscribe) => Some(format!("streams {}", subscribe.said)),
            Action::Gather(gather) => Some(format!("answers with {} calls", gather.calls().len())),
            Action::Batch(batch) => Some(batch.to_string()),
        }
    }

    pub fn pools(&self) -> &[Arc<Pool>] {
        match &self.action {
            Action::Forward(split) => split.pools(),
            Action::Gather(gather) => gather.pools(),
            _ => &[],
        }
    }

    /// The paths that it takes, as the document says them: what its requests have in common.
    pub fn pattern(&self) -> String {
        let mut paths: Vec<_> = self.matches.iter().map(matches::Match::path).collect();
        paths.dedup();
        paths.join(" ")
    }

    /// Each match with its conditions.
    fn entries(&self) -> impl Iterator<Item = (&matches::Match, &[Predicate])> {
        self.matches.iter().zip(self.predicates.iter().map(|predicates| &**predicates))
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
