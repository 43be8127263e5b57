//! The schemes of the document by their names; those that are made of others come after these.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Config, Scheme};
use crate::policy::guard::Tools;
use crate::problem::{Path, Problems};
use crate::units::Name;

/// Every scheme of the document; nothing under a name whose scheme has a problem.
pub type Schemes = BTreeMap<Name, Option<Arc<Scheme>>>;

/// Compiles every scheme, used or not.
pub fn compile(configs: &BTreeMap<Name, Config>, tools: &Tools<'_>, problems: &mut Problems) -> Schemes {
    let mut done = Schemes::new();
    for name in configs.keys() {
        one(name, configs, &mut Vec::new(), &mut done, tools, problems);
    }
    done
}

fn one<'c>(
    name: &'c Name,
    configs: &'c BTreeMap<Name, Config>,
    around: &mut Vec<&'c Name>,
    done: &mut Schemes,
    tools: &Tools<'_>,
    problems: &mut Problems,
) {
    // A name that means nothing was reported by the reader, at its place.
    let Some(config) = configs.get(name).filter(|_| !done.contains_key(name)) else { return };
    let at = Path::of(["auth", name.as_str()]);
    if around.contains(&name) {
        problems.error(at, format!("`{name}` is made of itself, so it would never end"));
        done.insert(name.clone(), None);
        return;
    }
    around.push(name);
    for member in config.any.iter().chain(&config.all).flatten() {
        one(member, configs, around, done, tools, problems);
    }
    around.pop();
    if !done.contains_key(name) {
        let scheme = Scheme::compile(config, &at, done, tools, problems).map(Arc::new);
        done.insert(name.clone(), scheme);
    }
}
