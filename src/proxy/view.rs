//! The request as routes, policies and balancers see it.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use pingora_http::RequestHeader;

use super::intake::Intake;
use crate::exchange::{ClientCertificate, Request};
use crate::listener::Connection;
use crate::route::Params;

/// A request that was made safe, seen from below.
pub struct View<'a> {
    header: &'a RequestHeader,
    intake: &'a Intake,
    params: &'a Params,
    certificate: Option<&'a ClientCertificate>,
    body: bool,
}

impl<'a> View<'a> {
    pub fn of(header: &'a RequestHeader, intake: &'a Intake, params: &'a Params) -> Self {
        Self { header, intake, params, certificate: None, body: false }
    }

    /// The same, with what its connection tells of the client, and whether a body follows the head.
    #[must_use]
    pub fn through(self, connection: &'a Connection, body: bool) -> Self {
        Self { certificate: connection.tls.as_ref().and_then(|tls| tls.client.as_ref()), body, ..self }
    }
}

impl Request for View<'_> {
    fn method(&self) -> &Method {
        &self.header.method
    }
    fn host(&self) -> &str {
        &self.intake.host
    }
    fn path(&self) -> &str {
        self.header.uri.path()
    }
    fn query(&self) -> Option<&str> {
        self.header.uri.query()
    }
    fn headers(&self) -> &HeaderMap {
        &self.header.headers
    }
    fn client(&self) -> IpAddr {
        self.intake.client
    }
    fn param(&self, name: &str) -> Option<&str> {
        self.params.get(self.path(), name)
    }
    fn has_body(&self) -> bool {
        self.body
    }
    fn is_https(&self) -> bool {
        self.intake.https
    }
    fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate
    }
}
