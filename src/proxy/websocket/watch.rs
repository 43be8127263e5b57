//! When a tunnel is pinged, and when it has lasted long enough: decided by the clock alone.

use std::time::Duration;

use tokio::time::Instant;

/// What a tunnel keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The longest silence of both sides.
    pub(super) idle: Duration,
    /// The silence of the client after which it is asked whether it is there.
    pub(super) ping: Option<Duration>,
    /// When the client's right to be here ends.
    pub(super) expires: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Expired,
    Leaves,
    Unanswered,
    Idle,
    Ping,
}

/// Who said something when.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    /// Either side, of its own accord.
    said: Instant,
    /// The client, be it an answer.
    heard: Instant,
    pinged: Option<Instant>,
    /// When the gateway closes it because it leaves.
    leaves: Option<Instant>,
}

impl Watch {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, said: now, heard: now, pinged: None, leaves: None }
    }

    pub(super) fn said(&mut self, now: Instant) {
        self.said = now;
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    pub(super) fn pinged(&mut self, now: Instant) {
        self.pinged = Some(now);
    }

    pub(super) fn leave(&mut self, at: Instant) {
        self.leaves = Some(at);
    }

    /// What is due, or when to look again.
    pub(super) fn due(&self, now: Instant) -> Result<Due, Instant> {
        let ping = self.limits.ping.map(|ping| match self.pinged {
            Some(pinged) => (pinged + ping, Due::Unanswered),
            None => (self.heard + ping, Due::Ping),
        });
        let idle = (self.said + self.limits.idle, Due::Idle);
        let all = [
            self.limits.expires.map(|at| (at, Due::Expired)),
            self.leaves.map(|at| (at, Due::Leaves)),
            ping.filter(|(_, due)| *due == Due::Unanswered),
            Some(idle),
            ping,
        ];
        let mut next = idle.0;
        for (at, due) in all.into_iter().flatten() {
            if at <= now {
                return Ok(due);
            }
            next = next.min(at);
        }
        Err(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn silence_is_asked_about_and_ends_the_tunnel() {
        let start = Instant::now();
        let mut watch = Watch::new(Limits { idle: secs(60), ping: Some(secs(20)), expires: None }, start);
        assert_eq!(watch.due(start), Err(start + secs(20)));
        assert_eq!(watch.due(start + secs(20)), Ok(Due::Ping));
        watch.pinged(start + secs(20));
        assert_eq!(watch.due(start + secs(39)), Err(start + secs(40)));
        watch.heard(start + secs(21));
        assert_eq!(watch.due(start + secs(40)), Err(start + secs(41)), "an answer is a sign of life");
        assert_eq!(watch.due(start + secs(60)), Ok(Due::Idle), "and says nothing");
        watch.said(start + secs(50));
        watch.pinged(start + secs(50));
        assert_eq!(watch.due(start + secs(60)), Err(start + secs(70)));
        assert_eq!(watch.due(start + secs(70)), Ok(Due::Unanswered));
    }

    #[test]
    fn a_right_that_ends_and_a_gateway_that_leaves_come_first() {
        let start = Instant::now();
        let expires = Some(start + secs(5));
        let mut watch = Watch::new(Limits { idle: secs(10), ping: None, expires }, start);
        assert_eq!(watch.due(start), Err(start + secs(5)));
        watch.leave(start + secs(3));
        assert_eq!(watch.due(start), Err(start + secs(3)));
        assert_eq!(watch.due(start + secs(4)), Ok(Due::Leaves));
        assert_eq!(watch.due(start + secs(11)), Ok(Due::Expired));
    }
}
