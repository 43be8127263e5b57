//! Copies of requests for another pool: made as the first target gets them, sent beside, nobody waits for them.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Uri, Version, header};
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::intake::field;
use super::view::View;
use super::{Aside, fail};
use crate::fault::Fault;
use crate::pool::{Picked, Pool};
use crate::route::copy::Place;
use crate::telemetry::metrics::CopyResult;

/// How long a connection waits for the next copy: shorter than most targets keep one.
const IDLE: Duration = Duration::from_secs(4);
/// An answer that is longer costs its connection.
const MOST_ANSWER: usize = 1 << 20;

thread_local! {
    /// Connections belong to the runtime that opened them, and each worker has its own.
    static CONNECTOR: OnceCell<Arc<Connector<()>>> = const { OnceCell::new() };
}

fn connector() -> Arc<Connector<()>> {
    CONNECTOR.with(|mine| Arc::clone(mine.get_or_init(|| Arc::new(Connector::new(None)))))
}

/// What of a request's copy is decided.
#[derive(Default)]
pub enum Copying {
    /// Nothing yet: no target was sent anything.
    #[default]
    Open,
    /// It waits for the rest of the body.
    Waits(Box<Copy>),
    /// There is none, or it is on its way.
    Done,
}

/// A copy of a request.
pub struct Copy {
    place: Place,
    head: RequestHeader,
    body: BytesMut,
}

/// A target is about to be sent this head. The first one decides; a further one gets the same body from its start.
pub(super) fn begin(session: &Session, out: &RequestHeader, ctx: &mut Ctx) {
    let Some(copies) = ctx.route.as_ref().and_then(|route| route.copy_to.as_ref()) else { return };
    match &mut ctx.copying {
        Copying::Waits(copy) => copy.body.clear(),
        Copying::Open if !session.is_upgrade_req() => {
            ctx.copying = Copying::Done;
            if let Some(place) = copies.draw() {
                let (head, body) = (out.clone(), BytesMut::new());
                ctx.copying = Copying::Waits(Box::new(Copy { place, head, body }));
            }
        }
        _ => {}
    }
}

/// A piece of the body goes to the target; with the last one the copy goes its way.
pub(super) fn receive(request: &RequestHeader, piece: Option<&Bytes>, end: bool, ctx: &mut Ctx, aside: &Aside) {
    let Copying::Waits(copy) = &mut ctx.copying else { return };
    let most = copy.place.copies().most();
    if let Some(piece) = piece {
        if copy.body.len() + piece.len() > most {
            copy.place.ended(CopyResult::TooLarge);
            ctx.copying = Copying::Done;
            return;
        }
        copy.body.extend_from_slice(piece);
    }
    if !end {
        return;
    }
    let Copying::Waits(mut copy) = std::mem::replace(&mut ctx.copying, Copying::Done) else { return };
    let Some(intake) = &ctx.intake else { return };
    let pool = Arc::clone(copy.place.copies().pool());
    match pool.pick(&View::of(request, intake, &ctx.params), &[]) {
        Ok(picked) => aside(Box::pin(run(copy, picked, pool))),
        Err(_) => copy.place.ended(CopyResult::NoTarget),
    }
}

/// Sends it, throws the answer away, and tells how it went.
async fn run(mut copy: Box<Copy>, mut picked: Picked, pool: Arc<Pool>) {
    let begun = Instant::now();
    let limit = copy.place.copies().timeout();
    let peer = picked.aside(limit);
    let answer = tokio::time::timeout(limit, exchange(&copy, &peer)).await;
    let (fault, status) = match &answer {
        Ok(Ok(status)) => (None, *status),
        Ok(Err(why)) => (Some(fail::fault_of(why, false, false)), 0),
        Err(_) => (Some(Fault::UpstreamTimeoutTotal), 0),
    };
    if fault.is_none() {
        picked.answered(status, Some(begun.elapsed()));
    }
    picked.record(fault, status);
    if let Some(counted) = pool.counted() {
        counted.count(fault.is_none().then_some(status), begun.elapsed().as_secs_f64());
    }
    let word = fault.map_or_else(|| status.to_string(), |fault| fault.to_string());
    log::debug!("copy of {} {} to {}: {word}", copy.head.method, copy.head.uri.path(), picked.target().name());
    copy.place.ended(if fault.is_none() { CopyResult::Answered } else { CopyResult::Failed });
}

/// The status of the answer. A kept connection may have been closed meanwhile: then a new one is tried.
async fn exchange(copy: &Copy, peer: &HttpPeer) -> Result<u16> {
    let connector = connector();
    let up = |why: Box<Error>| why.into_up();
    let (session, reused) = connector.get_http_session(peer).await.map_err(up)?;
    match ask(copy, session, peer, &connector).await {
        Err(_) if reused => {
            // Under a name of its own this one is surely new.
            let mut other = peer.clone();
            other.group_key = other.group_key.wrapping_add(1);
            let (session, _) = connector.get_http_session(&other).await.map_err(up)?;
            ask(copy, session, &other, &connector).await.map_err(up)
        }
        answer => answer.map_err(up),
    }
}

async fn ask(copy: &Copy, mut session: HttpSession, peer: &HttpPeer, connector: &Connector<()>) -> Result<u16> {
    let head = head(copy, session.as_http2().is_some(), peer.tls())?;
    session.write_request_header(Box::new(head)).await?;
    if !copy.body.is_empty() {
        session.write_request_body(copy.body.clone().freeze(), true).await?;
    }
    session.finish_request_body().await?;
    let status = loop {
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        if !(100..200).contains(&status) || session.as_http2().is_some() {
            break status;
        }
    };
    let mut length = 0;
    while let Some(piece) = session.read_response_body().await? {
        length += piece.len();
        if length > MOST_ANSWER {
            session.shutdown().await;
            return Ok(status);
        }
    }
    connector.release_http_session(session, peer, Some(IDLE)).await;
    Ok(status)
}

/// What the first target got, marked, and framed anew: the body is here as a whole.
fn head(copy: &Copy, h2: bool, tls: bool) -> Result<RequestHeader> {
    let mut head = copy.head.clone();
    for name in [header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::EXPECT, field::X_YUMEN_ATTEMPT] {
        head.remove_header(&name);
    }
    if !copy.body.is_empty() || matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(copy.body.len()))?;
    }
    head.insert_header(field::X_YUMEN_COPY, HeaderValue::from_static("1"))?;
    if h2 {
        let host = head.remove_header(&header::HOST).ok_or(Fault::GatewayInternal)?;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let uri = Uri::builder().scheme(if tls { "https" } else { "http" }).authority(host.as_bytes());
        let uri = uri.path_and_query(target).build();
        head.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "a copy for HTTP/2")?);
        head.set_version(Version::HTTP_2);
    } else {
        head.remove_header(&header::TE);
        head.set_version(Version::HTTP_11);
    }
    Ok(head)
}
