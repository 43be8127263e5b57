//! Lengths of time: `250ms`, `30s`, `5m`, `24h`.

use std::fmt;
use std::str::FromStr;

/// A length of time of at most ten years, written as a whole number and one unit: `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
const TEN_YEARS: u64 = 10 * 366 * 86_400_000;

impl Duration {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(std::time::Duration::from_millis(milliseconds))
    }
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

impl From<std::time::Duration> for Duration {
    fn from(time: std::time::Duration) -> Self {
        Self(time)
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a length of time, e.g. 250ms, 30s, 5m or 24h");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if unit.is_empty() && !number.is_empty() {
            return Err(format!("`{text}` needs a unit, e.g. {text}s"));
        }
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let milliseconds = number.checked_mul(*factor).filter(|ms| *ms <= TEN_YEARS);
        milliseconds.map(Self::from_millis).ok_or_else(|| format!("`{text}` is longer than ten years"))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, factor): &&(&str, u64)| total > 0 && total.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().filter(fits).max_by_key(|(_, factor)| *factor).unwrap_or(&("s", 1000));
        write!(f, "{}{unit}", total / factor)
    }
}

super::scalar!(Duration, "a length of time", example "30s",
    bare number |n| Err(format!("`{n}` needs a unit, e.g. {n}s")),
    "A length of time: a whole number and a unit (ms, s, m, h, d).");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for text in ["250ms", "30s", "5m", "24h", "0s", "1500ms", "7d"] {
            let there: Duration = text.parse().unwrap();
            assert_eq!(there.to_string().parse::<Duration>().unwrap(), there, "{text}");
        }
        assert_eq!(Duration::from_millis(1500).to_string(), "1500ms");
        assert_eq!(Duration::from_secs(300).to_string(), "5m");
    }

    #[test]
    fn refuses_what_has_no_unit_or_no_number() {
        assert_eq!("30".parse::<Duration>().unwrap_err(), "`30` needs a unit, e.g. 30s");
        for text in ["", "s", "-1s", "1.5s", "1 s", "30sec", "99999999999999999999s", "4000d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
