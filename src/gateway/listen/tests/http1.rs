//! HTTP/1 connections: one request after the other, each as it was sent.

use super::*;

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
async fn a_slow_reader_is_given_up() {
    let house = House::with(serde_json::json!({ "timeout": { "write": "200ms" } }));
    let mut stream = house.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    while house.listeners.connections() > 0 {
        tokio::task::yield_now().await;
    }
}
