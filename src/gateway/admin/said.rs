//! What an order says: `pool=orders&to=open&for=10m`, each value unescaped.

use std::time::Duration;

use crate::canonical;
use crate::pool::breaker::LONGEST;
use crate::units;

/// The query of an order.
#[derive(Clone, Copy)]
pub(super) struct Said<'q>(pub(super) &'q str);

impl Said<'_> {
    pub(super) fn get(self, key: &str) -> Option<String> {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).and_then(|(_, value)| canonical::unescape(value))
    }

    /// The same where it may not be left out; the error is a sentence.
    pub(super) fn need(self, key: &str) -> Result<String, String> {
        self.get(key).ok_or_else(|| format!("`{key}` is missing"))
    }

    /// For how long: what is ordered by hand always ends.
    pub(super) fn length(self) -> Result<Duration, String> {
        let length = self.need("for")?.parse::<units::Duration>()?.get();
        if length.is_zero() || length > LONGEST { Err("`for` goes from 1ms to 24h".to_owned()) } else { Ok(length) }
    }
}
