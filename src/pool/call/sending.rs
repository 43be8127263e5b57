//! The body of a call on its way to the target.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use h2::SendStream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora_error::{Error, ErrorType, OrErr, Result};
use tokio::time::timeout;

use super::Body;

/// A body that goes out beside the answer that comes in.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// By HTTP/1.1: nothing of an answer is read before all of it is out.
pub(super) async fn by_h1(session: &mut HttpSession, body: Body) -> Result<()> {
    match body {
        Body::Whole(bytes) if bytes.is_empty() => {}
        Body::Whole(bytes) => drop(session.write_body(&bytes).await?),
        Body::Pieces(mut pieces) => {
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                // A chunk of no length would be the end of the body.
                if !piece.is_empty() {
                    session.write_body(&piece).await?;
                }
            }
        }
    }
    session.finish_body().await.map(drop)
}

/// By HTTP/2; a target that takes nothing for `patience` is given up.
pub(super) fn by_h2(mut to: SendStream<Bytes>, body: Body, patience: Duration) -> Sending {
    Box::pin(async move {
        match body {
            Body::Whole(bytes) => piece_by_h2(&mut to, bytes, true, patience).await,
            Body::Pieces(mut pieces) => {
                while let Some(piece) = pieces.next().await {
                    piece_by_h2(&mut to, piece?, false, patience).await?;
                }
                to.send_data(Bytes::new(), true).or_err(ErrorType::WriteError, "at the end of a body")
            }
        }
    })
}

async fn piece_by_h2(to: &mut SendStream<Bytes>, mut piece: Bytes, end: bool, patience: Duration) -> Result<()> {
    while !piece.is_empty() {
        to.reserve_capacity(piece.len());
        let room = match timeout(patience, poll_fn(|cx| to.poll_capacity(cx))).await {
            Ok(Some(room)) => room.or_err(ErrorType::WriteError, "in a body")?,
            Ok(None) => return Error::e_explain(ErrorType::WriteError, "the target takes no more of the body"),
            Err(_) => return Error::e_explain(ErrorType::WriteTimedout, "the target takes nothing of the body"),
        };
        let now = piece.split_to(room.min(piece.len()));
        if !now.is_empty() {
            to.send_data(now, end && piece.is_empty()).or_err(ErrorType::WriteError, "in a body")?;
        }
    }
    Ok(())
}

/// Goes on with a body while something else is waited for; the error of one that broke off.
pub(super) async fn beside<T>(sending: &mut Option<Sending>, work: impl Future<Output = T>) -> (T, Option<Box<Error>>) {
    let mut work = std::pin::pin!(work);
    let mut broke = None;
    let done = poll_fn(|cx| {
        if let Some(on) = sending
            && let std::task::Poll::Ready(sent) = on.as_mut().poll(cx)
        {
            *sending = None;
            broke = sent.err();
        }
        work.as_mut().poll(cx)
    });
    let done = done.await;
    (done, broke)
}
