//! What a route does with a request: forward it, or answer it here.

use super::config::Config;
use super::split::{self, Split};
use crate::policy::redirect::Redirect;
use crate::policy::respond::Respond;
use crate::policy::template::Offer;
use crate::problem::{Path, Problems};

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    Forward(Split),
    Redirect(Redirect),
    Respond(Respond),
}

impl Action {
    pub(super) fn compile(
        config: &Config,
        offers: &[Offer],
        at: &Path,
        pools: &split::Pools,
        problems: &mut Problems,
    ) -> Option<Self> {
        match (&config.to, &config.redirect, &config.respond) {
            (Some(to), None, None) => {
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
            (None, Some(redirect), None) => {
                Redirect::compile(redirect, offers, &at.key("redirect"), problems).map(Self::Redirect)
            }
            (None, None, Some(respond)) => Respond::compile(respond, &at.key("respond"), problems).map(Self::Respond),
            _ => {
                problems.error(at.clone(), "takes exactly one of `to`, `redirect` and `respond`");
                None
            }
        }
    }
}
