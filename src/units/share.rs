//! Shares of a whole: `20%`.

use std::fmt;
use std::str::FromStr;

/// A share, written as a whole number from 0 to 100 and `%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u8);

impl Share {
    /// More than the whole is the whole.
    pub const fn from_percent(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }
    pub const fn percent(self) -> u8 {
        self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a share, 0% to 100%, e.g. 20%");
        let Some(number) = text.strip_suffix('%') else {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            return Err(if digits { format!("`{text}` needs a `%`, e.g. {text}%") } else { wrong() });
        };
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        number.parse().ok().filter(|percent| digits && *percent <= 100).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

super::scalar!(Share, "a share", example "20%",
    bare number |n| n.to_string().parse(),
    "A share of a whole: a whole number from 0 to 100 and `%`.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for text in ["0%", "20%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_share() {
        assert_eq!("20".parse::<Share>().unwrap_err(), "`20` needs a `%`, e.g. 20%");
        for text in ["", "%", "101%", "-1%", "+1%", "1.5%", "20 %", "0.2"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
