//! A request for tests: what a test does not say is as plain as it gets.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method};

use super::{ClientCertificate, Request};

pub(crate) struct Asked {
    pub(crate) path: &'static str,
    pub(crate) query: Option<&'static str>,
    pub(crate) params: &'static [(&'static str, &'static str)],
    pub(crate) headers: HeaderMap,
    pub(crate) client: IpAddr,
    pub(crate) certificate: Option<ClientCertificate>,
}

impl Asked {
    pub(crate) fn new() -> Self {
        Self {
            path: "/orders/7",
            query: None,
            params: &[("id", "7")],
            headers: HeaderMap::new(),
            client: IpAddr::from([127, 0, 0, 1]),
            certificate: None,
        }
    }

    pub(crate) fn from_client(client: &str) -> Self {
        Self { client: client.parse().unwrap(), ..Self::new() }
    }

    /// One more line of this field.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), value.parse().unwrap());
        self
    }
}

impl Request for Asked {
    fn method(&self) -> &Method {
        &Method::GET
    }
    fn host(&self) -> &'static str {
        "api.example.com"
    }
    fn path(&self) -> &str {
        self.path
    }
    fn query(&self) -> Option<&str> {
        self.query
    }
    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
    fn client(&self) -> IpAddr {
        self.client
    }
    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
    fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }
}
