//! The target of a further try, once the rule allows one, and what that costs.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header;
use pingora_http::ResponseHeader;

use super::{End, Failed, Not};
use crate::fault::Fault;
use crate::pool::{Picked, Pool, Target};

/// A try that has failed and is to be followed by another one.
pub struct FailedTry<'a> {
    pub pool: &'a Pool,
    pub failed: &'a Failed,
    /// Its connection was shared with others, who would have missed it.
    pub shared: bool,
    /// What the target is told of the fault that it ended with.
    pub blamed: &'a dyn Fn(Fault) -> Fault,
}

/// The next try.
pub struct Next {
    pub picked: Picked,
    /// It begins without a pause, and cost nothing of the budget.
    pub at_once: bool,
}

impl FailedTry<'_> {
    /// Tells the target of the failed try, and takes one for the next with `pick`; whether that begins at once and for
    /// nothing. It does where the one that failed did not get the request, or answers nobody: another target, that does
    /// answer, then gets what it would have got anyway.
    pub fn next(
        &self,
        last: &mut Picked,
        tried: &mut Vec<Arc<Target>>,
        pick: impl FnOnce(&[Arc<Target>]) -> Option<Picked>,
    ) -> Result<Next, Not> {
        let stale = self.is_stale();
        let silent = self.is_silent(last);
        let free = stale || silent || self.failed.is_untouched();
        if !free && !may_pay(self.pool) {
            return Err(Not::Budget);
        }
        self.tell(last);
        last.leave();
        tried.push(Arc::clone(last.target()));
        let Some(picked) = pick(tried) else {
            if !free {
                self.pool.budget().give_back(Instant::now());
            }
            return Err(Not::Nobody);
        };
        let is_new = !tried.iter().any(|old| Arc::ptr_eq(old, picked.target()));
        let is_better = is_new && (!silent || picked.target().is_well());
        let at_once = stale || (free && is_better);
        if free && !at_once && !may_pay(self.pool) {
            return Err(Not::Budget);
        }
        self.pool.budget().count();
        Ok(Next { picked, at_once })
    }

    /// A kept connection that had died says nothing of its target; one that others share would have been missed before.
    fn is_stale(&self) -> bool {
        self.failed.end == End::Lost(Fault::UpstreamResetReused) && !self.shared
    }

    /// Whether it answers nobody. Told first: that may be what takes it out of rotation.
    fn is_silent(&self, last: &mut Picked) -> bool {
        let silent = self.failed.end == End::Lost(Fault::UpstreamTimeoutFirstByte);
        if silent {
            self.tell(last);
        }
        silent && last.target().is_mute()
    }

    fn tell(&self, last: &mut Picked) {
        match self.failed.end {
            End::Lost(fault) => last.record(Some((self.blamed)(fault)), 0),
            End::Answered { status, .. } => last.record(None, status),
        }
    }
}

fn may_pay(pool: &Pool) -> bool {
    let may = pool.budget().take(Instant::now());
    if let (false, Some(counted)) = (may, pool.counted()) {
        counted.over_budget();
    }
    may
}

/// What the target asks for: seconds, or a date (RFC 9110 section 10.2.3).
pub fn wanted_wait(head: &ResponseHeader) -> Option<Duration> {
    let text = head.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds
        .or_else(|| Some(httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default()))
}
