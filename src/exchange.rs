//! What policies, routes and balancers may know of a request, without knowing the proxy, and what they find out.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use crate::fault::Fault;

/// The request as it was made safe: one path, one host, one client.
pub trait Request: Sync {
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
    /// Whether a body comes with it, as far as the head tells.
    fn has_body(&self) -> bool {
        let length = self.headers().get(http::header::CONTENT_LENGTH);
        length.is_some_and(|length| length != "0") || self.headers().contains_key(http::header::TRANSFER_ENCODING)
    }
    /// Whether the client came over TLS, as far as those know whom we trust.
    fn is_https(&self) -> bool {
        false
    }
    /// What the client showed in the TLS handshake, verified.
    fn certificate(&self) -> Option<&ClientCertificate> {
        None
    }

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

/// A verified certificate of a client.
#[derive(Debug, Default)]
pub struct ClientCertificate {
    /// The subject, e.g. `CN=orders, O=Example`.
    pub subject: Box<str>,
    /// SHA-256 of the certificate in lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// The names besides the subject (RFC 5280 section 4.2.1.6), hosts in lower case.
    pub dns: Vec<Box<str>>,
    pub uri: Vec<Box<str>>,
    pub email: Vec<Box<str>>,
}

/// What guards look at and what they leave behind.
pub struct Exchange<'a> {
    pub request: &'a dyn Request,
    pub found: &'a mut Found,
}

/// What the guards of a route found out about one request, and what follows from it. The default is nothing.
#[derive(Debug, Default)]
pub struct Found {
    pub identity: Identity,
    /// Fields for the target, set in place of whatever the client sent under these names; `None` only takes them away.
    pub forward: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Parameters of the query that the target does not get to see.
    pub hidden_params: Vec<Box<str>>,
    /// Which of the shapes that its route's `validate` knows its body has to have.
    pub shape: Option<usize>,
    /// What it asks for, where its route speaks GraphQL.
    pub graphql: Option<Box<Operation>>,
    /// Fields of the answer, whoever gives it.
    pub answer: Vec<(HeaderName, HeaderValue)>,
    /// What guards keep for as long as the request lasts.
    pub held: Vec<Box<dyn Hold>>,
    /// Refusals of guards that only watch.
    pub would_refuse: Vec<Refusal>,
    /// Why the request goes no further.
    pub refused: Option<Refusal>,
}

/// What a request of GraphQL was found to ask for; of several operations, the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its name on the list of what may run; `other` where it is on none.
    pub listed: Arc<str>,
    /// Its name as the client says it, cut where that is long.
    pub name: Option<Box<str>>,
    /// `query`, `mutation` or `subscription`.
    pub kind: &'static str,
}

/// Something that ends with the request, however that ends.
pub trait Hold: std::fmt::Debug + Send + Sync {}

/// Who a request comes from.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The name under which the log knows the client: of an API key or a user, or the subject of a token.
    pub consumer: Option<Arc<str>>,
    /// What the document says of that consumer, e.g. its plan.
    pub attributes: Option<Arc<Map<String, Value>>>,
    /// What a verified token says.
    pub claims: Option<Arc<Map<String, Value>>>,
    /// When what the client has shown ends, in seconds since 1970; nothing where it does not.
    pub ends: Option<f64>,
    /// `auth` has let in somebody whom neither consumer nor claims tell from others.
    pub unnamed: bool,
}

/// Claims of which two people, or two tokens, never have the same. A `client_id` is the name of a program.
const TELLING: [&str; 7] = ["sub", "username", "preferred_username", "email", "jti", "uti", "sid"];
/// Those that are of one token, whoever has it.
const OF_A_TOKEN: [&str; 6] = ["iat", "exp", "nbf", "jti", "uti", "auth_time"];

impl Identity {
    /// Whether it says who it is, and not only what somebody may.
    pub fn names(&self) -> bool {
        match &self.claims {
            Some(claims) => TELLING.iter().any(|name| claims.get(*name).is_some_and(tells)),
            None => self.consumer.is_some(),
        }
    }

    /// What another one has found out on top: the first word of each kind holds.
    pub fn join(&mut self, other: Self) {
        let is_kept = match &other.claims {
            Some(_) => self.claims.is_none(),
            None => self.consumer.is_none(),
        };
        self.unnamed |= other.unnamed || !is_kept || !other.names();
        self.consumer = self.consumer.take().or(other.consumer);
        self.attributes = self.attributes.take().or(other.attributes);
        self.claims = self.claims.take().or(other.claims);
        // What every one of them admits ends with the first.
        self.ends = self.ends.into_iter().chain(other.ends).reduce(f64::min);
    }

    /// The claims that tell this client from others: the same person with another token of the same kind is the same
    /// person, where the token names one.
    pub fn telling(&self) -> impl Iterator<Item = (&String, &Value)> {
        let claims = self.claims.as_deref();
        let is_person = claims.is_some_and(|claims| PERSON.iter().any(|name| claims.get(*name).is_some_and(tells)));
        let all = claims.into_iter().flatten();
        all.filter(move |(name, _)| !is_person || !OF_A_TOKEN.contains(&name.as_str()))
    }
}

/// Claims that are the same in all tokens of one person.
const PERSON: [&str; 2] = ["sub", "username"];

fn tells(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        _ => false,
    }
}

/// What a guard says of a request that goes no further.
#[derive(Debug)]
pub enum Stop {
    Refuse(Refusal),
    /// It is answered here, with this status, the fields of [`Found::answer`] and no body.
    Reply(u16),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// Why a guard lets a request go no further.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub fault: Fault,
    /// Which rule, and where it stands, e.g. `routes.admin.ip (yumen.yaml:31:5)`. For the log only.
    pub rule: Arc<str>,
    /// What only the log is told.
    pub why: Box<str>,
    /// Fields of the answer that belong to this refusal, e.g. `WWW-Authenticate`.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// What is wrong where in the request, told to the client: JSON pointer or parameter, and a sentence.
    pub errors: Vec<(Box<str>, Box<str>)>,
}

#[cfg(test)]
pub(crate) mod asked;
