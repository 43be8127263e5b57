//! Why a request went where it went: the routes that nearly fitted, and what they need.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::host::{HostId, HostPattern};
use super::matches::Match;
use super::predicate::{Methods, Predicate};
use super::preflight::Wanted;
use super::table::{Entry, EntryId, Found, Table};
use super::{Params, Route};
use crate::canonical;
use crate::exchange::Request;
use crate::fault::Fault;

/// A route that did not get the request. It prints as a sentence with nothing of the request in it.
#[derive(Debug, Clone)]
pub struct Nearest<'t> {
    pub route: &'t Arc<Route>,
    pub why: Why<'t>,
}

/// What kept a route from the request.
#[derive(Debug, Clone)]
pub enum Why<'t> {
    Host(&'t HostPattern),
    Path(&'t Match),
    Method(Methods),
    Condition(&'t Predicate),
    /// It fits, but this one is more specific.
    LessSpecific(&'t Arc<Route>),
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "needs host {host}"),
            Self::Path(one) => match (&one.path, &one.regex) {
                (Some(path), _) => write!(f, "needs path {path}"),
                (None, Some(regex)) => write!(f, "needs a path that matches `{regex}`"),
                (None, None) => f.write_str("needs any path"),
            },
            Self::Method(methods) => write!(f, "needs method {methods}"),
            Self::Condition(predicate) => write!(f, "needs {predicate}"),
            Self::LessSpecific(chosen) => write!(f, "is less specific than {}", chosen.name),
        }
    }
}

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.route.name, self.why)
    }
}

/// Everything that `explain` says of one request.
#[derive(Debug)]
pub struct Explanation<'t> {
    /// The route, and which of its matches fitted.
    pub chosen: Option<(&'t Arc<Route>, &'t Match)>,
    /// What the match found in the path.
    pub params: Params,
    /// The value of `Allow`, if only the method is wrong.
    pub allow: Option<String>,
    /// The nearest others, the most specific first.
    pub lost: Vec<Nearest<'t>>,
}

/// The nearest others are few.
const FEW: usize = 8;

/// What is said when no route takes the request.
pub(super) fn miss<'t>(table: &'t Table, request: &dyn Request) -> Found<'t> {
    let chain = table.hosts.chain(request.host());
    let mut allow: Option<Methods> = None;
    let mut nearest = None;
    table.walk(request.path(), &mut Params::default(), &mut |spot, _| {
        for entry in table.at(spot, chain) {
            let only_method = entry.meets(request);
            if only_method && allow.is_none() {
                nearest = entry.why(request);
            } else {
                nearest = nearest.take().or_else(|| entry.why(request));
            }
            if only_method {
                allow = Some(allow.unwrap_or_default().and(entry.methods));
            }
        }
        ControlFlow::Continue(())
    });
    match (allow, nearest) {
        (Some(methods), Some(nearest)) => Found::Method { allow: methods.to_string(), nearest },
        (_, nearest) => Found::Nothing { nearest: nearest.or_else(|| elsewhere(table, request, chain)) },
    }
}

/// The nearest route where the path fits nothing of this host.
fn elsewhere<'t>(table: &'t Table, request: &dyn Request, chain: &[HostId]) -> Option<Nearest<'t>> {
    let mut other_host: Option<&Entry> = None;
    table.walk(request.path(), &mut Params::default(), &mut |spot, _| {
        other_host = spot.first().and_then(|(_, id)| table.entry(*id));
        ControlFlow::Break(())
    });
    let needs_host = |entry: &'t Entry| Nearest { route: &entry.route, why: Why::Host(entry.host_pattern()) };
    let alike = || {
        let entry = table.alike(request.path()).and_then(|id| table.entry(id))?;
        let here = chain.contains(&entry.host);
        let why = if here { Why::Path(entry.one()?) } else { Why::Host(entry.host_pattern()) };
        Some(Nearest { route: &entry.route, why })
    };
    let named = other_host.filter(|entry| !entry.takes_any_path()).map(needs_host);
    named.or_else(alike).or_else(|| other_host.map(needs_host))
}

impl Entry {
    fn one(&self) -> Option<&Match> {
        self.route.matches.get(self.index)
    }

    fn takes_any_path(&self) -> bool {
        self.regex.is_none()
            && self
                .one()
                .and_then(|one| one.path.as_ref())
                .is_none_or(|path| path.segments().len() == 1 && path.is_open())
    }

    /// What keeps an entry of the right host and path from this request; `None` if it fits.
    fn why<'t>(&'t self, request: &dyn Request) -> Option<Nearest<'t>> {
        let failed = self.predicates.iter().find(|predicate| !predicate.holds(request));
        let why = match failed {
            _ if !self.methods.allow(request.method()) => Why::Method(self.methods),
            Some(predicate) => Why::Condition(predicate),
            None => return None,
        };
        Some(Nearest { route: &self.route, why })
    }
}

impl Table {
    /// An entry that shares the most segments with this path, if any is shared.
    fn alike(&self, path: &str) -> Option<EntryId> {
        let key = canonical::key(path);
        let mut node = self.node(0)?;
        let mut deepest = None;
        for segment in key.split('/').skip(1) {
            let child = node.children.get(segment).or(node.param.as_ref());
            let Some(next) = child.and_then(|id| self.node(*id)) else { break };
            node = next;
            deepest = node.sample;
        }
        deepest
    }

    /// Where a request goes, and why not elsewhere.
    pub fn explain<'t>(&'t self, request: &dyn Request) -> Explanation<'t> {
        match Wanted::by(request).filter(|_| self.answering(request, &mut Params::default()).is_some()) {
            Some(wanted) => self.explain_plainly(&wanted),
            None => self.explain_plainly(request),
        }
    }

    fn explain_plainly<'t>(&'t self, request: &dyn Request) -> Explanation<'t> {
        let chain = self.hosts.chain(request.host());
        let mut chosen: Option<&Entry> = None;
        let mut params = Params::default();
        let mut lost: Vec<Nearest<'t>> = Vec::new();
        let mut elsewhere: Vec<Nearest<'t>> = Vec::new();
        self.walk(request.path(), &mut Params::default(), &mut |spot, found| {
            for entry in self.at(spot, chain) {
                match (entry.why(request), chosen) {
                    (Some(nearest), _) => lost.push(nearest),
                    (None, Some(chosen)) => {
                        lost.push(Nearest { route: &entry.route, why: Why::LessSpecific(&chosen.route) });
                    }
                    (None, None) => {
                        chosen = Some(entry);
                        params = found.clone();
                    }
                }
            }
            let others = spot.iter().filter(|(host, _)| !chain.contains(host)).filter_map(|(_, id)| self.entry(*id));
            let others = others.map(|entry| Nearest { route: &entry.route, why: Why::Host(entry.host_pattern()) });
            elsewhere.extend(others.take(FEW));
            ControlFlow::Continue(())
        });
        if let Some(entry) = chosen {
            entry.finish(request.path(), &mut params);
        }
        lost.extend(elsewhere);
        let mut allow = None;
        if chosen.is_none() {
            match miss(self, request) {
                Found::Method { allow: methods, .. } => allow = Some(methods),
                Found::Nothing { nearest } if lost.is_empty() => lost.extend(nearest),
                _ => {}
            }
        }
        let chosen = chosen.and_then(|entry| Some((&entry.route, entry.one()?)));
        let mut seen: Vec<*const Route> = chosen.iter().map(|(route, _)| Arc::as_ptr(route)).collect();
        lost.retain(|nearest| {
            let new = !seen.contains(&Arc::as_ptr(nearest.route));
            seen.push(Arc::as_ptr(nearest.route));
            new
        });
        lost.truncate(FEW);
        Explanation { chosen, params, allow, lost }
    }
}

/// A request that was never sent: for `yumen explain`, tests and benchmarks.
#[derive(Debug, Clone)]
pub struct Question {
    method: Method,
    host: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
    headers: HeaderMap,
}

impl Question {
    /// `url` is `http://api.example.com/orders/7?x=1`, with or without its scheme, or a path alone.
    pub fn new(method: &str, url: &str) -> Result<Self, Fault> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::RequestMethodUnknown)?;
        let url = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url);
        let (rest, query) = url.split_once('?').map_or((url, None), |(rest, query)| (rest, Some(query.into())));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = canonical::host(if host.is_empty() { "localhost" } else { host })?.0;
        let path = canonical::path(if path.is_empty() { b"/" } else { path.as_bytes() })?;
        Ok(Self { method, host: (*host).into(), path: (*path).into(), query, headers: HeaderMap::new() })
    }

    /// Adds a header field.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, Fault> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Fault::RequestMalformed)?;
        let value = HeaderValue::from_str(value).map_err(|_| Fault::RequestMalformed)?;
        self.headers.append(name, value);
        Ok(self)
    }
}

impl Request for Question {
    fn method(&self) -> &Method {
        &self.method
    }
    fn host(&self) -> &str {
        &self.host
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
    fn client(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
    fn param(&self, _: &str) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::table::tests::{ask, table};

    const ROUTES: &str = "
        orders: GET api.example.com/orders/*
        beta: { match: { host: api.example.com, path: /orders/*, methods: [GET], headers: { x-beta: '1' } } }
        catalog: other.example.com/catalog/:id
        all: api.example.com/*
        admin: '*.internal/admin'
    ";

    fn nearest(request: &str) -> String {
        match table(ROUTES).find(&ask(request), &mut Params::default()) {
            Found::Route(route) => format!("found {}", route.name),
            Found::Method { allow, nearest } => format!("{allow}: {nearest}"),
            Found::Nothing { nearest } => nearest.map(|nearest| nearest.to_string()).unwrap_or_default(),
        }
    }

    #[test]
    fn a_miss_names_the_nearest_route() {
        let table = [
            ("POST api.example.com/orders/7", "found all"),
            ("GET api.example.org/orders/7", "beta needs host api.example.com"),
            ("GET other.example.com/catalog", "catalog needs path /catalog/:id"),
            ("GET example.org/catalog/x/y", "catalog needs host other.example.com"),
            ("GET x.internal/admin/users", "admin needs path /admin"),
            ("GET x.org/zzz", "all needs host api.example.com"),
        ];
        for (request, sentence) in table {
            assert_eq!(nearest(request), sentence, "{request}");
        }
    }

    #[test]
    fn an_explanation_says_why_the_others_lost() {
        let told = |request: &str| {
            let table = table(ROUTES);
            let explanation = table.explain(&ask(request));
            let chosen = explanation.chosen.map(|(route, one)| format!("{} by {one}", route.name)).unwrap_or_default();
            let lost: Vec<String> = explanation.lost.iter().map(ToString::to_string).collect();
            (chosen, lost.join("; "))
        };
        let table = [
            (
                "GET api.example.com/orders/7",
                "orders by GET api.example.com/orders/*",
                "beta needs header x-beta to be `1`; all is less specific than orders",
            ),
            (
                "PUT api.example.com/orders/7",
                "all by api.example.com/*",
                "beta needs method GET; orders needs method GET",
            ),
            (
                "GET other.example.com/catalog/7",
                "catalog by other.example.com/catalog/:id",
                "all needs host api.example.com",
            ),
            ("GET a.internal/admin", "admin by *.internal/admin", "all needs host api.example.com"),
            ("GET nowhere.org/admin", "", "admin needs host *.internal; all needs host api.example.com"),
        ];
        for (request, chosen, lost) in table {
            assert_eq!(told(request), (chosen.to_owned(), lost.to_owned()), "{request}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_with_the_right_ones() {
        let table =
            table("{ a: GET /x, b: 'PUT,POST /x', c: { match: { path: /x, methods: [DELETE], headers: { y: z } } } }");
        assert_eq!(table.explain(&ask("DELETE /x")).allow.as_deref(), Some("GET, POST, PUT"));
    }
}
