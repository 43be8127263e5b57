//! WebSockets: asked for like any request, and then a tunnel of our own that holds nothing of the request but what it needs.
//!
//! Pingora's own tunnel loses some of those that a target agrees to at once (issue 946), knows no frames, and cannot say
//! goodbye. Here a target is asked first; its 101 goes to the client, and nothing passes either way before that.

mod closing;
mod frame;
mod handover;
mod handshake;
mod lane;
mod target;
mod tunnel;
mod watch;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{HeaderValue, StatusCode, Version, header};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use self::target::{Answering, Patience};
use super::ctx::Ctx;
use super::{again, forward, response, time};
use crate::fault::Fault;
use crate::policy::websocket::Compression;
use crate::pool::Pool;
use crate::snapshot::Live;

/// What WebSockets need of a worker.
#[derive(Default)]
pub(super) struct Websockets {
    /// Made by the first of them: it reads the system's authorities.
    connector: OnceLock<TransportConnector>,
}

/// Refuses a handshake that is none, and a client that has too many open; what the target has to say to others.
pub(super) fn check(session: &Session, ctx: &mut Ctx) -> Result<String, Fault> {
    let wanted = handshake::asked(session.req_header()).inspect_err(|fault| {
        if *fault == Fault::RequestUpgrade {
            let found = ctx.found.get_or_insert_default();
            found.answer.push((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
            found.answer.push((header::UPGRADE, HeaderValue::from_static("websocket")));
        }
    })?;
    ctx.admit_websocket(session.req_header())?;
    Ok(wanted)
}

/// Refuses where the pool that was drawn speaks HTTP/2 only: its targets are told of nothing.
pub(super) fn possible(ctx: &mut Ctx) -> Result<(), Fault> {
    if ctx.pool.as_ref().is_some_and(|pool| pool.speaks_h1()) {
        return Ok(());
    }
    ctx.picked = None;
    ctx.why = Some("a WebSocket for a pool that is spoken to by HTTP/2 only".to_owned());
    Err(Fault::UpstreamUpgrade)
}

impl Websockets {
    /// Asks targets until one answers, and passes that on; always answered, or handed over.
    pub(super) async fn serve(
        &self,
        live: &Arc<Live>,
        session: &mut Session,
        ctx: &mut Box<Ctx>,
        wanted: &str,
    ) -> Result<bool> {
        let connector = self.connector.get_or_init(|| TransportConnector::new(Some(ConnectorOptions::new(1))));
        loop {
            again::pause(ctx).await;
            let (stream, patience) = match open(connector, session, ctx).await {
                Ok(opened) => opened,
                Err(why) if again::after_no_connection(session, ctx, &why) => continue,
                Err(why) => return Err(why),
            };
            let answered = match ask(session, ctx, stream, patience).await {
                Ok((answering, head)) => checked(session, ctx, &head, wanted).map(|()| (answering, head)),
                Err(why) => Err(why),
            };
            let (answering, head) = match answered {
                Ok(answered) => answered,
                Err(why) if again::after_a_loss(session, ctx, &why) => continue,
                Err(why) => return Err(why),
            };
            return if head.status == StatusCode::SWITCHING_PROTOCOLS {
                handover::hand_over(live, session, ctx, answering, head)
            } else {
                pass_on(session, ctx, answering, head, patience).await
            };
        }
    }
}

/// A connection to the target of this try.
async fn open(
    connector: &TransportConnector,
    session: &Session,
    ctx: &mut Ctx,
) -> Result<(pingora::protocols::Stream, Patience)> {
    again::begin(ctx, Instant::now());
    let (Some(picked), Some(route)) = (&ctx.picked, &ctx.route) else { return Err(Fault::GatewayInternal.into()) };
    let timeouts = picked.timeouts(route.timeout.as_ref());
    if ctx.upstream.tries == 1 {
        ctx.upstream.end = time::end(&timeouts, session.req_header(), ctx.started);
    }
    if ctx.is_over() {
        return Err(Fault::UpstreamTimeoutTotal.into());
    }
    let patience = Patience::new(&timeouts, ctx.upstream.end.as_ref().map(|end| end.at));
    let stream = target::connect(connector, picked, &timeouts, patience).await?;
    if let Some(counted) = ctx.pool.as_deref().and_then(Pool::counted) {
        counted.connected(false);
    }
    Ok((stream, patience))
}

/// The head of the target's answer, unless the client leaves meanwhile.
async fn ask(
    session: &mut Session,
    ctx: &mut Ctx,
    stream: pingora::protocols::Stream,
    patience: Patience,
) -> Result<(Answering, ResponseHeader)> {
    let mut request: RequestHeader = session.req_header().clone();
    forward::request(&mut request, Version::HTTP_11, ctx)?;
    let kept = ctx.route.as_ref().and_then(|route| route.websocket.as_ref());
    if kept.is_some_and(|kept| kept.compression == Compression::Off) {
        request.remove_header(&header::SEC_WEBSOCKET_EXTENSIONS);
    }
    ctx.upstream.sent = true;
    tokio::select! {
        biased;
        answered = target::ask(stream, request, patience) => answered,
        gone = session.downstream_session.read_body_or_idle(true) => match gone {
            Err(why) => Err(why.into_down()),
            Ok(_) => Err(Fault::ClientGone.into()),
        },
    }
}

/// Whether this answer is the one: it may ask for another try, and a switch has to be the one that was asked for.
fn checked(session: &Session, ctx: &mut Ctx, head: &ResponseHeader, wanted: &str) -> Result<()> {
    again::or_this(session, ctx, head)?;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        handshake::agreed(head.status, &head.headers, wanted).map_err(|fault| Box::<Error>::from(fault).into_up())?;
    }
    Ok(())
}

/// The target's own answer in place of a switch.
async fn pass_on(
    session: &mut Session,
    ctx: &mut Ctx,
    mut answering: Answering,
    mut head: ResponseHeader,
    patience: Patience,
) -> Result<bool> {
    response::forwarded(session, &mut head, ctx)?;
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !bodiless && !framed.iter().any(|name| head.headers.contains_key(name)) {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    session.write_response_header(Box::new(head), bodiless).await?;
    while let Some(piece) = answering.piece(patience).await? {
        if ctx.is_over() {
            return Err(Fault::UpstreamTimeoutTotal.into());
        }
        session.write_response_body(Some(piece), false).await?;
    }
    ctx.upstream.ended = Some(Instant::now());
    if !bodiless {
        session.write_response_body(None, true).await?;
    }
    Ok(true)
}
