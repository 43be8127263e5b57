//! What a route makes of bodies, beside the fields around them.

use std::path::PathBuf;

use super::config::Config;
use crate::policy::compress::Compress;
use crate::policy::graphql::Graphql;
use crate::policy::guard::Tools;
use crate::policy::template::Offer;
use crate::policy::transcode::Transcode;
use crate::policy::transform::{Side, Transform};
use crate::problem::{Path, Problems};
use crate::units::Name;

/// What becomes of the bodies of a route, decided once.
#[derive(Debug)]
pub struct Bodies {
    pub graphql: Option<Box<Graphql>>,
    pub transform: Option<Box<Transform>>,
    pub compress: Option<Box<Compress>>,
    /// Whether browsers may speak gRPC-Web.
    pub grpc_web: bool,
    /// What turns JSON into calls of gRPC; nothing where none is spoken.
    pub transcode: Option<Box<Transcode>>,
}

impl Bodies {
    /// `at` is `routes.NAME`.
    pub(super) fn compile(
        config: &Config,
        name: &Name,
        offers: &[Offer],
        at: &Path,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Self {
        let transform = config.transform.as_ref().and_then(|said| {
            let here = at.key("transform");
            let transform = Transform::compile(said, &here, tools, problems)?;
            complain(&transform, config, offers, &here, problems);
            Some(transform)
        });
        let (compress, transcode) = (config.compress.as_ref(), config.transcode.as_ref());
        let graphql = config.graphql.as_ref();
        let here = at.key("graphql");
        let graphql = graphql.and_then(|said| Graphql::compile(said, name.as_str(), &here, tools, problems));
        let (at, calls) = (at.key("compress"), at.key("transcode"));
        Self {
            graphql,
            transform,
            compress: compress.and_then(|said| Compress::compile(said, name.as_str(), &at, tools, problems)),
            grpc_web: config.grpc_web,
            transcode: transcode.and_then(|said| Transcode::compile(said, &calls, tools, problems)).map(Box::new),
        }
    }

    /// Whether answers may not go to the client as they came.
    pub fn change_answers(&self) -> bool {
        self.compress.is_some() || self.response().is_some()
    }

    /// What changes the body of a request.
    pub fn request(&self) -> Option<&Side> {
        self.transform.as_ref()?.request.as_ref()
    }

    /// What changes the body of an answer.
    pub fn response(&self) -> Option<&Side> {
        self.transform.as_ref()?.response.as_ref()
    }

    /// Files that decide what becomes of bodies, as the document itself does.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let listed = self.graphql.iter().filter_map(|graphql| graphql.file());
        let described = self.transcode.iter().flat_map(|transcode| transcode.files());
        let changed = self.transform.iter().flat_map(|transform| transform.files());
        listed.chain(changed).chain(described)
    }
}

/// What only the route shows of its `transform`, which stands at `here`.
fn complain(transform: &Transform, config: &Config, offers: &[Offer], here: &Path, problems: &mut Problems) {
    let known = |name: &str| offers.iter().any(|offer| offer.names.iter().any(|known| **known == *name));
    for name in transform.params().filter(|name| !known(name)) {
        problems.error(here.clone(), format!("adds `path.{name}`, and `:{name}` is not in the route's match"));
    }
    if transform.asks_who() && config.auth.is_none() {
        problems.warn(here.clone(), "adds what `auth` finds out, and the route has none: it is never there");
    }
    if config.transcode.is_some() {
        problems.error(here.clone(), "changes nothing of what `transcode` makes; a route takes one of them");
    }
}
