//! What a route makes of bodies, beside the fields around them.

use super::config::Config;
use crate::policy::compress::Compress;
use crate::policy::guard::Tools;
use crate::problem::{Path, Problems};
use crate::units::Name;

/// What becomes of the bodies of a route, decided once.
#[derive(Debug)]
pub struct Bodies {
    pub compress: Option<Box<Compress>>,
}

impl Bodies {
    /// `at` is `routes.NAME`.
    pub(super) fn compile(config: &Config, name: &Name, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Self {
        let compress = config.compress.as_ref();
        let at = at.key("compress");
        Self { compress: compress.and_then(|said| Compress::compile(said, name.as_str(), &at, tools, problems)) }
    }

    /// Whether answers may not go to the client as they came.
    pub fn change_answers(&self) -> bool {
        self.compress.is_some()
    }
}
