//! Listening, over real sockets on loopback.
#![expect(clippy::needless_pass_by_value, reason = "settings read best where they are passed")]

mod http1;
mod http2;
mod pingora_behind;
mod sockets;
mod tls_by_name;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::{Door, Listeners, Place, Seen, Worker};
use crate::broken::broken;
use crate::fault::Fault;
use crate::listener::{Config, Listener, connection_of};
use crate::problem::{Path, Problems};
use crate::units::{Address, Name};

/// Answers with what it was asked, and by whom.
struct Echo;

#[async_trait]
impl HttpServerApp for Echo {
    async fn process_new_http(
        self: &Arc<Self>,
        mut http: ServerSession,
        _: &watch::Receiver<bool>,
    ) -> Option<ReusedHttpStream> {
        if !http.read_request().await.ok()? {
            return None;
        }
        let target = String::from_utf8_lossy(http.req_header().raw_path()).into_owned();
        let connection = connection_of(http.digest()?)?.clone();
        if target == "/switch" {
            let mut header = ResponseHeader::build(101, None).ok()?;
            header.insert_header("upgrade", "websocket").ok()?;
            header.insert_header("connection", "upgrade").ok()?;
            http.write_response_header(Box::new(header)).await.ok()?;
        }
        let (mut body, mut status) = (Vec::new(), 200);
        loop {
            match http.read_request_body().await {
                Ok(Some(more)) => body.extend_from_slice(&more),
                Ok(None) => break,
                Err(why) => {
                    status = broken(&why)?.status();
                    break;
                }
            }
            if target == "/switch" && body.ends_with(b".") {
                http.write_response_body(body.clone().into(), true).await.ok()?;
                http.shutdown().await;
                return None;
            }
        }
        if target == "/large" {
            body = vec![b'x'; 64 << 20];
        }
        let name = connection.tls.as_ref().and_then(|tls| tls.name.clone()).unwrap_or_default();
        let text = format!("{} {target} {} {name} ", http.req_header().method, connection.peer.ip());
        let text = [text.as_bytes(), &body].concat();
        let mut header = ResponseHeader::build(status, None).ok()?;
        header.insert_header("content-length", text.len()).ok()?;
        http.write_response_header(Box::new(header)).await.ok()?;
        http.write_response_body(text.into(), true).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&http);
        let stream = http.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

#[derive(Default)]
struct Counting {
    away: AtomicUsize,
}

impl Door for Counting {
    fn refuse(&self, fault: Fault, seen: &Seen<'_>) -> Vec<u8> {
        let (code, target) = (fault.code(), seen.target().unwrap_or("-"));
        format!("HTTP/1.1 {} x\r\nconnection: close\r\n\r\n{code} {target}", fault.status()).into_bytes()
    }
    fn turned_away(&self, _: &Name, _: &'static str) {
        self.away.fetch_add(1, Ordering::Relaxed);
    }
}

struct House<A = Echo> {
    listeners: Listeners<A>,
    door: Arc<Counting>,
    shutdown: watch::Sender<bool>,
}

impl House {
    fn empty() -> Self {
        Self::of(Echo)
    }

    fn with(more: serde_json::Value) -> Self {
        let house = Self::empty();
        house.listeners.apply(vec![listener("edge", more)]).unwrap();
        house
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> House<A> {
    fn of(app: A) -> Self {
        let (shutdown, closing) = watch::channel(false);
        let door = Arc::new(Counting::default());
        let workers = vec![Worker { runtime: tokio::runtime::Handle::current(), app: Arc::new(app) }];
        Self { listeners: Listeners::new(workers, door.clone(), closing), door, shutdown }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(port(&self.listeners.places()[0])).await.unwrap()
    }

    /// Everything that comes back for these bytes, until the connection ends.
    async fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut stream).await
    }
}

fn listener(name: &str, more: serde_json::Value) -> Arc<Listener> {
    let mut json = serde_json::json!({ "bind": "127.0.0.1:0" });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(json).unwrap();
    let mut problems = Problems::default();
    Listener::compile(&name.parse().unwrap(), &config, &Path::default(), &mut problems).unwrap()
}

fn port(place: &Place) -> std::net::SocketAddr {
    let Address::Ip(address) = place.bound else { panic!("{place:?}") };
    address
}

async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await.expect("an end").unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// One answer with a length, from a connection that stays open.
async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    loop {
        text.push(char::from(stream.read_u8().await.unwrap()));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|n| n.lines().next()?.parse().ok()).unwrap_or(0);
        if body.len() == length {
            return text;
        }
    }
}

/// A certificate for these names, as document and as a client's root.
fn certificate(dir: &std::path::Path, names: &[&str]) -> (serde_json::Value, Vec<u8>) {
    let made =
        rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let path = |end| dir.join(format!("{}.{end}", names[0].trim_start_matches("*.")));
    std::fs::write(path("crt"), made.cert.pem()).unwrap();
    std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    (serde_json::json!({ "cert": path("crt"), "key": path("key") }), made.cert.der().to_vec())
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

fn client(roots: &[Vec<u8>], alpn: &[&str]) -> rustls::ClientConfig {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone().into()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn tls(house: &House, config: &Arc<rustls::ClientConfig>, name: &str) -> std::io::Result<Tls> {
    let stream = house.connect().await;
    tokio_rustls::TlsConnector::from(config.clone()).connect(name.to_owned().try_into().unwrap(), stream).await
}

/// An HTTP/2 client on this stream, its connection driven in the background.
async fn h2(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> h2::client::SendRequest<bytes::Bytes> {
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn h2_ask(client: &mut h2::client::SendRequest<bytes::Bytes>, path: &str) -> Result<String, h2::Error> {
    let request = http::Request::get(format!("http://a.example{path}")).body(()).unwrap();
    *client = client.clone().ready().await?;
    let (response, _) = client.send_request(request, true)?;
    let mut body = response.await?.into_body();
    let mut text = String::new();
    while let Some(more) = body.data().await {
        text.push_str(std::str::from_utf8(&more?).unwrap());
    }
    Ok(text)
}

const CLOSE: &str = "Connection: close\r\n\r\n";
