//! Pingora's own proxy behind our connections.

use super::*;

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
