//! Preflights of browsers: OPTIONS goes to the route of the method that the page wants to use, if that route answers it.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::table::{Found, Table};
use super::{Params, Route};
use crate::exchange::Request;
use crate::policy::cors;
use crate::policy::guard::Guards;

/// A preflight, seen as the request that it asks for.
pub(super) struct Wanted<'a> {
    preflight: &'a dyn Request,
    method: Method,
}

impl<'a> Wanted<'a> {
    pub(super) fn by(request: &'a dyn Request) -> Option<Self> {
        Some(Self { preflight: request, method: cors::asked_method(request)? })
    }
}

impl Table {
    /// The route that answers this request as a preflight. No other route is opened: what does not answer preflights
    /// gets none of them this way.
    pub(super) fn answering<'t>(&'t self, request: &dyn Request, params: &mut Params) -> Option<&'t Arc<Route>> {
        match self.look(&Wanted::by(request)?, params) {
            Found::Route(route) if route.guards.as_deref().is_some_and(Guards::answer_preflights) => Some(route),
            _ => None,
        }
    }
}

impl Request for Wanted<'_> {
    fn method(&self) -> &Method {
        &self.method
    }
    fn host(&self) -> &str {
        self.preflight.host()
    }
    fn path(&self) -> &str {
        self.preflight.path()
    }
    fn query(&self) -> Option<&str> {
        self.preflight.query()
    }
    fn headers(&self) -> &HeaderMap {
        self.preflight.headers()
    }
    fn client(&self) -> IpAddr {
        self.preflight.client()
    }
    fn param(&self, name: &str) -> Option<&str> {
        self.preflight.param(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{ask, table};
    use super::*;

    #[test]
    fn a_preflight_goes_to_the_route_of_the_method_that_it_asks_for() {
        let table = table(
            "
            read: { match: GET /a, cors: { origins: ['https://x.example'] } }
            write: { match: 'PUT,OPTIONS /a' }
            watch: { match: GET /w, cors: { origins: ['https://x.example'], mode: shadow } }
            rest: { match: POST /* }
            ",
        );
        let origin = "origin: https://x.example | access-control-request-method:";
        for (line, expected) in [
            (format!("OPTIONS /a | {origin} GET"), "read"),
            (format!("OPTIONS /a | {origin} PUT"), "write"),
            (format!("OPTIONS /a | {origin} POST"), "write"),
            (format!("OPTIONS /a | {origin} G{{T"), "write"),
            ("OPTIONS /a | origin: https://x.example".to_owned(), "write"),
            ("OPTIONS /a | access-control-request-method: GET".to_owned(), "write"),
            (format!("GET /a | {origin} PUT"), "read"),
            (format!("OPTIONS /w | {origin} GET"), "405"),
            (format!("OPTIONS /b | {origin} POST"), "405"),
        ] {
            let question = ask(&line);
            let went = match table.find(&question, &mut Params::default()) {
                Found::Route(route) => route.name.as_str().to_owned(),
                _ => "405".to_owned(),
            };
            assert_eq!(went, expected, "{line}");
            let explained = table.explain(&question).chosen.map_or("405", |(route, _)| route.name.as_str());
            assert_eq!(explained, expected, "{line}");
        }
    }
}
