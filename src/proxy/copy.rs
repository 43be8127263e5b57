//! Copies of requests for another pool: made as the first target gets them, sent beside, nobody waits for them.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::intake::field;
use super::view::View;
use super::{Aside, span};
use crate::client::otlp::Otlp;
use crate::pool::call::{Body, Call, Failed};
use crate::pool::retry::{Methods, Retry};
use crate::pool::{Picked, Timeout};
use crate::route::copy::Place;
use crate::snapshot::Live;
use crate::telemetry::metrics::CopyResult;
use crate::telemetry::trace::Trace;

/// An answer that is longer costs its connection.
const MOST_ANSWER: usize = 1 << 20;

/// What of a request's copy is decided.
#[derive(Default)]
pub enum Copying {
    /// Nothing yet: no target was sent anything.
    #[default]
    Open,
    /// It waits for the rest of the body.
    Waits(Box<Copy>),
    /// There is none, or it is on its way.
    Done,
}

/// A copy of a request.
pub struct Copy {
    place: Place,
    head: RequestHeader,
    body: BytesMut,
    /// Where a receiver of traces is told of it.
    told: Option<(Arc<Otlp>, Trace)>,
}

/// A target is about to be sent this head. The first one decides; a further one gets the same body from its start.
pub(super) fn begin(session: &Session, out: &RequestHeader, ctx: &mut Ctx, live: &Live) {
    let Some(copies) = ctx.route.as_ref().and_then(|route| route.copy_to.as_ref()) else { return };
    match &mut ctx.copying {
        Copying::Waits(copy) => copy.body.clear(),
        Copying::Open if !session.is_upgrade_req() => {
            ctx.copying = Copying::Done;
            if let Some(place) = copies.draw() {
                let (mut head, body) = (out.clone(), BytesMut::new());
                head.remove_header(&field::X_YUMEN_ATTEMPT);
                let told = live.load().traces.clone().filter(|_| ctx.trace.is_told() && ctx.trace.is_sampled());
                let told = told.map(|traces| (traces, ctx.trace));
                if told.is_some() {
                    let _ = head.insert_header(field::TRACEPARENT, parent(&ctx.trace));
                }
                if head.insert_header(field::X_YUMEN_COPY, HeaderValue::from_static("1")).is_ok() {
                    ctx.copying = Copying::Waits(Box::new(Copy { place, head, body, told }));
                }
            }
        }
        _ => {}
    }
}

/// The copy has a span of its own, whose number is no try's.
fn parent(trace: &Trace) -> HeaderValue {
    HeaderValue::from_bytes(&trace.traceparent(span::COPY)).unwrap_or(HeaderValue::from_static(""))
}

/// A piece of the body goes to the target; with the last one the copy goes its way.
pub(super) fn receive(request: &RequestHeader, piece: Option<&Bytes>, end: bool, ctx: &mut Ctx, aside: &Aside) {
    let Copying::Waits(copy) = &mut ctx.copying else { return };
    let most = copy.place.copies().most();
    if let Some(piece) = piece {
        if copy.body.len() + piece.len() > most {
            copy.place.ended(CopyResult::TooLarge);
            ctx.copying = Copying::Done;
            return;
        }
        copy.body.extend_from_slice(piece);
    }
    if !end {
        return;
    }
    let Copying::Waits(copy) = std::mem::replace(&mut ctx.copying, Copying::Done) else { return };
    let Some(intake) = &ctx.intake else { return };
    let Copy { mut place, head, body, told } = *copy;
    let pool = Arc::clone(place.copies().pool());
    let Ok(picked) = pool.pick(&View::of(request, intake, &ctx.params), &[]) else {
        return place.ended(CopyResult::NoTarget);
    };
    let mut call = Call::new(pool, head);
    call.body = Body::Whole(body.freeze());
    call.timeout = Some(Timeout { total: Some(place.copies().timeout()), ..Timeout::default() });
    // Not tried again, unless the target never saw it.
    call.retry = Some(Retry { on: Some(Vec::new()), methods: Some(Methods::All), ..Retry::default() });
    aside(Box::pin(run(place, call, picked, told)));
}

/// Sends it, throws the answer away, and tells how it went.
async fn run(mut place: Place, call: Call, picked: Picked, told: Option<(Arc<Otlp>, Trace)>) {
    let target = Arc::clone(picked.target());
    let what = told.is_some().then(|| (call.head.method.clone(), call.head.uri.path().to_owned()));
    let (time, begun) = (SystemTime::now(), Instant::now());
    let answer = throw_away(call, picked).await;
    if let (Some((traces, trace)), Some((method, path))) = (told, what) {
        let (fault, status) = answer.as_ref().map_or_else(|failed| (Some(failed.fault), 0), |status| (None, *status));
        let whom = (&*target, place.copies().pool().name().as_str());
        traces.leave(vec![span::copy(&trace, (&method, &path), whom, (time, begun.elapsed()), (fault, status))]);
    }
    let (result, word) = match answer {
        Ok(status) => (CopyResult::Answered, status.to_string()),
        Err(failed) => (CopyResult::Failed, failed.fault.to_string()),
    };
    log::debug!("a copy to {}: {word}", target.name());
    place.ended(result);
}

/// The status of the answer.
async fn throw_away(call: Call, picked: Picked) -> Result<u16, Failed> {
    let mut answering = call.open_at(picked).await?;
    let (status, mut length) = (answering.status(), 0);
    while let Some(piece) = answering.piece().await? {
        length += piece.len();
        if length > MOST_ANSWER {
            answering.leave();
            break;
        }
    }
    Ok(status)
}
