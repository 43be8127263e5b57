//! A service that is asked again and again: connections are kept, addresses remembered, answers capped.

use std::cell::OnceCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use pingora::connectors::http::Connector;
use pingora::protocols::ALPN;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use super::url::Url;

/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;
/// How long the addresses of a name are believed.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How long a connection waits for the next question.
const IDLE: Duration = Duration::from_secs(50);
/// Bytes of body, and of fields, of an answer.
const CAP: usize = 64 << 10;

thread_local! {
    /// Connections belong to the runtime that opened them, and each thread has its own.
    static CONNECTOR: OnceCell<Arc<Connector<()>>> = const { OnceCell::new() };
}

fn connector() -> Arc<Connector<()>> {
    CONNECTOR.with(|mine| Arc::clone(mine.get_or_init(|| Arc::new(Connector::new(None)))))
}

/// Whom to ask, and by which authorities it is known.
pub struct Service {
    url: Url,
    ca: Option<Arc<CaType>>,
    /// Connections are shared by who believes the same authorities only.
    group: u64,
    known: ArcSwapOption<Known>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    at: Instant,
}

/// What is asked.
pub struct Question {
    pub method: Method,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
}

/// The whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// For how long the service says that it holds; nothing where it does not say so.
    pub fn fresh(&self) -> Duration {
        let lines = self.fields.get_all(CACHE_CONTROL).into_iter().filter_map(|line| line.to_str().ok());
        let mut least = None;
        for word in lines.flat_map(|line| line.split(',')).map(|word| word.trim().to_ascii_lowercase()) {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("no-store" | "no-cache", _) => return Duration::ZERO,
                ("max-age", seconds) => {
                    let said = seconds.trim_matches('"').parse().unwrap_or_default();
                    least = Some(least.map_or(said, |least: u64| least.min(said)));
                }
                _ => {}
            }
        }
        let age = self.fields.get(http::header::AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
        Duration::from_secs(least.unwrap_or_default().saturating_sub(age))
    }
}

/// Why there is no answer, and what may be tried again.
struct Failed {
    why: String,
    /// Nothing was answered yet: a connection that was kept may have been closed meanwhile.
    unanswered: bool,
}

impl Service {
    /// `file` tells authorities from others.
    pub fn new(url: Url, ca: Option<Arc<CaType>>, file: Option<&std::path::Path>) -> Self {
        let mut hash = DefaultHasher::new();
        file.hash(&mut hash);
        Self { url, ca, group: hash.finish() | 1, known: ArcSwapOption::empty() }
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Asks, and reads the whole answer. The error is one sentence; nothing here ends by itself, so give it a deadline.
    pub async fn ask(&self, question: &Question) -> Result<Answer, String> {
        let known = self.addresses().await?;
        let mut last = format!("{} has no address", self.url.host);
        for address in &known.addresses {
            match self.connect_and_ask(*address, question).await {
                Ok(answer) => return answer,
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn addresses(&self) -> Result<Arc<Known>, String> {
        let before = self.known.load_full();
        if let Some(known) = before.filter(|known| known.at.elapsed() < REMEMBERED) {
            return Ok(known);
        }
        let found = tokio::net::lookup_host((&*self.url.host, self.url.port)).await;
        let found = found.map_err(|why| format!("{} cannot be looked up: {why}", self.url.host))?;
        let known = Arc::new(Known { addresses: found.take(MOST_ADDRESSES).collect(), at: Instant::now() });
        self.known.store(Some(Arc::clone(&known)));
        Ok(known)
    }

    /// The outer error is one of connecting: another address may do better.
    async fn connect_and_ask(
        &self,
        address: SocketAddr,
        question: &Question,
    ) -> Result<Result<Answer, String>, String> {
        let at = |why: &str| format!("{} at {address}: {why}", self.url);
        let (connector, peer) = (connector(), self.peer(address, self.group));
        let opened = connector.get_http_session(&peer).await;
        let (session, reused) = opened.map_err(|why| at(why.etype().as_str()))?;
        let failed = match self.exchange(session, &peer, &connector, question).await {
            Ok(answer) => return Ok(Ok(answer)),
            Err(failed) => failed,
        };
        if !reused || !failed.unanswered {
            return Ok(Err(at(&failed.why)));
        }
        // Under a name of its own this one is surely new.
        let opened = connector.get_http_session(&self.peer(address, self.group.wrapping_add(1))).await;
        let (session, _) = opened.map_err(|why| at(why.etype().as_str()))?;
        Ok(self.exchange(session, &peer, &connector, question).await.map_err(|failed| at(&failed.why)))
    }

    /// A stream on an HTTP/2 connection, which may be one that was kept; the address that answers first.
    pub(super) async fn open_h2(&self) -> Result<(Http2Session, SocketAddr), String> {
        let known = self.addresses().await?;
        let mut last = format!("{} has no address", self.url.host);
        for address in &known.addresses {
            match connector().get_http_session(&self.h2_peer(*address)).await {
                Ok((HttpSession::H2(session), _)) => return Ok((session, *address)),
                Ok(_) => last = format!("{} at {address} does not speak HTTP/2", self.url),
                Err(why) => last = format!("{} at {address}: {}", self.url, why.etype().as_str()),
            }
        }
        Err(last)
    }

    /// The connection of this stream waits for the next one.
    pub(super) async fn keep_h2(&self, session: Http2Session, address: SocketAddr) {
        connector().release_http_session(HttpSession::H2(session), &self.h2_peer(address), Some(IDLE)).await;
    }

    fn h2_peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = self.peer(address, self.group.wrapping_add(2));
        peer.options.alpn = ALPN::H2;
        peer
    }

    fn peer(&self, address: SocketAddr, group: u64) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.url.tls, self.url.host.to_string());
        peer.options.ca.clone_from(&self.ca);
        peer.group_key = group;
        peer
    }

    /// The connection is kept for the next question where the answer came whole.
    async fn exchange(
        &self,
        mut session: HttpSession,
        peer: &HttpPeer,
        connector: &Connector<()>,
        question: &Question,
    ) -> Result<Answer, Failed> {
        self.write(&mut session, question).await.map_err(|why| Failed { why, unanswered: true })?;
        let (status, fields) = head(&mut session).await?;
        let after = |why: String| Failed { why, unanswered: false };
        if fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > CAP {
            return Err(after(format!("more than {CAP} bytes of fields")));
        }
        let mut body = Vec::new();
        while let Some(piece) = session.read_response_body().await.map_err(|why| after(said(&why)))? {
            if body.len() + piece.len() > CAP {
                return Err(after(format!("more than {CAP} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        connector.release_http_session(session, peer, Some(IDLE)).await;
        Ok(Answer { status, fields, body })
    }

    async fn write(&self, session: &mut HttpSession, question: &Question) -> Result<(), String> {
        let wrong = |why: Box<pingora_error::Error>| said(&why);
        let method = question.method.clone();
        let mut head = RequestHeader::build(method, self.url.target.as_bytes(), None).map_err(wrong)?;
        head.insert_header(HOST, &*self.url.authority).map_err(wrong)?;
        head.insert_header(USER_AGENT, concat!("yumen/", env!("CARGO_PKG_VERSION"))).map_err(wrong)?;
        for (name, value) in &question.fields {
            head.append_header(name, value).map_err(wrong)?;
        }
        if question.method == Method::POST {
            head.insert_header(CONTENT_LENGTH, HeaderValue::from(question.body.len())).map_err(wrong)?;
        }
        session.write_request_header(Box::new(head)).await.map_err(wrong)?;
        if !question.body.is_empty() {
            session.write_request_body(question.body.clone().into(), true).await.map_err(wrong)?;
        }
        session.finish_request_body().await.map_err(wrong)
    }
}

async fn head(session: &mut HttpSession) -> Result<(u16, HeaderMap), Failed> {
    loop {
        let read = session.read_response_header().await;
        read.map_err(|why| Failed { why: said(&why), unanswered: true })?;
        let head = session.response_header();
        let head = head.ok_or_else(|| Failed { why: "no answer".to_owned(), unanswered: false })?;
        if !head.status.is_informational() {
            return Ok((head.status.as_u16(), head.headers.clone()));
        }
    }
}

fn said(why: &pingora_error::Error) -> String {
    why.etype().as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_fresh_as_long_as_it_says() {
        let fresh = |lines: &[(&'static str, &'static str)]| {
            let fields = lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            Answer { status: 200, fields: fields.collect(), body: Vec::new() }.fresh().as_secs()
        };
        let control = "cache-control";
        for (lines, seconds) in [
            (&[][..], 0),
            (&[(control, "max-age=60")], 60),
            (&[(control, "private, Max-Age=\"60\"")], 60),
            (&[(control, "max-age=60, no-store")], 0),
            (&[(control, "no-cache")], 0),
            (&[(control, "max-age=soon")], 0),
            (&[(control, "max-age=60, max-age=5")], 5),
            (&[(control, "max-age=60"), ("age", "50")], 10),
            (&[(control, "max-age=60"), ("age", "70")], 0),
        ] {
            assert_eq!(fresh(lines), seconds, "{lines:?}");
        }
    }
}
