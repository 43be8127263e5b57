//! HTTP/2: how it begins and when it ends.

use super::*;

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
