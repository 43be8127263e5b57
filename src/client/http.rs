//! One HTTP call of our own, with a deadline and a cap on what is read.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pingora::connectors::http::Connector;
use pingora::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use crate::units::Address;

/// What is asked, of whom, and how long and how much we are willing to wait for.
pub struct Call<'a> {
    pub to: &'a Address,
    pub method: Method,
    /// Path and query.
    pub target: &'a str,
    pub body: &'a [u8],
    pub deadline: Duration,
    /// Bytes of body at most; a longer answer is an error.
    pub cap: usize,
}

/// The whole answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Call<'_> {
    /// Connects, asks and reads the whole answer over plain HTTP/1.1. The error is one sentence.
    pub async fn send(&self) -> Result<Answer, String> {
        match tokio::time::timeout(self.deadline, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{} did not answer within {:?}", self.to, self.deadline)),
        }
    }

    async fn ask(&self) -> Result<Answer, String> {
        let fail = |what: &str, why: &pingora_error::Error| format!("{what} {}: {}", self.to, why.etype().as_str());
        let peer = self.peer()?;
        let (mut session, _) =
            Connector::<()>::new(None).get_http_session(&peer).await.map_err(|why| fail("cannot connect to", &why))?;
        let wrong = |why| fail("cannot ask", &why);
        let mut header =
            RequestHeader::build(self.method.clone(), self.target.as_bytes(), None).map_err(|why| wrong(*why))?;
        header.insert_header(http::header::HOST, "localhost").map_err(|why| wrong(*why))?;
        header.insert_header(http::header::CONTENT_LENGTH, self.body.len()).map_err(|why| wrong(*why))?;
        session.write_request_header(Box::new(header)).await.map_err(|why| wrong(*why))?;
        if !self.body.is_empty() {
            let body = Bytes::copy_from_slice(self.body);
            session.write_request_body(body, true).await.map_err(|why| wrong(*why))?;
        }
        session.finish_request_body().await.map_err(|why| wrong(*why))?;
        session.read_response_header().await.map_err(|why| wrong(*why))?;
        let status = session.response_header().map_or(0, |header| header.status.as_u16());
        let mut body = Vec::new();
        while let Some(piece) = session.read_response_body().await.map_err(|why| wrong(*why))? {
            if body.len() + piece.len() > self.cap {
                return Err(format!("{} answered with more than {} bytes", self.to, self.cap));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, body })
    }

    fn peer(&self) -> Result<HttpPeer, String> {
        match self.to {
            Address::Ip(ip) => Ok(HttpPeer::new(*ip, false, String::new())),
            Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                .map_err(|why| format!("{}: {}", self.to, why.etype().as_str())),
            Address::Host { .. } => Err(format!("{} is a name, not an address", self.to)),
        }
    }
}
