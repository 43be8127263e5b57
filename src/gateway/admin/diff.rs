//! What another document would change, asked by the one who has it.

use std::sync::Arc;

use http::StatusCode;
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::page::{Answer, page, wrong};
use crate::gateway::reload::Reloader;

/// Bytes of a body: the document of a large gateway, with every default in it.
const MOST: usize = 128 << 20;

/// Of secrets it is told only whether they are the same: the one who asks has marked them under a nonce of his own, and
/// learns nothing that he could go on guessing with elsewhere.
pub(super) async fn diff(session: &mut ServerSession, reloader: &Arc<Reloader>) -> Answer {
    let body = match body(session).await {
        Ok(body) => body,
        Err(why) => return wrong(StatusCode::PAYLOAD_TOO_LARGE, &why),
    };
    let reloader = Arc::clone(reloader);
    let compared = tokio::task::spawn_blocking(move || {
        let candidate = serde_json::from_slice(&body).map_err(|why| why.to_string())?;
        Ok::<_, String>(reloader.differences(&candidate))
    });
    match compared.await.unwrap_or_else(|panic| Err(panic.to_string())) {
        Ok(diff) => page(StatusCode::OK, &json!({ "changes": diff })),
        Err(why) => wrong(StatusCode::BAD_REQUEST, &why),
    }
}

/// The whole body of a request. The error is a sentence.
async fn body(session: &mut ServerSession) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_request_body().await.map_err(|why| why.to_string())? {
        if body.len() + piece.len() > MOST {
            return Err(format!("more than {} MiB", MOST >> 20));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
