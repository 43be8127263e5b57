//! Points in time as text, without a calendar library: days since 1970 to year, month and day.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time, taken apart. UTC, years 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub year: u32,
    /// 1 to 12.
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micros: u32,
}

impl Moment {
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Year 9999 ends 253,402,300,799 seconds after the epoch.
        let seconds = since.as_secs().min(253_402_300_799);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let small = |number: u64| u8::try_from(number).unwrap_or(0);
        Self {
            year,
            month,
            day,
            hour: small(rest / 3600),
            minute: small(rest / 60 % 60),
            second: small(rest % 60),
            micros: since.subsec_micros(),
        }
    }

    /// `2026-11-21T10:00:00.000001Z`.
    pub fn rfc3339_micros(&self) -> [u8; 27] {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        self.seconds(&mut text);
        write(&mut text, 20, 6, self.micros);
        text
    }

    /// `2026-11-21T10:00:00Z`.
    pub fn rfc3339(&self) -> [u8; 20] {
        let mut text = *b"0000-00-00T00:00:00Z";
        self.seconds(&mut text);
        text
    }

    /// `21/Nov/2026:10:00:00 +0000`, as Apache's logs have it.
    pub fn apache(&self) -> [u8; 26] {
        const MONTHS: [[u8; 3]; 12] = [
            *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct", *b"Nov", *b"Dec",
        ];
        let mut text = *b"00/---/0000:00:00:00 +0000";
        write(&mut text, 0, 2, self.day.into());
        let month = MONTHS.get(usize::from(self.month).saturating_sub(1));
        text.iter_mut().skip(3).zip(month.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        write(&mut text, 7, 4, self.year);
        self.clock(&mut text, 12);
        text
    }

    fn seconds(&self, text: &mut [u8]) {
        write(text, 0, 4, self.year);
        write(text, 5, 2, self.month.into());
        write(text, 8, 2, self.day.into());
        self.clock(text, 11);
    }

    fn clock(&self, text: &mut [u8], at: usize) {
        write(text, at, 2, self.hour.into());
        write(text, at + 3, 2, self.minute.into());
        write(text, at + 6, 2, self.second.into());
    }
}

/// The last `digits` digits of a number.
fn write(text: &mut [u8], at: usize, digits: usize, mut number: u32) {
    for place in text.iter_mut().skip(at).take(digits).rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// Days since 1970 to a date of the Gregorian calendar, whose years are counted from March so that the leap day
/// comes last (Howard Hinnant, "chrono-compatible low-level date algorithms").
pub fn date(days: u64) -> (u32, u8, u8) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    (u32::try_from(year).unwrap_or(0), u8::try_from(month).unwrap_or(0), u8::try_from(day).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, micros: u32) -> Moment {
        Moment::of(UNIX_EPOCH + Duration::new(seconds, micros * 1000))
    }

    #[test]
    fn writes_known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(std::str::from_utf8(&at(seconds, 0).rfc3339()).unwrap(), text);
        }
        assert_eq!(&at(1_795_255_200, 42).rfc3339_micros(), b"2026-11-21T10:00:00.000042Z");
        assert_eq!(&at(1_795_255_200, 0).apache(), b"21/Nov/2026:10:00:00 +0000");
    }

    #[test]
    fn agrees_with_httpdate_on_every_day_of_a_century() {
        for day in 0..36_525 {
            let time = UNIX_EPOCH + Duration::from_secs(day * 86_400 + 3_661);
            let theirs = httpdate::fmt_http_date(time);
            let ours = String::from_utf8(Moment::of(time).apache().to_vec()).unwrap().replace('/', " ");
            assert_eq!(&ours[..11], &theirs[5..16]);
        }
    }
}
