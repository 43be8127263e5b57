//! What decides about requests, of a document that is right; what is wrong with another one is told on standard error.

use super::{Document, Exit, fail};
use crate::config::{self, Loaded, report};
use crate::snapshot::{self, Deciding, Tools};

/// The document and what it decides, or the exit code of a verb that needs both.
pub(super) fn of(document: &Document) -> Result<(Loaded, Deciding), Exit> {
    let tools = Tools::new().map_err(|why| fail(Exit::Internal, &why))?;
    let loaded = config::load(&document.config);
    let (deciding, problems) = snapshot::deciding(&loaded, &tools);
    match deciding.filter(|_| loaded.code() == 0) {
        Some(deciding) => Ok((loaded, deciding)),
        None if loaded.code() == 0 => {
            eprint!("{}", report::human(&problems, &loaded.places));
            Err(Exit::Invalid)
        }
        None => {
            eprint!("{}", report::human(&loaded.problems, &loaded.places));
            Err(Exit::of(loaded.code()))
        }
    }
}
