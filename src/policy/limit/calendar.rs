//! When a period of the calendar begins and ends: pure, given the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::telemetry::clock;
use crate::units::Period;

/// From when to when a period lasts, in whole hours since 1970; its end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub begins: u32,
    pub ends: u32,
}

/// Hours that have passed since 1970.
pub fn hours(now: Duration) -> u32 {
    u32::try_from(now.as_secs() / 3600).unwrap_or(u32::MAX)
}

/// How long it still is until that hour.
pub fn until(hour: u32, now: Duration) -> Duration {
    Duration::from_secs(u64::from(hour) * 3600).saturating_sub(now)
}

/// The time of the wall clock, since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The period that this moment belongs to, in UTC.
pub fn span(period: Period, now: Duration) -> Span {
    // Beyond the year 9999 there is nothing to count.
    let hour = hours(now).min(70_389_527);
    let day = hour / 24;
    let days = |begins: u32, ends: u32| Span { begins: begins * 24, ends: ends * 24 };
    match period {
        Period::Hour => Span { begins: hour, ends: hour + 1 },
        Period::Day => days(day, day + 1),
        Period::Week => {
            // The first day of 1970 was a Thursday.
            let monday = (day + 3) / 7 * 7;
            Span { begins: monday.saturating_sub(3) * 24, ends: (monday + 4) * 24 }
        }
        Period::Month => {
            let (year, month, of_month) = clock::date(day.into());
            let next = if month == 12 { first(year + 1, 1) } else { first(year, month + 1) };
            days(day + 1 - u32::from(of_month), next)
        }
        Period::Year => {
            let (year, ..) = clock::date(day.into());
            days(first(year, 1), first(year + 1, 1))
        }
    }
}

/// The first day of a month, in days since 1970; years are counted from March, so that the leap day comes last.
fn first(year: u32, month: u8) -> u32 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * u32::from(month) + 2) / 5;
    (year * 365 + year / 4 + year / 400 + of_year) - year / 100 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::{Date, Duration as Days, Month, OffsetDateTime, Weekday};

    fn seconds(hour: u32) -> i64 {
        i64::from(hour) * 3600
    }

    fn at(date: Date) -> i64 {
        date.midnight().assume_utc().unix_timestamp()
    }

    proptest! {
        #[test]
        fn periods_are_those_of_the_calendar(now in 0_u64..253_370_764_800) {
            let date = OffsetDateTime::from_unix_timestamp(now.try_into().unwrap()).unwrap().date();
            let of = |period| {
                let span = span(period, Duration::from_secs(now));
                (seconds(span.begins), seconds(span.ends))
            };
            let begun = i64::try_from(now / 3600 * 3600).unwrap();
            prop_assert_eq!(of(Period::Hour), (begun, begun + 3600));
            prop_assert_eq!(of(Period::Day), (at(date), at(date.next_day().unwrap())));
            let first = date.replace_day(1).unwrap();
            let next = (first + Days::days(31)).replace_day(1).unwrap();
            prop_assert_eq!(of(Period::Month), (at(first), at(next)));
            let new_year = |year| at(Date::from_calendar_date(year, Month::January, 1).unwrap());
            prop_assert_eq!(of(Period::Year), (new_year(date.year()), new_year(date.year() + 1)));
            let monday = date.next_day().unwrap().prev_occurrence(Weekday::Monday);
            prop_assert_eq!(of(Period::Week), (at(monday).max(0), at(monday) + 7 * 86_400));
        }

        #[test]
        fn a_period_follows_the_other(now in 0_u64..200_000_000_000) {
            for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year] {
                let one = span(period, Duration::from_secs(now));
                let last = span(period, Duration::from_secs(u64::from(one.ends) * 3600 - 1));
                let next = span(period, Duration::from_secs(u64::from(one.ends) * 3600));
                prop_assert_eq!((last, next.begins), (one, one.ends));
                prop_assert!(one.ends - one.begins <= period.hours());
            }
        }
    }

    #[test]
    fn the_end_of_the_calendar_is_no_end_of_the_program() {
        for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year] {
            let span = span(period, Duration::MAX);
            assert!(span.begins < span.ends, "{period:?}");
        }
    }
}
