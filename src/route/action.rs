//! What a route does with a request: forward it, or answer it here.

use super::config::Config;
use super::split::{self, Split};
use crate::policy::batch::Batch;
use crate::policy::gather::{Around, Gather};
use crate::policy::guard;
use crate::policy::publish::Publish;
use crate::policy::redirect::Redirect;
use crate::policy::respond::Respond;
use crate::policy::subscribe::Subscribe;
use crate::policy::template::Offer;
use crate::problem::{Path, Problems};
use crate::units::Name;

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    Forward(Split),
    Redirect(Redirect),
    Respond(Respond),
    Gather(Box<Gather>),
    Batch(Batch),
    Publish(Publish),
    Subscribe(Subscribe),
}

impl Action {
    pub(super) fn compile(
        config: &Config,
        offers: &[Offer],
        at: &Path,
        pools: &split::Pools,
        (route, tools): (&Name, &guard::Tools<'_>),
        problems: &mut Problems,
    ) -> Option<Self> {
        let said = [
            config.to.is_some(),
            config.redirect.is_some(),
            config.respond.is_some(),
            config.gather.is_some(),
            config.batch.is_some(),
            config.publish.is_some(),
            config.subscribe.is_some(),
        ];
        if said.into_iter().filter(|said| *said).count() != 1 {
            let sentence =
                "takes exactly one of `to`, `redirect`, `respond`, `gather`, `batch`, `publish` and `subscribe`";
            problems.error(at.clone(), sentence);
            return None;
        }
        if config.to.is_some() {
            return forward(config, pools, at, problems);
        }
        if let Some(redirect) = &config.redirect {
            return Redirect::compile(redirect, offers, &at.key("redirect"), problems).map(Self::Redirect);
        }
        if let Some(respond) = &config.respond {
            return Respond::compile(respond, &at.key("respond"), problems).map(Self::Respond);
        }
        if let Some(gather) = &config.gather {
            let counted = tools.metrics.map(|metrics| metrics.gathered(route.as_str()));
            let around = Around { offers, has_auth: config.auth.is_some(), counted };
            let mut find = |name: &Name, at: &Path, problems: &mut Problems| split::named(name, pools, at, problems);
            let made = Gather::compile(gather, around, &mut find, &at.key("gather"), problems);
            return made.map(Box::new).map(Self::Gather);
        }
        if let Some(batch) = &config.batch {
            return Batch::compile(batch, &at.key("batch"), problems).map(Self::Batch);
        }
        if let Some(publish) = &config.publish {
            let at = at.key("publish");
            config.takes_only(&["POST", "PUT", "PATCH"], &at, problems);
            return Publish::compile(publish, offers, &at, tools, problems).map(Self::Publish);
        }
        let at = at.key("subscribe");
        config.takes_only(&["GET"], &at, problems);
        Subscribe::compile(config.subscribe.as_ref()?, offers, &at, route, tools, problems).map(Self::Subscribe)
    }
}

fn forward(config: &Config, pools: &split::Pools, at: &Path, problems: &mut Problems) -> Option<Action> {
    let settings = split::Settings { to: config.to.as_ref()?, stick: config.stick.as_ref(), opt_in: &config.opt_in };
    let split = Split::compile(&settings, pools, at, problems)?;
    if config.websocket.is_some() {
        split.complain_of_websockets(&at.key("websocket"), problems);
    }
    let calls = [("grpc_web", config.grpc_web), ("transcode", config.transcode.is_some())];
    for (key, _) in calls.into_iter().filter(|(_, there)| *there) {
        split.complain_of_calls(&at.key(key), problems);
    }
    Some(Action::Forward(split))
}
