//! Fetches a document by its URL, with a deadline and a cap; redirections are not followed.
//!
//! Certificates are checked against the system's authorities, as those of targets are, or against given ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use pingora::connectors::http::Connector;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use super::url::Url;

/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;

/// How long and how much we are willing to wait for, and whom we believe.
#[derive(Clone)]
pub struct Terms {
    pub deadline: Duration,
    /// Bytes of body at most; a longer answer is an error.
    pub cap: usize,
    /// The authorities to believe instead of the system's.
    pub ca: Option<Arc<CaType>>,
}

/// A whole document.
#[derive(Debug)]
pub struct Document {
    pub body: Vec<u8>,
    /// For how long its server says that it holds.
    pub max_age: Option<Duration>,
    pub fields: HeaderMap,
}

/// The document at `url`, if the answer is 200. The error is one sentence.
pub async fn get(url: &Url, terms: &Terms) -> Result<Document, String> {
    get_with(url, &HeaderMap::new(), terms).await
}

/// The same, asked with these fields.
pub async fn get_with(url: &Url, fields: &HeaderMap, terms: &Terms) -> Result<Document, String> {
    match tokio::time::timeout(terms.deadline, attempts(url, fields, terms)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{url} was not complete within {:?}", terms.deadline)),
    }
}

async fn attempts(url: &Url, fields: &HeaderMap, terms: &Terms) -> Result<Document, String> {
    let found = tokio::net::lookup_host((&*url.host, url.port)).await;
    let found = found.map_err(|why| format!("{} cannot be looked up: {why}", url.host))?;
    let mut last = format!("{} has no address", url.host);
    for address in found.take(MOST_ADDRESSES) {
        match ask(url, address, fields, terms).await {
            Err((true, why)) => last = why,
            Err((false, why)) => return Err(why),
            Ok(document) => return Ok(document),
        }
    }
    Err(last)
}

/// An error says whether another address may do better.
async fn ask(url: &Url, address: SocketAddr, fields: &HeaderMap, terms: &Terms) -> Result<Document, (bool, String)> {
    let fail = |again: bool| {
        move |why: Box<pingora_error::Error>| (again, format!("{url} at {address}: {}", why.etype().as_str()))
    };
    let mut peer = HttpPeer::new(address, url.tls, url.host.to_string());
    peer.options.ca.clone_from(&terms.ca);
    let (mut session, _) = Connector::<()>::new(None).get_http_session(&peer).await.map_err(fail(true))?;
    let wrong = fail(false);
    let mut request = RequestHeader::build(Method::GET, url.target.as_bytes(), None).map_err(&wrong)?;
    for (name, value) in [
        (HOST, &*url.authority),
        (ACCEPT, "application/json, application/jwk-set+json"),
        (USER_AGENT, concat!("yumen/", env!("CARGO_PKG_VERSION"))),
        (CONNECTION, "close"),
    ] {
        request.insert_header(name, value).map_err(&wrong)?;
    }
    for (name, value) in fields {
        request.insert_header(name, value).map_err(&wrong)?;
    }
    session.write_request_header(Box::new(request)).await.map_err(&wrong)?;
    session.finish_request_body().await.map_err(&wrong)?;
    let fields = loop {
        session.read_response_header().await.map_err(&wrong)?;
        let head = session.response_header().ok_or_else(|| (false, format!("{url}: no answer")))?;
        match head.status.as_u16() {
            200 => break head.headers.clone(),
            100..=199 => {}
            status => return Err((false, format!("{url} answered {status}"))),
        }
    };
    let mut body = Vec::new();
    while let Some(piece) = session.read_response_body().await.map_err(&wrong)? {
        if body.len() + piece.len() > terms.cap {
            return Err((false, format!("{url} has more than {} bytes", terms.cap)));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Document { body, max_age: max_age(fields.get(CACHE_CONTROL)), fields })
}

fn max_age(said: Option<&HeaderValue>) -> Option<Duration> {
    let mut words = said?.to_str().ok()?.split(',').map(str::trim);
    let seconds = words.find_map(|word| word.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}
