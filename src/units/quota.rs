//! How many in a period of the calendar: `1M/month`.

use std::fmt;
use std::str::FromStr;

use super::rate::{read, write};

/// So many in a period of the calendar, written as a whole number (with `k` or `M` for thousands and millions) and a
/// period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    number: u64,
    per: Period,
}

/// A period of the calendar, in UTC. Weeks begin on Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

const UNITS: [(&str, Period); 5] = [
    ("h", Period::Hour),
    ("day", Period::Day),
    ("week", Period::Week),
    ("month", Period::Month),
    ("year", Period::Year),
];

impl Quota {
    pub const fn number(self) -> u64 {
        self.number
    }
    pub const fn per(self) -> Period {
        self.per
    }
}

impl Period {
    /// As it is written.
    pub fn word(self) -> &'static str {
        UNITS.iter().find(|(_, per)| *per == self).map_or("month", |(word, _)| word)
    }

    /// Hours that it has at most.
    pub const fn hours(self) -> u32 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 31 * 24,
            Self::Year => 366 * 24,
        }
    }

    /// Whether each of them has as many.
    pub const fn is_even(self) -> bool {
        !matches!(self, Self::Month | Self::Year)
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text, &UNITS, "a quota", "1M/month").map(|(number, per)| Self { number, per })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.number, f)?;
        write!(f, "/{}", self.per.word())
    }
}

super::scalar!(Quota, "a quota", example "1M/month",
    bare number |n| Err(format!("`{n}` needs a period, e.g. {n}/month")),
    "A quota: a whole number (k and M are thousands and millions), `/` and a period (h, day, week, month, year).");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for text in ["1M/month", "50/h", "100k/week", "1500/day", "1/year"] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
        assert_eq!("100".parse::<Quota>().unwrap_err(), "`100` needs a unit, e.g. 100/month");
        let units = "`min` is not a unit of time. Units: h, day, week, month, year";
        assert_eq!("100/min".parse::<Quota>().unwrap_err(), units);
        for text in ["", "/month", "0/month", "2000M/month", "1.5/day", "x"] {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
    }
}
