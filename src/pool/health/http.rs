//! Asks a target by an HTTP request.

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Uri};
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use super::{Status, why};

/// How much of a body is searched.
const BODY: usize = 64 << 10;

/// What is asked and what counts as a good answer.
pub(super) struct Ask {
    pub(super) path: String,
    pub(super) status: Vec<Status>,
    pub(super) body: Option<String>,
    pub(super) host: Option<String>,
}

impl Ask {
    /// One request on a connection of its own; `authority` is the host where the settings name none.
    pub(super) async fn ask(&self, connector: &Connector, peer: &HttpPeer, authority: &str) -> Result<(), String> {
        let host = self.host.as_deref().unwrap_or(authority);
        let (mut session, _) = connector.get_http_session(peer).await.map_err(|error| why(&error))?;
        let request = self.request(&session, peer, host)?;
        session.write_request_header(Box::new(request)).await.map_err(|error| why(&error))?;
        session.finish_request_body().await.map_err(|error| why(&error))?;
        let status = status(&mut session).await?;
        if !self.status.iter().any(|good| good.contains(status)) {
            return Err(format!("status {status}"));
        }
        match &self.body {
            Some(text) => contains(&mut session, text).await,
            None => Ok(()),
        }
    }

    fn request(&self, session: &HttpSession, peer: &HttpPeer, host: &str) -> Result<RequestHeader, String> {
        let wrong = |error: Box<pingora_error::Error>| why(&error);
        let mut request = RequestHeader::build("GET", self.path.as_bytes(), None).map_err(wrong)?;
        let agent = HeaderValue::from_static(concat!("yumen/", env!("CARGO_PKG_VERSION"), " (health)"));
        request.insert_header(USER_AGENT, agent).map_err(wrong)?;
        if session.as_http2().is_some() {
            let scheme = if peer.is_tls() { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(self.path.as_str()).build();
            request.set_uri(uri.map_err(|error| format!("host `{host}`: {error}"))?);
            request.set_version(http::Version::HTTP_2);
        } else {
            request.insert_header(HOST, host).map_err(wrong)?;
            request.insert_header(CONNECTION, "close").map_err(wrong)?;
        }
        Ok(request)
    }
}

/// The final status, behind interim ones.
async fn status(session: &mut HttpSession) -> Result<u16, String> {
    loop {
        session.read_response_header().await.map_err(|error| why(&error))?;
        let head = session.response_header().ok_or("no answer")?;
        if !head.status.is_informational() || session.as_http2().is_some() {
            return Ok(head.status.as_u16());
        }
    }
}

async fn contains(session: &mut HttpSession, text: &str) -> Result<(), String> {
    let mut seen: Vec<u8> = Vec::new();
    while let Some(part) = session.read_response_body().await.map_err(|error| why(&error))? {
        let room = BODY.saturating_sub(seen.len());
        // What was searched before is not searched again, except where the text may cross the border.
        let from = seen.len().saturating_sub(text.len());
        seen.extend(part.iter().take(room));
        if seen.windows(text.len()).skip(from).any(|window| window == text.as_bytes()) {
            return Ok(());
        }
        if seen.len() >= BODY {
            break;
        }
    }
    Err(format!("the body does not contain `{text}`"))
}
