//! Listening, over real sockets on loopback.
#![expect(clippy::needless_pass_by_value, reason = "settings read best where they are passed")]

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
use crate::fault::Fault;
use crate::listener::{Config, Listener, bad_body, connection_of};
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
                    status = bad_body(&why)?.status();
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

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let house = House::with(serde_json::json!({}));
    let mut stream = house.connect().await;
    for body in ["", "abc"] {
        let ask = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(ask.as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await;
        assert!(answer.ends_with(&format!("POST /a 127.0.0.1  {body}")), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: keep-alive"));
    }
    assert_eq!(house.listeners.connections(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_each_seen_once() {
    let house = House::with(serde_json::json!({}));
    let one = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nGET /no HTTP/1.1\r\n\r\n";
    let two = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nHost: b\r\n\r\n";
    let last = format!("GET /3 HTTP/1.1\r\nHost: a\r\n{CLOSE}GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    let whole = format!("{one}\r\n{two}{last}");
    let got = house.ask(&whole).await;
    let bodies: Vec<_> = got.split("HTTP/1.1 200").skip(1).map(|a| a.split("\r\n\r\n").nth(1).unwrap()).collect();
    assert_eq!(bodies.len(), 3, "{got}");
    assert_eq!(bodies[1], "POST /2 127.0.0.1  abc");
    assert!(bodies[2].starts_with("GET /3"));

    // The same, a byte at a time, and with the end of the client's side right behind.
    let mut stream = house.connect().await;
    for byte in whole.split("GET /never").next().unwrap().as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.matches("HTTP/1.1 200").count(), 3);
}

#[tokio::test]
async fn a_bad_head_is_answered_by_the_door() {
    let house = House::with(serde_json::json!({ "limits": { "head": "1KiB", "uri": "100B", "fields": 4 } }));
    for (bytes, says) in [
        ("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "request.framing /x"),
        ("GET /x HTTP/1.1\nHost: a\n\n", "request.malformed /x"),
        ("GET /x HTTP/1.1\r\n\r\n", "request.host /x"),
        ("TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n", "route.method /x"),
        (&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(200)), "request.uri_too_long"),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(1100)), "request.header_too_large"),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(4)), "request.header_too_large"),
    ] {
        let got = house.ask(bytes).await;
        assert!(got.contains(says), "{bytes:?}: {got}");
    }
    // A large body behind it does not destroy the answer.
    let got = house.ask(format!("POST / HTTP/1.1\r\nContent-Length: 900000\r\n\r\n{}", "x".repeat(900_000))).await;
    assert!(got.contains("request.host"), "{got}");
}

#[tokio::test]
async fn a_bad_chunk_ends_the_body_with_its_fault() {
    let house = House::with(serde_json::json!({}));
    for chunk in ["0x3\r\nabc\r\n", "3\r\nabcd\r\n", "3\nabc\r\n", "fffffffffffffffff\r\n"] {
        let got = house.ask(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}")).await;
        assert!(got.starts_with("HTTP/1.1 400"), "{chunk:?}: {got}");
    }
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_ended() {
    let house = House::with(serde_json::json!({ "timeout": { "head": "300ms", "idle": "150ms" } }));
    let start = Instant::now();
    let mut stream = house.connect().await;
    // A byte every now and then does not extend the time.
    let (mut read, mut write) = stream.split();
    let mut interval = tokio::time::interval(Duration::from_millis(40));
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nHost: a".iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            interval.tick().await;
        }
    };
    let got = tokio::select! { () = drip => panic!("never cut"), got = rest(&mut read) => got };
    assert!(got.starts_with("HTTP/1.1 408"), "{got}");
    assert!(start.elapsed() < Duration::from_secs(2));

    assert_eq!(house.ask("").await, "", "a client that says nothing gets nothing");
    let got = house.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
}

#[tokio::test]
async fn the_last_request_of_a_connection_says_so() {
    let house = House::with(serde_json::json!({ "limits": { "requests": 2 } }));
    let got = house.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).await.to_ascii_lowercase();
    assert_eq!((got.matches("http/1.1 200").count(), got.matches("connection: close").count()), (2, 1), "{got}");
}

#[tokio::test]
async fn nothing_is_tunnelled_before_the_101() {
    let house = House::with(serde_json::json!({}));
    let ask = "GET /switch HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nraw\nbytes.";
    let got = house.ask(ask).await;
    assert!(got.starts_with("HTTP/1.1 101") && got.ends_with("raw\nbytes."), "{got}");
    // Without a 101 the bytes are the next request.
    let got = house.ask(ask.replace("/switch", "/other")).await;
    assert!(got.contains("GET /other") && got.contains("request.malformed"), "{got}");
}

#[tokio::test]
async fn trusted_balancers_name_their_clients() {
    let house = House::with(serde_json::json!({ "proxy_protocol": ["127.0.0.0/8"], "limits": { "per_address": 1 } }));
    let ask = format!("GET / HTTP/1.1\r\nHost: a\r\n{CLOSE}");
    let got = house.ask(format!("PROXY TCP4 192.0.2.7 192.0.2.1 9 80\r\n{ask}")).await;
    assert!(got.contains("GET / 192.0.2.7"), "{got}");
    assert_eq!(house.ask(&ask).await, "", "a balancer must speak for its client");
    let mut held = house.connect().await;
    held.write_all(b"PROXY TCP4 192.0.2.8 192.0.2.1 9 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    answer(&mut held).await;
    assert_eq!(house.ask(format!("PROXY TCP4 192.0.2.8 192.0.2.1 9 80\r\n{ask}")).await, "");
    assert_eq!(house.door.away.load(Ordering::Relaxed), 2);

    let others = House::with(serde_json::json!({ "proxy_protocol": ["192.0.2.0/24"] }));
    assert!(others.ask(&ask).await.contains("GET / 127.0.0.1"), "others keep their address");
    let forged = others.ask(format!("PROXY TCP4 192.0.2.7 192.0.2.1 9 80\r\n{ask}")).await;
    assert!(forged.contains("request.m"), "{forged}");
}

#[tokio::test]
async fn a_full_listener_turns_away() {
    let house = House::with(serde_json::json!({ "limits": { "connections": 1 } }));
    let mut first = house.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    answer(&mut first).await;
    assert_eq!(house.ask("").await, "");
    assert_eq!(house.door.away.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_slow_reader_is_given_up() {
    let house = House::with(serde_json::json!({ "timeout": { "write": "200ms" } }));
    let mut stream = house.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    while house.listeners.connections() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn listeners_come_and_go_whole_or_not_at_all() {
    let house = House::empty();
    let (a, b) = (listener("a", serde_json::json!({})), listener("b", serde_json::json!({})));
    house.listeners.apply(vec![a.clone(), b]).unwrap();
    let [at_a, at_b] = <[Place; 2]>::try_from(house.listeners.places()).unwrap();
    let mut idle = TcpStream::connect(port(&at_b)).await.unwrap();
    let mut kept = TcpStream::connect(port(&at_a)).await.unwrap();
    for stream in [&mut idle, &mut kept] {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        answer(stream).await;
    }

    // One that cannot be bound changes nothing.
    let taken = serde_json::json!({ "bind": port(&at_a).to_string() });
    let error = house.listeners.apply(vec![listener("c", taken)]).unwrap_err().to_string();
    assert!(error.starts_with("listener c cannot listen on 127.0.0.1:"), "{error}");
    assert_eq!(house.listeners.places(), [at_a.clone(), at_b.clone()]);

    // `b` goes: its idle connection ends. `a` stays, with new settings for new connections.
    house.listeners.apply(vec![listener("a", serde_json::json!({ "limits": { "uri": "20B" } }))]).unwrap();
    assert_eq!(house.listeners.places(), [at_a]);
    assert_eq!(rest(&mut idle).await, "");
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n{CLOSE}", "a".repeat(30));
    assert!(house.ask(&long).await.starts_with("HTTP/1.1 414"));
    kept.write_all(long.as_bytes()).await.unwrap();
    assert!(rest(&mut kept).await.starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(port(&at_b)).await.is_err());
}

#[tokio::test]
async fn closing_ends_idle_connections_and_finishes_requests() {
    let house = House::with(serde_json::json!({}));
    let (mut idle, mut busy) = (house.connect().await, house.connect().await);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    answer(&mut idle).await;
    busy.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").await.unwrap();
    while house.listeners.connections() < 2 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    house.shutdown.send(true).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    busy.write_all(b"x").await.unwrap();
    assert!(rest(&mut busy).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn unix_sockets_are_bound_over_stale_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bind = serde_json::json!({ "bind": format!("unix:{}", path.display()) });
    let house = House::with(bind.clone());
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(format!("GET /u HTTP/1.1\r\nHost: a\r\n{CLOSE}").as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.contains("GET /u"));
    let error = House::empty().listeners.apply(vec![listener("other", bind)]).unwrap_err();
    assert_eq!(error.why.kind(), std::io::ErrorKind::AddrInUse);
    house.listeners.apply(Vec::new()).unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn certificates_are_chosen_by_name_and_replaced_by_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let (a, root_a) = certificate(dir.path(), &["a.example"]);
    let (b, root_b) = certificate(dir.path(), &["*.b.example"]);
    let house = House::with(serde_json::json!({ "tls": { "certs": [a.clone(), b] } }));
    let config = Arc::new(client(&[root_a.clone(), root_b], &["http/1.1"]));
    for name in ["a.example", "x.b.example"] {
        let mut stream = tls(&house, &config, name).await.unwrap();
        stream.write_all(format!("GET /t HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await.unwrap();
        let got = answer(&mut stream).await;
        assert!(got.contains(&format!("GET /t 127.0.0.1 {name}")), "{got}");
    }
    assert!(tls(&house, &config, "y.x.b.example").await.is_err());

    // The session is resumed after a reload that changes nothing, and the new certificate is shown after one that does.
    let only_a = Arc::new(client(&[root_a], &["http/1.1"]));
    for resumed in [false, true] {
        let mut stream = tls(&house, &only_a, "a.example").await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        answer(&mut stream).await;
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        assert_eq!(kind == rustls::HandshakeKind::Resumed, resumed);
        house.listeners.apply(vec![listener("edge", serde_json::json!({ "tls": { "certs": [a] } }))]).unwrap();
    }
    let (_, fresh) = certificate(dir.path(), &["a.example"]);
    house.listeners.apply(vec![listener("edge", serde_json::json!({ "tls": { "certs": [a] } }))]).unwrap();
    assert!(tls(&house, &Arc::new(client(&[fresh], &[])), "a.example").await.is_ok());
}

#[tokio::test]
async fn tls_keeps_to_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (a, root) = certificate(dir.path(), &["a.example"]);
    let modern =
        serde_json::json!({ "tls": { "certs": [a.clone()], "min": "1.3" }, "timeout": { "handshake": "200ms" } });
    let house = House::with(modern);
    let mut config = client(std::slice::from_ref(&root), &[]);
    assert!(tls(&house, &Arc::new(config.clone()), "a.example").await.is_ok());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]);
    let mut store = rustls::RootCertStore::empty();
    store.add(root.clone().into()).unwrap();
    let old = Arc::new(old.unwrap().with_root_certificates(store).with_no_client_auth());
    assert!(tls(&house, &old, "a.example").await.is_err());
    assert_eq!(house.ask("").await, "", "a handshake that never begins is ended");

    let (own, own_root) = certificate(dir.path(), &["client.example"]);
    let strict = House::with(serde_json::json!({ "tls": { "certs": [a], "client_ca": { "file": own["cert"] } } }));
    let mut without = tls(&strict, &Arc::new(config.clone()), "a.example").await.unwrap();
    assert!(without.read_u8().await.is_err(), "no certificate, no service");
    let key = std::path::Path::new(own["key"].as_str().unwrap());
    let key = <rustls::pki_types::PrivateKeyDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_file(key).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(vec![own_root.into()], key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut with = tls(&strict, &Arc::new(config), "a.example").await.unwrap();
    with.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{CLOSE}").as_bytes()).await.unwrap();
    assert!(rest(&mut with).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn http2_comes_by_alpn_and_by_prior_knowledge() {
    let dir = tempfile::tempdir().unwrap();
    let (a, root) = certificate(dir.path(), &["a.example"]);
    let house = House::with(serde_json::json!({ "tls": { "certs": [a] } }));
    let stream = tls(&house, &Arc::new(client(&[root], &["h2", "http/1.1"])), "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut client = h2(stream).await;
    assert_eq!(h2_ask(&mut client, "/x").await.unwrap(), "GET /x 127.0.0.1 a.example ");

    let plain = House::with(serde_json::json!({}));
    let mut client = h2(plain.connect().await).await;
    for _ in 0..3 {
        assert_eq!(h2_ask(&mut client, "/y").await.unwrap(), "GET /y 127.0.0.1  ");
    }
    let only_h1 = House::with(serde_json::json!({ "protocols": ["h1"] }));
    assert!(only_h1.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let only_h2 = House::with(serde_json::json!({ "protocols": ["h2"] }));
    assert_eq!(only_h2.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await, "");
}

#[tokio::test]
async fn http2_connections_end_when_their_time_has_come() {
    let times = serde_json::json!({ "timeout": { "head": "200ms", "idle": "100ms" }, "limits": { "requests": 2 } });
    let house = House::with(times);
    // Nothing but a preface.
    house.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // At rest after a request.
    let mut client = h2(house.connect().await).await;
    h2_ask(&mut client, "/").await.unwrap();
    while house.listeners.connections() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(h2_ask(&mut client, "/").await.is_err());
    // After its share of requests.
    let mut client = h2(house.connect().await).await;
    assert!(h2_ask(&mut client, "/").await.is_ok() && h2_ask(&mut client, "/").await.is_ok());
    assert!(h2_ask(&mut client, "/").await.is_err());
    // A flood of pings.
    let mut ping = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    ping.extend(b"\0\0\x08\x06\0\0\0\0\x0012345678".repeat(20_000));
    let mut stream = house.connect().await;
    let _ = stream.write_all(&ping).await;
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    while house.listeners.connections() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(got.len() < 100_000, "{}", got.len());
}

/// Pingora's own proxy, with nothing of ours in it.
struct Bare(std::net::SocketAddr);

#[async_trait]
impl pingora_proxy::ProxyHttp for Bare {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn upstream_peer(
        &self,
        _: &mut pingora_proxy::Session,
        (): &mut (),
    ) -> pingora_error::Result<Box<pingora::upstreams::peer::HttpPeer>> {
        Ok(Box::new(pingora::upstreams::peer::HttpPeer::new(self.0, false, String::new())))
    }
}

#[tokio::test]
async fn pingoras_proxy_runs_on_our_connections() {
    let origin = House::with(serde_json::json!({}));
    let conf = Arc::new(pingora::server::configuration::ServerConf::default());
    let app = pingora_proxy::http_proxy(&conf, Bare(port(&origin.listeners.places()[0])));
    let house = House::of(app);
    house.listeners.apply(vec![listener("edge", serde_json::json!({}))]).unwrap();

    let mut stream = house.connect().await;
    for round in 0..3 {
        stream.write_all(format!("GET /{round} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut once = [0; 4096];
        let read = stream.read(&mut once).await.unwrap();
        let got = String::from_utf8_lossy(&once[..read]);
        assert!(got.ends_with(&format!("GET /{round} 127.0.0.1  ")), "head and body in one send: {got}");
    }
    let body = "x".repeat(300_000);
    let length = format!("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunks: Vec<_> = body
        .as_bytes()
        .chunks(7777)
        .map(|chunk| format!("{:x};a=b\r\n{}\r\n", chunk.len(), "x".repeat(chunk.len())))
        .collect();
    let chunked = format!(
        "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{CLOSE}{}0\r\nA: b\r\n\r\n",
        chunks.concat()
    );
    let got = house.ask(format!("{length}{chunked}")).await;
    for start in ["POST /l 127.0.0.1  x", "POST /c 127.0.0.1  x"] {
        let (_, rest) = got.split_once(start).unwrap();
        assert_eq!(rest.bytes().take_while(|byte| *byte == b'x').count() + 1, body.len(), "{start}");
    }
    let mut client = h2(house.connect().await).await;
    assert_eq!(h2_ask(&mut client, "/y").await.unwrap(), "GET /y 127.0.0.1  ");
}

#[tokio::test]
async fn what_passes_here_passes_in_pingora() {
    let house = House::with(serde_json::json!({}));
    for byte in (b'!'..=b'~').filter(|byte| *byte != b'#').map(char::from) {
        for target in [format!("/{byte}"), format!("/a?{byte}")] {
            let got = house.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\nX: \t{byte}\u{e9} \r\n{CLOSE}")).await;
            let passed = got.contains(&format!("GET {target} "));
            assert_eq!(passed, !got.contains("request.target"), "{target}: {got}");
            assert!(passed || "\"<>`".contains(byte));
        }
    }
}

#[test]
fn workers_with_runtimes_of_their_own_share_each_socket() {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (shutdown, closing) = watch::channel(false);
    let mut threads = Vec::new();
    let workers = [Arc::new(Echo), Arc::new(Echo)].map(|app| {
        let (runtime, mut closing) = (build(), closing.clone());
        let handle = runtime.handle().clone();
        threads.push(std::thread::spawn(move || runtime.block_on(closing.wait_for(|closing| *closing)).is_ok()));
        Worker { runtime: handle, app }
    });
    let listeners = Listeners::new(workers.into(), Arc::new(Counting::default()), closing);
    listeners.apply(vec![listener("edge", serde_json::json!({ "bind": "[::1]:0" }))]).unwrap();
    let address = port(&listeners.places()[0]);
    build().block_on(async {
        for _ in 0..50 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET /w HTTP/1.1\r\nHost: a\r\n{CLOSE}").as_bytes()).await.unwrap();
            assert!(rest(&mut stream).await.contains("GET /w ::1"));
        }
    });
    shutdown.send(true).unwrap();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}
