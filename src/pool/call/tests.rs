//! Calls against real sockets on the loopback.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::{StreamExt, stream};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::pool::retry::Methods;
use crate::pool::tests::compile;
use crate::pool::{Observer, Shelves};

const PATIENCE: Duration = Duration::from_secs(10);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const BAD: &str = "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
/// In place of an answer: the connection ends.
const GONE: &str = "";
/// In place of an answer: nothing comes.
const SILENCE: &str = "...";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// An origin that gives these answers, one after the other, the last one for ever.
struct Origin {
    at: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    _work: JoinSet<()>,
}

impl Origin {
    async fn saying(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (heads, connections, next) = (Arc::<Mutex<Vec<_>>>::default(), Arc::default(), Arc::default());
        let (seen, count) = (Arc::clone(&heads), Arc::clone(&connections));
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                AtomicUsize::fetch_add(&count, 1, SeqCst);
                all.spawn(serve(stream, answers, Arc::clone(&next), Arc::clone(&seen)));
            }
        });
        Self { at, heads, connections, _work: work }
    }
    fn asked(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
    fn head(&self, number: usize) -> String {
        self.heads.lock().unwrap()[number].to_lowercase()
    }
    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// Each request with its body, up to the end of the connection.
async fn serve(
    mut stream: TcpStream,
    answers: &'static [&'static str],
    next: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut got = Vec::new();
    loop {
        while !is_whole(&got) {
            if !matches!(stream.read_buf(&mut got).await, Ok(1..)) {
                return;
            }
        }
        seen.lock().unwrap().push(String::from_utf8(std::mem::take(&mut got)).unwrap());
        let turn = next.fetch_add(1, SeqCst).min(answers.len() - 1);
        match answers[turn] {
            GONE => return,
            SILENCE => return std::future::pending().await,
            answer => stream.write_all(answer.as_bytes()).await.unwrap(),
        }
    }
}

fn is_whole(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    if head.contains("chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).map_or("0", str::trim);
    body.len() >= length.parse::<usize>().unwrap()
}

fn pool(origins: &[&Origin], more: &str) -> Arc<Pool> {
    let at: Vec<_> = origins.iter().map(|origin| origin.at.to_string()).collect();
    compile(
        &format!("{{ targets: [{}], {more} }}", at.join(", ")),
        &Shelves::default(),
        &(Arc::new(()) as Arc<dyn Observer>),
    )
}

fn get(pool: &Arc<Pool>) -> Call {
    Call::new(Arc::clone(pool), RequestHeader::build("GET", b"/users/7?a=b", None).unwrap())
}

fn post(pool: &Arc<Pool>, body: &'static str) -> Call {
    let mut call = Call::new(Arc::clone(pool), RequestHeader::build("POST", b"/orders", None).unwrap());
    call.body = Body::Whole(body.into());
    call
}

async fn answer(call: Call) -> Answer {
    soon(call.whole(1 << 20)).await.unwrap()
}

async fn failure(call: Call) -> Failed {
    soon(call.whole(1 << 20)).await.map(|answer| answer.status()).unwrap_err()
}

fn picks(pool: &Pool) -> Vec<(u64, u64)> {
    let status = serde_json::to_value(pool.status()).unwrap();
    let targets = status["targets"].as_array().unwrap();
    targets.iter().map(|one| (one["picks"].as_u64().unwrap(), one["failures"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn a_call_is_answered_and_its_connection_serves_the_next() {
    let origin = Origin::saying(&[OK]).await;
    let pool = pool(&[&origin], "");
    for number in 0..3 {
        let answer = answer(get(&pool)).await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"hello"[..]));
        let [tried] = &answer.tries[..] else { panic!("{} tries", answer.tries.len()) };
        assert_eq!((tried.reused, tried.end), (number > 0, End::Answered { status: 200, grpc: None }));
        assert!(tried.began <= tried.answered.unwrap() && tried.answered.unwrap() <= tried.ended);
    }
    assert_eq!((origin.asked(), origin.connections()), (3, 1));
    let head = origin.head(0);
    assert!(head.starts_with("get /users/7?a=b http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", origin.at)), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(pool.live.load().all()[0].in_flight(), 0);
}

#[tokio::test]
async fn a_body_is_sent_whole_or_piece_by_piece() {
    let origin = Origin::saying(&[OK]).await;
    let pool = pool(&[&origin], "");
    let mut call = post(&pool, "all of it");
    call.head.insert_header("host", "shop.example.com").unwrap();
    call.head.insert_header("transfer-encoding", "chunked").unwrap();
    answer(call).await;
    let head = origin.head(0);
    assert!(head.contains("host: shop.example.com\r\n") && head.contains("content-length: 9\r\n"), "{head}");
    assert!(!head.contains("chunked") && head.ends_with("\r\n\r\nall of it"), "{head}");
    let mut call = post(&pool, "");
    call.body = Body::Pieces(Box::pin(stream::iter(["some", "more"].map(|piece| Ok(Bytes::from(piece))))));
    answer(call).await;
    let head = origin.head(1);
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n4\r\nsome\r\n4\r\nmore\r\n0\r\n\r\n"), "{head}");
    let mut call = post(&pool, "");
    call.body = Body::Pieces(Box::pin(stream::iter([Ok(Bytes::from("some")), Err(Fault::ClientGone)])));
    assert_eq!(failure(call).await.fault, Fault::ClientGone);
    answer(post(&pool, "")).await;
    assert!(origin.head(2).contains("content-length: 0\r\n"), "{}", origin.head(2));
}

#[tokio::test]
async fn a_kept_connection_that_had_died_costs_nothing_but_is_no_excuse_to_send_twice() {
    let origin = Origin::saying(&[OK, GONE, OK, GONE, OK]).await;
    let pool = pool(&[&origin], "retry: off, eject: { errors: 1, for: 1h }");
    answer(get(&pool)).await;
    let again = answer(get(&pool)).await;
    let tries: Vec<_> = again.tries.iter().map(|tried| (tried.reused, tried.end)).collect();
    let (lost, ok) = (End::Lost(Fault::UpstreamResetReused), End::Answered { status: 200, grpc: None });
    assert_eq!(tries, [(true, lost), (false, ok)]);
    let failed = failure(post(&pool, "pay")).await;
    assert_eq!((failed.fault, failed.tries.len(), origin.asked()), (Fault::UpstreamResetReused, 1, 4));
}

#[tokio::test]
async fn a_call_is_tried_again_as_the_pool_says_or_as_it_says_itself() {
    let (bad, good) = (Origin::saying(&[BAD]).await, Origin::saying(&[OK]).await);
    let pool = pool(&[&bad, &good], "retry: { attempts: 1, on: [503], backoff: 0ms..1ms }, balance: round_robin");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = answer(get(&pool)).await;
        assert_eq!(answer.status(), 200);
        statuses.push(answer.tries.len());
    }
    assert_eq!((statuses.iter().sum::<usize>(), good.asked()), (4 + bad.asked(), 4), "{statuses:?}");
    let further = (0..4).filter(|number| good.head(*number).contains("x-yumen-attempt: 2\r\n")).count();
    assert_eq!((further, bad.asked() > 0), (bad.asked(), true));
    let once = || async {
        let mut call = get(&pool);
        call.retry = Some("off".parse().unwrap());
        answer(call).await.status()
    };
    assert_eq!([once().await, once().await].iter().sum::<u16>(), 200 + 503, "each target in its turn");
    assert_eq!(picks(&pool)[0].1, bad.asked() as u64, "each failure was told: {:?}", picks(&pool));
}

#[tokio::test]
async fn every_wait_has_an_end_and_only_who_was_slow_is_to_blame() {
    let origin = Origin::saying(&[SILENCE]).await;
    let pool = pool(&[&origin], "retry: off, eject: off, timeout: { first_byte: 50ms }");
    let failed = failure(get(&pool)).await;
    assert_eq!((failed.fault, failed.tries.len()), (Fault::UpstreamTimeoutFirstByte, 1));
    assert_eq!(picks(&pool), [(1, 1)]);
    let mut hurried = get(&pool);
    hurried.deadline = Some(Instant::now() + Duration::from_millis(10));
    assert_eq!(failure(hurried).await.fault, Fault::UpstreamTimeoutTotal);
    assert_eq!(picks(&pool), [(2, 1)], "nobody gave it time");
    let mut limited = get(&pool);
    limited.timeout = Some(serde_yaml::from_str("{ total: 10ms, first_byte: 1s }").unwrap());
    assert_eq!(failure(limited).await.fault, Fault::UpstreamTimeoutTotal);
    assert_eq!(picks(&pool), [(3, 2)], "it had what it is allowed");
    let nobody = compile("[127.0.0.1:9]", &Shelves::default(), &(Arc::new(()) as _));
    let mut call = get(&nobody);
    call.retry = Some("off".parse().unwrap());
    assert_eq!(failure(call).await.fault, Fault::UpstreamRefused);
}

#[tokio::test]
async fn an_answer_that_stops_or_never_ends_is_no_answer() {
    const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel";
    let origin = Origin::saying(&[CUT, OK, OK]).await;
    let pool = pool(&[&origin], "retry: off, eject: off, timeout: { idle: 50ms }");
    let failed = failure(get(&pool)).await;
    assert_eq!((failed.fault, picks(&pool)), (Fault::UpstreamTimeoutIdle, vec![(1, 1)]));
    let failed = soon(get(&pool).whole(4)).await.map(|answer| answer.status()).unwrap_err();
    assert_eq!((failed.fault, picks(&pool)), (Fault::UpstreamTooLarge, vec![(2, 1)]));
    let mut answering = soon(get(&pool).open()).await.unwrap();
    assert_eq!(answering.tries().len(), 1);
    assert_eq!(soon(answering.piece()).await.unwrap().unwrap(), "hello");
    assert_eq!(pool.live.load().all()[0].in_flight(), 1);
    drop(answering);
    assert_eq!((pool.live.load().all()[0].in_flight(), picks(&pool)), (0, vec![(3, 1)]));
}

#[tokio::test]
async fn a_pool_without_a_target_answers_by_its_fallback_or_says_why_not() {
    let origin = Origin::saying(&[SILENCE]).await;
    let full = pool(&[&origin], "max_in_flight: { per_target: 1, queue: 1, wait: 20ms }, timeout: { first_byte: 10s }");
    let busy = tokio::spawn(get(&full).open());
    while origin.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let failed = failure(get(&full)).await;
    assert_eq!((failed.fault, failed.tries.len()), (Fault::PoolQueueTimeout, 0), "{failed:?}");
    busy.abort();
    let gone = compile(
        "{ targets: [{ at: 127.0.0.1:9, weight: 0 }], fallback: { status: 203, body: later } }",
        &Shelves::default(),
        &(Arc::new(()) as _),
    );
    let answer = answer(get(&gone)).await;
    assert_eq!((answer.status(), &answer.body[..], answer.tries.len()), (203, &b"later"[..], 0));
    assert_eq!(answer.head.headers["content-type"], "text/plain; charset=utf-8");
}

/// A server of HTTP/2 that sends back what it gets, piece by piece, and trailers behind it.
async fn echo() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut work = JoinSet::new();
    work.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut all = JoinSet::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            all.spawn(async move {
                let asked =
                    format!("{} {} {:?}", request.method(), request.uri(), request.headers().get("grpc-timeout"));
                let head = http::Response::builder().header("asked", asked.replace('"', "'")).body(()).unwrap();
                let mut to = respond.send_response(head, false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(piece)) = body.data().await {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    to.send_data(piece, false).unwrap();
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                to.send_trailers(trailers).unwrap();
            });
        }
    });
    (at, work)
}

#[tokio::test]
async fn by_http2_an_answer_begins_before_the_request_has_ended_and_trailers_follow() {
    let (at, _work) = echo().await;
    let pool = compile(
        &format!("{{ targets: ['{at}'], protocol: h2c, timeout: {{ total: 9s }} }}"),
        &Shelves::default(),
        &(Arc::new(()) as _),
    );
    let (more, pieces) = tokio::sync::mpsc::unbounded_channel();
    let mut call = post(&pool, "");
    call.head.insert_header("content-type", "application/grpc").unwrap();
    let pieces = stream::unfold(pieces, |mut pieces| async { Some((Ok(pieces.recv().await?), pieces)) });
    call.body = Body::Pieces(pieces.boxed());
    let mut answering = soon(call.open()).await.unwrap();
    let asked = answering.head().headers["asked"].to_str().unwrap().to_owned();
    assert!(asked.starts_with(&format!("POST http://{at}/orders Some('8")) && asked.ends_with("m')"), "{asked}");
    for word in ["one", "two"] {
        more.send(Bytes::from(word)).unwrap();
        assert_eq!(soon(answering.piece()).await.unwrap().unwrap(), word);
        assert!(answering.trailers().is_none());
    }
    drop(more);
    assert_eq!(soon(answering.piece()).await.unwrap(), None);
    assert_eq!(answering.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(pool.live.load().all()[0].in_flight(), 0);
    let large = post(&pool, &*Box::leak("x".repeat(300_000).into_boxed_str()));
    let answer = answer(large).await;
    assert_eq!((answer.body.len(), answer.tries[0].reused), (300_000, true), "over the same connection");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_post_that_may_be_repeated_is() {
    let origin = Origin::saying(&[GONE, OK]).await;
    let pool = pool(&[&origin], "retry: { attempts: 1, on: [reset], backoff: 0ms..1ms }");
    assert_eq!(failure(post(&pool, "a")).await.not_retried, Some("method not idempotent"));
    let origin = Origin::saying(&[GONE, OK]).await;
    let pool = self::pool(&[&origin], "retry: { attempts: 1, on: [reset], backoff: 0ms..1ms }");
    let mut call = post(&pool, "a");
    call.retry = Some(Retry { methods: Some(Methods::All), ..Retry::default() });
    assert_eq!(answer(call).await.tries.len(), 2);
    assert!(origin.head(0).ends_with("\r\n\r\na") && origin.head(1).ends_with("\r\n\r\na"));
}
