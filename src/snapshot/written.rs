//! Where the settings stand that decide about a request without being a guard: kept as text, for `why`.

use std::collections::HashMap;

use crate::config::place::From;
use crate::config::{Document, Places};
use crate::problem::Path;

/// What listeners decide by.
const LISTENER: [&[&str]; 4] = [&["limits"], &["limits", "body_rate"], &["timeout", "head"], &["tls", "certs"]];
/// What pools do.
const POOL: [&[&str]; 6] = [&["targets"], &["discover"], &["health"], &["breaker"], &["max_in_flight"], &["tls"]];
/// What both pools and routes say of time.
const TIMES: [&str; 8] = ["connect", "tls", "first_byte", "per_try", "idle", "stream_idle", "write", "total"];

/// The place of everything of this kind that is written down; what is built in is not here.
#[derive(Debug, Default)]
pub struct Written(HashMap<Box<str>, Box<str>>);

impl Written {
    pub(super) fn of(document: &Document, places: &Places) -> Self {
        let mut all = Self::default();
        for name in document.listeners.keys() {
            all.keep("listeners", name.as_str(), LISTENER.map(<[_]>::to_vec), places);
        }
        for name in document.pools.keys() {
            let times = TIMES.map(|time| vec!["timeout", time]);
            all.keep("pools", name.as_str(), POOL.map(<[_]>::to_vec).into_iter().chain(times), places);
        }
        for name in document.routes.keys() {
            all.keep("routes", name.as_str(), TIMES.map(|time| vec!["timeout", time]), places);
        }
        all
    }

    fn keep<'k>(&mut self, section: &str, name: &str, keys: impl IntoIterator<Item = Vec<&'k str>>, places: &Places) {
        let whole = Path::of([section, name]);
        self.0.insert(whole.to_string().into(), places.at(&whole).to_string().into());
        for key in keys {
            let at = key.iter().fold(whole.clone(), |at, step| at.key(step));
            let origin = places.origin(&at);
            if origin != From::BuiltIn {
                self.0.insert(at.to_string().into(), origin.to_string().into());
            }
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
