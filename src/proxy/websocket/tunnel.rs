//! A tunnel between a client and a target: two directions, one clock, and a goodbye that both sides hear.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::closing::Closing;
use super::frame::{self, code};
use super::lane::{Event, Goodbye, Lane};
use super::watch::{Due, Watch};
use crate::deadline::Deadline;
use crate::fault::Fault;
use crate::listener::Client;
use crate::telemetry::metrics::{By, WebsocketMetrics};
use crate::telemetry::random;

/// How long either side may take to answer a goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long the last bytes may take.
const LAST: Duration = Duration::from_secs(1);

/// How a tunnel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) by: By,
    /// What the goodbye said.
    pub(super) code: Option<u16>,
    pub(super) fault: Option<Fault>,
    pub(super) why: Option<&'static str>,
}

/// Two sides that talk.
pub(super) struct Tunnel {
    pub(super) client: Client,
    pub(super) target: Stream,
    /// From the client to the target, and back.
    pub(super) up: Lane,
    pub(super) down: Lane,
    pub(super) watch: Watch,
    pub(super) closing: Closing,
    pub(super) counted: Option<Arc<WebsocketMetrics>>,
    /// How long the target may take nothing.
    pub(super) write: Duration,
    pub(super) timer: Deadline,
    /// What our last ping said.
    pub(super) word: Option<[u8; 8]>,
    /// How it ends, and by when, once somebody has said goodbye.
    pub(super) end: Option<(End, Instant)>,
    pub(super) told: [u64; 4],
}

impl Tunnel {
    /// Talks until it is over.
    pub(super) async fn run(&mut self) -> End {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let last = async {
            // Either may be gone already.
            let _ = self.client.shutdown().await;
            let _ = self.target.shutdown().await;
        };
        let _ = timeout(LAST, last).await;
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Some(at) = self.closing.poll(cx) {
            self.watch.leave(at);
        }
        loop {
            let up = self.up.poll(cx, &mut self.client, &mut self.target, self.word);
            let down = self.down.poll(cx, &mut self.target, &mut self.client, None);
            let lanes = [(up, By::Client), (down, By::Target)];
            let moved = lanes.iter().any(|(polled, _)| polled.is_ready());
            if moved {
                let now = Instant::now();
                for (polled, side) in lanes {
                    if let Poll::Ready(event) = polled {
                        self.notice(event, side, now);
                    }
                }
            }
            if let Some(end) = self.over() {
                self.count();
                return Poll::Ready(end);
            }
            if !moved {
                self.count();
                let Some(at) = self.next(Instant::now()) else { continue };
                if self.timer.poll(cx, at).is_pending() {
                    return Poll::Pending;
                }
            }
        }
    }

    fn lane(&self, of: By) -> &Lane {
        if of == By::Client { &self.up } else { &self.down }
    }

    /// Takes down what one side did.
    fn notice(&mut self, event: Event, side: By, now: Instant) {
        match event {
            Event::Came { said } => {
                if said {
                    self.watch.said(now);
                }
                if side == By::Client {
                    self.watch.heard(now);
                }
                if let (Some(Goodbye { code }), None) = (self.lane(side).closed, &self.end) {
                    self.end = Some((End { by: side, code, fault: None, why: None }, now + GOODBYE));
                }
            }
            Event::Ended => self.ended(side, now),
            Event::Deaf if side == By::Target => {
                self.up.ended = true;
                self.ended(By::Client, now);
            }
            // What the target has said before it went is still to come.
            Event::Deaf => {}
            Event::Wrong(wrong) => {
                let fault = match (side, wrong.code) {
                    (By::Client, code::TOO_BIG) => Fault::BodyTooLarge,
                    (By::Client, _) => Fault::RequestMalformed,
                    _ => Fault::UpstreamProtocol,
                };
                self.close(wrong.code, Some(fault), wrong.what, now);
                // What follows cannot be read any more.
                let unheard = Some(Goodbye { code: None });
                if side == By::Client { self.up.closed = unheard } else { self.down.closed = unheard }
            }
        }
    }

    /// A side is gone without a goodbye: the client is told where it is the target.
    fn ended(&mut self, side: By, now: Instant) {
        if self.end.is_some() {
            return;
        }
        if side == By::Target {
            let said = self.down.insert(|to| frame::close(code::INTERNAL, None, to));
            let end = End {
                by: By::Target,
                code: None,
                fault: Some(Fault::UpstreamReset),
                why: Some("the target ended without a goodbye"),
            };
            self.end = Some((end, if said { now + GOODBYE } else { now }));
        } else {
            self.end = Some((End { by: By::Client, code: None, fault: None, why: None }, now));
        }
    }

    /// Says goodbye to both.
    fn close(&mut self, code: u16, fault: Option<Fault>, why: &'static str, now: Instant) {
        if self.end.is_some() {
            return;
        }
        let mask = random::next().to_be_bytes();
        let mask = std::array::from_fn(|at| mask.get(at).copied().unwrap_or(0));
        let up = self.up.say_goodbye(|to| frame::close(code, Some(mask), to));
        let down = self.down.say_goodbye(|to| frame::close(code, None, to));
        let end = End { by: By::Gateway, code: (up || down).then_some(code), fault, why: Some(why) };
        self.end = Some((end, if up || down { now + GOODBYE } else { now }));
    }

    /// When to look again, or nothing where something was due and is done now.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        if let Some((_, until)) = &self.end {
            return Some(*until);
        }
        let until = self.up.stuck().map(|since| since + self.write);
        if until.is_some_and(|until| until <= now) {
            self.close(code::INTERNAL, Some(Fault::UpstreamTimeoutIdle), "the target takes nothing", now);
            return None;
        }
        match self.watch.due(now) {
            Err(at) => return Some(until.map_or(at, |until| until.min(at))),
            Ok(Due::Ping) => self.ping(now),
            Ok(Due::Expired) => self.close(code::POLICY, Some(Fault::AuthExpired), "the token has expired", now),
            Ok(Due::Leaves) => {
                let (code, why) = self.closing.goodbye();
                self.close(code, None, why, now);
            }
            Ok(Due::Idle) => self.close(code::GOING_AWAY, None, "neither side said anything for too long", now),
            Ok(Due::Unanswered) => self.close(code::GOING_AWAY, None, "the client did not answer a ping", now),
        }
        None
    }

    fn ping(&mut self, now: Instant) {
        let word = random::next().to_be_bytes();
        if self.down.insert(|to| frame::ping(word, to)) {
            self.word = Some(word);
            self.watch.pinged(now);
        } else {
            // It is being told something at this moment.
            self.watch.heard(now);
        }
    }

    fn over(&self) -> Option<End> {
        let (end, until) = self.end.as_ref()?;
        // Nobody is left to hear an answer to the goodbye of a target that has ended after it.
        let left = self.down.ended && self.down.closed.is_some();
        let up = left || (self.up.is_silent() && self.up.is_empty());
        let done = up && self.down.is_silent() && self.down.is_empty();
        (done || *until <= Instant::now()).then(|| end.clone())
    }

    /// Tells the figures what has passed since it was last asked.
    fn count(&mut self) {
        let now = [self.up.messages(), self.down.messages(), self.up.bytes, self.down.bytes];
        if let Some(counted) = self.counted.as_ref().filter(|_| now != self.told) {
            let [up, down, up_bytes, down_bytes] = std::array::from_fn(|at| {
                now.get(at).zip(self.told.get(at)).map_or(0, |(now, told)| now.saturating_sub(*told))
            });
            counted.passed(By::Client, up, up_bytes);
            counted.passed(By::Target, down, down_bytes);
            self.told = now;
        }
    }
}
