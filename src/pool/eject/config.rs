//! What the document says of ejection.
//!
//! ```yaml
//! eject: { errors: 5, for: 30s, at_most: 50% }
//! eject: { share: 30% of 20 in 10s, slow: 3x of 20 in 10s, on: [connect, timeout, reset], mode: shadow }
//! eject: off
//! ```

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::cause::Cause;
use crate::problem::{Path, Problems};
use crate::units::{Duration, Mode, Share, or_short, short_form};

/// When a target is taken out because its requests go worse than those of the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
#[schemars(rename = "PoolEject", transform = or_short)]
pub struct Config {
    /// After how many failures in a row.
    #[schemars(range(min = 1))]
    pub errors: u32,
    /// At an error share that is so many points above that of the others, where both had at least so many requests:
    /// `30% of 20 in 10s`; never for that, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Above>,
    /// When its answers begin so many times as late as those of the others do in the middle, where both had at least so
    /// many requests: `3x of 20 in 10s`; never for that, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slower>,
    /// How long it takes no requests; twice as long each time that it is ejected again soon, up to ten times.
    #[serde(rename = "for")]
    pub length: Duration,
    /// Which share of the targets with weight may be out at the same time: at least one unless it is `0%`, never the last one.
    pub at_most: Share,
    /// What a failure is: `connect`, `timeout`, `reset`, statuses and ranges of them.
    pub on: Vec<Cause>,
    /// `shadow` only counts, logs and shows who would be out.
    #[serde(skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            errors: 5,
            share: None,
            slow: None,
            length: Duration::from_secs(30),
            at_most: Share::from_percent(50),
            on: Cause::usual(),
            mode: Mode::Enforce,
        }
    }
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self { at_most: Share::from_percent(0), ..Self::default() }),
            _ => Err(format!("`{text}` is neither `off` nor a map")),
        }
    }
}

short_form!(Config, "`off`, or { errors, share, slow, for, at_most, on, mode }");

impl Config {
    /// What holds where the document says nothing of ejection: who does not answer rests.
    pub fn built_in() -> Self {
        let on = vec![Cause::Connect, Cause::Timeout, Cause::Reset];
        Self { errors: 3, length: Duration::from_secs(10), on, ..Self::default() }
    }

    pub(super) fn complain(&self, at: &Path, problems: &mut Problems) {
        if self.errors == 0 {
            problems.error(at.key("errors"), "must be more than zero: nobody has failed less");
        }
        if self.length.get() < std::time::Duration::from_millis(100) {
            problems.error(at.key("for"), format!("`{}` is too short; at least 100ms", self.length));
        }
        if self.on.is_empty() {
            problems.error(at.key("on"), "names no failure, so nobody would be ejected for one");
        }
    }
}

/// How many requests in which time are enough to compare by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub of: u32,
    pub within: Duration,
}

impl FromStr for Sample {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (of, within) = text.split_once(" in ").ok_or(())?;
        let of = of.parse().ok().filter(|of| (1..=60_000).contains(of)).ok_or(())?;
        let within: Duration = within.parse().map_err(drop)?;
        let range = std::time::Duration::from_secs(1)..=std::time::Duration::from_hours(1);
        if range.contains(&within.get()) { Ok(Self { of, within }) } else { Err(()) }
    }
}

/// So many points above the error share of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Above {
    pub points: u8,
    pub sample: Sample,
}

impl FromStr for Above {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a share of how many requests in which time (1s to 1h), e.g. 30% of 20 in 10s");
        let (points, rest) = text.split_once("% of ").ok_or_else(wrong)?;
        let points = points.parse().ok().filter(|points| (1..=100).contains(points)).ok_or_else(wrong)?;
        Ok(Self { points, sample: rest.parse().map_err(|()| wrong())? })
    }
}

impl fmt::Display for Above {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}% of {} in {}", self.points, self.sample.of, self.sample.within)
    }
}

crate::units::scalar!(Above, "a share of requests", example "30% of 20 in 10s",
    bare number |n| n.to_string().parse(),
    "How many points above the others' share, of at least so many requests in a time: `30% of 20 in 10s`.");

/// So many times as long as the others take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slower {
    /// In tenths.
    tenths: u32,
    pub sample: Sample,
}

impl Slower {
    pub fn factor(self) -> f64 {
        f64::from(self.tenths) / 10.0
    }
}

impl FromStr for Slower {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not how many times (1.5x to 100x) of how many requests in which time (1s to 1h), e.g. 3x of 20 in 10s"
            )
        };
        let (times, rest) = text.split_once("x of ").ok_or_else(wrong)?;
        let (whole, tenth) = times.split_once('.').unwrap_or((times, "0"));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let fits = digits(whole) && digits(tenth) && tenth.len() == 1;
        let tenths = format!("{whole}{tenth}").parse().ok().filter(|tenths| fits && (15..=1000).contains(tenths));
        Ok(Self { tenths: tenths.ok_or_else(wrong)?, sample: rest.parse().map_err(|()| wrong())? })
    }
}

impl fmt::Display for Slower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, tenth) = (self.tenths / 10, self.tenths % 10);
        let point = if tenth == 0 { String::new() } else { format!(".{tenth}") };
        write!(f, "{whole}{point}x of {} in {}", self.sample.of, self.sample.within)
    }
}

crate::units::scalar!(Slower, "how many times as long", example "3x of 20 in 10s",
    bare number |n| n.to_string().parse(),
    "How many times as long as the others take, of at least so many requests in a time: `3x of 20 in 10s`.");
