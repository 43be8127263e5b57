//! What policies, routes and balancers may know of a request, without knowing the proxy.

use std::net::IpAddr;

use http::{HeaderMap, Method};

/// The request as it was made safe: one path, one host, one client.
pub trait Request {
    fn method(&self) -> &Method;
    /// Lower case, without port and trailing dot.
    fn host(&self) -> &str;
    /// The canonical path, never empty.
    fn path(&self) -> &str;
    /// The query without `?`.
    fn query(&self) -> Option<&str>;
    fn headers(&self) -> &HeaderMap;
    /// The right-most untrusted hop.
    fn client(&self) -> IpAddr;
    /// The part of the path that matched `:name` in the route's template.
    fn param(&self, name: &str) -> Option<&str>;

    /// The first value of a header, if it is visible text.
    fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The value of the first cookie of this name (RFC 6265 section 4.2).
    fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.headers().get_all(http::header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let mut pairs = pairs.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The first value of a query parameter, as it was sent (not decoded).
    fn query_param(&self, name: &str) -> Option<&str> {
        let pairs = self.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}
