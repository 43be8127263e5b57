//! The route's `batch`: each request in it goes its own way through the gateway, over a connection that is memory.
//!
//! To everything behind it a part is a request like any other: the same client, listener and certificate, its own route,
//! guards, limits, access line. It only knows of which request it is a part, so that it can hold no batch itself.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::{Instant, timeout_at};

use super::ctx::Ctx;
use super::gone::unless_gone;
use super::intake::{field, is_hop_by_hop};
use super::whole::{self, Then};
use super::{App, Aside, Proxy, response};
use crate::answer::{Answer, Answers, Asked};
use crate::exchange::Refusal;
use crate::fault::Fault;
use crate::listener::rules::check_h2;
use crate::listener::{Connection, Limits, PartOf};
use crate::policy::batch::{Base, Batch, Part};
use crate::telemetry::trace::RequestId;

/// The largest batch.
const MOST_BODY: usize = 8 << 20;
/// What fits into the memory between a part and us.
const PIPE: usize = 64 << 10;

/// The worker's own app, which it cannot know before it is made.
pub(super) type Own = OnceLock<Weak<App>>;

/// What the parts of a batch have in common.
struct Around {
    app: Arc<App>,
    aside: Aside,
    connection: Arc<Connection>,
    answers: Arc<Answers>,
    of: Box<str>,
    rule: Box<str>,
    until: Instant,
    most: usize,
}

/// Answers with what became of each part, in their order.
pub(super) async fn answer(session: &mut Session, ctx: &mut Ctx, batch: &Batch, proxy: &Proxy) -> Result<bool> {
    if ctx.part_of.is_some() {
        ctx.why = Some("a batch inside a batch".to_owned());
        return Err(Fault::RequestInvalid.into());
    }
    if session.req_header().method != Method::POST {
        ctx.allow = Some("POST".to_owned());
        return Err(Fault::RouteMethod.into());
    }
    check_kind(session, ctx)?;
    whole::read(session, MOST_BODY, Then::Answer, ctx).await?;
    let parts = parts(session, ctx, batch)?;
    let around = Arc::new(around(ctx, batch, proxy)?);
    let one = |part: Part| {
        let around = Arc::clone(&around);
        async move { around.answer(part).await }
    };
    let answers = stream::iter(parts.into_iter().map(one)).buffered(batch.parallel).collect::<Vec<_>>();
    let answers = unless_gone(session, answers).await?;
    let mut head = ResponseHeader::build(200, Some(4))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    response::own(session, ctx, head, format!("[{}]", answers.join(",")).into()).await
}

/// A batch is JSON by its content type: no page of another origin can send that unasked.
fn check_kind(session: &Session, ctx: &mut Ctx) -> Result<(), Fault> {
    let fields = &session.req_header().headers;
    let coded = fields.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if !coded && is_json(fields) {
        return Ok(());
    }
    ctx.why = Some("the batch is not JSON by its content type, or it is compressed".to_owned());
    ctx.found.get_or_insert_default().answer.push((header::ACCEPT, HeaderValue::from_static("application/json")));
    Err(Fault::BodyType)
}

fn is_json(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// What the connection of a part would have found wrong with its head.
fn refusal(head: &RequestHeader, limits: &Limits) -> Option<Fault> {
    let line = head.method.as_str().len() + head.raw_path().len() + "  HTTP/1.1\r\n\r\n".len();
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let large = line + fields.sum::<usize>() > limits.head.len();
    check_h2(head, limits).err().or(large.then_some(Fault::RequestHeaderTooLarge))
}

/// What is told of a head that is refused.
fn outline(head: &RequestHeader) -> Result<RequestHeader> {
    const TOLD: [HeaderName; 4] = [header::HOST, header::ACCEPT_LANGUAGE, header::USER_AGENT, field::TRACEPARENT];
    const LONG: usize = 2048;
    let method = Some(head.method.clone()).filter(|method| method.as_str().len() < LONG).unwrap_or_default();
    let target = head.raw_path().get(..LONG).map_or(head.raw_path(), |_| b"/");
    let mut outline = RequestHeader::build_no_case(method, target, Some(TOLD.len()))?;
    for name in TOLD {
        if let Some(value) = head.headers.get(&name).filter(|value| value.len() < LONG) {
            outline.insert_header(name, value.clone())?;
        }
    }
    Ok(outline)
}

fn around(ctx: &Ctx, batch: &Batch, proxy: &Proxy) -> Result<Around, Fault> {
    let app = proxy.own.get().and_then(Weak::upgrade);
    let (Some(app), Some(connection)) = (app, &ctx.connection) else { return Err(Fault::GatewayInternal) };
    let until = Instant::from(ctx.started) + batch.timeout;
    let (aside, connection) = (Arc::clone(&proxy.aside), Arc::clone(connection));
    let answers = Arc::clone(&proxy.live.load().answers);
    Ok(Around { app, aside, connection, answers, of: ctx.id().into(), rule: rule(ctx), until, most: batch.answer })
}

fn rule(ctx: &Ctx) -> Box<str> {
    let rule = ctx.route.as_ref().map(|route| format!("routes.{}.batch ({})", route.name, route.place));
    rule.unwrap_or_default().into()
}

/// The requests of the batch; its sender is told all that is wrong with them.
fn parts(session: &Session, ctx: &mut Ctx, batch: &Batch) -> Result<Vec<Part>, Fault> {
    let trusted = ctx.intake.as_ref().is_none_or(|intake| intake.trusted);
    let mut fields = session.req_header().headers.clone();
    if let Ok(trace) = HeaderValue::from_bytes(&ctx.trace.traceparent(0)) {
        fields.insert(field::TRACEPARENT, trace);
    }
    let base = Base { fields: &fields, trusted };
    let read = batch.read(ctx.whole.as_deref().unwrap_or_default(), &base);
    read.map_err(|errors| {
        let why = errors.first().map(|(at, what)| format!("{at}: {what}")).unwrap_or_default();
        let rule = (*rule(ctx)).into();
        let refusal = Refusal { fault: Fault::BodyInvalid, rule, why: why.into(), fields: Vec::new(), errors };
        ctx.refuse(refusal)
    })
}

impl Around {
    /// What became of one part, as JSON.
    async fn answer(&self, part: Part) -> String {
        let (id, head) = (part.id.clone(), part.head.clone());
        let refused = refusal(&part.head, &self.connection.listener.limits);
        let (connection, id_of_part) = (Arc::clone(&self.connection), RequestId::new(SystemTime::now()));
        let (request, rule, left) = (self.of.clone(), self.rule.clone(), OnceLock::new());
        let of = Arc::new(PartOf { connection, request, refused, id: id_of_part, rule, left });
        let answered = self.in_time(part, &of).await;
        match answered {
            Ok((head, body)) => told(id.as_deref(), head.status.as_u16(), &head.headers, &body),
            Err(fault) => {
                let answer = self.apology(fault, &head, of.id.as_str());
                told(id.as_deref(), answer.status, &answer.headers.into_iter().collect(), &answer.body)
            }
        }
    }

    /// Its answer, or why that is not waited for any longer.
    async fn in_time(&self, part: Part, of: &Arc<PartOf>) -> Result<(ResponseHeader, Bytes), Fault> {
        let mut asked = Box::pin(self.ask(part, of));
        let answered = timeout_at(self.until, &mut asked).await.unwrap_or(Err(Fault::UpstreamTimeoutTotal));
        if let Err(fault) = &answered {
            // Before its connection ends, so that it knows why.
            of.left.get_or_init(|| *fault);
        }
        answered
    }

    /// What a part is answered where it has not done so itself, as everywhere.
    fn apology(&self, fault: Fault, head: &RequestHeader, request_id: &str) -> Answer {
        let accept_language = head.headers.get(header::ACCEPT_LANGUAGE).and_then(|languages| languages.to_str().ok());
        let head = head.method == Method::HEAD;
        let asked = Asked { request_id, accept_language, head, cause: Some((fault, None)), ..Asked::default() };
        self.answers.answer(fault.outside(), &asked)
    }

    /// Sends a part, and reads its answer. When this is dropped, its client is gone.
    async fn ask(&self, mut part: Part, of: &Arc<PartOf>) -> Result<(ResponseHeader, Bytes), Fault> {
        let (near, far) = duplex(PIPE);
        if let Some(fault) = of.refused {
            part.head = outline(&part.head).map_err(|_| fault)?;
            part.body.clear();
        }
        self.serve(far, of).map_err(|_| Fault::GatewayInternal)?;
        let mut session = HttpSession::new(Box::new(Pipe { io: near, proxy: None }));
        let exchange = async {
            session.write_request_header(Box::new(part.head)).await?;
            // Who refuses a part may not read its body: the answer tells.
            let _ = async {
                session.write_body(&part.body).await?;
                session.finish_body().await
            }
            .await;
            loop {
                session.read_response().await?;
                if session.resp_header().is_some_and(|head| !head.status.is_informational()) {
                    break;
                }
            }
            let mut body = BytesMut::new();
            while let Some(piece) = session.read_body_bytes().await? {
                if body.len() + piece.len() > self.most {
                    return Err(Fault::UpstreamTooLarge.into());
                }
                body.extend_from_slice(&piece);
            }
            Ok(body.freeze())
        };
        let body: Result<Bytes> = exchange.await;
        let body = body.map_err(|why| crate::pool::lost::own(&why).unwrap_or(Fault::UpstreamReset))?;
        session.resp_header().cloned().map(|head| (head, body)).ok_or(Fault::GatewayInternal)
    }

    /// The other end of a part's connection is served as any other.
    fn serve(&self, far: DuplexStream, of: &Arc<PartOf>) -> Result<()> {
        let user_data = Box::new(Arc::clone(of));
        let proxy = ProxyDigest::new(Box::new(ResponseHeader::build(200, Some(0))?), Some(user_data));
        let mut session = ServerSession::new_http1(Box::new(Pipe { io: far, proxy: Some(Arc::new(proxy)) }));
        session.set_keepalive(None);
        let (app, shutdown) = (Arc::clone(&self.app), self.connection.closing.clone());
        (self.aside)(Box::pin(async move { drop(app.process_new_http(session, &shutdown).await) }));
        Ok(())
    }
}

/// One answer: its body as JSON where it is that, as text, or else in base64.
fn told(id: Option<&RawValue>, status: u16, said: &HeaderMap, body: &[u8]) -> String {
    let mut headers = Map::new();
    for name in said.keys().filter(|name| !is_hop_by_hop(name) && **name != header::CONTENT_LENGTH) {
        let mut values = said.get_all(name).iter().map(|value| Value::from(String::from_utf8_lossy(value.as_bytes())));
        let all = match (values.next(), values.next()) {
            (Some(one), None) => one,
            (first, second) => first.into_iter().chain(second).chain(values).collect(),
        };
        headers.insert(name.to_string(), all);
    }
    let raw: Option<&RawValue> = if is_json(said) { serde_json::from_slice(body).ok() } else { None };
    let (encoding, body) = match (raw, std::str::from_utf8(body)) {
        _ if body.is_empty() => (None, "null".to_owned()),
        (Some(raw), _) => (None, raw.get().to_owned()),
        (None, Ok(text)) => (None, Value::from(text).to_string()),
        (None, Err(_)) => (Some("base64"), Value::from(base64(body)).to_string()),
    };
    let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
    let encoding = encoding.map(|word| format!("\"encoding\":\"{word}\",")).unwrap_or_default();
    format!("{{{id}\"status\":{status},\"headers\":{},{encoding}\"body\":{body}}}", Value::Object(headers))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// One end of a connection that is memory.
#[derive(Debug)]
struct Pipe {
    io: DuplexStream,
    proxy: Option<Arc<ProxyDigest>>,
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Pipe {
    async fn shutdown(&mut self) {
        // The other end may be gone already.
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.io).await;
    }
}

impl UniqueID for Pipe {
    fn id(&self) -> UniqueIDType {
        -1
    }
}

impl Ssl for Pipe {}

#[async_trait]
impl Peek for Pipe {}

impl GetTimingDigest for Pipe {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Pipe {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.proxy.clone()
    }
}

impl GetSocketDigest for Pipe {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
