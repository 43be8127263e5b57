//! What the document says of breakers.
//!
//! ```yaml
//! breaker: { open_after: 5, open_for: 30s, probes: 3 }
//! breaker: { open_after: 50% of 20 in 10s, on: [connect, timeout, reset, "500..599"], mode: shadow }
//! ```

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::cause::Cause;
use crate::problem::{Path, Problems};
use crate::units::{Duration, Mode};

/// When a target that fails is left alone, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolBreaker")]
pub struct Config {
    /// How many failures in a row open it, or which share of how many requests: `5`, `50% of 20 in 10s`.
    pub open_after: OpenAfter,
    /// How long it stays open; twice as long each time that it opens again soon, up to ten times.
    pub open_for: Duration,
    /// How many requests try the target when that time is over; all of them have to go well.
    #[schemars(range(min = 1))]
    pub probes: u32,
    /// Whether each target has one, or the pool has one for all of them.
    pub per: Scope,
    /// What a failure is: `connect`, `timeout`, `reset`, statuses and ranges of them.
    pub on: Vec<Cause>,
    /// `shadow` only counts, logs and shows what it would keep from its target, and who would be refused.
    #[serde(skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            open_after: OpenAfter::InRow(5),
            open_for: Duration::from_secs(30),
            probes: 1,
            per: Scope::Target,
            on: Cause::usual(),
            mode: Mode::Enforce,
        }
    }
}

impl Config {
    pub(super) fn complain(&self, at: &Path, problems: &mut Problems) {
        if self.open_for.get() < std::time::Duration::from_millis(100) {
            problems.error(at.key("open_for"), format!("`{}` is too short; at least 100ms", self.open_for));
        }
        if self.probes == 0 {
            problems.error(at.key("probes"), "must be more than zero: nothing would ever close it");
        }
        if self.on.is_empty() {
            problems.error(at.key("on"), "names no failure, so it would never open");
        }
    }
}

/// Whose failures a breaker counts, and whom it keeps requests from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "PoolBreakerScope")]
pub enum Scope {
    /// One target's.
    #[default]
    Target,
    /// Those of the pool as a whole.
    Pool,
}

/// How much failure opens a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenAfter {
    /// So many, one after the other.
    InRow(u32),
    /// This share, where there were at least so many requests in this time.
    Share { percent: u8, of: u32, within: Duration },
}

impl FromStr for OpenAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a number of failures, or a share such as 50% of 20 in 10s");
        let many = |text: &str| text.parse::<u32>().ok().filter(|count| (1..=1_000_000).contains(count));
        if let Some(count) = many(text) {
            return Ok(Self::InRow(count));
        }
        let (percent, rest) = text.split_once('%').ok_or_else(wrong)?;
        let (of, within) = rest.strip_prefix(" of ").and_then(|rest| rest.split_once(" in ")).ok_or_else(wrong)?;
        let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(wrong)?;
        let within: Duration = within.parse().map_err(|why| format!("`{text}`: {why}"))?;
        let range = std::time::Duration::from_secs(1)..=std::time::Duration::from_hours(1);
        if !range.contains(&within.get()) {
            return Err(format!("`{text}`: the time goes from 1s to 1h"));
        }
        Ok(Self::Share { percent, of: many(of).ok_or_else(wrong)?, within })
    }
}

impl fmt::Display for OpenAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InRow(count) => count.fmt(f),
            Self::Share { percent, of, within } => write!(f, "{percent}% of {of} in {within}"),
        }
    }
}

crate::units::scalar!(OpenAfter, "a number of failures or a share", example "50% of 20 in 10s",
    bare number |n| n.to_string().parse(),
    "How many failures in a row, or which share of at least so many requests in a time: `50% of 20 in 10s`.");
