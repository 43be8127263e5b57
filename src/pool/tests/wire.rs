//! Pools against real sockets on the loopback: probes, host names, limits.

mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use pingora::connectors::http::Connector;
use pingora_error::ErrorType;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(10);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// A small HTTP/1.1 origin whose answer can change.
struct Origin {
    address: SocketAddr,
    answer: watch::Sender<String>,
    asked: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _work: JoinSet<()>,
}

impl Origin {
    async fn answering(answer: &str) -> Self {
        Self::start(answer, None).await
    }

    async fn start(answer: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked, heads) = (watch::Sender::new(answer.to_owned()), Arc::default(), Arc::default());
        let (answers, count, seen) = (answer.subscribe(), Arc::clone(&asked), Arc::clone(&heads));
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, answers, count, seen) = (tls.clone(), answers.clone(), Arc::clone(&count), Arc::clone(&seen));
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, answers, &count, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answers, &count, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, answer, asked, heads, _work: work }
    }

    fn answer(&self, answer: &str) {
        self.answer.send_replace(answer.to_owned());
    }
}

/// Reads one head and answers; an empty answer waits until there is another.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut answers: watch::Receiver<String>,
    asked: &AtomicUsize,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    asked.fetch_add(1, SeqCst);
    let answer = answers.wait_for(|answer| !answer.is_empty()).await.map(|answer| answer.clone());
    if let Ok(answer) = answer {
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const BAD: &str = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n";

/// Tells each change.
struct Watcher(mpsc::UnboundedSender<(String, bool)>);

impl Observer for Watcher {
    fn target_up(&self, _: &str, target: &str, up: bool) {
        let _ = self.0.send((target.to_owned(), up));
    }
    fn breaker(&self, _: &str, _: &str, _: Option<breaker::Stage>) {}
    fn ejected(&self, _: &str, _: &str, _: Option<bool>) {}
    fn panics(&self, _: &str, _: Option<bool>) {}
    fn target_gone(&self, _: &str, target: &str) {
        let _ = self.0.send((format!("gone {target}"), false));
    }
}

/// A pool whose chores run, and what is told of it.
struct Running {
    pool: Arc<Pool>,
    told: mpsc::UnboundedReceiver<(String, bool)>,
    chores: JoinSet<()>,
}

impl Running {
    fn start(yaml: &str, shelves: &Shelves) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let pool = compile(yaml, shelves, &(Arc::new(Watcher(tell)) as _));
        let chores = pool.chores().into_iter().map(|chore| chore.work).collect();
        Self { pool, told, chores }
    }

    /// Waits until `target` is told to be up or down.
    async fn until(&mut self, target: &SocketAddr, up: bool) {
        let (target, state) = (target.to_string(), if up { State::Up } else { State::Down });
        // What was told at the start is not an answer yet, so the cell has the last word.
        let reached = |pool: &Pool| {
            let live = pool.live.load();
            live.all().iter().any(|one| one.name().ends_with(&target) && one.cell().state() == state)
        };
        soon(async {
            while !reached(&self.pool) {
                self.told.recv().await.expect("told");
            }
        })
        .await;
    }

    fn reason(&self) -> String {
        self.pool.status().targets[0].reason.clone().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_target_goes_down_and_comes_back() {
    let (one, two) = (Origin::answering(OK).await, Origin::answering(OK).await);
    let health = "health: { http: /healthz?deep=1, every: 100ms, down_after: 2, up_after: 2, host: app.internal }";
    let yaml = format!("{{ targets: ['{}', '{}'], {health} }}", one.address, two.address);
    let mut running = Running::start(&yaml, &Shelves::default());
    running.until(&one.address, true).await;
    running.until(&two.address, true).await;
    assert_eq!(running.pool.status().state, status::PoolState::Up);
    one.answer(BAD);
    running.until(&one.address, false).await;
    assert_eq!(running.reason(), "status 500");
    assert_eq!(picked(&running.pool, &Ask::new()), Ok(two.address.to_string()));
    drop(two);
    one.answer(OK);
    running.until(&one.address, true).await;
    let heads = one.heads.lock().unwrap().clone();
    assert!(heads[0].starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].to_lowercase().contains("host: app.internal\r\n"), "{heads:?}");
}

#[tokio::test]
async fn status_and_body_decide() {
    let story = [
        ("status: [204]", OK, Some("status 200")),
        ("status: [201, 200..203]", OK, None),
        ("body: ell", OK, None),
        ("body: bye", OK, Some("the body does not contain `bye`")),
        ("timeout: 200ms", "", Some("no answer within 200ms")),
        ("status: [200]", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None),
    ];
    for (rule, answer, reason) in story {
        let origin = Origin::answering(answer).await;
        let yaml = format!("{{ targets: ['{}'], health: {{ http: /, {rule} }} }}", origin.address);
        let mut running = Running::start(&yaml, &Shelves::default());
        running.until(&origin.address, reason.is_none()).await;
        assert_eq!(running.reason(), reason.unwrap_or_default(), "{rule}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_searched_no_further_than_its_start() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_owned();
    let origin = Origin::answering(&(head + &"x".repeat(999_999) + "y")).await;
    let yaml = format!("{{ targets: ['{}'], health: {{ http: /, body: y }} }}", origin.address);
    let mut running = Running::start(&yaml, &Shelves::default());
    running.until(&origin.address, false).await;
    assert_eq!(running.reason(), "the body does not contain `y`");
}

#[tokio::test]
async fn by_tcp_an_open_port_is_enough() {
    let origin = Origin::answering("").await;
    let yaml = format!("{{ targets: ['{}'], health: {{ tcp: true, every: 100ms, down_after: 1 }} }}", origin.address);
    let mut running = Running::start(&yaml, &Shelves::default());
    running.until(&origin.address, true).await;
    let address = origin.address;
    drop(origin);
    running.until(&address, false).await;
    assert_eq!(running.reason(), "connection refused");
}

#[tokio::test]
async fn reloads_neither_starve_nor_burst_probes() {
    let origin = Origin::answering("").await;
    let yaml = format!("{{ targets: ['{}'], health: {{ http: /, every: 1h, timeout: 30s }} }}", origin.address);
    let shelves = Shelves::default();
    let mut running = Running::start(&yaml, &shelves);
    soon(async {
        while origin.asked.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..10 {
        let next = Running::start(&yaml, &shelves);
        running.chores.shutdown().await;
        running = next;
        tokio::task::yield_now().await;
    }
    origin.answer(OK);
    running.until(&origin.address, true).await;
    let again = Running::start(&yaml, &shelves);
    running.chores.shutdown().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(again);
    assert_eq!(origin.asked.load(SeqCst), 1, "one question, answered in a later generation");
}

#[tokio::test]
async fn a_target_that_nobody_uses_is_gone() {
    let origin = Origin::answering(OK).await;
    let yaml = format!("['{}']", origin.address);
    let running = Running::start(&yaml, &Shelves::default());
    let mut told = running.told;
    assert_eq!(told.recv().await, Some((origin.address.to_string(), true)));
    drop((running.pool, running.chores));
    assert_eq!(soon(told.recv()).await, Some((format!("gone {}", origin.address), false)));
}

#[tokio::test]
async fn host_names_become_targets() {
    let origin = Origin::answering(OK).await;
    let shelves = Shelves::default();
    let yaml = format!("{{ targets: ['localhost:{}'], health: {{ http: / }} }}", origin.address.port());
    let mut running = Running::start(&yaml, &shelves);
    soon(running.pool.ready()).await;
    running.until(&origin.address, true).await;
    let name = format!("localhost/{}", origin.address);
    assert_eq!(picked(&running.pool, &Ask::new()), Ok(name.clone()));
    // A reload knows the addresses at once.
    let next = pool(&yaml, &shelves);
    assert_eq!(picked(&next, &Ask::new()), Ok(name));
    let host = format!("host: localhost:{}\r\n", origin.address.port());
    assert!(origin.heads.lock().unwrap()[0].to_lowercase().contains(&host));
}

#[tokio::test]
async fn unix_sockets_are_targets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut origin = JoinSet::new();
    origin.spawn(async move {
        let answers = watch::Sender::new(OK.to_owned());
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream, answers.subscribe(), &AtomicUsize::new(0), &Mutex::default()).await;
        }
    });
    let yaml = format!("{{ targets: ['unix:{}'], health: {{ http: / }} }}", path.display());
    let mut running = Running::start(&yaml, &Shelves::default());
    soon(async {
        while running.pool.status().targets[0].state != "up" {
            running.told.recv().await;
        }
    })
    .await;
}

/// How a connection of this pool to `address` ends, and after how long.
async fn connect(yaml: &str) -> (ErrorType, Duration) {
    let pool = pool(yaml, &Shelves::default());
    let picked = pool.pick(&Ask::new(), &[]).unwrap();
    let (peer, _) = picked.peer(&picked.timeouts(None), None, false, &Arc::new(connection::Connections::new(1)));
    let start = Instant::now();
    let connector = Connector::new(None);
    let connecting = Box::pin(connector.get_http_session(&*peer));
    let error = soon(connecting).await.map(drop).unwrap_err();
    (error.etype().clone(), start.elapsed())
}

#[tokio::test]
async fn connecting_and_tls_have_limits_of_their_own() {
    // Accepts connections (the kernel does) and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(connect(&format!("{{ targets: ['{silent}'], tls: {{}} }}")).await.0, ErrorType::ConnectRefused);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let limits = "timeout: { connect: 8s, tls: 300ms }";
    let (error, after) = connect(&format!("{{ targets: ['{silent}'], tls: {{}}, {limits} }}")).await;
    assert_eq!(error, ErrorType::ConnectTimedout);
    assert!((0.25..5.0).contains(&after.as_secs_f64()), "{after:?}");
    // Does not even accept: its queue is full.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _queued: Vec<_> =
        (0..2).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50))).collect();
    for tls in ["", "tls: {},"] {
        let (error, after) =
            connect(&format!("{{ targets: ['{address}'], {tls} timeout: {{ connect: 300ms, tls: 8s }} }}")).await;
        assert_eq!(error, ErrorType::ConnectTimedout);
        assert!((0.25..5.0).contains(&after.as_secs_f64()), "{after:?}");
    }
}
