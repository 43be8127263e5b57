//! A request that was never sent, judged by what serves: its head, its route, the guards; no target, no count, no network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use pingora_http::RequestHeader;
use tokio::sync::watch;

use super::intake;
use super::transcode;
use super::view::View;
use super::websocket;
use crate::exchange::{Exchange, Found, Identity, Refusal};
use crate::fault::Fault;
use crate::listener::{Connection, Listener, TlsFacts};
use crate::policy::body;
use crate::policy::foresee::{Foreseen, Step};
use crate::route::{self, Action, Explanation, Params, Route, Table};
use crate::snapshot::{ClientIp, Deciding, Snapshot};
use crate::units::Name;

/// What decides, of a document or of what was compiled from it.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub listeners: &'a [Arc<Listener>],
    client_ip: &'a ClientIp,
    table: &'a Table,
}

impl<'a> From<&'a Deciding> for Ground<'a> {
    fn from(of: &'a Deciding) -> Self {
        Self { listeners: &of.listeners, client_ip: &of.client_ip, table: &of.table }
    }
}

impl<'a> From<&'a Snapshot> for Ground<'a> {
    fn from(of: &'a Snapshot) -> Self {
        Self { listeners: &of.listeners, client_ip: &of.client_ip, table: &of.table }
    }
}

/// Who is asked.
pub struct Trial<'a> {
    pub ground: Ground<'a>,
    pub listener: &'a Arc<Listener>,
}

/// What is asked about.
pub struct Asked {
    pub request: RequestHeader,
    /// Who opens the connection.
    pub peer: IpAddr,
    /// The name that the TLS handshake asks for; nothing without TLS.
    pub tls: Option<Box<str>>,
    /// Who it is, in place of what `auth` would find out.
    pub who: Option<Identity>,
    pub body: Vec<u8>,
    /// Whether there is more of the body than that.
    pub unseen: bool,
}

/// What would become of it.
#[derive(Default)]
pub struct Verdict<'t> {
    pub host: Box<str>,
    pub path: Box<str>,
    pub explanation: Option<Explanation<'t>>,
    /// The pool that it asks for by itself.
    pub pool: Option<Box<str>>,
    /// The pool that it is forwarded to, where no turn decides.
    pub settled: Option<Name>,
    /// The call of gRPC that it is, and by which rule.
    pub call: Option<String>,
    /// What each guard would say, in their order.
    pub steps: Vec<Step>,
    pub end: End,
}

/// How it would end.
#[derive(Default)]
pub enum End {
    /// It goes where the route says.
    #[default]
    Served,
    /// A guard answers it.
    Replied(u16),
    Refused(Refused),
    /// It depends on what is not known here.
    Unknown(Unknown),
}

/// What nobody knows here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// What somebody says of who it is who would have to be asked.
    Who,
    /// What is in the body.
    Body,
}

/// Why it would go no further.
pub struct Refused {
    pub fault: Fault,
    /// What decides, and where it stands; nothing where that is built in.
    pub rule: Option<Box<str>>,
    pub why: Option<Box<str>>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, rule: None, why: None }
    }
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self { fault: refusal.fault, rule: Some((&*refusal.rule).into()), why: Some(refusal.why.clone()) }
    }
}

impl<'a> Trial<'a> {
    /// Goes the way of a request as far as a target.
    pub async fn of(&self, mut asked: Asked) -> Verdict<'a> {
        let connection = self.connection(&asked);
        let made = intake::make_safe(&mut asked.request, &connection, self.ground.client_ip);
        let mut verdict = Verdict { path: asked.request.uri.path().into(), ..Verdict::default() };
        let intake = match made {
            Ok(intake) => intake,
            Err(fault) => {
                let host = intake::host_of(&asked.request, fault).unwrap_or_default().into();
                return Verdict { host, end: End::Refused(fault.into()), ..verdict };
            }
        };
        verdict.host = intake.host.clone();
        if self.listener.redirect.is_some() {
            return Verdict { end: End::Replied(308), ..verdict };
        }
        let none = Params::default();
        let explanation = self.ground.table.explain(&View::of(&asked.request, &intake, &none));
        match explanation.chosen {
            Some((route, _)) => {
                let view = View::of(&asked.request, &intake, &explanation.params);
                verdict.pool = route.split().and_then(|split| split.asked(&view)).map(Into::into);
                let view = view.through(&connection, has_body(&asked.request));
                (verdict.steps, verdict.end, verdict.settled) = pass(route, &view, &asked).await;
                match transcode::foresee(route, &asked.request, &explanation.params) {
                    Some(Ok(call)) => verdict.call = Some(call),
                    Some(Err(refused)) if matches!(verdict.end, End::Served) => verdict.end = End::Refused(refused),
                    _ => {}
                }
            }
            None => verdict.end = End::Refused(lost(self.ground.table, &View::of(&asked.request, &intake, &none))),
        }
        verdict.explanation = Some(explanation);
        verdict
    }

    fn connection(&self, asked: &Asked) -> Connection {
        let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let tls = asked.tls.clone().map(|name| TlsFacts {
            name: Some(name),
            version: "TLSv1.3",
            cipher: "",
            h2: false,
            client: None,
        });
        let (_, closing) = watch::channel(false);
        Connection::new(self.listener.clone(), SocketAddr::new(asked.peer, 0), here, tls, closing)
    }
}

/// Past its guards, or not; and the pool behind them.
async fn pass(route: &Route, view: &View<'_>, asked: &Asked) -> (Vec<Step>, End, Option<Name>) {
    let (mut found, mut steps) = (Found::default(), Vec::new());
    let end = match &route.guards {
        None if matches!(route.action, Action::Forward(_) | Action::Publish(_)) => {
            let said = body::built_in_head(view);
            if said.is_ok() && asked.unseen && reads(route) {
                End::Unknown(Unknown::Body)
            } else {
                let said = said.and_then(|()| foresee(route, view, asked, &mut found));
                said.map_or_else(|refusal| End::Refused((&refusal).into()), |()| opens(route, asked))
            }
        }
        None => opens(route, asked),
        Some(guards) => {
            steps = guards.foresee(&mut Exchange { request: view, found: &mut found }, asked.who.as_ref()).await;
            stopped(&steps).unwrap_or_else(|| {
                if asked.unseen && (guards.looks_at_bodies().is_some() || reads(route)) {
                    return End::Unknown(Unknown::Body);
                }
                let whole = guards.foresee_body(&asked.body, &asked.request.method, &mut found);
                let whole = whole.and_then(|()| foresee(route, view, asked, &mut found));
                whole.map_or_else(|refusal| End::Refused((&refusal).into()), |()| opens(route, asked))
            })
        }
    };
    let exchange = Exchange { request: view, found: &mut found };
    let pool = route.split().and_then(|split| split.settled(&exchange, route.name.as_str()));
    (steps, end, pool.map(|pool| pool.name().clone()))
}

/// Whether what is in the body decides, beside `validate`.
fn reads(route: &Route) -> bool {
    route.bodies.graphql.is_some()
}

fn foresee(route: &Route, view: &View<'_>, asked: &Asked, found: &mut Found) -> Result<(), Refusal> {
    let graphql = route.bodies.graphql.as_ref().filter(|_| !asked.request.headers.contains_key(header::UPGRADE));
    graphql.map_or(Ok(()), |graphql| graphql.foresee(view, &asked.body, found))
}

/// How it ends at its guards, if it does.
fn stopped(steps: &[Step]) -> Option<End> {
    steps.iter().find_map(|step| match &step.said {
        Foreseen::Refused(refusal) => Some(End::Refused(refusal.into())),
        Foreseen::Replied(status) => Some(End::Replied(*status)),
        Foreseen::Asks => Some(End::Unknown(Unknown::Who)),
        _ => None,
    })
}

/// A handshake of a WebSocket has to be one.
fn opens(route: &Route, asked: &Asked) -> End {
    let wanted = matches!(route.action, Action::Forward(_)) && asked.request.headers.contains_key(header::UPGRADE);
    match wanted.then(|| websocket::asked(&asked.request)) {
        Some(Err(fault)) => End::Refused(fault.into()),
        _ => End::Served,
    }
}

fn has_body(request: &RequestHeader) -> bool {
    let length = request.headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || request.headers.contains_key(header::TRANSFER_ENCODING)
}

/// No route takes it; the nearest one says what it lacks.
fn lost(table: &Table, request: &View<'_>) -> Refused {
    let (fault, nearest) = match table.find(request, &mut Params::default()) {
        route::Found::Method { nearest, .. } => (Fault::RouteMethod, Some(nearest)),
        route::Found::Nothing { nearest } => (Fault::RouteNone, nearest),
        route::Found::Route(_) => (Fault::GatewayInternal, None),
    };
    Refused {
        fault,
        rule: nearest.as_ref().map(|lost| format!("routes.{} ({})", lost.route.name, lost.route.place).into()),
        why: nearest.map(|lost| lost.to_string().into()),
    }
}

/// A head as it stands, without what only a connection can tell.
pub fn head(method: &str, target: &str, fields: &[(String, String)]) -> Result<RequestHeader, Fault> {
    let mut request = RequestHeader::build(method, target.as_bytes(), None).map_err(|_| Fault::RequestMalformed)?;
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Fault::RequestMalformed)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Fault::RequestMalformed)?;
        request.append_header(name, value).map_err(|_| Fault::RequestMalformed)?;
    }
    Ok(request)
}
