//! Amounts of bytes (`64KiB`) and of bytes over time (`1KiB/s`).

use std::fmt;
use std::str::FromStr;

/// A number of bytes, written as a whole number and one unit: `B`, `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }
    pub const fn bytes(self) -> u64 {
        self.0
    }
    /// The number of bytes as a length in memory, capped where the address space ends.
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size, e.g. 512B, 64KiB or 10MiB");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if unit.is_empty() && !number.is_empty() {
            return Err(format!("`{text}` needs a unit, e.g. {text}KiB"));
        }
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(*factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

super::scalar!(Size, "a size", example "64KiB",
    bare number |n| Err(format!("`{n}` needs a unit, e.g. {n}KiB")),
    "A number of bytes: a whole number and a unit (B, KiB, MiB, GiB).");

/// Bytes per second, written as a size `/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(Size);

impl ByteRate {
    pub const fn per_second(bytes: u64) -> Self {
        Self(Size(bytes))
    }
    pub const fn bytes_per_second(self) -> u64 {
        self.0.0
    }
}

impl FromStr for ByteRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate of bytes, e.g. 1KiB/s");
        text.strip_suffix("/s").and_then(|size| size.parse().ok()).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

super::scalar!(ByteRate, "a rate of bytes", example "1KiB/s",
    bare number |n| Err(format!("`{n}` needs a unit, e.g. {n}KiB/s")),
    "Bytes per second: a size and `/s`.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for text in ["0B", "512B", "64KiB", "10MiB", "2GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("1KiB/s".parse::<ByteRate>().unwrap().bytes_per_second(), 1024);
    }

    #[test]
    fn refuses_what_has_no_unit_or_another() {
        assert_eq!("64".parse::<Size>().unwrap_err(), "`64` needs a unit, e.g. 64KiB");
        for text in ["", "KiB", "64KB", "64k", "-1B", "1.5MiB", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
