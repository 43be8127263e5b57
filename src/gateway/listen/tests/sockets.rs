//! Sockets: who may come in, what comes and goes at a reload, what ends when we close.

use super::*;

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
