//! Streams the messages of a topic as server-sent events, for as long as client, broker, right and gateway are there.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::{topic, unavailable};
use crate::client::mqtt::Hub;
use crate::client::mqtt::hub::{Cursor, Item};
use crate::fault::Fault;
use crate::policy::subscribe::Subscribe;
use crate::policy::topic::last_event;
use crate::proxy::ctx::Ctx;
use crate::proxy::{reply, time};
use crate::snapshot::Live;
use crate::telemetry::metrics::{OpenStream, StreamMetrics};

/// How often it is looked whether the gateway, the broker and the client's right are still there.
const LOOK: Duration = Duration::from_secs(1);
/// What is written at once.
const AT_ONCE: usize = 64 << 10;

/// One client that listens.
struct Stream<'s> {
    live: &'s Live,
    hub: &'s Hub,
    cursor: Cursor,
    heartbeat: Duration,
    /// When the client's right to be here ends.
    ends: Option<Instant>,
    written: Instant,
    counted: Option<OpenStream>,
}

pub(in crate::proxy) async fn stream(
    live: &Arc<Live>,
    session: &mut Session,
    ctx: &mut Ctx,
    subscribe: &Subscribe,
) -> Result<bool> {
    let topic = topic(session, ctx, &subscribe.topic)?;
    // All of its time is the broker's: the gateway adds none.
    ctx.upstream.first = Some(std::time::Instant::now());
    let last = last_event(&session.req_header().headers);
    let listening = subscribe.broker.listen(&topic, subscribe.qos, last).await;
    let (listening, cursor) = listening.map_err(|why| unavailable(ctx, subscribe.broker.name(), why))?;
    begin(session, ctx).await?;
    if session.req_header().method == Method::HEAD {
        return Ok(true);
    }
    let mut stream = Stream {
        live,
        hub: &listening.hub,
        cursor,
        heartbeat: subscribe.heartbeat,
        ends: ends(ctx),
        written: Instant::now(),
        counted: subscribe.counted.as_ref().map(StreamMetrics::begin),
    };
    let mut unkept = 0;
    loop {
        // A reload hands a broker from one keeper to the next, between two looks at most.
        unkept = if subscribe.broker.is_kept() { 0 } else { unkept + 1 };
        if unkept > 1 || stream.is_over() {
            break;
        }
        stream.say(session).await?;
        let wait = LOOK.min(stream.heartbeat);
        tokio::select! {
            () = stream.hub.more(&stream.cursor) => {}
            () = tokio::time::sleep(wait) => {}
            gone = session.downstream_session.read_body_or_idle(true) => {
                gone.map_err(pingora_error::Error::into_down)?;
                return Err(Fault::ClientGone.into());
            }
        }
    }
    reply::piece_out(session, None, true).await?;
    Ok(true)
}

/// The head of the answer, and its first bytes, so that the client knows that it listens.
async fn begin(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
    head.insert_header(header::CACHE_CONTROL, "no-cache")?;
    match session.req_header().version {
        Version::HTTP_11 => head.insert_header(header::TRANSFER_ENCODING, "chunked")?,
        Version::HTTP_10 => session.set_keepalive(None),
        _ => {}
    }
    if let Some(route) = &ctx.route {
        route.response.response(&mut head);
    }
    reply::own_fields(&mut head, ctx)?;
    let silent = session.req_header().method == Method::HEAD;
    reply::head_out(session, head, silent).await?;
    if silent {
        return Ok(());
    }
    reply::piece_out(session, Some(Bytes::from_static(b": listening\n\n")), false).await
}

fn ends(ctx: &Ctx) -> Option<Instant> {
    let ends = ctx.found.as_ref()?.identity.ends?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let left = Duration::try_from_secs_f64((ends - now).max(0.0)).unwrap_or(time::FOREVER).min(time::FOREVER);
    Some(Instant::now() + left)
}

impl Stream<'_> {
    fn is_over(&self) -> bool {
        self.live.is_draining() || self.ends.is_some_and(|ends| ends <= Instant::now())
    }

    /// Writes what is there, or a comment after a long silence.
    async fn say(&mut self, session: &mut Session) -> Result<()> {
        loop {
            let taken = self.hub.take(&mut self.cursor, AT_ONCE);
            let mut out = BytesMut::new();
            if taken.missed > 0 {
                out.extend_from_slice(format!("event: missed\ndata: {}\n\n", taken.missed).as_bytes());
            }
            let events = taken.items.len() as u64;
            for (number, item) in taken.items {
                out.extend_from_slice(item.spelled.get_or_init(|| spell(&item)));
                if let Some(number) = number {
                    out.extend_from_slice(format!("id: {}\n", self.hub.id(number)).as_bytes());
                }
                out.extend_from_slice(b"\n");
            }
            if let Some(counted) = &self.counted {
                counted.sent(events);
                counted.missed(taken.missed);
            }
            if out.is_empty() {
                if self.written.elapsed() < self.heartbeat {
                    return Ok(());
                }
                out.extend_from_slice(b":\n\n");
            }
            reply::piece_out(session, Some(out.freeze()), false).await?;
            self.written = Instant::now();
        }
    }
}

/// A message as an event, without its id: its topic is the event's name; what is no text is a data URL.
fn spell(item: &Item) -> Bytes {
    if item.gap {
        return Bytes::from_static(b"event: gap\ndata: the broker was away\n");
    }
    let mut event = String::with_capacity(item.topic.len() + item.payload.len() + 32);
    // The name is one line, whatever the topic holds.
    let _ = writeln!(event, "event: {}", item.topic.replace(['\r', '\n'], " "));
    if let Ok(text) = std::str::from_utf8(&item.payload) {
        // Of `\r\n` as of each alone.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        for line in text.split('\n') {
            let _ = writeln!(event, "data: {line}");
        }
    } else {
        let coded = STANDARD.encode(&item.payload);
        let _ = writeln!(event, "data: data:application/octet-stream;base64,{coded}");
    }
    event.into()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    fn spelled(topic: &str, payload: &'static [u8]) -> String {
        let (topic, payload) = (topic.into(), Bytes::from_static(payload));
        let event = spell(&Item { topic, payload, gap: false, again: None, spelled: OnceLock::new() });
        String::from_utf8(event.to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_one_event_whatever_is_in_it() {
        assert_eq!(spelled("a/b", b"21.5"), "event: a/b\ndata: 21.5\n");
        assert_eq!(spelled("a\nid: 7", b"x\r\ny\rz\n"), "event: a id: 7\ndata: x\ndata: y\ndata: z\ndata: \n");
        assert_eq!(spelled("a", b""), "event: a\ndata: \n");
        assert_eq!(spelled("a", &[0xff, 0]), "event: a\ndata: data:application/octet-stream;base64,/wA=\n");
    }
}
