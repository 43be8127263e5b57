//! How fast a body must come over HTTP/2, where the connection cannot tell one request's bytes from another's.
//!
//! Over HTTP/1 the connection itself sees to it. Where the target speaks HTTP/2 too, a slow stream holds nothing that
//! others need, and streams of gRPC may rest as long as they like; the target's own silence is bounded in any case.

use std::time::{Duration, Instant};

use pingora_proxy::Session;

use super::ctx::Ctx;
use crate::fault::Fault;

/// As over HTTP/1.
const GRACE: Duration = Duration::from_secs(10);

/// A try begins: what the client owes must begin to come, too.
pub(super) fn begin(session: &mut Session, ctx: &Ctx) {
    if let Some(errand) = &ctx.upstream.errand
        && session.is_http2()
        && !session.is_body_empty()
    {
        errand.owes(GRACE);
    }
}

/// Refuses a body that drips: so many bytes came since the target was asked.
pub(super) fn check(bytes: u64, http2: bool, ctx: &Ctx) -> Result<(), Fault> {
    let (Some(asked), Some(connection)) = (ctx.upstream.asked, &ctx.connection) else { return Ok(()) };
    if !http2 || ctx.upstream.shares {
        return Ok(());
    }
    let rate = connection.listener.limits.body_rate.bytes_per_second();
    if let Some(errand) = &ctx.upstream.errand {
        errand.owes(allowed(bytes, rate));
    }
    if is_too_slow(bytes, rate, Instant::now().saturating_duration_since(asked)) {
        return Err(Fault::RequestTimeout);
    }
    Ok(())
}

fn is_too_slow(bytes: u64, rate: u64, took: Duration) -> bool {
    took > allowed(bytes, rate)
}

/// How long so many bytes may take.
pub(super) fn allowed(bytes: u64, rate: u64) -> Duration {
    GRACE + Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1)).min(Duration::from_hours(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_extend_the_time_only_by_their_size() {
        let seconds = Duration::from_secs;
        assert!(!is_too_slow(0, 1024, seconds(10)) && is_too_slow(0, 1024, seconds(11)));
        assert!(!is_too_slow(2048, 1024, seconds(12)) && is_too_slow(2048, 1024, seconds(13)));
        assert!(!is_too_slow(u64::MAX, 1, seconds(3600)));
    }
}
