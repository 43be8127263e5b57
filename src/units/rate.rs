//! How often: `100/min`, `50/s`, `1M/day`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many in a unit of time, written as a whole number (with `k` or `M` for thousands and millions) and a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    number: u64,
    per: Per,
}

/// The unit of time of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
}

const UNITS: [(&str, Per); 4] = [("s", Per::Second), ("min", Per::Minute), ("h", Per::Hour), ("day", Per::Day)];
const MULTIPLES: [(char, u64); 2] = [('k', 1000), ('M', 1_000_000)];
const MOST: u64 = 1_000_000_000;

impl Rate {
    pub const fn number(self) -> u64 {
        self.number
    }
    pub const fn per(self) -> Per {
        self.per
    }
}

impl Per {
    pub const fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }
}

/// Reads a whole number (with `k` or `M`) and one of these units; `what` it is, and an example of it, are for the errors.
pub(super) fn read<U: Copy>(text: &str, units: &[(&str, U)], what: &str, example: &str) -> Result<(u64, U), String> {
    let per = example.split_once('/').map_or("", |(_, unit)| unit);
    let Some((number, unit)) = text.split_once('/') else {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let wrong = || format!("`{text}` is not {what}, e.g. {example}");
        return Err(if digits { format!("`{text}` needs a unit, e.g. {text}/{per}") } else { wrong() });
    };
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let unknown = || format!("`{unit}` is not a unit of time. Units: {}", names());
    let (_, per) = units.iter().find(|(name, _)| *name == unit).ok_or_else(unknown)?;
    let multiple = MULTIPLES.iter().find_map(|(letter, by)| Some((number.strip_suffix(*letter)?, *by)));
    let (digits, by) = multiple.unwrap_or((number, 1));
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| plain).and_then(|number| number.checked_mul(by));
    let fits = number.filter(|number| (1..=MOST).contains(number));
    let wrong = || format!("`{text}`: the number goes from 1 to {}M, e.g. {example}", MOST / 1_000_000);
    fits.map(|number| (number, *per)).ok_or_else(wrong)
}

/// Writes the number as short as it can be read.
pub(super) fn write(number: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match MULTIPLES.iter().rev().find(|(_, by)| number.is_multiple_of(*by)) {
        Some((letter, by)) => write!(f, "{}{letter}", number / by),
        None => write!(f, "{number}"),
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(period) = ["week", "month", "year"].iter().find(|unit| text.ends_with(&format!("/{unit}"))) {
            return Err(format!("a rate has no `{period}`; in periods of the calendar counts `quota: {text}`"));
        }
        read(text, &UNITS, "a rate", "100/min").map(|(number, per)| Self { number, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.number, f)?;
        let unit = UNITS.iter().find(|(_, per)| *per == self.per).map_or("s", |(name, _)| name);
        write!(f, "/{unit}")
    }
}

super::scalar!(Rate, "a rate", example "100/min",
    bare number |n| Err(format!("`{n}` needs a unit, e.g. {n}/min")),
    "A rate: a whole number (k and M are thousands and millions), `/` and a unit (s, min, h, day).");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for text in ["100/min", "50/s", "1M/day", "1k/h", "1500/day", "1/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("2000000/day".parse::<Rate>().unwrap().to_string(), "2M/day");
        assert_eq!("1M/h".parse::<Rate>().unwrap().number(), 1_000_000);
    }

    #[test]
    fn refuses_what_has_no_unit_or_no_number() {
        assert_eq!("100".parse::<Rate>().unwrap_err(), "`100` needs a unit, e.g. 100/min");
        let units = "`minute` is not a unit of time. Units: s, min, h, day";
        assert_eq!("100/minute".parse::<Rate>().unwrap_err(), units);
        let quota = "a rate has no `week`; in periods of the calendar counts `quota: 5/week`";
        assert_eq!("5/week".parse::<Rate>().unwrap_err(), quota);
        for text in ["", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "1 /s", "k/s", "2000M/s", "99999999999999999999/s", "x"]
        {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
