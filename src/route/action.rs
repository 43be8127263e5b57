//! What a route does with a request: forward it, or answer it here.

use super::config::Config;
use super::split::{self, Split};
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
        match (&config.to, &config.redirect, &config.respond, &config.publish, &config.subscribe) {
            (Some(to), None, None, None, None) => {
                let settings = split::Settings { to, stick: config.stick.as_ref(), opt_in: &config.opt_in };
                let split = Split::compile(&settings, pools, at, problems)?;
                if config.websocket.is_some() {
                    split.complain_of_websockets(&at.key("websocket"), problems);
                }
                let calls = [("grpc_web", config.grpc_web), ("transcode", config.transcode.is_some())];
                for (key, _) in calls.into_iter().filter(|(_, there)| *there) {
                    split.complain_of_calls(&at.key(key), problems);
                }
                Some(Self::Forward(split))
            }
            (None, Some(redirect), None, None, None) => {
                Redirect::compile(redirect, offers, &at.key("redirect"), problems).map(Self::Redirect)
            }
            (None, None, Some(respond), None, None) => {
                Respond::compile(respond, &at.key("respond"), problems).map(Self::Respond)
            }
            (None, None, None, Some(publish), None) => {
                let at = at.key("publish");
                config.takes_only(&["POST", "PUT", "PATCH"], &at, problems);
                Publish::compile(publish, offers, &at, tools, problems).map(Self::Publish)
            }
            (None, None, None, None, Some(subscribe)) => {
                let at = at.key("subscribe");
                config.takes_only(&["GET"], &at, problems);
                Subscribe::compile(subscribe, offers, &at, route, tools, problems).map(Self::Subscribe)
            }
            _ => {
                let sentence = "takes exactly one of `to`, `redirect`, `respond`, `publish` and `subscribe`";
                problems.error(at.clone(), sentence);
                None
            }
        }
    }
}
