//! Connections against real sockets, used as Pingora's proxy uses them.

use std::sync::Arc;

use pingora::connectors::http::Connector;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora_error::BError;
use pingora_http::RequestHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::*;
use crate::broken::broken;
use crate::fault::Fault;

const PATIENCE: Duration = Duration::from_secs(10);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// An origin that gives one answer to each head; an empty one is silence.
struct Origin {
    address: String,
    /// A connection came, or went.
    seen: mpsc::UnboundedReceiver<&'static str>,
    close: watch::Sender<()>,
    _work: JoinSet<()>,
}

impl Origin {
    async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, seen) = mpsc::unbounded_channel();
        let close = watch::Sender::new(());
        let closing = close.subscribe();
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (tell, mut closing) = (tell.clone(), closing.clone());
                closing.mark_unchanged();
                tell.send("open").unwrap();
                connections.spawn(async move {
                    tokio::select! {
                        () = serve(&mut stream, answer) => {}
                        _ = closing.changed() => {}
                    }
                    drop(stream);
                    let _ = tell.send("closed");
                });
            }
        });
        Self { address, seen, close, _work: work }
    }

    async fn told(&mut self) -> &'static str {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("in time").unwrap()
    }

    /// Closes its only connection.
    async fn closes(&mut self) {
        assert_eq!(self.told().await, "open");
        self.close.send_replace(());
        assert_eq!(self.told().await, "closed");
    }
}

async fn serve(stream: &mut TcpStream, answer: &str) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

/// A worker that sends requests.
struct Client {
    connector: Connector,
    connections: Arc<Connections>,
    limits: Limits,
}

impl Client {
    fn keeping(most: usize) -> Self {
        let alive = TcpKeepalive { idle: PATIENCE, interval: PATIENCE, count: 3, user_timeout: Duration::ZERO };
        let limits = Limits {
            connect: PATIENCE,
            first_byte: PATIENCE,
            per_try: None,
            idle: PATIENCE,
            write: PATIENCE,
            end: None,
            keep: PATIENCE,
            once: false,
            alive,
        };
        Self { connector: Connector::new(None), connections: Arc::new(Connections::new(most)), limits }
    }

    fn try_at(&self, origin: &Origin) -> (HttpPeer, Arc<Errand>) {
        let mut peer = HttpPeer::new(&*origin.address, false, String::new());
        let errand = Errand::new(self.connections.clone(), self.limits.clone());
        peer.options.custom_l4 = Some(errand.clone());
        (peer, errand)
    }

    /// Sends a request and reads its head.
    async fn ask(&self, origin: &Origin) -> Result<(HttpSession, HttpPeer, Arc<Errand>), (BError, Arc<Errand>)> {
        let (peer, errand) = self.try_at(origin);
        let (mut session, reused) = self.connector.get_http_session(&peer).await.unwrap();
        assert!(!reused, "Pingora keeps none of them");
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header("host", "app").unwrap();
        session.write_request_header(Box::new(request)).await.unwrap();
        errand.sent();
        match session.read_response_header().await {
            Ok(()) => {
                errand.answer();
                Ok((session, peer, errand))
            }
            Err(why) => Err((why, errand)),
        }
    }

    /// The same to the end of the answer; says whether the connection had been used before.
    async fn fetch(&self, origin: &Origin) -> bool {
        let (mut session, peer, errand) = self.ask(origin).await.ok().unwrap();
        while session.read_response_body().await.unwrap().is_some() {}
        self.connector.release_http_session(session, &peer, None).await;
        errand.reused()
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let mut origin = Origin::answering(OK).await;
    let client = Client::keeping(8);
    assert!(!client.fetch(&origin).await);
    assert_eq!(client.connections.resting(), 1);
    for _ in 0..3 {
        assert!(client.fetch(&origin).await);
    }
    assert_eq!(origin.told().await, "open");
    assert!(origin.seen.try_recv().is_err(), "no other was opened");
}

#[tokio::test]
async fn one_that_the_target_closed_is_not_used() {
    let mut origin = Origin::answering(OK).await;
    let client = Client::keeping(8);
    assert!(!client.fetch(&origin).await);
    assert_eq!(client.connections.resting(), 1);
    origin.closes().await;
    assert!(!client.fetch(&origin).await);
}

#[tokio::test]
async fn the_sweep_closes_what_rested_long_enough_or_was_closed() {
    let mut closing = Origin::answering(OK).await;
    let mut staying = Origin::answering(OK).await;
    let mut client = Client::keeping(8);
    client.fetch(&closing).await;
    closing.closes().await;
    client.fetch(&staying).await;
    let swept = async {
        while client.connections.resting() > 1 {
            client.connections.sweep(Duration::ZERO, Instant::now());
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("the closed one leaves");
    assert!(client.fetch(&staying).await, "the other one stays");
    client.limits.keep = Duration::ZERO;
    assert!(!client.fetch(&staying).await, "too long for this pool");
    client.connections.sweep(Duration::ZERO, Instant::now());
    assert_eq!(client.connections.resting(), 0);
    let mut seen = [staying.told().await, staying.told().await, staying.told().await, staying.told().await];
    seen.sort_unstable();
    assert_eq!(seen, ["closed", "closed", "open", "open"]);
}

#[tokio::test]
async fn what_may_not_be_sent_twice_gets_a_young_connection_or_a_sure_one() {
    let origin = Origin::answering(OK).await;
    let mut client = Client::keeping(8);
    client.limits.keep = Duration::from_mins(1);
    let place = Place(SocketAddr::Inet(origin.address.parse().unwrap()));
    let (now, secs) = (Instant::now(), Duration::from_secs);
    let serves =
        |client: &Client, once, after| client.connections.take(&place, secs(60), once, now + secs(after)).is_some();
    for (once, after, wanted) in [(true, 0, true), (true, 2, false), (false, 2, true), (false, 61, false)] {
        client.fetch(&origin).await;
        assert_eq!(serves(&client, once, after), wanted, "once: {once}, after {after} s");
    }
    for (after, wanted) in [(7, true), (9, false)] {
        let (mut session, peer, errand) = client.ask(&origin).await.ok().unwrap();
        while session.read_response_body().await.unwrap().is_some() {}
        errand.told(secs(10));
        client.connector.release_http_session(session, &peer, None).await;
        assert_eq!(serves(&client, true, after), wanted, "the target keeps it for ten seconds, after {after}");
    }
}

#[tokio::test]
async fn a_target_that_closes_at_one_age_is_found_out() {
    let mut origin = Origin::answering(OK).await;
    let mut client = Client::keeping(8);
    client.limits.keep = Duration::from_mins(1);
    let later = Instant::now() + Duration::from_secs(5);
    for _ in 0..2 {
        client.fetch(&origin).await;
        origin.closes().await;
        let swept = async {
            while client.connections.resting() > 0 {
                client.connections.sweep(Duration::ZERO, later);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, swept).await.expect("it is gone");
    }
    client.fetch(&origin).await;
    let kept = client.connections.kept();
    assert!(kept.resting.values().flatten().all(Line::is_sure));
    let limit = kept.habits.values().next().unwrap().limit(later).unwrap();
    assert!((3.0..4.01).contains(&limit.as_secs_f64()), "{limit:?}");
}

#[tokio::test]
async fn no_more_are_kept_than_there_is_room_for() {
    let (one, two) = (Origin::answering(OK).await, Origin::answering(OK).await);
    let client = Client::keeping(1);
    client.fetch(&one).await;
    client.fetch(&two).await;
    assert_eq!(client.connections.resting(), 1);
    let (first, second) = (client.ask(&one).await.ok().unwrap(), client.ask(&one).await.ok().unwrap());
    for (mut session, peer, _) in [first, second] {
        while session.read_response_body().await.unwrap().is_some() {}
        client.connector.release_http_session(session, &peer, None).await;
    }
    assert_eq!(client.connections.resting(), 1);
}

#[tokio::test]
async fn what_is_not_read_to_its_end_never_comes_back() {
    let mut origin = Origin::answering(OK).await;
    let client = Client::keeping(8);
    drop(client.ask(&origin).await);
    assert_eq!((origin.told().await, origin.told().await), ("open", "closed"));
    assert_eq!(client.connections.resting(), 0);
}

#[tokio::test]
async fn more_than_the_answer_ends_the_connection() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n").await;
    let client = Client::keeping(8);
    client.fetch(&origin).await;
    assert_eq!(client.connections.resting(), 0);
}

#[tokio::test]
async fn a_silence_is_told_by_when_it_came() {
    let mut client = Client::keeping(8);
    client.limits.first_byte = Duration::from_millis(50);
    let silent = Origin::answering("").await;
    let (why, _) = client.ask(&silent).await.err().unwrap();
    assert_eq!(broken(&why), Some(Fault::UpstreamTimeoutFirstByte), "{why}");
    let begun = Instant::now();
    client.limits.first_byte = PATIENCE;
    for by_try in [true, false] {
        let soon = Duration::from_millis(50);
        client.limits.per_try = by_try.then_some(soon);
        client.limits.end = (!by_try).then(|| Instant::now() + soon);
        let (why, _) = client.ask(&silent).await.err().unwrap();
        assert_eq!(broken(&why), Some(Fault::UpstreamTimeoutFirstByte), "{why}");
    }
    assert!(begun.elapsed() < PATIENCE);
    client.limits.end = None;
    client.limits.idle = Duration::from_millis(50);
    let halting = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello").await;
    let (mut session, ..) = client.ask(&halting).await.ok().unwrap();
    let mut last = session.read_response_body().await;
    while matches!(last, Ok(Some(_))) {
        last = session.read_response_body().await;
    }
    assert_eq!(broken(&last.unwrap_err()), Some(Fault::UpstreamTimeoutIdle));
}

#[tokio::test]
async fn a_target_that_takes_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::keeping(8);
    client.limits.write = Duration::from_millis(50);
    let errand = Errand::new(client.connections.clone(), client.limits.clone());
    let address = SocketAddr::Inet(listener.local_addr().unwrap());
    let mut stream = pingora::connectors::L4Connect::connect(&*errand, &address).await.unwrap();
    let sent = tokio::time::timeout(PATIENCE, stream.write_all(&vec![0; 64 << 20])).await.expect("in time");
    assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn small_pieces_travel_with_what_follows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::keeping(8);
    let errand = Errand::new(client.connections.clone(), client.limits.clone());
    let address = SocketAddr::Inet(listener.local_addr().unwrap());
    let mut stream = pingora::connectors::L4Connect::connect(&*errand, &address).await.unwrap();
    let (mut other, _) = listener.accept().await.unwrap();
    let body = "x".repeat(1000);
    for part in ["3E8\r\n", &body, "\r\n"] {
        stream.write_all(part.as_bytes()).await.unwrap();
    }
    assert!(other.try_read(&mut [0]).is_err(), "nothing before the flush");
    stream.flush().await.unwrap();
    let mut got = vec![0; 2000];
    let some = tokio::time::timeout(PATIENCE, other.read(&mut got)).await.expect("in time").unwrap();
    assert_eq!(some, 5 + 1000 + 2, "one piece");
}

#[tokio::test]
async fn a_connection_that_nobody_accepts_is_given_up_in_time() {
    let mut client = Client::keeping(8);
    client.limits.connect = Duration::from_millis(50);
    // A network for documentation (RFC 5737): nobody is there, or nobody may go there.
    let errand = Errand::new(client.connections.clone(), client.limits.clone());
    let address = SocketAddr::Inet("192.0.2.1:9".parse().unwrap());
    let began = std::time::Instant::now();
    assert!(pingora::connectors::L4Connect::connect(&*errand, &address).await.is_err());
    assert!(began.elapsed() < PATIENCE);
}
