//! All routes of a document, and the way to the one that fits a request.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::explain::{self, Nearest};
use super::host::{HostId, Hosts};
use super::path::Regex;
use super::predicate::{Methods, Predicate};
use super::{Params, Route};
use crate::canonical;
use crate::exchange::Request;

/// Every route, ordered by what is specific.
#[derive(Debug)]
pub struct Table {
    pub(super) entries: Vec<Entry>,
    pub(super) hosts: Hosts,
    /// Paths as a tree of segments; the first node is the root.
    pub(super) tree: Vec<Node>,
    /// The most specific first.
    pub(super) regexes: Vec<(HostId, EntryId)>,
}

pub(super) type EntryId = u32;
pub(super) type NodeId = u32;

/// Entries of one path, by host, then the most specific first.
pub(super) type Spot = Vec<(HostId, EntryId)>;

/// One match of one route.
#[derive(Debug)]
pub(super) struct Entry {
    pub route: Arc<Route>,
    /// Which of the route's matches.
    pub index: usize,
    pub host: HostId,
    pub methods: Methods,
    pub predicates: Box<[Predicate]>,
    pub names: Option<Arc<[Box<str>]>>,
    pub regex: Option<Regex>,
}

/// A place between two `/`.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub children: HashMap<Box<str>, NodeId>,
    /// What follows `/:name`.
    pub param: Option<NodeId>,
    /// Paths that end here.
    pub ends: Spot,
    /// `/*` from here on.
    pub below: Spot,
    /// An entry at this node or further down.
    pub sample: Option<EntryId>,
    /// Reached by plain text only.
    pub literal: bool,
}

/// What became of a request.
#[derive(Debug)]
pub enum Found<'t> {
    Route(&'t Arc<Route>),
    /// A route fits in everything but the method.
    Method {
        /// The value of `Allow`.
        allow: String,
        nearest: Nearest<'t>,
    },
    Nothing {
        nearest: Option<Nearest<'t>>,
    },
}

impl Table {
    /// The route that takes this request, and what its match found in the path.
    pub fn find<'t>(&'t self, request: &dyn Request, params: &mut Params) -> Found<'t> {
        match self.answering(request, params) {
            Some(route) => Found::Route(route),
            None => self.look(request, params),
        }
    }

    pub(super) fn look<'t>(&'t self, request: &dyn Request, params: &mut Params) -> Found<'t> {
        let chain = self.hosts.chain(request.host());
        let mut found = None;
        params.clear();
        self.walk(request.path(), params, &mut |spot, _| {
            found = self.at(spot, chain).find(|entry| entry.fits(request));
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let Some(entry) = found else { return explain::miss(self, request) };
        entry.finish(request.path(), params);
        Found::Route(&entry.route)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.tree.get(id as usize)
    }

    /// The entries of a spot for these hosts, the most specific first.
    pub(super) fn at<'t>(
        &'t self,
        spot: &'t [(HostId, EntryId)],
        chain: &'t [HostId],
    ) -> impl Iterator<Item = &'t Entry> {
        let of_host = |host: &'t HostId| {
            let from = spot.partition_point(|(id, _)| id < host);
            spot.iter().skip(from).take_while(move |(id, _)| id == host)
        };
        chain.iter().flat_map(of_host).filter_map(|(_, entry)| self.entry(*entry))
    }

    /// Offers every spot whose path fits, the most specific first, until the visitor has enough.
    pub(super) fn walk<'t>(&'t self, path: &str, params: &mut Params, offer: &mut Visitor<'_, 't>) {
        let key = canonical::key(path);
        let mut walk = Walk { table: self, length: path.len(), params, offer };
        let start = Cursor { key: key.get(1..), path: path.get(1..) };
        if walk.visit(0, start).is_break() {
            return;
        }
        for spot in &self.regexes {
            let regex = self.entry(spot.1).and_then(|entry| entry.regex.as_ref());
            if regex.is_some_and(|regex| regex.matches(&key))
                && (walk.offer)(std::slice::from_ref(spot), walk.params).is_break()
            {
                return;
            }
        }
        if let Some(root) = self.node(0) {
            let _ = walk.below(root, start);
        }
    }
}

/// Sees each spot and what the path's variable parts are there.
pub(super) type Visitor<'v, 't> = dyn FnMut(&'t [(HostId, EntryId)], &Params) -> ControlFlow<()> + 'v;

impl Entry {
    pub(super) fn fits(&self, request: &dyn Request) -> bool {
        self.methods.allow(request.method()) && self.meets(request)
    }
    /// Whether all conditions hold, whatever the method.
    pub(super) fn meets(&self, request: &dyn Request) -> bool {
        self.predicates.iter().all(|predicate| predicate.holds(request))
    }
    /// How specific it is beside its path and host.
    pub(super) fn conditions(&self) -> usize {
        self.predicates.len() + usize::from(!self.methods.are_all())
    }
    /// Gives the parts of the path their names.
    pub(super) fn finish(&self, path: &str, params: &mut Params) {
        if let (Some(regex), Some(_)) = (&self.regex, &self.names) {
            // Where escapes hide the groups, the names stay empty and templates refuse.
            regex.groups(path).into_iter().for_each(|(from, to)| params.push(from, to));
        }
        params.name(self.names.clone());
    }
}

/// The rest of a path, as routes see it and as it is spelled; `None` behind the last segment.
#[derive(Clone, Copy)]
struct Cursor<'r> {
    key: Option<&'r str>,
    path: Option<&'r str>,
}

impl<'r> Cursor<'r> {
    /// The next segment, seen and spelled, and what follows it.
    fn step(self) -> Option<(&'r str, &'r str, Self)> {
        let (key, key_rest) = cut(self.key?);
        let (path, path_rest) = cut(self.path?);
        Some((key, path, Self { key: key_rest, path: path_rest }))
    }
}

fn cut(text: &str) -> (&str, Option<&str>) {
    let split = text.bytes().position(|byte| byte == b'/').and_then(|at| text.split_at_checked(at));
    split.map_or((text, None), |(segment, rest)| (segment, rest.get(1..)))
}

struct Walk<'w, 'v, 't> {
    table: &'t Table,
    length: usize,
    params: &'w mut Params,
    offer: &'w mut Visitor<'v, 't>,
}

impl<'t> Walk<'_, '_, 't> {
    fn visit(&mut self, id: NodeId, at: Cursor<'_>) -> ControlFlow<()> {
        let Some(node) = self.table.node(id) else { return ControlFlow::Continue(()) };
        match at.step() {
            Some((key, _, next)) => {
                if let Some(child) = node.children.get(key) {
                    self.visit(*child, next)?;
                }
            }
            None => self.offer(&node.ends)?,
        }
        // Behind plain text `/*` comes before `:id`; behind a name the more plain text comes first.
        match node.literal {
            true if id == 0 => self.param(node, at),
            true => {
                self.below(node, at)?;
                self.param(node, at)
            }
            false => {
                self.param(node, at)?;
                self.below(node, at)
            }
        }
    }

    fn param(&mut self, node: &'t Node, at: Cursor<'_>) -> ControlFlow<()> {
        let (Some(child), Some((_, segment, next))) = (node.param, at.step()) else { return ControlFlow::Continue(()) };
        if segment.is_empty() {
            return ControlFlow::Continue(());
        }
        let from = self.offset(at);
        self.params.push(from, from + segment.len());
        self.visit(child, next)?;
        self.params.pop();
        ControlFlow::Continue(())
    }

    fn below(&mut self, node: &'t Node, at: Cursor<'_>) -> ControlFlow<()> {
        if node.below.is_empty() {
            return ControlFlow::Continue(());
        }
        // `*` is nothing, or the `/` and all behind it.
        self.params.set_rest(Some(if at.path.is_some() { self.offset(at) - 1 } else { self.length }));
        self.offer(&node.below)?;
        self.params.set_rest(None);
        ControlFlow::Continue(())
    }

    fn offer(&mut self, spot: &'t Spot) -> ControlFlow<()> {
        if spot.is_empty() { ControlFlow::Continue(()) } else { (self.offer)(spot, self.params) }
    }

    /// Where the cursor stands in the path.
    fn offset(&self, at: Cursor<'_>) -> usize {
        self.length - at.path.map_or(0, str::len)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::telemetry::counted::Counted;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::guard::Tools;
    use crate::problem::{Path, Problems};
    use crate::route::{Config, Pools, Question};

    /// The table of these routes (`name: match`, or `name: { match: .. }`), and what is wrong with them.
    pub(in crate::route) fn compile(yaml: &str) -> (Table, Vec<String>) {
        let document: std::collections::BTreeMap<crate::units::Name, serde_yaml::Value> =
            serde_yaml::from_str(yaml).unwrap();
        let mut problems = Problems::default();
        let mut routes = Vec::new();
        for (line, (name, value)) in document.into_iter().enumerate() {
            let has_match = value.get("match").is_some();
            let mut whole = if has_match {
                value
            } else {
                serde_yaml::from_str("{}")
                    .map(|mut map: serde_yaml::Value| {
                        map["match"] = value;
                        map
                    })
                    .unwrap()
            };
            if ["to", "redirect", "respond", "gather", "batch"].iter().all(|key| whole.get(key).is_none()) {
                whole["respond"] = 204.into();
            }
            let config: Config = serde_yaml::from_value(whole).unwrap();
            let at = Path::of(["routes", name.as_str()]);
            let place = |_: &Path| format!("yumen.yaml:{}:3", line + 1);
            let auth = std::collections::BTreeMap::new();
            let tools = Tools::alone(&place, &auth);
            let (pools, counted) = (Pools::new(), Counted::default());
            routes.extend(Route::compile(&name, &config, &at, &pools, counted, &tools, &mut problems));
        }
        let table = Table::compile(&routes, &mut problems);
        let said = problems.iter().map(|p| format!("{:?} {}: {}", p.level, p.at, p.sentence)).collect();
        (table, said)
    }

    pub(in crate::route) fn table(yaml: &str) -> Table {
        let (table, problems) = compile(yaml);
        assert_eq!(problems, Vec::<String>::new());
        table
    }

    /// `GET host/path`, and header fields.
    pub(in crate::route) fn ask(line: &str) -> Question {
        let mut parts = line.split(" | ");
        let (method, url) = parts.next().unwrap().split_once(' ').unwrap();
        let question = Question::new(method, url).unwrap();
        parts.fold(question, |question, field| {
            let (name, value) = field.split_once(": ").unwrap();
            question.with(name, value).unwrap()
        })
    }

    /// The name of the route, `405 ALLOW`, or `404`.
    fn answer(table: &Table, line: &str) -> String {
        match table.find(&ask(line), &mut Params::default()) {
            Found::Route(route) => route.name.to_string(),
            Found::Method { allow, .. } => format!("405 {allow}"),
            Found::Nothing { .. } => "404".to_owned(),
        }
    }

    fn check(yaml: &str, answers: &[(&str, &str)]) {
        let table = table(yaml);
        for (request, expected) in answers {
            assert_eq!(answer(&table, request), *expected, "{request}");
        }
    }

    #[test]
    fn the_most_specific_path_wins() {
        check(
            "
            all: /*
            exact: /orders/special
            orders: /orders/*
            deep: /orders/7/items/*
            item: /things/:id/items/:item
            user: /users/:id
            me: /users/:id/me
            rest: /users/:id/*
            tenant: /:tenant/home
            regex: { match: { regex: '/[a-z]+/v[0-9]+' } }
            slash: /exact/
            root: /
            ",
            &[
                ("GET /orders/special", "exact"),
                ("GET /orders/special/x", "orders"),
                ("GET /orders", "orders"),
                ("GET /orders/", "orders"),
                ("GET /ordersx", "all"),
                ("GET /orders/7/items", "deep"),
                ("GET /orders/7/items/9", "deep"),
                ("GET /orders/8/items/9", "orders"),
                ("GET /things/8/items/9", "item"),
                ("GET /things/8/items/", "all"),
                ("GET /users/7", "user"),
                ("GET /users/7/", "rest"),
                ("GET /users/7/me", "me"),
                ("GET /users/7/you", "rest"),
                ("GET /users/", "all"),
                ("GET /users", "all"),
                ("GET /acme/home", "tenant"),
                ("GET /acme/v2", "regex"),
                ("GET /acme/v2/x", "all"),
                ("GET /exact/", "slash"),
                ("GET /exact", "all"),
                ("GET /", "root"),
            ],
        );
    }

    #[test]
    fn then_the_host_then_the_number_of_conditions() {
        check(
            "
            any: /x/*
            wide: '*.example.com/x/*'
            eu: '*.eu.example.com/x/*'
            one: api.example.com/x/*
            beta: { match: { host: api.example.com, path: /x/*, headers: { x-beta: '1' } } }
            post: POST api.example.com/y
            path: /x/longer/*
            ",
            &[
                ("GET other.org/x/1", "any"),
                ("GET example.com/x/1", "any"),
                ("GET www.example.com/x/1", "wide"),
                ("GET a.b.example.com/x/1", "wide"),
                ("GET a.eu.example.com/x/1", "eu"),
                ("GET API.example.com./x/1", "one"),
                ("GET api.example.com:8080/x/1", "one"),
                ("GET api.example.com/x/1 | x-beta: 1", "beta"),
                ("GET api.example.com/x/1 | x-beta: 2", "one"),
                ("GET api.example.com/x/longer", "path"),
                ("POST api.example.com/y", "post"),
                ("GET api.example.com/y", "405 POST"),
                ("GET www.example.com/y", "404"),
            ],
        );
    }

    #[test]
    fn a_failed_condition_falls_through_to_the_next() {
        check(
            "
            exact: { match: { path: /a/b, query: { v: '2' } } }
            prefix: { match: { path: /a/*, cookies: { beta: { present: true } } } }
            template: { match: { path: /a/:x, headers: { x-old: { present: false }, x-kind: { regex: 'v[0-9]+' } } } }
            regex: { match: { regex: /a/.+, methods: [PUT, POST] } }
            all: DELETE /*
            ",
            &[
                ("GET /a/b?v=2", "exact"),
                ("GET /a/b?v=%32", "exact"),
                ("GET /a/b?x=1&v=3 | cookie: a=b; beta=1", "prefix"),
                ("GET /a/b | x-kind: v12", "template"),
                ("PUT /a/b | x-kind: v12 | x-old: 1", "regex"),
                ("PUT /a/b", "regex"),
                ("DELETE /a/b", "all"),
                ("GET /a/b", "405 POST, PUT, DELETE"),
                ("GET /", "405 DELETE"),
            ],
        );
    }

    #[test]
    fn no_spelling_gets_around_a_route() {
        check(
            "
            admin: /admin/*
            cafe: /café/a+b
            pattern: { match: { regex: /secret/.* } }
            all: /*
            ",
            &[
                ("GET /%61dmin/x", "admin"),
                ("GET //admin//x", "admin"),
                ("GET /x/../admin", "admin"),
                ("GET /admin;v=1/x", "admin"),
                ("GET /admin%3Bv=1/x", "admin"),
                ("GET /caf%c3%a9/a%2Bb", "cafe"),
                ("GET /caf%C3%A9/a+b", "cafe"),
                ("GET /secret;x/y", "pattern"),
                ("GET /secre%74/y", "pattern"),
                ("GET /Admin/x", "all"),
            ],
        );
    }

    #[test]
    fn regexes_go_by_priority() {
        check(
            "
            low: { match: { regex: '/v[0-9]+' } }
            high: { match: { regex: '/v[0-9]+/?' }, priority: 2 }
            ",
            &[("GET /v1", "high"), ("GET /v1/", "high"), ("GET /v", "404"), ("GET /v1x", "404")],
        );
    }

    #[test]
    fn a_route_may_have_several_matches() {
        check("r: [/a, GET b.example.com/b/*]", &[("GET /a", "r"), ("GET b.example.com/b/x", "r"), ("GET /b", "404")]);
    }

    #[test]
    fn the_parts_of_the_path_have_their_names() {
        let table = table(
            "
            item: /orders/:id/items/*
            regex: { match: { regex: '/v(?P<major>[0-9]+)(/(?P<rest>.*))?' } }
            ",
        );
        let parts = |line: &str| {
            let (question, mut params) = (ask(line), Params::default());
            assert!(matches!(table.find(&question, &mut params), Found::Route(_)), "{line}");
            let path = question.path();
            format!("{:?} {:?}", params.all(path), params.rest(path))
        };
        assert_eq!(parts("GET /orders/a%2Cb/items/x/y"), r#"[("id", "a%2Cb")] Some("/x/y")"#);
        assert_eq!(parts("GET /orders/7;v=1/items"), r#"[("id", "7;v=1")] Some("")"#);
        assert_eq!(parts("GET /v12/x"), r#"[("major", "12"), ("rest", "x")] None"#);
        assert_eq!(parts("GET /v12"), r#"[("major", "12")] None"#);
    }

    #[test]
    fn ties_are_problems_that_name_both() {
        let table: [(&str, &[&str]); 10] = [
            (
                "{ all: /x/*, orders: /x/* }",
                &[
                    "Error routes.orders: routes.orders and routes.all (line 1) match the same requests; add a condition to one",
                ],
            ),
            (
                "{ a: '/x/:id', b: '/x/:name' }",
                &["Error routes.b: routes.b and routes.a (line 1) match the same requests; add a condition to one"],
            ),
            (
                "{ a: /caf%C3%A9, b: /café }",
                &["Error routes.b: routes.b and routes.a (line 1) match the same requests; add a condition to one"],
            ),
            ("{ a: GET /x, b: POST /x }", &[]),
            (
                "{ a: 'GET,POST /x', b: 'POST,PUT /x' }",
                &["Error routes.b: routes.b and routes.a (line 1) match the same requests; add a condition to one"],
            ),
            ("{ a: GET /x, b: /x }", &[]),
            ("{ a: { match: { path: /x, headers: { x: a } } }, b: { match: { path: /x, headers: { x: b } } } }", &[]),
            (
                "{ a: { match: { path: /x, headers: { x: a } } }, b: { match: { path: /x, headers: { y: b } } } }",
                &["Error routes.b: routes.b and routes.a (line 1) match the same requests; add a condition to one"],
            ),
            (
                "{ a: { match: { regex: '/v.*' } }, b: { match: { regex: '/v1.*' } } }",
                &[
                    "Error routes.b: routes.b and routes.a (line 1) match the same requests; give one of them a `priority`",
                ],
            ),
            ("{ a: { match: { regex: '/v.*' } }, b: { match: { regex: '/w.*' } } }", &[]),
        ];
        for (yaml, problems) in table {
            assert_eq!(compile(yaml).1, problems, "{yaml}");
        }
    }

    #[test]
    fn a_template_behind_a_taker_is_never_reached() {
        let said = "Warn routes.one: `/x/:id` is never reached: routes.all comes first";
        assert_eq!(compile("{ all: /x/*, one: '/x/:id' }").1, [said]);
        assert_eq!(compile("{ all: POST /x/*, one: '/x/:id' }").1, Vec::<String>::new());
        assert_eq!(compile("{ all: a.com/x/*, one: '/x/:id' }").1, Vec::<String>::new());
    }

    #[test]
    fn a_route_that_contradicts_itself_is_a_problem() {
        let table = [
            (
                "a: { match: /x, respond: 204, redirect: https }",
                "routes.a: takes exactly one of `to`, `redirect`, `respond`, `gather`, `batch`, `publish` and `subscribe`",
            ),
            ("a: { match: /x, to: b }", "routes.a.to: pool `b` is not defined, and no other is"),
            (
                "a: { match: /x, priority: 1 }",
                "routes.a.priority: is only for a regex against another; other matches have their order",
            ),
            ("a: { match: [] }", "routes.a.match: needs at least one match"),
            ("a: { match: { path: /x, regex: /x } }", "routes.a.match: takes one of `path` and `regex`"),
            (
                "a: { match: [/y, { regex: x }] }",
                "routes.a.match[1].regex: `x` matches nothing: a path begins with `/`",
            ),
            (
                "a: { match: { headers: { x: { is: a, present: true } } } }",
                "routes.a.match.headers.x: takes exactly one of `is`, `present` and `regex`",
            ),
            (
                "a: { match: /x, rewrite: { strip: /x } }",
                "routes.a.rewrite: changes what is forwarded, and this route forwards nothing",
            ),
            (
                "a: { match: '/x/:id', redirect: { to: /y/:name } }",
                "routes.a.redirect.to: `:name` is not in the route's match",
            ),
            (
                "a: { match: /x, redirect: { to: https, status: 200 } }",
                "routes.a.redirect.status: `200` is not one of 301, 302, 303, 307 and 308",
            ),
            (
                "a: { match: /x, redirect: 'ftp://x' }",
                "routes.a.redirect.to: `ftp://x` is not `https`, a path or an URL, e.g. https://new.example.com/x",
            ),
        ];
        for (yaml, problem) in table {
            assert_eq!(compile(yaml).1, [format!("Error {problem}")], "{yaml}");
        }
    }

    /// A slow and plain reading of the rules, to compare with.
    fn plainly(routes: &[(String, String)], host: &str, path: &str) -> Option<usize> {
        let fits = |route: &&(String, String)| {
            let (pattern_host, pattern) = (&route.0, &route.1);
            let host_fits = pattern_host.is_empty()
                || pattern_host
                    .strip_prefix('*')
                    .map_or(host == pattern_host, |below| host.len() > below.len() && host.ends_with(below));
            let (open, fixed) = pattern.strip_suffix("/*").map_or((false, pattern.as_str()), |fixed| (true, fixed));
            let (fixed, given): (Vec<&str>, Vec<&str>) = (fixed.split('/').collect(), path.split('/').collect());
            let long_enough = given.len() == fixed.len() || open && given.len() > fixed.len();
            let same = |(fixed, given): (&&str, &&str)| fixed == given || fixed.starts_with(':') && !given.is_empty();
            host_fits && long_enough && fixed.iter().zip(&given).all(same)
        };
        let rank = |route: &&(String, String)| {
            let (pattern_host, pattern) = (&route.0, &route.1);
            let exact = !pattern.contains([':', '*']);
            let literal = pattern.find([':', '*']).unwrap_or(pattern.len());
            let kind = |part: &str| if part == "*" { 0 } else { 2 - u8::from(part.starts_with(':')) };
            let end = (!pattern.ends_with('*')).then_some(3);
            let kinds: Vec<u8> = pattern.split('/').map(kind).chain(end).collect();
            let plain_open = literal + 1 == pattern.len() && pattern.ends_with('*');
            let host_rank = if pattern_host.starts_with('*') {
                pattern_host.len()
            } else if pattern_host.is_empty() {
                0
            } else {
                99
            };
            (pattern != "/*", exact, literal, plain_open, kinds, host_rank)
        };
        let best = routes.iter().filter(fits).max_by_key(rank)?;
        routes.iter().position(|route| route == best)
    }

    proptest! {
        #[test]
        fn the_table_reads_the_rules_as_they_are_written(
            routes in prop::collection::btree_set(("(|a\\.b|\\*\\.b|\\*\\.a\\.b)", "(/(a|b|:x)){0,3}(/\\*|/a)"), 1..12),
            host in "(a\\.)?(a\\.)?b",
            path in "(/(a|b|c)){0,4}/?",
        ) {
            prop_assume!(path.starts_with('/'));
            let rename = |pattern: &str| pattern.split('/').enumerate().map(|(at, part)| if part == ":x" { format!(":x{at}") } else { part.to_owned() }).collect::<Vec<_>>().join("/");
            let routes: Vec<(String, String)> = routes.into_iter().map(|(host, path)| (host, rename(&path))).collect();
            let line = |(at, (host, path)): (usize, &(String, String))| format!("r{at}: '{host}{path}'");
            let yaml = routes.iter().enumerate().map(line).collect::<Vec<_>>().join("\n");
            let (table, _) = compile(&yaml);
            let question = Question::new("GET", &format!("{host}{path}")).unwrap();
            let found = match table.find(&question, &mut Params::default()) {
                Found::Route(route) => Some(route.name.as_str()[1..].parse().unwrap()),
                _ => None,
            };
            prop_assert_eq!(found, plainly(&routes, &host, &path), "{}", yaml);
        }
    }
}
