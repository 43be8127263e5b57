//! What a route does with a request: forward it, or answer it here.

use super::config::Config;
use super::split::{self, Split};
use crate::policy::batch::Batch;
use crate::policy::gather::{Around, Gather};
use crate::policy::redirect::Redirect;
use crate::policy::respond::Respond;
use crate::policy::template::Offer;
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::GatherMetrics;
use crate::units::Name;

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    Forward(Split),
    Redirect(Redirect),
    Respond(Respond),
    Gather(Box<Gather>),
    Batch(Batch),
}

impl Action {
    pub(super) fn compile(
        config: &Config,
        offers: &[Offer],
        at: &Path,
        pools: &split::Pools,
        counted: Option<GatherMetrics>,
        problems: &mut Problems,
    ) -> Option<Self> {
        match (&config.to, &config.redirect, &config.respond, &config.gather, &config.batch) {
            (Some(to), None, None, None, None) => {
                let settings = split::Settings { to, stick: config.stick.as_ref(), opt_in: &config.opt_in };
                let split = Split::compile(&settings, pools, at, problems)?;
                if config.websocket.is_some() {
                    split.complain_of_websockets(&at.key("websocket"), problems);
                }
                Some(Self::Forward(split))
            }
            (None, Some(redirect), None, None, None) => {
                Redirect::compile(redirect, offers, &at.key("redirect"), problems).map(Self::Redirect)
            }
            (None, None, Some(respond), None, None) => {
                Respond::compile(respond, &at.key("respond"), problems).map(Self::Respond)
            }
            (None, None, None, Some(gather), None) => {
                let has_auth = config.auth.is_some();
                let mut find =
                    |name: &Name, at: &Path, problems: &mut Problems| split::named(name, pools, at, problems);
                let around = Around { offers, has_auth, counted };
                let made = Gather::compile(gather, around, &mut find, &at.key("gather"), problems);
                made.map(Box::new).map(Self::Gather)
            }
            (None, None, None, None, Some(batch)) => Batch::compile(batch, &at.key("batch"), problems).map(Self::Batch),
            _ => {
                problems.error(at.clone(), "takes exactly one of `to`, `redirect`, `respond`, `gather` and `batch`");
                None
            }
        }
    }
}
