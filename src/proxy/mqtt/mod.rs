//! Messages of MQTT: a body that is published, a topic that is streamed.

mod publish;
mod stream;

pub(super) use publish::publish;
pub(super) use stream::stream;

use super::ctx::Ctx;
use super::view::View;
use crate::client::mqtt::Unavailable;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::policy::topic::Made;
use pingora_proxy::Session;

/// The topic that a request means.
fn topic(session: &Session, ctx: &mut Ctx, made: &Made) -> Result<String, Fault> {
    let (Some(route), Some(intake)) = (&ctx.route, &ctx.intake) else { return Err(Fault::GatewayInternal) };
    let view = View::of(session.req_header(), intake, &ctx.params);
    let exchange = Exchange { request: &view, found: ctx.found.get_or_insert_default() };
    let filled = made.fill(&exchange, route.name.as_str());
    filled.map_err(|(fault, why)| {
        ctx.why = Some(why);
        fault
    })
}

/// The broker does not take part; only the log is told why.
fn unavailable(ctx: &mut Ctx, store: &str, why: Unavailable) -> Fault {
    let what = match why {
        Unavailable::Down => "is not connected",
        Unavailable::Late => "did not answer in time",
        Unavailable::Lost => "was lost before it answered",
        Unavailable::Busy => "has too much under way",
        Unavailable::Refused => "does not let us listen to this topic",
    };
    ctx.why = Some(format!("store {store} {what}"));
    Fault::MqttUnavailable
}
