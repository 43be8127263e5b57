//! HTTP/2: an origin and a client on the `h2` crate, and bare frames for what no library would send.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::tls::Pair;
use super::{PATIENCE, wire};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What an HTTP/2 origin was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub head: http::request::Parts,
    pub trailers: HeaderMap,
}

/// An HTTP/2 server: every request's body comes back as it arrives, then the trailers of `Origin::trailers`.
pub struct Origin {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _stop: oneshot::Sender<()>,
}

impl Origin {
    /// By prior knowledge.
    pub fn plain(trailers: &[(&'static str, &'static str)]) -> Self {
        Self::start(None, trailers)
    }
    pub fn secured(pair: &Pair, trailers: &[(&'static str, &'static str)]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(pair.chain(), pair.private_key());
        let mut config = config.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::start(Some(TlsAcceptor::from(Arc::new(config))), trailers)
    }
    /// By prior knowledge; answers by this deed, which is told how many requests came before.
    pub fn scripted(script: impl Fn(usize, h2::server::SendResponse<Bytes>) + Send + Sync + 'static) -> Self {
        Self::begin(None, &[], Some(Arc::new(script)))
    }
    fn start(tls: Option<TlsAcceptor>, trailers: &[(&'static str, &'static str)]) -> Self {
        Self::begin(tls, trailers, None)
    }
    fn begin(tls: Option<TlsAcceptor>, trailers: &[(&'static str, &'static str)], script: Option<Script>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (stop, stopped) = oneshot::channel();
        let trailers: HeaderMap = trailers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        let mine = asked.clone();
        thread::spawn(move || {
            runtime().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serving = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        let (tls, mine, trailers) = (tls.clone(), mine.clone(), trailers.clone());
                        let script = script.clone();
                        tokio::spawn(async move {
                            match tls {
                                None => serve(stream, mine, trailers, script).await,
                                Some(tls) => {
                                    if let Ok(stream) = tls.accept(stream).await {
                                        serve(stream, mine, trailers, script).await;
                                    }
                                }
                            }
                        });
                    }
                };
                tokio::select! { () = serving => {}, _ = stopped => {} }
            });
        });
        Self { address, asked, _stop: stop }
    }
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

type Script = Arc<dyn Fn(usize, h2::server::SendResponse<Bytes>) + Send + Sync>;

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    asked: Arc<Mutex<Vec<Asked>>>,
    trailers: HeaderMap,
    script: Option<Script>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        if let Some(script) = &script {
            let mut asked = asked.lock().unwrap();
            asked.push(Asked { head: request.into_parts().0, trailers: HeaderMap::new() });
            script(asked.len() - 1, respond);
            continue;
        }
        tokio::spawn(echo(request, respond, asked.clone(), trailers.clone()));
    }
}

async fn echo(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    asked: Arc<Mutex<Vec<Asked>>>,
    trailers: HeaderMap,
) -> Option<()> {
    let (head, mut body) = request.into_parts();
    let mut answer = Response::builder().status(200);
    if let Some(kind) = head.headers.get("content-type") {
        answer = answer.header("content-type", kind);
    }
    let mut back = respond.send_response(answer.body(()).ok()?, false).ok()?;
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        let _ = body.flow_control().release_capacity(data.len());
        back.send_data(data, false).ok()?;
    }
    let theirs = body.trailers().await.ok()?.unwrap_or_default();
    asked.lock().unwrap().push(Asked { head, trailers: theirs });
    back.send_trailers(trailers).ok()
}

/// An answer over HTTP/2.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One request by prior knowledge, on a connection of its own.
pub fn ask(address: &str, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
    ask_with(address, request, body, HeaderMap::new())
}

pub fn ask_with(address: &str, request: Request<()>, body: &[u8], trailers: HeaderMap) -> Result<Answer, h2::Error> {
    let (body, address) = (Bytes::copy_from_slice(body), address.to_owned());
    runtime().block_on(async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await?;
        let driving = tokio::spawn(connection);
        let answer = tokio::time::timeout(PATIENCE, whole(&mut client, request, body, trailers)).await;
        driving.abort();
        answer.expect("an answer in time")
    })
}

async fn whole(
    client: &mut h2::client::SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
    trailers: HeaderMap,
) -> Result<Answer, h2::Error> {
    let end = body.is_empty() && trailers.is_empty();
    let (answer, mut send) = client.send_request(request, end)?;
    if !end {
        send.send_data(body, trailers.is_empty())?;
        if !trailers.is_empty() {
            send.send_trailers(trailers)?;
        }
    }
    let (head, mut from) = answer.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = from.data().await {
        let data = data?;
        let _ = from.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    let trailers = from.trailers().await?.unwrap_or_default();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

/// One HTTP/2 frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A block of header fields, each a literal without index (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(bytes: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        bytes.push(u8::try_from(value).unwrap());
        return;
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128 + 128).unwrap());
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
}

/// The four fields that every request has.
pub fn request<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let usual = [(":method", method), (":scheme", "http"), (":authority", "test.example"), (":path", path)];
    block(&[&usual, more].concat())
}

/// A connection that speaks frames.
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connected, the preface and empty settings sent.
    pub fn open(address: &str) -> Self {
        let mut frames = Self::silent(address);
        frames.bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }
    pub fn silent(address: &str) -> Self {
        let stream = wire::tcp(address);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&size[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.bytes(&[&head, payload].concat())
    }
    pub fn get(&mut self, stream: u32, path: &str) -> bool {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path, &[]))
    }
    pub fn setting(&mut self, id: u16, value: u32) -> bool {
        self.send(SETTINGS, 0, 0, &[id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
    }
    /// The next frame; none when the connection has ended.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let mut payload = vec![0; usize::try_from(number(&head[..3])).unwrap()];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & 0x7fff_ffff, payload })
    }
    /// The first frame that this is true of; settings are acknowledged on the way.
    pub fn find(&mut self, meant: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(SETTINGS, ACK, 0, &[]);
            }
            if meant(&frame) {
                return Some(frame);
            }
        }
    }
    /// What became of a stream or of the whole connection.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let mut seen = None;
        while let Some(frame) = self.find(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY)) {
            let error = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            match frame.kind {
                GOAWAY if error(4) != 0 => return Outcome::Connection(error(4)),
                RST_STREAM if frame.stream == stream && seen.is_none() => return Outcome::Stream(error(0)),
                HEADERS if frame.stream == stream && seen.is_none() => {
                    seen = Some(Outcome::Status(status(&frame)));
                    return seen.unwrap();
                }
                _ => {}
            }
        }
        Outcome::Ended
    }
}

/// How the other side took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// `RST_STREAM` with this code.
    Stream(u32),
    /// `GOAWAY` with this code.
    Connection(u32),
    Ended,
}

impl Outcome {
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Status(status) if status < 400)
    }
}

/// `:status` where the block starts with it as static index or as plain literal; 999 else.
fn status(frame: &Frame) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match frame.payload.as_slice() {
        [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
        [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => String::from_utf8_lossy(&[*a, *b, *c]).parse().unwrap_or(999),
        _ => 999,
    }
}
