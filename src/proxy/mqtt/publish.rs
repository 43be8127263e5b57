//! Publishes the body of a request, and answers once the broker has it.

use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use pingora_error::Result;
use pingora_proxy::Session;

use super::{topic, unavailable};
use crate::policy::publish::Publish;
use crate::proxy::ctx::Ctx;
use crate::proxy::response;
use crate::proxy::whole::{self, Then};

/// 202 as soon as the broker has acknowledged the message, where it is asked to; nothing is promised before.
pub(in crate::proxy) async fn publish(session: &mut Session, ctx: &mut Ctx, publish: &Publish) -> Result<bool> {
    let topic = topic(session, ctx, &publish.topic)?;
    whole::read(session, publish.max, Then::Answer, ctx).await?;
    let body = ctx.whole.clone().unwrap_or_default();
    let mut looked = Some(body.clone()).filter(|body| !body.is_empty());
    ctx.look_at_body(&mut looked, true, body.len() as u64, &session.req_header().method)?;
    let broker = &publish.broker;
    ctx.upstream.first = Some(Instant::now());
    if let Err(why) = broker.publish(topic, body, publish.qos, publish.retain).await {
        return Err(unavailable(ctx, broker.name(), why).into());
    }
    response::short(session, ctx, StatusCode::ACCEPTED, Bytes::new()).await
}
