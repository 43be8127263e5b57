//! Who asks may go before the answer is there: what was done for it is let go then.

use pingora_error::Result;
use pingora_proxy::Session;

use crate::fault::Fault;

/// Waits for `work` as long as the client is there.
pub(super) async fn unless_gone<T>(session: &mut Session, work: impl Future<Output = T>) -> Result<T> {
    // Over HTTP/1 what nobody reads of the body stands before the end of the connection.
    let seen = session.is_http2() || session.is_body_empty() || session.downstream_session.is_body_done();
    tokio::select! {
        biased;
        done = work => Ok(done),
        gone = session.downstream_session.read_body_or_idle(true), if seen => match gone {
            Err(why) => Err(why.into_down()),
            Ok(_) => Err(Fault::ClientGone.into()),
        },
    }
}
