//! Where the settings stand that decide about a request without being a guard: kept as text, for `why`.

use std::collections::HashMap;

use crate::config::place::From;
use crate::config::{Document, Places};
use crate::pool;
use crate::problem::Path;

/// What listeners decide by.
const LISTENER: [&[&str]; 4] = [&["limits"], &["limits", "body_rate"], &["timeout", "head"], &["tls", "certs"]];
/// What both pools and routes say of time.
const TIMES: [&str; 9] =
    ["connect", "tls", "first_byte", "per_try", "idle", "stream_idle", "write", "total", "deadline_header"];

/// The place of everything of this kind that is written down; what is built in is not here, nor what has its place with it.
#[derive(Debug, Default)]
pub struct Written(HashMap<Box<str>, Box<str>>);

impl Written {
    pub(super) fn of(document: &Document, places: &Places) -> Self {
        let mut all = Self::default();
        all.keep(&Path::of(["runtime"]), &["memory"], places);
        for name in document.listeners.keys() {
            let whole = all.whole("listeners", name.as_str(), places);
            for key in LISTENER {
                all.keep(&whole, key, places);
            }
        }
        for (name, pool) in &document.pools {
            let whole = all.whole("pools", name.as_str(), places);
            let said = [
                ("targets", !pool.targets.is_empty()),
                ("discover", !pool.discover.is_default()),
                ("health", pool.health.is_some()),
                ("breaker", pool.breaker.is_some()),
                ("max_in_flight", pool.max_in_flight.is_some()),
                ("tls", pool.tls.is_some()),
            ];
            for (key, _) in said.into_iter().filter(|(_, said)| *said) {
                all.keep(&whole, &[key], places);
            }
            if pool.timeout != pool::timeout::Config::default() {
                all.keep_times(&whole, places);
            }
        }
        for (name, route) in &document.routes {
            let whole = Path::of(["routes", name.as_str()]);
            for call in route.gather.iter().flat_map(|gather| gather.calls.keys()) {
                all.keep(&whole, &["gather", call.as_str()], places);
            }
            for (key, said) in [("gather", route.gather.is_some()), ("cache", route.cache.is_some())] {
                if said {
                    all.keep(&whole, &[key], places);
                }
            }
            if route.timeout != pool::Timeout::default() {
                all.keep_times(&whole, places);
            }
        }
        all
    }

    fn whole(&mut self, section: &str, name: &str, places: &Places) -> Path {
        let whole = Path::of([section, name]);
        self.0.insert(whole.to_string().into(), places.at(&whole).to_string().into());
        whole
    }

    fn keep_times(&mut self, whole: &Path, places: &Places) {
        for time in TIMES {
            self.keep(whole, &["timeout", time], places);
        }
    }

    fn keep(&mut self, whole: &Path, key: &[&str], places: &Places) {
        let at = key.iter().fold(whole.clone(), |at, step| at.key(step));
        let origin = places.origin(&at);
        if origin != From::BuiltIn {
            self.0.insert(at.to_string().into(), origin.to_string().into());
        }
    }

    /// Where something of the document stands.
    pub fn place(&self, at: &str) -> Option<&str> {
        self.0.get(at).map(|place| &**place)
    }

    /// The same with its name: `pools.orders.timeout.total (yumen.yaml:14:5)`.
    pub fn rule(&self, at: &str) -> String {
        format!("{at} ({})", self.place(at).unwrap_or("built-in"))
    }
}
